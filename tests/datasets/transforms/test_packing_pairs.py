"""Packing of chips and pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from PIL import Image

from osar_plugin.datasets.transforms import (
    PackPairInputs,
    PackReIDInputs,
    PairPipeline,
)
from osar_plugin.utils.errors import CorruptImageError, DataFormatError


def results():
    image = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)
    return dict(
        img=image[:, ::-1], modality=1, pid=7, label=2, img_path='x.tif',
        size=np.array([1, 2, 3], np.float32), ori_shape=(9, 8),
        sample_idx=4, is_query=True, protocols=('ALL', 'S2O'), seq=3)


def test_packed_chip():
    packed = PackReIDInputs()(results())
    assert set(packed) == {'inputs', 'data_samples'}
    inputs, sample = packed['inputs'], packed['data_samples']
    assert inputs.dtype == torch.uint8 and inputs.shape == (3, 5, 4)
    assert inputs.is_contiguous()
    assert inputs[:, 0, 3].tolist() == [0, 1, 2]
    assert (sample.pid, sample.label, sample.modality) == (7, 2, 1)
    assert sample.size.tolist() == [1, 2, 3]
    assert sample.size.dtype == torch.float32
    assert sample.metainfo == dict(
        img_path='x.tif', ori_shape=(9, 8), sample_idx=4, is_query=True,
        protocols=('ALL', 'S2O'))


def test_unlabelled_chip():
    packed = PackReIDInputs()(
        dict(img=np.zeros((2, 2, 3), np.float32), modality=0))
    sample = packed['data_samples']
    assert packed['inputs'].dtype == torch.float32
    assert sample.label == -1 and 'pid' not in sample
    assert 'size' not in sample and sample.metainfo == {}
    with pytest.raises(DataFormatError, match="'modality'"):
        PackReIDInputs()(dict(img=np.zeros((2, 2, 3), np.uint8)))


STEPS = [
    dict(type='osar_plugin.LoadOpticalOrSAR'),
    dict(type='osar_plugin.SARToUint8'),
    dict(type='osar_plugin.PillowResize', size=(8, 6)),
]


def pair(tmp_path):
    Image.fromarray(np.full((5, 4, 3), 9, np.uint8)).save(tmp_path / 'o.png')
    Image.fromarray(np.full((6, 3), 0.5, np.float32)).save(
        tmp_path / 's.tif')
    return dict(
        optical_path=str(tmp_path / 'o.png'),
        sar_path=str(tmp_path / 's.tif'), pid=3, label=1, sample_idx=0)


def test_pair_goes_through_side_by_side(tmp_path):
    item = PackPairInputs()(PairPipeline(STEPS)(pair(tmp_path)))
    batch = pseudo_collate([item, item])
    assert set(batch['inputs']) == {'optical', 'sar'}
    assert [len(side) for side in batch['inputs'].values()] == [2, 2]
    assert item['inputs']['optical'].shape == (3, 8, 6)
    assert item['inputs']['optical'].unique().tolist() == [9]
    assert item['inputs']['sar'].unique().tolist() == [255]
    assert (item['data_samples'].pid, item['data_samples'].label) == (3, 1)
    assert item['data_samples'].sar_path.endswith('s.tif')


def test_chance_falls_for_each_side_anew(tmp_path):
    steps = STEPS + [dict(type='osar_plugin.RandomFlip', prob=0.5)]
    pipeline = PairPipeline(steps)
    np.random.seed(0)
    flips = set()
    for _ in range(60):
        got = pipeline(pair(tmp_path))
        flips.add((got['optical']['flip'], got['sar']['flip']))
    assert len(flips) == 4


def test_pair_errors(tmp_path):
    sample = pair(tmp_path)
    with pytest.raises(DataFormatError, match="'sar_path'"):
        PairPipeline(STEPS)(dict(optical_path=sample['optical_path']))
    with pytest.raises(DataFormatError, match="'sar'"):
        PackPairInputs()(dict(pid=1, optical=dict(img=np.zeros((2, 2, 3)))))
    with pytest.raises(DataFormatError, match=r'o\.png.*no sample'):
        PairPipeline([lambda results: None])(sample)
    (tmp_path / 's.tif').write_bytes(b'')
    with pytest.raises(CorruptImageError, match=r's\.tif'):
        PairPipeline(STEPS)(sample)
