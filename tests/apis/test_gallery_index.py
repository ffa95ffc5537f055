"""The gallery index: what it describes again, keeps, drops and refuses."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from search_case import (
    Bomb,
    write_chip,
    write_config,
    write_gallery,
    write_weights,
)

from osar_plugin.apis import GalleryIndex, ShipReIDInferencer
from osar_plugin.apis.reid import list_chips
from osar_plugin.utils.errors import (
    ConfigError,
    CorruptImageError,
    DataFormatError,
    DatasetNotFoundError,
)


@pytest.fixture(scope='module')
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp('case')
    config = write_config(folder)
    return config, write_weights(folder, config)


@pytest.fixture(scope='module')
def inferencer(case):
    return ShipReIDInferencer(*case, 'cpu')


@pytest.fixture
def gallery(tmp_path):
    return write_gallery(tmp_path / 'gallery')


@pytest.fixture
def seen(inferencer, monkeypatch):
    """Names of the images that went through the model."""
    names = []
    forward = type(inferencer).forward

    def spy(self, batch, **kwargs):
        names.extend(
            os.path.basename(s.img_path) for s in batch['data_samples'])
        return forward(self, batch, **kwargs)

    monkeypatch.setattr(type(inferencer), 'forward', spy)
    return names


@pytest.fixture
def index(tmp_path, inferencer):
    return GalleryIndex(tmp_path / 'index', inferencer, flush_every=4)


def files(index):
    return sorted(p.name for p in index.folder.iterdir())


def same(found, expected):
    assert [c.path for c in found.chips] == [c.path for c in expected.chips]
    assert found.chips == expected.chips
    torch.testing.assert_close(
        found.features, expected.features, atol=2e-6, rtol=0)


def test_second_time_describes_nothing(index, gallery, seen, inferencer):
    first = index.update(gallery, batch_size=2)
    assert len(seen) == 10
    assert (index.report.encoded, index.report.reused) == (10, 0)
    # Files of four, four and two images, and the head.
    assert len(files(index)) == 4
    before = files(index)
    del seen[:]
    again = GalleryIndex(index.folder, inferencer)
    second = again.update(str(gallery))
    assert not seen
    assert (again.report.encoded, again.report.reused) == (0, 10)
    assert second.chips == first.chips
    assert torch.equal(second.features, first.features)
    assert files(index) == before
    same(first, inferencer.encode(gallery))


def test_only_what_changed(index, gallery, seen, inferencer):
    index.update(gallery)
    paths = list_chips(gallery)
    del seen[:]
    new = write_chip(gallery / 'new' / '0077_s01c1_RGB.tif', 77)
    changed = write_chip(paths[2], 999)
    gone = paths[3]
    gone.unlink()
    found = index.update(gallery)
    assert sorted(seen) == sorted([new.name, changed.name])
    assert index.report.encoded == 2
    assert index.report.reused == 8
    assert index.report.removed == 2
    assert str(gone) not in [c.path for c in found.chips]
    same(found, inferencer.encode(gallery))
    # What was dropped is no longer in any file.
    stored = []
    for file in index.folder.glob('*.safetensors'):
        with safe_open(file, 'pt') as content:
            stored += json.loads(content.metadata()['entries'])
    assert sorted(e['path'] for e in stored) == sorted(
        p.relative_to(gallery).as_posix() for p in list_chips(gallery))
    del seen[:]
    index.update(gallery)
    assert not seen


def test_same_size_other_content(index, gallery, seen):
    path = list_chips(gallery)[0]
    index.update(gallery)
    size = path.stat().st_size
    with Image.open(path) as image:
        image.transpose(Image.Transpose.ROTATE_180).save(path)
    assert path.stat().st_size == size
    del seen[:]
    index.update(gallery)
    assert seen == [path.name]


def test_touched_files(index, gallery, seen):
    """Time counts, unless the content is compared."""
    path = list_chips(gallery)[0]
    index.update(gallery, checksum=True)
    for checksum, expected in ((True, []), (False, [path.name])):
        os.utime(path, ns=(1, time.time_ns() - 5 * 10**9))
        del seen[:]
        index.update(gallery, checksum=checksum)
        assert seen == expected
    # The last entry was stored without a checksum: it cannot be compared.
    del seen[:]
    index.update(gallery, checksum=True)
    assert seen == [path.name]


def test_checksum_sees_through_a_faked_time(index, gallery, seen):
    path = list_chips(gallery)[0]
    index.update(gallery, checksum=True)
    stat = path.stat()
    with Image.open(path) as image:
        image.transpose(Image.Transpose.ROTATE_180).save(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    del seen[:]
    index.update(gallery, checksum=True)
    assert seen == [path.name]


def test_other_modality_is_described_anew(index, gallery, seen):
    index.update(gallery)
    del seen[:]
    found = index.update(gallery, modality='sar')
    assert {chip.modality for chip in found.chips} == {1}
    assert len(seen) == 5
    assert all('RGB' in name for name in seen)


def test_moved_gallery(index, gallery, seen):
    index.update(gallery)
    moved = gallery.with_name('elsewhere')
    gallery.rename(moved)
    del seen[:]
    found = index.update(moved)
    assert not seen
    assert found.chips[0].path.startswith(str(moved))


def test_modality_told_by_pixels_is_remembered(
        index, tmp_path, seen, monkeypatch):
    gallery = tmp_path / 'plain'
    gallery.mkdir()
    for i in range(3):
        write_chip(tmp_path / f'x{i}_SAR.tif', i).rename(
            gallery / f'ship{i}.tif')
    assert [c.modality for c in index.update(gallery).chips] == [1, 1, 1]
    from osar_plugin.apis import gallery as module
    monkeypatch.setattr(module, 'modality_from_pixels', None)
    del seen[:]
    index.update(gallery)
    assert not seen


# ------------------------------------------------------------------- killed


def test_an_interrupted_build_keeps_its_work(
        index, gallery, seen, inferencer, monkeypatch):
    forward = type(inferencer).forward

    def interrupted(self, batch, **kwargs):
        if len(seen) >= 6:
            raise KeyboardInterrupt
        return forward(self, batch, **kwargs)

    monkeypatch.setattr(type(inferencer), 'forward', interrupted)
    with pytest.raises(KeyboardInterrupt):
        index.update(gallery, batch_size=3)
    monkeypatch.setattr(type(inferencer), 'forward', forward)
    assert len(seen) == 6
    del seen[:]
    found = index.update(gallery)
    assert len(seen) == 4
    same(found, inferencer.encode(gallery))


KILLED = """
import os, signal, sys
from osar_plugin.apis import GalleryIndex, ShipReIDInferencer

