"""BBDM's learning rate and averaged weights."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.logging import MessageHub
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from osar_plugin.engine.translation import BridgeEMAHook
from osar_plugin.registry import PARAM_SCHEDULERS
from osar_plugin.utils.errors import ConfigError

SMALL: dict[str, Any] = dict(patience=3, cooldown=2, min_lr=1e-4)


def optimizer() -> torch.optim.SGD:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-2)


def plateau(opt: Any, **kwargs: Any) -> Any:
    return PARAM_SCHEDULERS.build(
        dict(type='osar_plugin.TrainingPlateauLR', by_epoch=False)
        | SMALL | kwargs,
        default_args=dict(optimizer=opt))


@pytest.fixture
def log() -> Any:
    hub = MessageHub.get_current_instance()
    hub.log_scalars.clear()
    yield lambda value: hub.update_scalar('train/loss', value)
    hub.log_scalars.clear()


def losses(count: int) -> list[float]:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(count, generator=generator)
    return (noise + torch.linspace(1, 0.8, count)).tolist()


@pytest.mark.parametrize('interval', [1, 4])
def test_the_rate_is_pytorchs_on_single_batches(log: Any,
                                                interval: int) -> None:
    ours, theirs = optimizer(), optimizer()
    rule = plateau(ours, interval=interval)
    reference = ReduceLROnPlateau(theirs, factor=0.5, **SMALL)
    rates = []
    for iteration, loss in enumerate(losses(160), 1):
        log(loss)
        ours.step()
        rule.step()
        if iteration % interval == 0:
            reference.step(loss)
        rates.append(ours.param_groups[0]['lr'])
        assert rates[-1] == theirs.param_groups[0]['lr'], iteration
    assert len(set(rates)) > 3 and min(rates) >= 1e-4


def test_a_resumed_rule_goes_on(log: Any) -> None:
    values = losses(60)
    whole, first = optimizer(), optimizer()
    rule, begun = plateau(whole), plateau(first)
    for loss in values[:30]:
        log(loss)
        rule.step()
        begun.step()
    second = optimizer()
    resumed = plateau(second)
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(begun.state_dict())
    for loss in values[30:]:
        log(loss)
        rule.step()
        resumed.step()
        assert (whole.param_groups[0]['lr']
                == second.param_groups[0]['lr'])


@pytest.mark.parametrize('change, words', [
    (dict(by_epoch=True), 'by_epoch=True.*Say by_epoch=False'),
    (dict(factor=1.), 'factor=1'), (dict(patience=-1), 'patience=-1'),
    (dict(interval=0), 'interval=0')])
def test_bad_rules(change: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plateau(optimizer(), **change)


def test_a_loss_that_is_not_logged(log: Any) -> None:
    rule = plateau(optimizer(), monitor='train/los')
    log(1.)
    with pytest.raises(ConfigError, match="'train/los'.*train/loss"):
        rule.step()


class Net(nn.Module):
    """A trained layer, a frozen one and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.trained = nn.Linear(2, 2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.register_buffer('count', torch.zeros(1))


def run(hook: BridgeEMAHook, net: Net, steps: int,
        max_iters: int = 100) -> list[torch.Tensor]:
    runner = SimpleNamespace(model=net, iter=0, max_iters=max_iters)
    hook.before_run(runner)
    hook.before_train(runner)
    history = []
    for runner.iter in range(steps):
        with torch.no_grad():
            net.trained.weight.fill_(float(runner.iter + 1))
            net.count += 1
        hook.after_train_iter(runner, runner.iter)
        average = hook.ema_model.module.trained.weight
        history.append(float(average.detach()[0, 0]))
    return history


def test_average_is_the_published_one() -> None:
    """A copy every second iteration, from the fifth on a mean."""
    torch.manual_seed(0)
    net = Net()
    start = float(net.trained.weight.detach()[0, 0])
    hook = BridgeEMAHook(momentum=0.25, interval=2, begin_iter=5)
    history = run(hook, net, 9)
    six = 4 + 0.25 * (6 - 4)
    eight = six + 0.25 * (8 - six)
    assert history == pytest.approx(
        [start, 2, 2, 4, 4, six, six, eight, eight], rel=1e-6)
    assert hook.ema_model.module.count == 8


def test_what_is_not_trained_is_shared() -> None:
    net = Net()
    hook = BridgeEMAHook(interval=1, begin_iter=0)
    run(hook, net, 3)
    average = hook.ema_model.module
    assert average.frozen.weight.data_ptr() == net.frozen.weight.data_ptr()
    assert average.trained.weight.data_ptr() != net.trained.weight.data_ptr()
    before = net.frozen.weight.clone()
    trained = net.trained.weight.detach().clone()
    hook._swap_ema_parameters()
    assert torch.equal(net.frozen.weight, before)
    assert not torch.equal(net.trained.weight, trained)
    hook._swap_ema_parameters()
    assert torch.equal(net.trained.weight, trained)


def test_a_short_training_says_what_it_saves(
        monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(
        'osar_plugin.engine.translation.print_log',
        lambda text, logger, level=logging.INFO: said.append(text))
    history = run(BridgeEMAHook(interval=2), Net(), 4, max_iters=4)
    assert history[1:] == [2, 2, 4]
    assert '30000' in said[0] and 'ends at 4' in said[0]
    said.clear()
    run(BridgeEMAHook(interval=2, begin_iter=3), Net(), 4, max_iters=4)
    assert not said


@pytest.mark.parametrize('change', [
    dict(momentum=0.), dict(momentum=1.), dict(interval=0),
    dict(begin_iter=-1)])
def test_bad_averages(change: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        BridgeEMAHook(**change)
