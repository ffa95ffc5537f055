"""Equality that looks at types, for what goes through checkpoints."""

from __future__ import annotations

import argparse
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer


def assert_same(first: Any, second: Any) -> None:
    """Equal in type and content, all the way down; NaN equals NaN."""
    assert type(first) is type(second)
    if isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)
        assert second.flags.owndata
        assert second.flags.writeable
    elif isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        # Order counts.
        assert list(first) == list(second)
        assert list(map(type, first)) == list(map(type, second))
        if isinstance(first, defaultdict):
            assert first.default_factory is second.default_factory
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for one, two in zip(first, second, strict=True):
            assert_same(one, two)
    elif isinstance(first, HistoryBuffer):
        assert_same(first.data, second.data)
        assert first.max_length == second.max_length
    elif isinstance(first, argparse.Namespace):
        assert_same(vars(first), vars(second))
    elif isinstance(first, Config):
        assert first.to_dict() == second.to_dict()
        assert first.text == second.text
        assert first.filename == second.filename
    elif isinstance(first, (np.generic, float, complex)):
        np.testing.assert_equal(first, second)
    else:
        assert first == second