config, weights, gallery, index = sys.argv[1:]
forward, count = ShipReIDInferencer.forward, [0]

def dying(self, batch, **kwargs):
    count[0] += len(batch['inputs'])
    if count[0] > 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return forward(self, batch, **kwargs)

ShipReIDInferencer.forward = dying
inferencer = ShipReIDInferencer(config, weights, 'cpu')
GalleryIndex(index, inferencer, flush_every=2).update(gallery, batch_size=1)
"""


def test_a_killed_build_keeps_its_work(
        index, gallery, seen, case, run_python, inferencer):
    ended = run_python('-c', KILLED, *case, gallery, index.folder)
    assert ended.code == -9, ended.err
    # Images 1 to 6 in three files; 7 was described but not yet written.
    assert len(files(index)) == 4
    found = index.update(gallery)
    assert len(seen) == 4
    same(found, inferencer.encode(gallery))


# ------------------------------------------------------------------ refusals


def damage(index, how):
    file = sorted(index.folder.glob('features-*'))[0]
    data = bytearray(file.read_bytes())
    if how == 'cut':
        data = data[:-5]
    elif how == 'flipped':
        data[-3] ^= 1
    elif how == 'empty':
        data = b''
    elif how == 'renamed entry':
        data = data.replace(b'0001_s01c1_RGB', b'0001_s01c1_SAR')
    elif how == 'no header':
        from safetensors.torch import save
        data = save({'feature': torch.ones(4, 24)})
    elif how == 'head cut':
        file = index.folder / 'index.json'
        data = file.read_bytes()[:-9]
    elif how == 'head a list':
        file, data = index.folder / 'index.json', b'[]'
    elif how == 'other format':
        file, data = index.folder / 'index.json', b'{"format": "x/9"}'
    elif how == 'head gone':
        (index.folder / 'index.json').unlink()
        return 'index.json'
    file.write_bytes(data)
    return file.name


@pytest.mark.parametrize('how', [
    'cut', 'flipped', 'empty', 'renamed entry', 'no header', 'head cut',
    'head a list', 'other format', 'head gone'])
def test_a_damaged_index_is_named(index, gallery, inferencer, how):
    index.update(gallery)
    name = damage(index, how)
    with pytest.raises(DataFormatError, match='--rebuild') as error:
        index.update(gallery)
    assert name in str(error.value)
    index.clear()
    same(index.update(gallery), inferencer.encode(gallery))


def test_an_index_cannot_carry_code(index, gallery, tmp_path):
    index.update(gallery)
    file = sorted(index.folder.glob('features-*'))[0]
    for content in ('pickle', 'torch'):
        if content == 'pickle':
            file.write_bytes(pickle.dumps(Bomb(tmp_path / 'made')))
        else:
            torch.save(Bomb(tmp_path / 'made'), file)
        with pytest.raises(DataFormatError, match='--rebuild'):
            index.update(gallery)
        assert not (tmp_path / 'made').exists()


def test_another_model_is_refused(index, gallery, case, tmp_path, inferencer):
    index.update(gallery)
    before = {p: p.read_bytes() for p in index.folder.iterdir()}
    other = ShipReIDInferencer(
        case[0], write_weights(tmp_path, case[0], seed=1), 'cpu')
    for wrong in (
            GalleryIndex(index.folder, other),
            GalleryIndex(index.folder, inferencer, gsd=1.0)):
        with pytest.raises(ConfigError, match='--rebuild'):
            wrong.update(gallery)
    assert {p: p.read_bytes() for p in index.folder.iterdir()} == before


def test_another_gallery_is_refused(index, gallery, tmp_path):
    index.update(gallery)
    write_chip(tmp_path / 'other' / '0500_s01c1_RGB.tif', 1)
    before = files(index)
    with pytest.raises(ConfigError, match='belongs to another'):
        index.update(tmp_path / 'other')
    assert files(index) == before


def test_empty_gallery(index, tmp_path):
    (tmp_path / 'empty').mkdir()
    for name in ('empty', 'missing'):
        with pytest.raises(DatasetNotFoundError, match=name):
            index.update(tmp_path / name)
    assert not index.folder.exists()


def test_clear_deletes_nothing_else(index, gallery):
    index.update(gallery)
    (index.folder / 'mine.txt').write_text('kept')
    index.clear()
    assert files(index) == ['mine.txt']


@pytest.mark.parametrize('name', ['0002_s09c1_RGB.tif', 'ship.tif'])
def test_broken_images(index, gallery, seen, inferencer, name):
    """Refused, or left out by name; the others are described either way."""
    bad = gallery / name
    shutil.copy(list_chips(gallery)[0], bad)
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(CorruptImageError, match='--skip-broken') as error:
        index.update(gallery)
    assert name in str(error.value)
    found = index.update(gallery, skip_broken=True)
    assert list(index.report.broken) == [name]
    assert name in index.report.broken[name]
    assert len(found) == 10
    # Once it is mended it is described, and nothing else.
    shutil.copy(list_chips(gallery)[0], bad)
    bad.rename(gallery / '0002_s09c1_RGB.tif')
    del seen[:]
    found = index.update(gallery, skip_broken=True)
    assert seen == ['0002_s09c1_RGB.tif']
    same(found, inferencer.encode(gallery))


def test_nothing_readable(index, tmp_path):
    (tmp_path / 'bad').mkdir()
    (tmp_path / 'bad' / 'x_RGB.png').write_bytes(b'no image')
    with pytest.raises(DataFormatError, match='none of the 1'):
        index.update(tmp_path / 'bad', skip_broken=True)


def test_wrong_arguments(index, gallery, inferencer):
    with pytest.raises(ConfigError, match='flush_every=0'):
        GalleryIndex(index.folder, inferencer, flush_every=0)
    with pytest.raises(ConfigError, match="'radar'"):
        index.update(gallery, modality='radar')
