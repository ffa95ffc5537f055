"""SEN1-2: names, seasons, splits; and lists of scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pair_case import STATISTICS, write_image, write_sen12

from osar_plugin.datasets import SEN12, SceneList
from osar_plugin.datasets.sen12 import parse_name
from osar_plugin.utils.errors import (
    ConfigError,
    DataFormatError,
    DatasetNotFoundError,
)

TABLE = {'SEN12': STATISTICS}


def keys(dataset):
    return [
        parse_name(Path(dataset.get_data_info(i)['rgb_path']).stem)[0][1:]
        for i in range(len(dataset))]


@pytest.fixture
def tree(tmp_path):
    return write_sen12(tmp_path / 'sen12')


def test_pairs_in_order(tree):
    dataset = SEN12(str(tree), statistics=TABLE)
    assert len(dataset) == 16
    assert keys(dataset)[:8] == [
        (scene, patch) for scene in (1, 12) for patch in range(1, 5)]
    assert dataset.pair_table().tolist() == [1] * 16
    for index in range(16):
        row = dataset[index]
        assert row['sar_path'] == row['rgb_path'].replace('s2_', 's1_')
        assert Path(row['sar_path']).is_file()
        assert row['source'] == 'SEN12' and row['paired'] == 1


def test_seasons_and_splits(tree):
    winter = SEN12(
        str(tree), seasons=['ROIs2017_winter'], statistics=TABLE)
    assert len(winter) == 8
    (tree / 'test.txt').write_text(
        'ROIs1158_spring_s2_1_p3.png\nROIs2017_winter_s1_12_p1\n')
    test = SEN12(str(tree), split='test', statistics=TABLE)
    assert keys(test) == [(1, 3), (12, 1)]
    train = SEN12(str(tree), split='train', statistics=TABLE)
    assert len(train) == 14
    assert not {row['rgb_path'] for row in train} & {
        row['rgb_path'] for row in test}


@pytest.mark.parametrize('name', [
    'ROIs1158_spring_s3_1_p3', 'ROIs1158_spring_s1_1', 'ROIs1_may_s1_1_p3',
    'ROIs1158_spring_s1_1_p3_copy', 'x_ROIs1158_spring_s1_1_p3'])
def test_names_that_do_not_parse(tree, name):
    write_image(tree / f'ROIs1158_spring/s1_1/{name}.png', 0, 'SAR')
    with pytest.raises(DataFormatError, match=name):
        SEN12(str(tree), statistics=TABLE)


def test_misplaced_and_missing(tree):
    there = tree / 'ROIs1158_spring/s1_1/ROIs1158_spring_s1_1_p1.png'
    there.unlink()
    with pytest.raises(DataFormatError, match='1 images have no partner'):
        SEN12(str(tree), statistics=TABLE)
    write_image(there.with_name('ROIs1158_spring_s1_2_p1.png'), 0, 'SAR')
    with pytest.raises(DataFormatError, match='belongs into'):
        SEN12(str(tree), statistics=TABLE)


@pytest.mark.parametrize('arguments, error, text', [
    (dict(split='val'), ConfigError, 'split'),
    (dict(seasons='ROIs1158_spring'), ConfigError, 'list'),
    (dict(seasons=['ROIs1868_summer']), DatasetNotFoundError, 'summer'),
    (dict(split='test'), DatasetNotFoundError, 'test.txt'),
    (dict(statistics=None), ConfigError, 'check_pairs'),
    (dict(statistics='none.json'), ConfigError, 'none.json'),
])
def test_bad_arguments(tree, arguments, error, text):
    with pytest.raises(error, match=text):
        SEN12(str(tree), **{'statistics': TABLE, **arguments})


def test_empty(tmp_path):
    with pytest.raises(DatasetNotFoundError, match='no image'):
        SEN12(str(tmp_path), statistics=TABLE)
    with pytest.raises(DatasetNotFoundError, match='no such folder'):
        SEN12(str(tmp_path / 'none'), statistics=TABLE)


@pytest.fixture
def scenes(tmp_path):
    lines = [f'o{n}.png s{n}.png {n % 3}' for n in range(30)]
    (tmp_path / 'list.txt').write_text('\n'.join(lines) + '\n\n')
    return tmp_path


def scene_list(root, **arguments):
    return SceneList(
        str(root), 'list.txt', **{'classes': list('abc'), **arguments})


def test_scenes_by_modality(scenes):
    optical = scene_list(scenes)
    assert len(optical) == 30
    assert optical[4] == dict(
        img_path=str(scenes / 'o4.png'), label=1, modality=0, sample_idx=4)
    assert optical.metainfo['classes'] == ('a', 'b', 'c')
    row = scene_list(scenes, modality='sar')[5]
    assert row['img_path'] == str(scenes / 's5.png')
    assert (row['label'], row['modality']) == (2, 1)


def test_folders_in_a_list(scenes):
    (scenes / 'list.txt').write_text('a_1.jpg Airport 2\n')
    row = scene_list(scenes, columns=('file', 'folder', 'label'))[0]
    assert row['img_path'] == str(scenes / 'Airport/a_1.jpg')


def test_few_shots(scenes):
    order = np.arange(30)
    np.random.RandomState(731).shuffle(order)
    official = scene_list(scenes, shots=4, seed=2)
    assert [row['img_path'] for row in official] == [
        str(scenes / f'o{n}.png') for n in order[:12]]
    for seed in (0, 1):
        balanced = scene_list(scenes, shots=4, seed=seed, balanced=True)
        labels = [row['label'] for row in balanced]
        assert sorted(labels) == [0] * 4 + [1] * 4 + [2] * 4
        assert len({row['img_path'] for row in balanced}) == 12
    assert scene_list(scenes, shots=4, seed=1, balanced=True)[0] != (
        scene_list(scenes, shots=4, seed=0, balanced=True)[0])


@pytest.mark.parametrize('arguments, error', [
    (dict(modality='SAR'), ConfigError),
    (dict(classes='abc'), ConfigError),
    (dict(classes=['a', 'b']), DataFormatError),
    (dict(columns=('file', 'label')), DataFormatError),
    (dict(columns=('sar', 'folder', 'label')), ConfigError),
    (dict(columns=('optical', 'sar')), ConfigError),
    (dict(shots=11), ConfigError),
    (dict(shots=11, balanced=True), ConfigError),
    (dict(shots=0), ConfigError),
])
def test_bad_lists(scenes, arguments, error):
    with pytest.raises(error):
        scene_list(scenes, **arguments)


def test_lists_that_cannot_be_read(scenes):
    (scenes / 'list.txt').write_text('\n')
    with pytest.raises(DataFormatError, match='names no image'):
        scene_list(scenes)
    (scenes / 'list.txt').write_bytes(b'\xff\xff')
    with pytest.raises(DataFormatError, match='cannot be read'):
        scene_list(scenes)
    (scenes / 'list.txt').unlink()
    with pytest.raises(DatasetNotFoundError):
        scene_list(scenes)
