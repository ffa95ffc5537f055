"""Loaders that cannot train are refused before the first step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
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
