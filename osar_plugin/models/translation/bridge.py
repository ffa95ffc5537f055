"""Forward and backward distributions of the Brownian bridge.

Functions of plain tensors after the BBDM paper and its released code
(``model/BrownianBridge/BrownianBridgeModel.py``).

Letters: x0 the target (SAR), y the source (optical), x_t the bridge between
them at time t, n the time visited after t, m and d mean share of y and
variance at t, B batch, C channels, H W height and width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from ...utils.errors import ConfigError
from .schedule import BridgeSchedule

OBJECTIVES = ('grad', 'noise', 'ysubx')
LOSSES = ('l1', 'l2')


def check_choice(name: str, value: str, known: tuple[str, ...]) -> str:
    """Give back a value that is among the known ones.

    Raises:
        ConfigError: If it is not.
    """
    if value not in known:
        raise ConfigError(
            f'{name}={value!r} is not known: use one of {", ".join(known)}.')
    return value


def q_sample(x0: Tensor, y: Tensor, noise: Tensor, m: Tensor,
             d: Tensor) -> Tensor:
    """x_t given both ends: ``(1 - m) x0 + m y + sqrt(d) noise``.

    Args:
        x0: (B, C, H, W).
        y: (B, C, H, W).
        noise: (B, C, H, W), standard normal.
        m: Broadcastable to x0, e.g. (B, 1, 1, 1).
        d: Likewise.
    """
    return (1 - m) * x0 + m * y + d.sqrt() * noise


def training_target(objective: str, x0: Tensor, y: Tensor, noise: Tensor,
                    m: Tensor, d: Tensor) -> Tensor:
    """What the network learns to predict from x_t.

    ``'grad'`` (published): ``m (y - x0) + sqrt(d) noise``, i.e. x_t - x0;
    ``'noise'``: the noise; ``'ysubx'``: y - x0.

    Args:
        objective: One of the above.
        x0: See :func:`q_sample`, as the others.

    Raises:
        ConfigError: If the objective is not known.
    """
    check_choice('objective', objective, OBJECTIVES)
    if objective == 'grad':
        return m * (y - x0) + d.sqrt() * noise
    return noise if objective == 'noise' else y - x0


def predict_x0(objective: str, prediction: Tensor, x_t: Tensor, y: Tensor,
               m: Tensor | float, d: Tensor | float) -> Tensor:
    """The target that a prediction amounts to.

    Args:
        objective: See :func:`training_target`.
        prediction: (B, C, H, W), of the network.
        x_t: (B, C, H, W).
        y: (B, C, H, W).
        m: Number, or broadcastable to x_t.
        d: Likewise.

    Raises:
        ConfigError: If the objective is not known.
    """
    check_choice('objective', objective, OBJECTIVES)
    if objective == 'grad':
        return x_t - prediction
    if objective == 'ysubx':
        return y - prediction
    return (x_t - m * y - d**0.5 * prediction) / (1 - m)


def bridge_loss(prediction: Tensor, target: Tensor,
                kind: str = 'l1') -> Tensor:
    """Mean absolute (published) or squared difference, a scalar.

    Raises:
        ConfigError: If the kind is not known.
    """
    check_choice('loss', kind, LOSSES)
    if kind == 'l1':
        return F.l1_loss(prediction, target)
    return F.mse_loss(prediction, target)


class BridgeStep(NamedTuple):
    """``x_n = x_t_weight x_t + x0_weight x0 + y_weight y + std noise``.

    Attributes:
        x_t_weight: Weight of x_t.
        x0_weight: Weight of the target.
        y_weight: Weight of the source.
        std: Standard deviation of x_n given the three.
    """

    x_t_weight: float
    x0_weight: float
    y_weight: float
    std: float


def posterior(schedule: BridgeSchedule, t: int, n: int) -> BridgeStep:
    """x_n given x_t and both ends, for any n < t.

    From the marginals at t and n and the variance of x_t given x_n::

        s2   = (d_t - d_n (1 - m_t)^2 / (1 - m_n)^2) d_n / d_t
        mean = (1 - m_n) x0 + m_n y
               + sqrt((d_n - s2) / d_t) (x_t - (1 - m_t) x0 - m_t y)

    With d = 2 (m - m^2) max_var this is ``x0 + (m_n / m_t) (x_t - x0)`` and
    ``s2 = 2 max_var m_n (m_t - m_n) / m_t``: the weight of y vanishes but
    for rounding. Evaluated in float64 from the schedule's float32 values,
    as the released code has them.

    Args:
        schedule: The schedule.
        t: Time step of x_t.
        n: Time step of x_n, below t.

    Raises:
        ConfigError: If not 0 <= n < t < T.
    """
    if not 0 <= n < t < schedule.num_timesteps:
        raise ConfigError(
            f'A step from t={t} to n={n}: expected 0 <= n < t < '
            f'{schedule.num_timesteps}.')
    m_t, m_n = float(schedule.m_t[t]), float(schedule.m_t[n])
    d_t, d_n = float(schedule.variance_t[t]), float(schedule.variance_t[n])
    s2 = (d_t - d_n * ((1 - m_t) / (1 - m_n))**2) * d_n / d_t
    weight = math.sqrt((d_n - s2) / d_t)
    return BridgeStep(
        weight, 1 - m_n - weight * (1 - m_t), m_n - weight * m_t,
        math.sqrt(s2))
