"""tools/prepare_data/teacher_features.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from pair_case import write_image, write_source

from osar_plugin.datasets import OSPretrain
from osar_plugin.datasets.teacher_features import read_features

TOOL = 'prepare_data/teacher_features.py'


@MODELS.register_module(force=True)
class MeanTeacher(torch.nn.Module):
    """Mean colour of each patch."""

    def forward(self, inputs):
        return torch.nn.functional.avg_pool2d(
            inputs['rgb01'], 16).flatten(2).transpose(1, 2)


@MODELS.register_module(force=True)
class TaughtModel(torch.nn.Module):
    """A model that takes a teacher."""

    def __init__(self, teacher=None):
        super().__init__()


@pytest.fixture
def config(tmp_path):
    write_source(tmp_path / 'data', 'DDHR', 3, 1)
    write_source(tmp_path / 'data', 'Unpaired', 2, 2)
    file = tmp_path / 'config.py'
    file.write_text(f"""
default_scope = 'osar_plugin'
model = dict(
    type='mmengine.TaughtModel', teacher=dict(type='mmengine.MeanTeacher'))
train_dataloader = dict(
    batch_size=2, num_workers=0,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
    batch_sampler=dict(type='osar_plugin.PairedBatchSampler'),
    dataset=dict(
        type='osar_plugin.OSPretrain', data_root=r'{tmp_path / 'data'}'))
""")
    return file


def test_features_of_all_images(config, tmp_path, run_tool):
    out = tmp_path / 'features'
    args = (config, out, '--size', '32', '--batch-size', '2', '--workers',
            '0', '--device', 'cpu')
    ended = run_tool(TOOL, *args)
    assert ended.code == 0, ended.err
    assert '5 written, 0 kept' in ended.out
    dataset = OSPretrain(
        str(tmp_path / 'data'), teacher_features=str(out),
        pipeline=[dict(type='osar_plugin.LoadPair'),
                  dict(type='osar_plugin.PairResize', size=32,
                       antialias=True)])
    for index in range(5):
        sample = dataset[index]
        patches = sample['rgb'].reshape(2, 16, 2, 16, 3).mean((1, 3)) / 255
        np.testing.assert_allclose(
            sample['teacher'].astype(float), patches.reshape(4, 3),
            atol=1e-3)
    # Repeated, it keeps what is sound and mends the rest.
    path = out / 'DDHR/RGB/000.safetensors'
    path.write_bytes(path.read_bytes()[:-3])
    image = write_image(tmp_path / 'data/DDHR/RGB/001.png', 77)
    ended = run_tool(TOOL, *args)
    assert '2 written, 3 kept' in ended.out
    read_features(out / 'DDHR/RGB/001.safetensors', image.read_bytes())
    read_features(path)


@pytest.mark.parametrize('extra, text', [
    (('--size', '40'), '--size 40'), (('--size', '0'), '--size 0'),
    (('--workers', '-1'), 'workers=-1'),
    (('--batch-size', '0'), 'batch_size=0'),
    (('--cfg-options', 'model.teacher.type=osar_plugin.PrecomputedTeacher'),
     'DINOv3Teacher'),
    (('--cfg-options', 'model.teacher=None'), 'DINOv3Teacher')])
def test_what_cannot_be_done(config, tmp_path, run_tool, extra, text):
    ended = run_tool(TOOL, config, tmp_path / 'x', '--device', 'cpu', *extra)
    assert ended.code == 2 and text in ended.err
    assert not (tmp_path / 'x').exists()
