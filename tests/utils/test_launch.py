"""What the tools do to a config before they build from it."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from torch import nn

from osar_plugin.utils.launch import prepare_runtime, use_plain_batch_norm


def config() -> Config:
    norm = dict(type='SyncBN', requires_grad=True)
    return Config(dict(model=dict(
        type='A', head=dict(type='B', norm_cfg=norm),
        others=[dict(norm_cfg=dict(type='mmengine.MMSyncBN')),
                dict(norm_cfg=dict(type='LN'))])))


def test_sync_norm_becomes_plain():
    cfg = config()
    use_plain_batch_norm(cfg)
    assert cfg.model.head.norm_cfg == dict(type='BN', requires_grad=True)
    assert [n.norm_cfg.type for n in cfg.model.others] == ['BN', 'LN']
    use_plain_batch_norm(Config(dict(work_dir='x')))


def test_only_where_processes_have_no_gpu(monkeypatch, tmp_path):
    from osar_plugin.utils import launch
    monkeypatch.setattr(launch, '_init_gloo', lambda launcher: None)
    for accelerator, launcher, name in (
            (False, 'none', 'SyncBN'), (True, 'pytorch', 'SyncBN'),
            (False, 'pytorch', 'BN')):
        monkeypatch.setattr(launch, 'has_accelerator', lambda a=accelerator: a)
        cfg = config()
        prepare_runtime(cfg, launcher)
        assert cfg.model.head.norm_cfg.type == name


def test_why(tmp_path):
    """PyTorch: alone SyncBN is BatchNorm; in a group of CPUs it is none."""
    torch.manual_seed(0)
    images, layer = torch.randn(2, 4, 5, 5), nn.SyncBatchNorm(4)
    assert torch.equal(layer(images), nn.BatchNorm2d(4)(images))
    torch.distributed.init_process_group(
        'gloo', rank=0, world_size=1, init_method=f'file://{tmp_path}/store')
    try:
        with pytest.raises(ValueError, match='SyncBatchNorm layers only'):
            MMDistributedDataParallel(nn.Sequential(layer), device_ids=None)
    finally:
        torch.distributed.destroy_process_group()
