"""What is found in a folder, and what is not."""

from __future__ import annotations

import os
import shutil
import signal
import sys

import numpy as np
import pytest
from PIL import Image

import osar_plugin.utils.verification.inspection as inspection
from osar_plugin.utils.errors import (
    ConfigError,
    DataFormatError,
    DatasetNotFoundError,
)
from osar_plugin.utils.verification import record, verify

FOLDERS = ('bounding_box_train', 'query', 'bounding_box_test')


def write_image(path, seed=0, size=(24, 20), dtype=np.uint8, bands=3):
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 255, (*size, bands)).astype(dtype)
    Image.fromarray(pixels.squeeze()).save(path)
    return path


@pytest.fixture
def root(tmp_path):
    """Four images in each of three splits, a label file, a hidden file."""
    seed = 0
    for folder in FOLDERS:
        for index in range(4):
            seed += 1
            write_image(
                tmp_path / 'set' / folder / f'{index}.tif', seed)
    (tmp_path / 'set' / 'readme.txt').write_text('ships')
    (tmp_path / 'set' / '.hidden').write_text('x')
    return tmp_path / 'set'


def found(report):
    """Kind and path of all findings."""
    return [(finding.kind, finding.path) for finding in report.findings]


def only(report):
    assert len(report.findings) == 1, report.findings
    return report.findings[0]


@pytest.mark.parametrize('workers', [0, 2])
def test_a_whole_folder(root, workers):
    written = record(root, workers=workers)
    assert written.ok and written.manifest == str(root / 'sha256sums.txt')
    names = [
        line.split('  ')[1] for line in
        (root / 'sha256sums.txt').read_text().splitlines()]
    assert len(names) == 13 and names == sorted(names)
    assert 'readme.txt' in names and '.hidden' not in names
    report = verify(root, workers=workers)
    assert report.ok and not report.findings
    assert (report.files, report.images) == (13, 12)
    assert report.splits == {'train': 4, 'query': 4, 'gallery': 4}
    assert report.size == sum(
        path.stat().st_size for path in root.rglob('*')
        if path.is_file() and path.name not in ('.hidden', 'sha256sums.txt'))


def test_the_same_manifest_with_any_number_of_workers(root, tmp_path):
    for workers in (0, 1, 3):
        record(root, tmp_path / f'{workers}.txt', workers=workers)
    assert len({
        (tmp_path / f'{workers}.txt').read_bytes() for workers in (0, 1, 3)
    }) == 1


def test_missing_extra_and_altered(root):
    record(root)
    (root / 'query/0.tif').unlink()
    (root / 'query/1.tif').rename(root / 'query/moved.tif')
    (root / 'readme.txt').write_text('shipt')
    report = verify(root)
    assert found(report) == [
        ('missing', 'query/0.tif'), ('missing', 'query/1.tif'),
        ('extra', 'query/moved.tif'), ('altered', 'readme.txt')]
    assert not report.ok
    assert 'query/moved.tif' in report.findings[1].found
    assert report.findings[1].others == ('query/moved.tif', )
    assert 'moved' not in report.findings[0].found
    assert '5 bytes' in report.findings[3].found


def test_one_flipped_bit_of_pixels_without_checksum(root):
    record(root)
    path = root / 'query/0.tif'
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(bytes(data))
    assert found(verify(root)) == [('altered', 'query/0.tif')]
    assert found(verify(root, decode=False)) == [('altered', 'query/0.tif')]
    # The same size, the same time: nothing but the bytes tells.
    os.utime(path, (0, 0))
    assert not verify(root).ok


def test_manifest_elsewhere_and_of_coreutils(root, tmp_path):
    record(root, tmp_path / 'm.txt')
    assert not (root / 'sha256sums.txt').exists()
    assert verify(root).manifest is None
    (root / 'query/0.tif').unlink()
    assert verify(root).ok
    assert found(verify(root, tmp_path / 'm.txt')) == [
        ('missing', 'query/0.tif')]
    # What lists hidden files is held to it.
    (root / 'query/0.tif').write_bytes(b'')
    (tmp_path / 'h.txt').write_text(f'{"0" * 64}  ./.hidden\n')
    report = verify(root, tmp_path / 'h.txt', allow=['extra', 'empty'])
    assert ('altered', '.hidden') in found(report)


def test_a_manifest_that_lists_itself(root):
    (root / 'sha256sums.txt').write_text(
        f'{"0" * 64}  ./sha256sums.txt\n')
    with pytest.raises(DataFormatError, match='lists itself'):
        verify(root)


