"""Loaders that cannot train are refused before the first step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn
from torch.utils.data import DataLoader, SequentialSampler

from osar_plugin.registry import HOOKS
from osar_plugin.utils.errors import ConfigError


class Composed(SequentialSampler):
    batch_size = 4


def check(loader: Any) -> None:
    hook = HOOKS.build(dict(type='osar_plugin.DataCheckHook'))
    hook.before_train(SimpleNamespace(train_dataloader=loader))


def test_no_batch() -> None:
    with pytest.raises(ConfigError, match='3 samples, batch_size=8'):
        check(DataLoader([1, 2, 3], batch_size=8, drop_last=True))
    check(DataLoader([1, 2, 3], batch_size=8))


def test_batches_of_another_size() -> None:
    data = list(range(8))
    with pytest.raises(ConfigError, match='batches of 4'):
        check(DataLoader(data, batch_size=8, sampler=Composed(data)))
    check(DataLoader(data, batch_size=4, sampler=Composed(data)))


def data(*classes: str) -> Any:
    return SimpleNamespace(dataset=SimpleNamespace(
        metainfo=dict(classes=classes)))


def evaluate(classes: tuple[str, ...], stored: Any = None,
             outputs: int | None = None, place: str = 'head') -> None:
    """What a test does before its first step."""
    model = nn.Module()
    setattr(model, place, nn.Linear(1, 1))
    getattr(model, place).num_classes = outputs or len(classes)
    runner = SimpleNamespace(model=model, test_dataloader=data(*classes))
    hook = HOOKS.build(dict(type='osar_plugin.DataCheckHook'))
    if stored is not None:
        hook.after_load_checkpoint(runner, dict(meta=dict(
            dataset_meta=stored)))
    hook.before_test(runner)


def test_classes_of_a_checkpoint_in_another_order() -> None:
    names = ('ship', 'storagetank', 'bridge')
    with pytest.raises(ConfigError, match=r"label 0 is 'bridge' in the "
                       r"checkpoint.*classes=\['bridge', 'ship', "):
        evaluate(names, dict(classes=('bridge', 'ship', 'storagetank')))
    with pytest.raises(ConfigError, match='another order'):
        evaluate(names, dict(CLASSES=('Ship', 'bridge', 'storage-tank')))
    evaluate(names, dict(classes=('Ship', 'storage-tank', 'BRIDGE')))
    evaluate(names, dict(classes=names))
    evaluate(names, {})


def test_other_classes_are_told(monkeypatch) -> None:
    told = []
    monkeypatch.setattr(
        'osar_plugin.engine.checks.print_log',
        lambda text, **_: told.append(text))
    evaluate(('ship', 'tank'), dict(classes=('ship', 'car', 'tank')))
    assert '3 (ship, car, tank) and 2 (ship, tank)' in told[0]


@pytest.mark.parametrize('outputs', [2, 5])
def test_heads_with_another_number_of_classes(outputs: int) -> None:
    with pytest.raises(ConfigError, match=rf'model\.head\.num_classes='
                       rf'{outputs}, but.*3 classes \(a, b, c\)'):
        evaluate(('a', 'b', 'c'), outputs=outputs)
    evaluate(('a', 'b', 'c'), outputs=outputs, place='rpn_head')


class Loader:
    """Three batches of a data set with two classes."""

    batch_sampler = SimpleNamespace(batch_size=1)
    dataset = SimpleNamespace(metainfo=dict(classes=['a', 'b']))

    def __len__(self) -> int:
        return 3


def test_validation_on_other_classes() -> None:
    hook = HOOKS.build(dict(type='osar_plugin.DataCheckHook'))
    runner = SimpleNamespace(
        train_dataloader=Loader(), model=nn.Linear(1, 1), _val_loop=1,
        val_dataloader=data('a', 'b'))
    hook.before_train(runner)
    runner.val_dataloader = data('b', 'a')
    with pytest.raises(ConfigError, match='training and validation'):
        hook.before_train(runner)


def test_identities_are_not_compared() -> None:
    hook = HOOKS.build(dict(type='osar_plugin.DataCheckHook'))
    ships = dict(classes=['0001', '0002'], open_set=True)
    loader = Loader()
    loader.dataset = SimpleNamespace(metainfo=dict(
        classes=['0003'], open_set=True))
    evaluated = SimpleNamespace(dataset=SimpleNamespace(metainfo=ships))
    runner = SimpleNamespace(
        train_dataloader=loader, model=nn.Linear(1, 1), _val_loop=1,
        val_dataloader=evaluated, test_dataloader=evaluated)
    hook.after_load_checkpoint(runner, dict(meta=dict(
        dataset_meta=dict(classes=['0003'], open_set=True))))
    hook.before_train(runner)
    hook.before_test(runner)
