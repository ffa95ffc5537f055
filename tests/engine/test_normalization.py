"""SyncBN where statistics cannot be shared."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from torch import nn

from osar_plugin.registry import HOOKS


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.SyncBatchNorm(4), nn.Sequential(
            nn.ReLU(), nn.SyncBatchNorm(4)))


def hooked(model: nn.Module) -> nn.Module:
    HOOKS.build(dict(type='osar_plugin.SyncNormHook')).before_run(
        SimpleNamespace(model=model))
    return model


@pytest.fixture
def cpu_group(tmp_path: Path):
    torch.distributed.init_process_group(
        'gloo', rank=0, world_size=1, init_method=f'file://{tmp_path}/store')
    yield
    torch.distributed.destroy_process_group()


def test_names_weights_and_statistics_stay():
    model = network()
    model(torch.randn(2, 3, 5, 5))
    before = dict(model.state_dict())
    weights = dict(model.named_parameters())
    kept = hooked(model)
    assert kept is model
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in model.modules())
    assert list(model.state_dict()) == list(before)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    # The optimizer has them already.
    for name, value in model.named_parameters():
        assert value is weights[name]


def test_group_of_cpus(cpu_group):
    images = torch.randn(2, 3, 5, 5)
    with pytest.raises(ValueError, match='SyncBatchNorm expected'):
        network()(images)
    model = hooked(MMDistributedDataParallel(network(), device_ids=None))
    plain = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(
            nn.ReLU(), nn.BatchNorm2d(4)))
    plain.load_state_dict(network().state_dict())
    assert torch.equal(model(images), plain(images))


def test_others_are_left_alone(monkeypatch):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    layer = model[1]
    assert hooked(model)[1] is layer
    from osar_plugin.engine import normalization
    monkeypatch.setattr(normalization, 'get_world_size', lambda: 2)
    monkeypatch.setattr(normalization, '_on_cpu', lambda layer: False)
    assert isinstance(hooked(network())[1], nn.SyncBatchNorm)
    monkeypatch.setattr(normalization, '_on_cpu', lambda layer: True)
    assert not isinstance(hooked(network())[1], nn.SyncBatchNorm)
