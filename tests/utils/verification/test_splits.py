"""Splits by the names of folders, and by hand."""

from __future__ import annotations

import pytest

from osar_plugin.utils.errors import ConfigError, DatasetNotFoundError
from osar_plugin.utils.verification.splits import (
    Place,
    place_of,
    places_by_hand,
)


@pytest.mark.parametrize(
    ('path', 'split'), [
        ('HOSS/bounding_box_train/0001_s01c1_RGB.tif', 'train'),
        ('HOSS/bounding_box_test/0001_s01c1_RGB.tif', 'gallery'),
        ('bounding_box_test/0001_s01c1_RGB.tif', 'gallery'),
        ('HOSS/query/0001_s01c1_RGB.tif', 'query'),
        ('OptiSar_Pair/0001/a_1_RGB.tif', 'train'),
        ('Train/Urban/images_png/0.png', 'train'),
        ('Val/Rural/images_png/0.png', 'val'),
        ('images/train2017/1.jpg', 'train'),
        ('JPEGImages-trainval/1.jpg', 'train'),
        ('JPEGImages-test/1.jpg', 'test'),
        ('TrainVal/1.jpg', 'train'),
        ('VALIDATION/1.jpg', 'val'),
        ('test_data/train/1.jpg', 'train'),
        ('test/gallery/1.jpg', 'gallery'),
        ('test/query/1.jpg', 'query'),
        ('contest/1.jpg', ''),
        ('constrained/retraining_notes/1.jpg', ''),
        ('images/train.jpg', ''),
        ('train.jpg', ''),
    ])
def test_split_by_name(path, split):
    assert place_of(path).split == split


def test_subsets_of_hoss_are_sets_of_their_own():
    assert place_of('HOSS/subset/O2S/query/a.tif') == Place(
        'query', 'subset/O2S')
    assert place_of('subset/S2O/bounding_box_test/a.tif') == Place(
        'gallery', 'subset/S2O')
    # A folder of that name elsewhere is nothing special.
    assert place_of('subset/a/train/a.tif') == Place('train')
    assert place_of('HOSS/query/a.tif') == Place('query')


@pytest.mark.parametrize(
    ('folder', 'labels'), [
        ('ann_dir/train', True), ('Train/Urban/masks_png', True),
        ('gt', True), ('train_labels', True), ('test/target', True),
        ('SegmentationClass', True), ('target_images', False),
        ('img_dir', False), ('masked_images', False), ('Urban', False)])
def test_label_maps_by_name(folder, labels):
    assert place_of(f'{folder}/a.png').labels is labels


def test_by_hand(tmp_path, monkeypatch):
    for name in ('data/x/deep', 'data/y', 'data/train', 'other'):
        (tmp_path / name).mkdir(parents=True)
    root = tmp_path / 'data'
    monkeypatch.chdir(tmp_path)
    table = places_by_hand(root, {
        'train': ['x'], 'test': ['data/y', root / 'x' / 'deep']})
    assert table == {'x': 'train', 'y': 'test', 'x/deep': 'test'}
    assert place_of('x/a.png', table).split == 'train'
    assert place_of('x/deep/er/a.png', table).split == 'test'
    # Names count for nothing then.
    assert place_of('train/a.png', table).split == ''
    assert place_of('a.png', places_by_hand(root, {'val': ['.']})) == (
        Place('val'))
    with pytest.raises(ConfigError, match='other lies outside of'):
        places_by_hand(root, {'train': ['other']})
    with pytest.raises(ConfigError, match='train and for test'):
        places_by_hand(root, {'train': ['x'], 'test': ['data/x']})
    with pytest.raises(DatasetNotFoundError, match='nowhere: no such'):
        places_by_hand(root, {'train': ['nowhere']})
    with pytest.raises(ConfigError, match="'trains' is not known: use train"):
        places_by_hand(root, {'trains': ['x']})
