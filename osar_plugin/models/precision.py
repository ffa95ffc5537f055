"""Keep distances and statistics out of half precision."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

Function = TypeVar('Function', bound=Callable[..., Any])


def _widen(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype in (torch.float16,
                                                     torch.bfloat16):
        return value.float()
    return value


def full_precision(function: Function) -> Function:
    """Run a function outside autocast, half precision widened to float32.

    Casting the arguments alone is not enough: autocast would turn a matrix
    product of float32 tensors back into half precision. float64 stays, so
    that gradients can be checked.

    Args:
        function: Takes at least one tensor, whose device decides which
            autocast is switched off.
    """

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        values = (*args, *kwargs.values())
        device = next(v.device for v in values if isinstance(v, Tensor))
        with torch.autocast(device.type, enabled=False):
            return function(*map(_widen, args),
                            **{k: _widen(v) for k, v in kwargs.items()})

    return wrapper  # type: ignore[return-value]
