"""Parameter groups."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.logging import MMLogger, print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from ..registry import OPTIM_WRAPPER_CONSTRUCTORS


def merge_groups(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join parameter groups whose settings are equal.

    Args:
        groups: As PyTorch's optimizers take them.

    Returns:
        One group per distinct setting, in order of first appearance.
    """
    merged: dict[tuple, dict[str, Any]] = {}
    for group in groups:
        settings = {k: v for k, v in group.items() if k != 'params'}
        key = tuple(sorted((k, repr(v)) for k, v in settings.items()))
        target = merged.setdefault(key, dict(settings, params=[]))
        target['params'] += group['params']
    return list(merged.values())


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedGroupsConstructor(DefaultOptimWrapperConstructor):
    """MMEngine's constructor with as few parameter groups as possible.

    The default makes one group per tensor, which costs PyTorch's
    multi-tensor optimizers their advantage: 150 small updates instead of
    two large ones. Frozen parameters stay out of the optimizer. The log has
    a line for each group, not three for each tensor.
    """

    def add_params(self,
                   params: list[dict],
                   module: nn.Module,
                   prefix: str = '',
                   is_dcn_module: int | float | None = None) -> None:
        """Collect the groups of a module; see the base class."""
        if prefix:
            super().add_params(params, module, prefix, is_dcn_module)
            return
        with _quiet():
            super().add_params(params, module, prefix, is_dcn_module)
        params[:] = merge_groups([
            group for group in params
            if all(p.requires_grad for p in group['params'])
        ])
        for group in params:
            settings = {k: v for k, v in group.items() if k != 'params'}
            print_log(
                f'Parameter group: {len(group["params"])} tensors, lr '
                f'{settings.pop("lr", self.base_lr):g}, {settings}',
                logger='current')


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back MMEngine's three lines for each tensor with settings."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
