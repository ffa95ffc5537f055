"""tools/prepare_data/check_pairs.py, and the benchmark of pair loading."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from pair_case import write_image, write_sen12, write_source
from PIL import Image

from osar_plugin.datasets.pair_check import check
from osar_plugin.datasets.pair_statistics import read_statistics
from osar_plugin.io import decode
from osar_plugin.utils.errors import ConfigError, DatasetNotFoundError

TOOL = 'prepare_data/check_pairs.py'


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / 'pairs'
    write_source(
        root, 'DDHR', 6, 1, train=['000', '001', '002', '003.png'],
        test=['004', '005.png'])
    return write_source(root, 'Unpaired', 3, 2)


def faults(root, **arguments):
    """Kind and path inside the tree of all faults but of size."""
    found = check(root, workers=0, size=8, **arguments).faults
    return {
        (fault.kind, fault.path.removeprefix(f'{root}/')) for fault in found}


def test_a_sound_tree(tree, run_tool, tmp_path):
    file = tmp_path / 'statistics.json'
    args = (tree, '--statistics', file, '--size', '20', '--workers', '2')
    ended = run_tool(TOOL, *args)
    assert ended.code == 0, ended.out + ended.err
    assert '18 images, nothing wrong' in ended.out
    table = read_statistics(file)
    # The test split of this source is held out by default.
    for side, mean, std in (
            ('RGB', table['DDHR'].rgb_mean, table['DDHR'].rgb_std),
            ('SAR', table['DDHR'].sar_mean, table['DDHR'].sar_std)):
        pixels = np.stack([
            decode(tree / f'DDHR/{side}/{n:03d}.png')
            for n in range(4)]).reshape(4 * 480, -1) / 255
        np.testing.assert_allclose(mean, pixels.mean(0), rtol=1e-12)
        np.testing.assert_allclose(std, pixels.std(0), rtol=1e-12)
    content = json.loads(file.read_text())['sources']['DDHR']['rgb']
    assert content['images'] == 4 and content['pixels'] == 4 * 480
    # A file that is there is not replaced by accident.
    before = file.read_bytes()
    assert run_tool(TOOL, *args).code == 2
    assert run_tool(TOOL, *args, '--force').code == 0
    assert file.read_bytes() == before


def test_kinds_of_faults(tree):
    assert faults(tree) == set()
    (tree / 'DDHR/RGB/000.png').write_bytes(b'no image')
    (tree / 'DDHR/SAR/001.png').unlink()
    write_image(tree / 'DDHR/SAR/002.png', 5, 'SAR', (20, 25))
    grey = decode(tree / 'Unpaired/SAR/000.png')
    Image.fromarray(grey[:7]).save(tree / 'Unpaired/RGB/001.png')
    (tree / 'Unpaired/RGB/002.png').unlink()
    shutil.copy(tree / 'DDHR/SAR/003.png', tree / 'Unpaired/SAR/001.png')
    (tree / 'DDHR/val.txt').write_text('003\n777\n')
    assert faults(tree) == {
        ('unreadable', 'DDHR/RGB/000.png'), ('missing', 'DDHR/RGB/001.png'),
        ('size', 'DDHR/RGB/002.png'), ('grey', 'Unpaired/RGB/001.png'),
        ('small', 'Unpaired/RGB/001.png'), ('unequal', 'Unpaired'),
        ('duplicate', 'Unpaired/SAR/001.png'), ('list', 'DDHR/val.txt')}


def test_sar_that_is_optical(tree):
    write_image(tree / 'DDHR/SAR/003.png', 3)
    assert faults(tree) == {('unreadable', 'DDHR/SAR/003.png')}


def test_leaks(tree, tmp_path):
    # By a name in two lists.
    (tree / 'DDHR/train.txt').write_text('000\n001\n002\n003\n004\n')
    assert faults(tree, drop_test=['DDHR']) == {('leak', 'DDHR/train.txt')}
    assert faults(tree) == set()
    # By content under another name.
    (tree / 'DDHR/train.txt').write_text('000\n001\n002\n003\n')
    shutil.copy(tree / 'DDHR/RGB/005.png', tree / 'Unpaired/RGB/001.png')
    assert faults(tree, drop_test='all') == {
        ('leak', 'Unpaired/RGB/001.png')}
    # Of the test images of another task.
    other = tmp_path / 'bright/test'
    other.mkdir(parents=True)
    shutil.copy(tree / 'DDHR/SAR/002.png', other / 'x.png')
    assert ('leak', 'DDHR/SAR/002.png') in faults(
        tree, test_folders=[other.parent])


def test_what_no_list_names_is_not_looked_at(tree):
    (tree / 'DDHR/train.txt').write_text('000\n001\n002\n')
    (tree / 'DDHR/RGB/003.png').write_bytes(b'no image')
    assert faults(tree) == set()


def test_sen12(tmp_path):
    root = write_sen12(tmp_path / 'sen12')
    (root / 'test.txt').write_text('ROIs1158_spring_s2_1_p3.png\n')
    assert faults(root, layout='sen12') == set()
    result = check(root, 'sen12', size=8, workers=0)
    assert result.statistics['SEN12'][0].images == 15
    place = root / 'ROIs1158_spring/s1_1'
    shutil.copy(place / 'ROIs1158_spring_s1_1_p3.png',
                place / 'ROIs1158_spring_s1_1_p2.png')
    (place / 'ROIs1158_spring_s1_1_p4.png').unlink()
    (place / 'notes.png').write_bytes(b'')
    assert faults(root, layout='sen12') == {
        ('leak', 'ROIs1158_spring/s1_1/ROIs1158_spring_s1_1_p2.png'),
        ('missing', 'ROIs1158_spring/s2_1/ROIs1158_spring_s2_1_p4.png'),
        ('list', 'ROIs1158_spring/s1_1/notes.png')}


def test_a_damaged_tree_gets_no_statistics(tree, run_tool, tmp_path):
    (tree / 'DDHR/RGB/000.png').write_bytes(b'')
    file, report = tmp_path / 's.json', tmp_path / 'r.json'
    ended = run_tool(
        TOOL, tree, '--statistics', file, '--report', report, '--workers',
        '0')
    assert ended.code == 1 and not file.exists()
    assert 'no statistics written' in ended.out
    kinds = {
        entry['kind']: entry for entry in json.loads(report.read_text())}
    assert kinds['unreadable']['path'].endswith('DDHR/RGB/000.png')
    assert not kinds['unreadable']['warning'] and kinds['small']['warning']


def test_what_cannot_be_carried_out(tree, tmp_path, run_tool):
    for arguments in ((tmp_path / 'none',), (tree, '--limit', '-1'),
                      (tree, '--workers', '-2'),
                      (tree, '--test', tmp_path / 'none'),
                      (tree, '--layout', 'sen12')):
        ended = run_tool(TOOL, *arguments)
        assert ended.code == 2 and 'error: ' in ended.err, arguments
        assert 'Traceback' not in ended.err
    with pytest.raises(ConfigError, match='layout'):
        check(tree, 'other')
    with pytest.raises(DatasetNotFoundError):
        check(tmp_path / 'none')


def test_the_benchmark_runs(run_tool):
    ended = run_tool(
        'benchmark/pair_loading.py', '--side', '32', '--size', '16',
        '--pairs', '4', '--json')
    assert ended.code == 0, ended.err
    figures = json.loads(ended.out.splitlines()[-1])
    assert figures['image'] == '32x32'
    assert figures['images_per_second']['all together'] > 0


def test_the_demo_world_is_sound(run_tool, tmp_path):
    ended = run_tool(
        'make_demo_data.py', tmp_path, '--sets', 'ospretrain', 'sen12',
        '--source-pairs', '3', '--unpaired', '2', '--sen12-pairs', '26',
        '--land-size', '32', '--workers', '1')
    assert ended.code == 0, ended.err
    # The only sets: ships are not rendered beside them.
    assert {path.name for path in tmp_path.iterdir()} == {
        'OSPretrain', 'SEN12', 'demo_world.json'}
    for name, layout in (('OSPretrain', 'ospretrain'), ('SEN12', 'sen12')):
        result = check(
            tmp_path / name, layout, drop_test='all', size=32, workers=0)
        assert result.faults == []
        # What the writer measured is what the tool measures.
        table = read_statistics(tmp_path / name / 'statistics.json')
        for source, (rgb, sar) in result.statistics.items():
            assert list(table[source].rgb_mean) == rgb.mean_std()[0]
            assert list(table[source].sar_std) == sar.mean_std()[1]
