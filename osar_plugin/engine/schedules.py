"""Learning-rate schedules of the published recipes."""

from __future__ import annotations

import math
from typing import Any

from mmengine.optim import _ParamScheduler
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin

from ..registry import PARAM_SCHEDULERS
from ..utils.config_values import require_range
from ..utils.errors import ConfigError


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(LRSchedulerMixin, _ParamScheduler):
    """Linear warm-up, then the tail of a cosine (TransOSS, SDF-Net, MOS).

    With the base rate ``r`` of the config, a group's own rate ``b`` and the
    epoch ``t`` = 1..E::

        t < w:   0.01 r + t (b - 0.01 r) / w
        t >= w:  0.002 r + (b - 0.002 r) (1 + cos(pi t / E)) / 2

    The cosine is not shifted by the warm-up, and every group warms up from
    and ends at the same rate, whatever its factor: the curve of the
    released code.

    Args:
        optimizer: The optimizer or its wrapper.
        total: E, number of epochs (of iterations with ``by_epoch=False``).
        warmup: w, length of the warm-up in the same unit.
        start_factor: First rate over ``r``.
        end_factor: Last rate over ``r``.
        by_epoch: Whether a step is an epoch.
        base_lr: r. By default the lowest rate of a group, which is right
            where no factor is below 1, also after ``--auto-scale-lr``.
        **kwargs: As for MMEngine's schedulers.

    Raises:
        ConfigError: If the warm-up is longer than the schedule, or a number
            out of range.
    """

    def __init__(self,
                 optimizer: Any,
                 total: int,
                 warmup: int = 5,
                 start_factor: float = 0.01,
                 end_factor: float = 0.002,
                 by_epoch: bool = True,
                 base_lr: float | None = None,
                 **kwargs: Any) -> None:
        if not 0 <= warmup <= total:
            raise ConfigError(
                f'warmup={warmup} must lie between 0 and total={total}.')
        require_range(1, total=total)
        require_range(
            0, 1, start_factor=start_factor, end_factor=end_factor)
        require_range(0, 1000, without=(0, ), base_lr=base_lr)
        self.total = total
        self.warmup = warmup
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.base_lr = base_lr
        super().__init__(optimizer, by_epoch=by_epoch, **kwargs)

    def _get_value(self) -> list[float]:
        base = self.base_lr or min(self.base_values)
        t = self.last_step + 1
        if t < self.warmup:
            first = self.start_factor * base
            return [
                first + t * ((value - first) / self.warmup)
                for value in self.base_values
            ]
        last = self.end_factor * base
        wave = 1 + math.cos(math.pi * min(t, self.total) / self.total)
        return [
            last + 0.5 * (value - last) * wave for value in self.base_values
        ]
