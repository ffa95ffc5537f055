"""Mixed precision on CPUs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import nn

from ..registry import OPTIM_WRAPPERS
from ..utils.devices import has_bfloat16


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Forward pass under bfloat16 autocast on the CPU.

    MMEngine's ``AmpOptimWrapper`` refuses to run without an accelerator.
    bfloat16 has the exponent of float32, so no loss scale is needed;
    weights, gradients and optimizer state stay float32. A CPU without
    instructions for bfloat16 is slower with it; a warning says so.

    Args:
        **kwargs: As for :class:`mmengine.optim.OptimWrapper`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not has_bfloat16():
            print_log(
                'This CPU has no instructions for bfloat16 and emulates it, '
                'many times slower than float32: train without --amp here.',
                logger='current', level=logging.WARNING)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast around the forward pass.

        Args:
            model: The model being trained.
        """
        with super().optim_context(model), torch.autocast(
                'cpu', dtype=torch.bfloat16):
            yield
