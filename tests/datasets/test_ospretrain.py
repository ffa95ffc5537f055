"""OSPretrain: lists, sources, statistics, partners, teacher features."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from pair_case import STATISTICS, write_image, write_source

from osar_plugin.datasets import OSPretrain
from osar_plugin.datasets.ospretrain import (
    OFFICIAL_DROP_TEST,
    OFFICIAL_EXCLUDE,
)
from osar_plugin.datasets.pair_statistics import (
    OSPRETRAIN_STATISTICS,
    Moments,
    moments,
    read_statistics,
    write_statistics,
)
from osar_plugin.datasets.teacher_features import (
    feature_path,
    read_features,
    write_features,
)
from osar_plugin.utils.errors import (
    ConfigError,
    DataFormatError,
    DatasetNotFoundError,
)


def names(dataset: OSPretrain, key: str = 'rgb_path') -> list[str]:
    return [
        Path(dataset.get_data_info(index)[key]).stem
        for index in range(len(dataset))]


@pytest.fixture
def tree(tmp_path):
    """Two sources and an unpaired one, all with published statistics."""
    write_source(
        tmp_path, 'DDHR', 6, 1, train=['000.png', '001', '', '004.png'],
        val=['002', '001'], test=['003.png', '004'])
    write_source(tmp_path, 'osdataset', 3, 2)
    write_source(tmp_path, 'PIE-RGB-SAR', 2, 3)
    write_source(tmp_path, 'Unpaired', 5, 4)
    return tmp_path


def test_rows_of_the_published_recipe(tree):
    dataset = OSPretrain(str(tree))
    assert dataset.metainfo['sources'] == ('DDHR', 'Unpaired', 'osdataset')
    # Lists are merged, each name once; 004 is in train and in test: out.
    assert names(dataset)[:3] == ['000', '001', '002']
    assert dataset.pair_table().tolist() == [1] * 3 + [0] * 5 + [1] * 3
    row = dataset[0]
    assert row['rgb_path'] == str(tree / 'DDHR/RGB/000.png')
    assert row['sar_path'] == str(tree / 'DDHR/SAR/000.png')
    assert (row['paired'], row['source']) == (1, 'DDHR')
    assert row['stats'] == ((.2243, .2357, .2443), (.1463, .1329, .1274),
                            (.2365,), (.2034,))
    assert dataset[3]['stats'] == OSPRETRAIN_STATISTICS['Unpaired']


def test_published_constants():
    assert len(OSPRETRAIN_STATISTICS) == 15
    assert OSPRETRAIN_STATISTICS['SpaceNet6'] == (
        (.3712, .3928, .3576), (.1871, .1627, .1723), (.3552,), (.2093,))
    assert OSPRETRAIN_STATISTICS['Unpaired'].sar_std == (.2226,)
    assert set(OFFICIAL_EXCLUDE + OFFICIAL_DROP_TEST) <= set(
        OSPRETRAIN_STATISTICS)


def test_what_is_left_out(tree):
    every = OSPretrain(str(tree), exclude=(), drop_test=())
    assert every.metainfo['sources'] == (
        'DDHR', 'PIE-RGB-SAR', 'Unpaired', 'osdataset')
    assert names(every)[:5] == ['000', '001', '004', '002', '003']
    only = OSPretrain(str(tree), include=['DDHR'], lists=['val'])
    assert names(only) == ['002', '001']
    (tree / 'held.txt').write_text('001.png\n')
    held = OSPretrain(
        str(tree), include=['osdataset'],
        held_out={'osdataset': 'held.txt'})
    assert names(held) == ['000', '002']


def test_an_index_of_two_rows_joins_unpaired_images(tree):
    dataset = OSPretrain(str(tree))
    row = dataset[3, 6]
    assert Path(row['rgb_path']).stem == '000'
    assert Path(row['sar_path']).stem == '003'
    assert row['sample_idx'] == 3 and row['paired'] == 0
    # A pair stays whole, whichever side of the index it is on.
    for index in ((0, 1), (0, 3), (3, 0)):
        with pytest.raises(ConfigError, match='PairedBatchSampler'):
            dataset[index]
    assert dataset[0, 0]['sar_path'].endswith('DDHR/SAR/000.png')


def test_substitutes_are_of_the_same_kind(tree):
    dataset = OSPretrain(str(tree))
    assert dataset.substitutes(4) == [3, 5, 6, 7]
    assert dataset.substitutes(0) == [1, 2]
    lone = OSPretrain(
        str(tree), include=['DDHR', 'osdataset'], lists=['train'],
        held_out={'DDHR': str(tree / 'DDHR/val.txt')})
    assert names(lone)[:1] == ['000']
    assert lone.substitutes(0) == [1, 2, 3]


def test_missing_side(tree):
    (tree / 'osdataset/SAR/001.png').unlink()
    with pytest.raises(DataFormatError, match=r'1 of 3 pairs.*SAR.*001'):
        OSPretrain(str(tree))
    (tree / 'osdataset/SAR/001.png').write_bytes(b'')
    (tree / 'osdataset/RGB/002.png').unlink()
    with pytest.raises(DataFormatError, match=r'no RGB image \(002\)'):
        OSPretrain(str(tree))


def test_unequal_unpaired_counts(tree):
    (tree / 'Unpaired/SAR/004.png').unlink()
    with pytest.raises(DataFormatError, match='5 optical and 4 SAR'):
        OSPretrain(str(tree))
    assert len(OSPretrain(str(tree), exclude=['Unpaired', 'PIE-RGB-SAR']))


def test_names_that_are_not_there(tree):
    (tree / 'DDHR/val.txt').write_text('002\n777\n')
    with pytest.raises(DataFormatError, match='777'):
        OSPretrain(str(tree))


@pytest.mark.parametrize('content', ['', '\n \n', '../../etc/passwd', '/x'])
def test_damaged_lists(tree, content):
    (tree / 'DDHR/train.txt').write_text(content)
    with pytest.raises(DataFormatError, match='train.txt'):
        OSPretrain(str(tree))


def test_binary_list(tree):
    (tree / 'DDHR/train.txt').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(DataFormatError, match='train.txt'):
        OSPretrain(str(tree))


def test_two_files_of_one_name(tree):
    write_image(tree / 'osdataset/RGB/001.tif', 9)
    with pytest.raises(DataFormatError, match='001.tif'):
        OSPretrain(str(tree))


@pytest.mark.parametrize('arguments, error, text', [
    (dict(include='DDHR'), ConfigError, 'list of folder names'),
    (dict(exclude='DDHR'), ConfigError, 'list of folder names'),
    (dict(drop_test='DDHR'), ConfigError, 'list of folder names'),
    (dict(lists=['training']), ConfigError, 'train, val, test'),
    (dict(include=['DDR']), DatasetNotFoundError, 'no source DDR'),
    (dict(held_out={'X': 'a'}), DatasetNotFoundError, 'no source X'),
    (dict(include=['PIE-RGB-SAR']), DatasetNotFoundError, 'no source is'),
    (dict(suffixes='.png'), ConfigError, 'suffixes'),
])
def test_bad_arguments(tree, arguments, error, text):
    with pytest.raises(error, match=text):
        OSPretrain(str(tree), **arguments)


def test_missing_root(tmp_path):
    with pytest.raises(DatasetNotFoundError, match='make_demo_data'):
        OSPretrain(str(tmp_path / 'none'))


def test_unknown_sources_need_statistics(tmp_path):
    write_source(tmp_path, 'Mine', 2)
    with pytest.raises(ConfigError, match=r'Mine.*check_pairs'):
        OSPretrain(str(tmp_path))
    dataset = OSPretrain(str(tmp_path), statistics={'Mine': STATISTICS})
    assert dataset[1]['stats'].rgb_std == (.1, .2, .3)
    values = np.zeros((2, 2), np.uint8) + np.uint8([[0, 51], [102, 255]])
    sums = moments(values)
    write_statistics(tmp_path / 'own.json', {
        'Mine': (moments(np.stack([values] * 3, -1)), sums)})
    stats = OSPretrain(str(tmp_path), statistics='own.json')[0]['stats']
    assert stats.sar_mean == pytest.approx((values.mean() / 255,))
    assert stats.rgb_std == pytest.approx([values.std() / 255] * 3)


def test_moments_are_exact_and_add_up():
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, 256, (n, 7, 3), np.uint8) for n in (3, 50, 11)]
    total = moments(images[0]) + moments(images[1]) + moments(images[2])
    joint = np.concatenate(images).reshape(-1, 3) / 255
    mean, std = total.mean_std()
    np.testing.assert_allclose(mean, joint.mean(0), rtol=1e-13)
    np.testing.assert_allclose(std, joint.std(0), rtol=1e-13)
    assert total.images == 3 and total.pixels == 64 * 7
    # Nothing is lost where floating point would lose it.
    many = Moments(1, 10**15, (255 * 10**15 - 1,), (255**2 * 10**15,))
    assert many.mean_std()[1][0] > 0
    for bad in (np.zeros((2, 2)), np.zeros((0, 2), np.uint8)):
        with pytest.raises(DataFormatError, match='8-bit'):
            moments(bad)


@pytest.mark.parametrize('change', [
    lambda s: s.pop('sar'),
    lambda s: s['rgb'].update(mean=[.1, .2]),
    lambda s: s['rgb'].update(std=[.1, .2, 0]),
    lambda s: s['rgb'].update(mean=[.1, .2, math.nan]),
    lambda s: s['sar'].update(mean=['a']),
    lambda s: s['sar'].update(std=.1),
    lambda s: s['sar'].update(mean=[36.0]),
])
def test_damaged_statistics(tmp_path, change):
    entry = json.loads(json.dumps(STATISTICS))
    change(entry)
    file = tmp_path / 'statistics.json'
    file.write_text(json.dumps(dict(
        format='osar_plugin pair statistics', version=1,
        sources=dict(Mine=entry))))
    with pytest.raises(DataFormatError, match='Mine'):
        read_statistics(file)


@pytest.mark.parametrize('content', ['{', '[]', '{"sources": {}}', '"x"'])
def test_files_that_are_no_statistics(tmp_path, content):
    file = tmp_path / 'statistics.json'
    file.write_text(content)
    with pytest.raises(DataFormatError, match='check_pairs'):
        read_statistics(file)
    with pytest.raises(ConfigError, match='check_pairs'):
        read_statistics(tmp_path / 'none.json')


def write_teacher(root: Path, folder: Path, image: Path) -> np.ndarray:
    features = np.random.default_rng(1).standard_normal((6, 4))
    write_features(
        feature_path(folder, root, image), features, image.read_bytes(),
        'test', (2, 3))
    return features.astype(np.float16)


def test_teacher_features_come_with_their_image(tree, tmp_path):
    folder = tmp_path / 'features'
    image = tree / 'DDHR/RGB/000.png'
    features = write_teacher(tree, folder, image)
    load = dict(type='osar_plugin.LoadPair')
    dataset = OSPretrain(
        str(tree), teacher_features=str(folder), pipeline=[load])
    sample = dataset[0]
    np.testing.assert_array_equal(sample['teacher'], features)
    assert sample['teacher'].dtype == np.float16
    assert sample['teacher_grid'] == (2, 3)
    with pytest.raises(DataFormatError, match='no features'):
        dataset[1]
    # The image is replaced under the same name.
    write_image(image, 99)
    with pytest.raises(DataFormatError, match='belong to another image'):
        dataset[0]


def test_damaged_teacher_features(tree, tmp_path):
    image = tree / 'DDHR/RGB/000.png'
    write_teacher(tree, tmp_path, image)
    path = feature_path(tmp_path, tree, image)
    whole = path.read_bytes()
    for content in (b'', whole[:40], whole[:-9], b'\xff' * 64):
        path.write_bytes(content)
        with pytest.raises(DataFormatError, match='damaged'):
            read_features(path)
    from safetensors.numpy import save_file
    for about in (None, dict(format='x'), dict(
            format='osar_plugin teacher features 1', image_sha256='0',
            grid='3x3')):
        save_file({'features': np.zeros((6, 4), np.float16)}, path, about)
        with pytest.raises(DataFormatError, match=r'000\.safetensors'):
            read_features(path)


@pytest.mark.parametrize('features', [
    np.zeros((5, 4)), np.zeros(6), np.full((6, 4), np.nan),
    np.full((6, 4), 1e6)])
def test_features_that_are_not_written(tmp_path, features):
    path = tmp_path / 'x.safetensors'
    with pytest.raises(DataFormatError):
        write_features(path, features, b'', 'test', (2, 3))
    assert not path.exists()
    with pytest.raises(DataFormatError, match='outside'):
        feature_path(tmp_path, tmp_path / 'a', tmp_path / 'b/c.png')