def test_a_manifest_in_the_folder_under_another_name(root):
    record(root, root / 'sums.txt')
    assert verify(root, root / 'sums.txt').ok


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.tif'])
def test_truncated(root, suffix):
    path = write_image(root / f'query/x{suffix}', 99, (60, 60))
    path.write_bytes(path.read_bytes()[:-20])
    finding = only(verify(root))
    assert (finding.kind, finding.path) == ('undecodable', f'query/x{suffix}')
    assert 'cannot be decoded' in finding.found
    # The path and the cure are told once, not twice.
    assert path.name not in finding.found
    assert 'download' not in finding.found and 'download' in finding.cure
    assert verify(root, decode=False).ok


def test_empty_and_no_image(root):
    (root / 'query/x.tif').touch()
    (root / 'query/y.tif').write_text('<html>404</html>')
    (root / 'query/z.txt').touch()  # an image without objects has such labels
    assert found(verify(root)) == [
        ('empty', 'query/x.tif'), ('undecodable', 'query/y.tif')]


def test_unsupported_and_nonfinite(root):
    Image.fromarray(
        np.zeros((9, 9, 4), np.uint8), 'CMYK').save(root / 'query/x.tif')
    sar = np.ones((9, 9), np.float32)
    sar[0] = np.nan
    sar[1, 0] = -np.inf
    Image.fromarray(sar).save(root / 'query/y.tif')
    report = verify(root)
    assert found(report) == [
        ('unsupported', 'query/x.tif'), ('nonfinite', 'query/y.tif')]
    assert 'has 4 bands' in report.findings[0].found
    assert '10 of 81' in report.findings[1].found


@pytest.mark.parametrize(
    'pixels', [
        np.full((5, 6), 7, np.uint8), np.full((5, 6), -3.5, np.float32),
        np.full((5, 6, 3), (1, 2, 3), np.uint8)])
def test_constant_is_a_warning(root, pixels):
    Image.fromarray(pixels).save(root / 'query/x.tif')
    report = verify(root)
    finding = only(report)
    assert (finding.kind, finding.warning) == ('constant', True)
    assert report.ok
    value = str(pixels[0, 0].tolist())
    assert finding.found == f'all 6 x 5 pixels are {value}'


def test_suffix_is_a_warning(root):
    write_image(root / 'x.png', 50).rename(root / 'query/x.JPG')
    report = verify(root)
    assert report.ok and only(report).found == 'PNG in a file named .JPG'


def test_links(root, tmp_path):
    outside = write_image(tmp_path / 'elsewhere/deep/x.tif', 60)
    (root / 'query/linked.tif').symlink_to(outside)
    (root / 'folder').symlink_to(tmp_path / 'elsewhere')
    (root / 'query/broken.tif').symlink_to('nothing.tif')
    (root / 'query/self.tif').symlink_to('self.tif')
    (root / 'query/up').symlink_to('..')
    report = verify(root, workers=1)
    assert found(report) == [
        ('unreadable', 'query/broken.tif'), ('unreadable', 'query/self.tif'),
        ('loop', 'query/up')]
    assert 'nothing.tif' in report.findings[0].found
    assert report.files == 17  # the linked ones among them


@pytest.mark.timeout(60)
def test_a_pipe_does_not_hold_it_up(root):
    os.mkfifo(root / 'query/pipe.tif')
    os.mkfifo(root / 'query/pipe.txt')
    assert found(verify(root)) == [
        ('unreadable', 'query/pipe.tif'), ('unreadable', 'query/pipe.txt')]


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
def test_no_permission(root):
    (root / 'query/0.tif').chmod(0)
    (root / 'bounding_box_test').chmod(0)
    try:
        report = verify(root)
    finally:
        (root / 'bounding_box_test').chmod(0o755)
    assert found(report) == [
        ('unreadable', 'bounding_box_test'), ('unreadable', 'query/0.tif')]
    assert 'Permission denied' in report.findings[1].found


def test_errors_of_the_disk_are_findings(root, monkeypatch):
    # What permissions give to others than root, and broken disks to all.
    real = os.scandir

    def scandir(folder):
        if str(folder).endswith('query'):
            raise PermissionError(13, 'Permission denied')
        return real(folder)

    monkeypatch.setattr(os, 'scandir', scandir)
    finding = only(verify(root, workers=0))
    assert (finding.kind, finding.path) == ('unreadable', 'query')
    assert 'Permission denied' in finding.found


@pytest.mark.parametrize(
    ('first', 'second', 'kind'), [
        ('bounding_box_train', 'query', 'leaking'),
        ('bounding_box_train', 'bounding_box_test', 'leaking'),
        ('query', 'bounding_box_test', 'leaking'),
        ('query', 'query', 'duplicated'),
        ('bounding_box_train', 'bounding_box_train', 'duplicated'),
        ('bounding_box_train', 'subset/O2S/query', 'leaking'),
        ('query', 'subset/O2S/query', None),
        ('query', 'subset/S2O/bounding_box_test', None),
        ('bounding_box_test', 'subset/S2O/query', None),
        ('bounding_box_train', 'images', None),
        ('bounding_box_train', 'val', 'leaking'),
        ('query', 'val', 'leaking'),
    ])
