"""The losses of DamageFormer, and how they are weighed.

Letters: B batch, C classes, H W height and width in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...utils.config_values import require_range
from ...utils.errors import ConfigError
from ..precision import full_precision
from .lovasz import IGNORED, lovasz_softmax

PARTS = ('building_ce', 'damage_ce', 'damage_lovasz', 'building_lovasz')
LOSS_WEIGHTS: dict[str, dict[str, float]] = {
    'codemae': dict(zip(PARTS, (1., 2., 1., 0.5), strict=True)),
    'bright': dict(zip(PARTS, (1., 1., 0.75, 0.5), strict=True)),
}
"""Weights of the losses by name: CoDe-MAE's code, and BRIGHT's."""


class DamageLogits(NamedTuple):
    """What the network says of a batch.

    Attributes:
        building: (B, 2, H, W), none and building.
        damage: (B, 4, H, W), background, intact, damaged, destroyed.
    """

    building: Tensor
    damage: Tensor


@full_precision
def masked_cross_entropy(logits: Tensor, labels: Tensor,
                         ignore_index: int = IGNORED) -> Tensor:
    """Mean cross-entropy over the pixels that count.

    Args:
        logits: (B, C, H, W).
        labels: (B, H, W) int64.
        ignore_index: Label that counts nowhere.

    Returns:
        0-dimensional; 0 and in the graph where nothing counts.
    """
    total = F.cross_entropy(
        logits, labels, ignore_index=ignore_index, reduction='sum')
    return total / (labels != ignore_index).sum().clamp(min=1)


def building_labels(damage: Tensor, ignore_index: int = IGNORED) -> Tensor:
    """Labels of the building head: 1 for any state, 255 stays."""
    return torch.where(damage == ignore_index, damage, damage.clamp(max=1))


def damage_losses(logits: DamageLogits, damage: Tensor,
                  ignore_index: int = IGNORED) -> dict[str, Tensor]:
    """The four losses, without weights.

    Args:
        logits: Of the network.
        damage: (B, H, W) int64 in 0..3, or ``ignore_index``.
        ignore_index: Counts in none of them. (CoDe-MAE's code passes it to
            three of the four; without such pixels that is the same.)

    Returns:
        By the names of :data:`PARTS`.
    """
    building = building_labels(damage, ignore_index)
    return dict(
        building_ce=masked_cross_entropy(
            logits.building, building, ignore_index),
        damage_ce=masked_cross_entropy(logits.damage, damage, ignore_index),
        damage_lovasz=lovasz_softmax(logits.damage, damage, ignore_index),
        building_lovasz=lovasz_softmax(
            logits.building, building, ignore_index))


def resolve_weights(
        weights: str | Mapping[str, float]) -> dict[str, float]:
    """Weights of the losses by their names.

    Raises:
        ConfigError: If a name is not known, missing, or a number negative.
    """
    if isinstance(weights, str):
        if weights not in LOSS_WEIGHTS:
            raise ConfigError(
                f'loss_weights={weights!r} is not known: use one of '
                f'{", ".join(LOSS_WEIGHTS)}, or a dict.')
        return dict(LOSS_WEIGHTS[weights])
    if set(weights) != set(PARTS):
        raise ConfigError(
            f'loss_weights={dict(weights)!r} needs exactly '
            f'{", ".join(PARTS)}; 0 leaves one out.')
    values: dict[str, Any] = {name: weights[name] for name in PARTS}
    require_range(0, 1e6, **values)
    return {name: float(value) for name, value in values.items()}
