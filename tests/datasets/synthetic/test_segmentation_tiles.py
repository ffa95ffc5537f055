"""LoveDA of the demo world: layout, labels, and what it gives away."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from osar_plugin.datasets import LoveDA
from osar_plugin.datasets.synthetic import (
    SegmentationSettings,
    WorldError,
    write_segmentation,
)
from osar_plugin.datasets.synthetic.land import Cover
from osar_plugin.datasets.synthetic.land.segmentation import label_map
from osar_plugin.io import decode

SETTINGS = SegmentationSettings(train=16, val=4, test=3, size=32)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    out = tmp_path_factory.mktemp('world')
    assert write_segmentation(out, SETTINGS)
    return out


def digest(root: Path) -> str:
    out = hashlib.sha256()
    for path in sorted(root.rglob('*.png')):
        out.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return out.hexdigest()


def test_bytes_do_not_depend_on_the_processes(world, tmp_path):
    assert write_segmentation(tmp_path, SETTINGS, workers=2)
    assert digest(tmp_path / 'LoveDA') == digest(world / 'LoveDA')
    assert not write_segmentation(tmp_path, SETTINGS)


def test_it_reads_back_as_the_published_layout(world):
    root = str(world / 'LoveDA')
    parts = {split: LoveDA(root, splits=[split], pipeline=[
        dict(type='osar_plugin.LoadLabelMap', num_classes=7)
    ] if split != 'test' else []) for split in ('train', 'val', 'test')}
    assert [len(part) for part in parts.values()] == [16, 4, 3]
    numbers = [int(Path(row['img_path']).stem)
               for part in parts.values() for row in part]
    assert sorted(numbers) == list(range(23))
    assert len(LoveDA(root, splits=['train', 'val'])) == 20
    found = set()
    for row in parts['train']:
        assert row['gt_seg_map'].shape == (32, 32)
        found |= set(np.unique(row['gt_seg_map']).tolist())
    assert len(found) >= 5
    assert all('seg_map_path' not in row for row in parts['test'])
    masks = world / 'LoveDA/test_masks'
    assert {path.name for path in masks.iterdir()} == {
        Path(row['img_path']).name for row in parts['test']}


def test_numbers_are_not_in_the_order_of_drawing():
    jobs = SETTINGS.jobs()
    names = [job.name for job in jobs if job.split == 'train']
    assert sorted(names) == list(range(16)) and names != sorted(names)
    passes = {}
    for job in jobs:
        passes.setdefault(job.number // 10, set()).add(job.split)
    assert all(len(splits) == 1 for splits in passes.values())


def test_no_data_is_black_and_zero(tmp_path):
    settings = SegmentationSettings(train=30, val=1, test=1, size=32)
    write_segmentation(tmp_path, settings)
    shares = []
    for row in LoveDA(str(tmp_path / 'LoveDA')):
        labels = decode(row['seg_map_path'])
        assert (decode(row['img_path'])[labels == 0] == 0).all()
        shares.append((labels == 0).mean())
        with Image.open(row['img_path']) as image:
            assert not image.info
    assert 0 < np.mean(np.array(shares) > 0) < 0.3
    assert max(shares) < 0.5


def test_covers_become_classes():
    cover = np.array([list(Cover)], np.uint8)
    assert label_map(cover).tolist() == [[4, 5, 7, 1, 6, 3, 1, 2]]
    field = np.full((20, 20), Cover.FIELD, np.uint8)
    field[:, 9:11] = Cover.GRASS  # a bank
    assert (label_map(field) == 7).all()
    field[:, :10] = Cover.GRASS  # a meadow
    assert (label_map(field)[:, :10] == 1).all()
    field[5:7] = Cover.ROAD  # a road is no bank
    assert (label_map(field)[5:7] == 3).all()


@pytest.mark.parametrize('settings', [
    dict(train=0), dict(val=0), dict(size=16), dict(seed=-1)])
def test_bad_settings(settings):
    with pytest.raises(WorldError):
        SegmentationSettings(**settings)