def test_equal_bytes(root, first, second, kind):
    copy = root / second / 'copy.tif'
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / first / '2.tif', copy)
    report = verify(root)
    if kind is None:
        assert not report.findings
        return
    finding = only(report)
    assert finding.kind == kind and not report.ok
    assert {finding.path, *finding.others} == {
        f'{first}/2.tif', f'{second}/copy.tif'}
    assert 'same bytes' in finding.found


def test_leak_inside_a_subset(root):
    for side in ('query', 'bounding_box_test'):
        write_image(root / 'subset/O2S' / side / 'x.tif', 70)
    assert only(verify(root)).kind == 'leaking'


def test_the_official_layout_has_no_leak(root):
    for subset, sides in (
            ('O2S', ('query', 'bounding_box_test')),
            ('S2O', ('bounding_box_test', 'query'))):
        for own, main in zip(
                ('query', 'bounding_box_test'), sides, strict=True):
            shutil.copytree(root / main, root / 'subset' / subset / own)
    assert not verify(root).findings


def test_three_copies_are_one_finding(root):
    for name in ('a', 'b'):
        shutil.copy(
            root / 'query/0.tif', root / 'query' / f'{name}.tif')
    finding = only(verify(root))
    assert finding.path == 'query/0.tif'
    assert finding.others == ('query/a.tif', 'query/b.tif')


def test_pretraining_pairs(root):
    pairs = root / 'OptiSar_Pair/0001'
    pairs.mkdir(parents=True)
    shutil.copy(root / 'bounding_box_train/0.tif', pairs / 'a_1_RGB.tif')
    assert not verify(root).findings
    shutil.copy(root / 'query/0.tif', pairs / 'a_2_RGB.tif')
    assert only(verify(root)).kind == 'leaking'


def test_label_maps_may_be_equal_and_constant(root):
    for split in ('train', 'val'):
        folder = root / 'ann_dir' / split
        folder.mkdir(parents=True)
        for name in 'ab':
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(
                folder / f'{name}.png')
    report = verify(root)
    assert not report.findings and report.labels == 4
    # But they must be whole.
    path = root / 'ann_dir/val/a.png'
    path.write_bytes(path.read_bytes()[:-3])
    assert only(verify(root)).kind == 'undecodable'


def test_damaged_files_are_not_called_equal(root):
    for folder in ('bounding_box_train', 'query'):
        (root / folder / 'x.tif').write_bytes(b'same rubbish')
        (root / folder / 'y.tif').touch()
    assert {kind for kind, _ in found(verify(root))} == {
        'empty', 'undecodable'}


def test_splits_by_hand(root, tmp_path):
    shutil.copytree(root / 'query', root / 'north')
    shutil.copytree(root / 'query', root / 'south')
    assert {kind for kind, _ in found(verify(root))} == {'duplicated'}
    report = verify(root, splits={'train': ['north'], 'test': ['south']})
    assert [kind for kind, _ in found(report)] == ['leaking'] * 4
    assert report.splits == {'': 12, 'train': 4, 'test': 4}
    with pytest.raises(DatasetNotFoundError, match='west'):
        verify(root, splits={'train': ['west']})


def test_equal_pixels(root):
    with Image.open(root / 'query/0.tif') as image:
        image.save(root / 'bounding_box_train/copy.png')
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(root / 'query/b.png')
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(
        root / 'bounding_box_train/b.tif')
    allow = ['constant']
    assert {kind for kind, _ in found(verify(root, allow=allow))} == {
        'constant'}
    report = verify(root, pixels=True, allow=allow)
    finding = report.findings[0]
    # Blank images are no copies of one another.
    assert [item.kind for item in report.findings] == [
        'leaking', 'constant', 'constant']
    assert finding.path == 'bounding_box_train/copy.png'
    assert 'same pixels' in finding.found
    with pytest.raises(ConfigError, match='decoding'):
        verify(root, pixels=True, decode=False)


def test_grey_in_three_channels_has_the_pixels_of_grey(root):
    grey = np.random.default_rng(0).integers(0, 255, (9, 8), np.uint8)
    Image.fromarray(grey).save(root / 'query/a.png')
    Image.fromarray(np.stack([grey] * 3, -1)).save(root / 'query/b.png')
    # The same numbers in another shape are another image.
    Image.fromarray(grey.reshape(8, 9)).save(root / 'query/c.png')
    assert only(verify(root, pixels=True)).others == ('query/b.png', )


