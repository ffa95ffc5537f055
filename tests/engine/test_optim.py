"""bfloat16 training on a CPU."""

from __future__ import annotations

import torch
from torch import nn

from osar_plugin.engine.optim import CPUAmpOptimWrapper
from osar_plugin.registry import OPTIM_WRAPPERS


def wrapper_of(model: nn.Module, **kwargs: int) -> CPUAmpOptimWrapper:
    return CPUAmpOptimWrapper(
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1), **kwargs)


def test_forward_is_bfloat16_and_weights_stay_float32() -> None:
    model = nn.Linear(4, 4)
    wrapper = wrapper_of(model)
    with wrapper.optim_context(model):
        out = model(torch.ones(2, 4))
    assert out.dtype is torch.bfloat16
    before = model.weight.detach().clone()
    wrapper.update_params(out.float().square().mean())
    assert model.weight.dtype is torch.float32
    assert model.weight.grad is None or (
        model.weight.grad.dtype is torch.float32)
    assert not torch.equal(model.weight, before)


def test_accumulates() -> None:
    model = nn.Linear(4, 1)
    wrapper = wrapper_of(model, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 4)
    before = model.weight.detach().clone()
    for step in range(2):
        with wrapper.optim_context(model):
            loss = model(torch.ones(2, 4)).float().mean()
        wrapper.update_params(loss)
        assert torch.equal(model.weight, before) == (step == 0)


def test_is_registered() -> None:
    assert OPTIM_WRAPPERS.get('osar_plugin.CPUAmpOptimWrapper') is (
        CPUAmpOptimWrapper)
