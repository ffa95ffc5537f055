"""The published learning-rate curves and parameter groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from osar_plugin.engine.constructors import merge_groups
from osar_plugin.registry import OPTIM_WRAPPER_CONSTRUCTORS, PARAM_SCHEDULERS
from osar_plugin.utils.errors import ConfigError

GOLDEN = Path(__file__).parents[1] / 'goldens' / 'reid_lr.npz'


def optimizer(lr: float) -> torch.optim.SGD:
    weight, bias = (nn.Parameter(torch.zeros(1)) for _ in range(2))
    return torch.optim.SGD(
        [dict(params=weight, lr=lr), dict(params=bias, lr=2 * lr)], lr=lr)


def scheduler(opt: Any, total: int, **kwargs: Any) -> Any:
    return PARAM_SCHEDULERS.build(
        dict(type='osar_plugin.WarmupCosineLR', total=total, **kwargs),
        default_args=dict(optimizer=opt))


@pytest.mark.parametrize('key, lr, epochs', [
    ('lr_sdf_100ep', 5e-4, 100), ('lr_toss_200ep', 5e-4, 200),
    ('lr_pair_60ep', 3e-3, 60)])
def test_curve_is_the_official_one(key: str, lr: float,
                                   epochs: int) -> None:
    opt = optimizer(lr)
    curve = scheduler(opt, epochs)
    rows = []
    for _ in range(epochs):
        rows.append([group['lr'] for group in opt.param_groups])
        opt.step()
        curve.step()
    with np.load(GOLDEN) as golden:
        assert np.array_equal(rows, golden[key])


def test_a_resumed_curve_goes_on() -> None:
    opt = optimizer(1e-3)
    curve = scheduler(opt, 20)
    for _ in range(7):
        opt.step()
        curve.step()
    expected = [group['lr'] for group in opt.param_groups]
    again = optimizer(1e-3)
    resumed = scheduler(again, 20)
    again.load_state_dict(opt.state_dict())
    resumed.load_state_dict(curve.state_dict())
    assert [group['lr'] for group in again.param_groups] == expected
    for o, c in ((opt, curve), (again, resumed)):
        o.step()
        c.step()
    assert [g['lr'] for g in again.param_groups] == [
        g['lr'] for g in opt.param_groups]


def test_warm_up_longer_than_the_schedule() -> None:
    with pytest.raises(ConfigError, match='warmup=5.*total=3'):
        scheduler(optimizer(1.), 3)


class Model(nn.Module):

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
        self.norm = nn.BatchNorm1d(2)
        self.norm.bias.requires_grad_(False)


def test_groups_are_merged() -> None:
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type='osar_plugin.MergedGroupsConstructor',
            optim_wrapper_cfg=dict(
                type='OptimWrapper',
                optimizer=dict(type='SGD', lr=0.1, weight_decay=1e-4)),
            paramwise_cfg=dict(custom_keys=dict(bias=dict(lr_mult=2.)))))
    model = Model()
    groups = constructor(model).optimizer.param_groups
    found = {group['lr']: {id(p) for p in group['params']} for group in
             groups}
    named = dict(model.named_parameters())
    assert len(groups) == 2
    assert found[0.2] == {
        id(p) for k, p in named.items() if 'bias' in k and p.requires_grad}
    assert found[0.1] == {id(p) for k, p in named.items() if 'weight' in k}


def test_merging_keeps_different_settings_apart() -> None:
    groups = [dict(params=[1], lr=1.), dict(params=[2], lr=2.),
              dict(params=[3], lr=1.), dict(params=[4])]
    assert merge_groups(groups) == [
        dict(params=[1, 3], lr=1.), dict(params=[2], lr=2.),
        dict(params=[4])]