def test_allow(root):
    (root / 'query/x.tif').touch()
    report = verify(root, allow=['empty'])
    assert report.ok and only(report).warning
    with pytest.raises(ConfigError, match="'void' is no kind.*empty"):
        verify(root, allow=['void'])


@pytest.mark.skipif(sys.platform != 'linux', reason='uses fork')
@pytest.mark.parametrize('workers', [1, 2])
def test_a_decoder_that_crashes(root, monkeypatch, workers):
    real = inspection.decode_bytes

    def decode(data, path):
        if str(path) in ('query/1.tif', 'bounding_box_test/3.tif'):
            os.kill(os.getpid(), signal.SIGSEGV)
        return real(data, path)

    monkeypatch.setattr(inspection, 'decode_bytes', decode)
    report = verify(root, workers=workers)
    assert found(report) == [
        ('crashed', 'bounding_box_test/3.tif'), ('crashed', 'query/1.tif')]
    assert 'SIGSEGV' in report.findings[0].found
    assert report.files == 13
    assert not record(root, workers=workers).ok


def test_memory_that_does_not_suffice(root, monkeypatch):
    def decode(data, path):
        raise MemoryError

    monkeypatch.setattr(inspection, 'decode_bytes', decode)
    report = verify(root, workers=0)
    assert {kind for kind, _ in found(report)} == {'undecodable'}
    assert 'memory' in report.findings[0].found


def test_ctrl_c_ends_the_processes(root):
    def progress(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(root, workers=2, progress=progress)
    import multiprocessing
    assert not multiprocessing.active_children()


def test_progress(root):
    seen = []
    verify(root, workers=2, progress=lambda *args: seen.append(args))
    assert seen == [(number, 13) for number in range(1, 14)]


@pytest.mark.parametrize(
    'damage', ['cut', 'empty', 'link'])
def test_no_manifest_of_damaged_files(root, damage):
    path = root / 'query/0.tif'
    if damage == 'cut':
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == 'empty':
        path.write_bytes(b'')
    else:
        path.unlink()
        path.symlink_to('gone.tif')
    report = record(root)
    assert not report.ok and report.manifest is None
    assert only(report).path == 'query/0.tif'
    assert not (root / 'sha256sums.txt').exists()
    if damage == 'cut':
        assert record(root, decode=False).ok


def test_what_is_odd_but_whole_gets_its_checksum(root):
    shutil.copy(root / 'query/0.tif', root / 'bounding_box_train/x.tif')
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(root / 'query/x.tif')
    report = record(root)
    assert report.ok and not report.findings


def test_a_manifest_is_not_replaced_by_the_way(root):
    record(root)
    before = (root / 'sha256sums.txt').read_bytes()
    (root / 'query/0.tif').unlink()
    with pytest.raises(ConfigError, match='--force'):
        record(root)
    assert (root / 'sha256sums.txt').read_bytes() == before
    assert record(root, force=True).ok
    assert verify(root).ok


def test_nothing_to_look_at(tmp_path):
    with pytest.raises(DatasetNotFoundError, match='no such folder'):
        verify(tmp_path / 'gone')
    (tmp_path / '.hidden').touch()
    with pytest.raises(DatasetNotFoundError, match='no file'):
        record(tmp_path)
    (tmp_path / 'readme.txt').touch()
    with pytest.raises(DatasetNotFoundError, match=r'no image.*\.jpeg'):
        verify(tmp_path)
    with pytest.raises(DatasetNotFoundError, match='no such manifest'):
        verify(tmp_path, tmp_path / 'm.txt')
    # With a manifest, files that are gone are findings.
    (tmp_path / 'sha256sums.txt').write_text(f'{"0" * 64}  a.tif\n')
    assert found(verify(tmp_path)) == [
        ('missing', 'a.tif'), ('extra', 'readme.txt')]


def test_odd_names(root):
    names = ['new\nline.tif', os.fsdecode(b'latin\xe9.tif'), ' .tif', '-.tif']
    for seed, name in enumerate(names):
        write_image(root / 'query/x.tif', 80 + seed).rename(
            root / 'query' / name)
    assert record(root).ok
    assert verify(root).ok
    for name in names:
        (root / 'query' / name).write_bytes(b'')
    report = verify(root, allow=['altered'])
    assert {path for kind, path in found(report) if kind == 'empty'} == {
        f'query/{name}' for name in names}
    rows = report.as_dict()['findings']
    assert {row['path'] for row in rows} == {
        r'query/new\nline.tif', r'query/latin\xe9.tif', 'query/ .tif',
        'query/-.tif'}


def test_real_chips(real_chips):
    report = verify(real_chips)
    # They are the same chips in training and test, which a benchmark must
    # not have; the subsets are none of its business.
    assert report.images == 88
    assert {kind for kind, _ in found(report)} == {'leaking'}
    assert len(report.findings) == 22
