"""The noise schedule of the Brownian bridge and the steps that visit it.

Letters: T number of time steps, S number of steps visited in sampling, t a
time step 0..T-1, n the one visited after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from ...utils.errors import ConfigError

KINDS = ('linear', 'sin')
SPACINGS = ('full', 'linear', 'cosine')


@dataclass(frozen=True)
class BridgeSchedule:
    """Coefficients of a Brownian bridge between a target and a source.

    ``m`` runs from the target (0) to the source (1) and
    ``d = 2 (m - m^2) max_var`` is the variance on the way. The tensors are
    (T,) float32, computed in float64, under the names that they have in the
    authors' checkpoints.

    Attributes:
        kind: ``'linear'`` or ``'sin'``.
        max_var: Twice the variance in the middle of the bridge.
        m_t: m at t.
        m_tminus: m at t - 1; 0 in front of the first.
        variance_t: d at t.
        variance_tminus: d at t - 1; 0 in front of the first.
        variance_t_tminus: Variance of x_t given x_(t-1).
        posterior_variance_t: Variance of x_(t-1) given x_t and both ends.
    """

    kind: str
    max_var: float
    m_t: Tensor
    m_tminus: Tensor
    variance_t: Tensor
    variance_tminus: Tensor
    variance_t_tminus: Tensor
    posterior_variance_t: Tensor

    @property
    def num_timesteps(self) -> int:
        """T."""
        return len(self.m_t)

    def tensors(self) -> dict[str, Tensor]:
        """The six coefficient tensors by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: v for k, v in values.items() if isinstance(v, Tensor)}


def mixing(kind: str, num_timesteps: int) -> np.ndarray:
    """m_t, (T,) float64.

    ``'linear'`` runs evenly from 0.001 to 0.999; ``'sin'`` (the authors'
    name for an exponential) is ``1.0075^x`` over its last value, x evenly
    from 0 to T, with the last value set to 0.999.

    Raises:
        ConfigError: If the kind is not known or T is below 2.
    """
    if kind not in KINDS:
        raise ConfigError(
            f'schedule={kind!r} is not known: use one of '
            f'{", ".join(KINDS)}.')
    if num_timesteps < 2:
        raise ConfigError(
            f'num_timesteps={num_timesteps}: a bridge has two ends and needs '
            'at least 2 time steps; the published models have 1000.')
    if kind == 'linear':
        return np.linspace(0.001, 0.999, num_timesteps)
    m = 1.0075**np.linspace(0, num_timesteps, num_timesteps)
    m /= m[-1]
    m[-1] = 0.999
    return m


def bridge_schedule(kind: str = 'linear',
                    num_timesteps: int = 1000,
                    max_var: float = 1.0) -> BridgeSchedule:
    """Compute a schedule (official ``BrownianBridgeModel.register_schedule``).

    Args:
        kind: See :func:`mixing`.
        num_timesteps: T.
        max_var: See :class:`BridgeSchedule`.

    Raises:
        ConfigError: If an argument cannot be used.
    """
    if not max_var > 0 or not math.isfinite(max_var):
        raise ConfigError(
            f'max_var={max_var} must be a finite number above 0; the '
            'published models have 1.')
    m = mixing(kind, num_timesteps)
    d = 2 * (m - m**2) * max_var
    before, d_before = np.append(0., m[:-1]), np.append(0., d[:-1])
    step = d - d_before * ((1 - m) / (1 - before))**2
    values = (m, before, d, d_before, step, step * d_before / d)
    return BridgeSchedule(
        kind, max_var,
        *(torch.tensor(value, dtype=torch.float32, device='cpu')
          for value in values))


def step_list(num_timesteps: int,
              steps: int | None = 200,
              spacing: str = 'linear') -> list[int]:
    """The time steps that sampling visits, in falling order, down to 0.

    * ``'full'``: all T, from T - 1 to 0. ``steps`` is not used.
    * ``'linear'``: S - 2 steps evenly from T - 1, then 1 and 0; S = 200 of
      1000 gives 999, 993, ..., 5, 1, 0.
    * ``'cosine'``: ``T (1 + cos(pi x)) / 2`` for S + 1 values x evenly from
      0 to 1. As published this begins at T, one behind the last index, and
      its tail of fractions meets t = 0 more than once: here values are cut
      to integers, kept below T, and visited once each.

    Where S comes near T, rounding makes neighbours equal: these too are
    visited once, so the list may be shorter than S.

    Args:
        num_timesteps: T.
        steps: S; ``None`` for all.
        spacing: See above.

    Raises:
        ConfigError: If the spacing is not known or S is not in 3..T.
    """
    if spacing not in SPACINGS:
        raise ConfigError(
            f'spacing={spacing!r} is not known: use one of '
            f'{", ".join(SPACINGS)}.')
    if steps is None or spacing == 'full':
        return list(range(num_timesteps - 1, -1, -1))
    if not 3 <= steps <= num_timesteps:
        raise ConfigError(
            f'steps={steps}: sampling visits at least 3 and at most '
            f'num_timesteps={num_timesteps} time steps. Give a number '
            "between them, or spacing='full' for all.")
    if spacing == 'linear':
        stride = -(num_timesteps - 1) / (steps - 2)
        head = torch.arange(
            num_timesteps - 1, 1, stride, device='cpu').long().tolist()
        return list(dict.fromkeys([*head, 1, 0]))
    wave = np.cos(np.pi * np.linspace(0, 1, steps + 1))
    visited = (num_timesteps * (wave + 1) / 2).astype(int)
    return list(dict.fromkeys(
        np.minimum(visited, num_timesteps - 1).tolist()))


def check_steps(steps: Sequence[int], num_timesteps: int) -> None:
    """Check that steps fall from a time step of the schedule to 0.

    Raises:
        ConfigError: If they do not.
    """
    falling = all(n < t for t, n in zip(steps, steps[1:], strict=False))
    if not steps or steps[-1] != 0 or not falling or (
            steps[0] >= num_timesteps):
        raise ConfigError(
            f'steps={list(steps)[:5]}... must fall from at most '
            f'{num_timesteps - 1} to 0; step_list() makes such lists.')
