"""LoveDA in its layouts, and its label maps."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from osar_plugin.datasets import LoveDA
from osar_plugin.datasets.loveda import CLASSES, PALETTE
from osar_plugin.datasets.transforms import LoadLabelMap
from osar_plugin.utils.errors import (
    ConfigError,
    CorruptImageError,
    DataFormatError,
    DatasetNotFoundError,
)

REAL = Path(__file__).resolve().parents[3] / 'shared/data/loveda'


def tile(path: Path, value: int = 0, labels: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (8, 8) if labels else (8, 8, 3)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)


@pytest.fixture
def official(tmp_path):
    numbers = iter(range(8, 100))
    for split in ('Train', 'Val', 'Test'):
        for scene in ('Urban', 'Rural'):
            for _ in range(2):
                name = f'{next(numbers)}.png'
                tile(tmp_path / split / scene / 'images_png' / name)
                if split != 'Test':
                    tile(tmp_path / split / scene / 'masks_png' / name, 1,
                         labels=True)
    return tmp_path


@pytest.fixture
def converted(tmp_path):
    for split, names in (('train', '9 10'), ('val', '11'), ('test', '12')):
        for name in names.split():
            tile(tmp_path / 'img_dir' / split / f'{name}.png')
            if split != 'test':
                tile(tmp_path / 'ann_dir' / split / f'{name}.png', 1, True)
    return tmp_path


def stems(dataset):
    return [int(Path(row['img_path']).stem) for row in dataset]


def test_the_published_layout(official):
    train = LoveDA(str(official))
    assert stems(train) == [8, 9, 10, 11]
    row = train[2]
    assert row['seg_map_path'] == row['img_path'].replace(
        'images_png', 'masks_png')
    assert row['reduce_zero_label'] is True and row['label_map'] is None
    assert row['seg_fields'] == [] and Path(row['seg_map_path']).is_file()
    assert stems(LoveDA(str(official), scenes=['Rural'])) == [10, 11]
    assert stems(LoveDA(str(official), splits=['val'])) == [12, 13, 14, 15]
    merged = LoveDA(str(official), splits=['train', 'val'])
    assert stems(merged) == list(range(8, 16))


@pytest.mark.parametrize('layout, count', [('official', 4),
                                           ('converted', 1)])
@pytest.mark.parametrize('folders', ['absent', 'empty'])
def test_the_test_split_has_no_labels(request, layout, count, folders):
    """An empty folder of masks says so as well as none."""
    root = request.getfixturevalue(layout)
    if folders == 'empty' and layout == 'official':
        (root / 'Test/Urban/masks_png').mkdir()
        (root / 'Test/Rural/masks_png').mkdir()
        (root / 'Test/Rural/masks_png/._20.png').touch()
    elif folders == 'empty':
        (root / 'ann_dir/test').mkdir()
    test = LoveDA(str(root), splits=['test'])
    assert len(test) == count
    assert all('seg_map_path' not in row for row in test)


def test_masks_of_the_test_split_are_taken(converted):
    tile(converted / 'ann_dir/test/12.png', 1, True)
    assert 'seg_map_path' in LoveDA(str(converted), splits=['test'])[0]


def test_an_empty_folder_of_other_splits_is_an_error(official):
    shutil.rmtree(official / 'Val/Urban/masks_png')
    (official / 'Val/Urban/masks_png').mkdir()
    with pytest.raises(DataFormatError, match='2 tiles have no partner'):
        LoveDA(str(official), splits=['val'])


def test_the_converted_layout(converted):
    """Sorted by number, not 10 before 9."""
    assert stems(LoveDA(str(converted))) == [9, 10]
    assert stems(LoveDA(str(converted), splits=['train', 'val'])) == [
        9, 10, 11]
    assert 'seg_map_path' not in LoveDA(
        str(converted), splits=['test'])[0]
    with pytest.raises(ConfigError, match='scenes'):
        LoveDA(str(converted), scenes=['Urban'])


def test_a_folder_with_both_splits(tmp_path):
    for name in ('3', '4'):
        tile(tmp_path / f'img/trainval/{name}.png')
        tile(tmp_path / f'ann/trainval/{name}.png', 1, True)
    dataset = LoveDA(str(tmp_path), splits=['train', 'val'])
    assert stems(dataset) == [3, 4]
    assert dataset[0]['seg_map_path'] == str(
        tmp_path / 'ann/trainval/3.png')
    with pytest.raises(DatasetNotFoundError, match='img/train'):
        LoveDA(str(tmp_path))


def test_a_root_called_test_keeps_its_labels(tmp_path):
    tile(tmp_path / 'test/img_dir/train/1.png')
    with pytest.raises(DatasetNotFoundError, match='no folder of masks'):
        LoveDA(str(tmp_path / 'test'))


def test_a_list_of_tiles(official):
    (official / 'few.txt').write_text('11.png\n8\n')
    dataset = LoveDA(str(official), list_file='few.txt')
    assert stems(dataset) == [11, 8]
    (official / 'few.txt').write_text('11\n12\n')
    with pytest.raises(DatasetNotFoundError, match='1 of its 2 tiles.*12'):
        LoveDA(str(official), list_file='few.txt')


def test_tiles_and_masks_must_agree(official):
    (official / 'Train/Urban/masks_png/9.png').unlink()
    with pytest.raises(DataFormatError, match='1 tiles have no partner'):
        LoveDA(str(official))
    tile(official / 'Train/Urban/masks_png/9.png', 1, True)
    (official / 'Train/Urban/images_png/8.png').unlink()
    with pytest.raises(DataFormatError, match='1 masks have no partner.*8'):
        LoveDA(str(official))


@pytest.mark.parametrize('arguments, error, text', [
    (dict(splits='train'), ConfigError, 'splits'),
    (dict(splits=['Train']), ConfigError, 'splits'),
    (dict(splits=[]), ConfigError, 'splits'),
    (dict(scenes=['Urban', 'Urban']), ConfigError, 'scenes'),
    (dict(list_file='no.txt'), DatasetNotFoundError, 'no such list')])
def test_bad_arguments(official, arguments, error, text):
    with pytest.raises(error, match=text):
        LoveDA(str(official), **arguments)


def test_missing_folders(tmp_path, official):
    with pytest.raises(DatasetNotFoundError, match='Expected layout'):
        LoveDA(str(tmp_path / 'nowhere'))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DatasetNotFoundError, match='no folder of LoveDA'):
        LoveDA(str(tmp_path / 'empty'))
    shutil.rmtree(official / 'Train/Rural/images_png')
    with pytest.raises(DatasetNotFoundError, match='Rural/images_png'):
        LoveDA(str(official))


# --- label maps


def load(path, **arguments):
    return LoadLabelMap(7)(dict(
        seg_map_path=str(path), seg_fields=[], reduce_zero_label=True,
        **arguments))


def test_labels_begin_at_zero(tmp_path):
    Image.fromarray(np.arange(8, dtype=np.uint8)[None]).save(
        tmp_path / 'm.png')
    sample = load(tmp_path / 'm.png')
    assert sample['gt_seg_map'].tolist() == [[255, 0, 1, 2, 3, 4, 5, 6]]
    assert sample['gt_seg_map'].dtype == np.uint8
    assert sample['seg_fields'] == ['gt_seg_map']
    swapped = load(tmp_path / 'm.png', label_map={0: 6, 6: 0, 3: 255})
    assert swapped['gt_seg_map'].tolist() == [[255, 6, 1, 2, 255, 4, 5, 0]]
    kept = LoadLabelMap(8)(dict(seg_map_path=str(tmp_path / 'm.png')))
    assert kept['gt_seg_map'].tolist() == [list(range(8))]


@pytest.mark.parametrize('value', [8, 254, 255])
def test_other_labels_are_named(tmp_path, value):
    labels = np.ones((4, 4), np.uint8)
    labels[:2, 0] = value
    Image.fromarray(labels).save(tmp_path / 'm.png')
    with pytest.raises(DataFormatError, match=(
            f'm.png: 2 pixels have the labels {value}; expected 0 to 7')):
        load(tmp_path / 'm.png')


def test_ignored_pixels_where_allowed(tmp_path):
    Image.fromarray(np.array([[0, 7, 255]], np.uint8)).save(
        tmp_path / 'm.png')
    sample = LoadLabelMap(7, allow_ignored=True)(dict(
        seg_map_path=str(tmp_path / 'm.png'), reduce_zero_label=True))
    assert sample['gt_seg_map'].tolist() == [[255, 6, 255]]


def test_coloured_and_damaged_masks(tmp_path):
    colours = np.random.default_rng(0).integers(0, 7, (4, 4, 3), np.uint8)
    Image.fromarray(colours).save(tmp_path / 'm.png')
    with pytest.raises(DataFormatError, match='coloured'):
        load(tmp_path / 'm.png')
    (tmp_path / 'm.png').write_bytes(b'\x89PNG')
    with pytest.raises(CorruptImageError):
        load(tmp_path / 'm.png')


def test_the_real_tiles(tmp_path):
    if not REAL.is_dir():
        pytest.skip('real tiles not there: ../shared/data/loveda')
    for part in ('img_dir', 'ann_dir'):
        (tmp_path / part).mkdir()
        (tmp_path / part / 'train').symlink_to(REAL / part)
    dataset = LoveDA(
        str(tmp_path), pipeline=[dict(
            type='osar_plugin.LoadLabelMap', num_classes=7)])
    assert stems(dataset) == [0, 1, 2]
    found = set()
    for sample in dataset:
        assert sample['gt_seg_map'].shape == (1024, 1024)
        found |= set(np.unique(sample['gt_seg_map']).tolist())
    assert found <= {*range(7), 255} and len(found) >= 5
    assert len(CLASSES) == len(PALETTE) == 7
