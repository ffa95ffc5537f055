"""Augmentation that falls alike on both images of a pair."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from osar_plugin.registry import TRANSFORMS
from osar_plugin.utils.errors import ConfigError

from .loading import require_key

_AXES = {'horizontal': 1, 'vertical': 0}
_SIGNS = {'left': -1, 'right': 1}


def brightness_offset(image: np.ndarray) -> float:
    """How far right of the middle the centre of brightness lies.

    Args:
        image: (H, W) or (H, W, C), 0 or more.

    Returns:
        Pixels, negative to the left; 0 for an image without brightness.
    """
    columns = image.reshape(*image.shape[:2], -1).mean(
        axis=(0, 2), dtype=np.float64)
    places = np.arange(len(columns)) - (len(columns) - 1) / 2
    total = columns.sum()
    return float(columns @ places / total) if total > 0 else 0.


@TRANSFORMS.register_module()
class PairFlip(BaseTransform):
    """Mirror both images of a pair, or neither.

    Needed where the pair shows the same ground pixel by pixel, as a
    translator learns it; ``PairPipeline`` draws for each image anew.

    Required keys: ``optical`` and ``sar``, each with ``img``. Changed: both
    ``img``. Set key: ``flip``.

    Args:
        prob: Probability, 0..1.
        direction: ``'horizontal'`` (left-right, as published) or
            ``'vertical'``.
        bright_side: ``'left'`` or ``'right'``: not by chance, but so that
            the centre of the SAR image's brightness lies on that side. A
            radar lights one side of a ship and shades the other; which one
            says nothing of the ship, and a translator that need not guess it
            learns more from the same pairs. ``prob`` and ``direction`` then
            have no say.

    Raises:
        ConfigError: If an argument cannot be used.
    """

    def __init__(
            self, prob: float = 0.5, direction: str = 'horizontal',
            bright_side: str | None = None) -> None:
        if not 0 <= prob <= 1:
            raise ConfigError(f'prob={prob} must lie in 0..1.')
        if direction not in _AXES:
            raise ConfigError(
                f'direction={direction!r} is not known: use one of '
                f'{", ".join(_AXES)}.')
        if bright_side not in (None, 'left', 'right'):
            raise ConfigError(
                f'bright_side={bright_side!r} is not known: use left, right '
                'or None.')
        self.prob = prob
        self.direction = direction if bright_side is None else 'horizontal'
        self.bright_side = bright_side

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mirror both images, or neither."""
        if self.bright_side is None:
            results['flip'] = bool(np.random.random() < self.prob)
        else:
            image = require_key(require_key(results, 'sar', self), 'img', self)
            results['flip'] = (
                brightness_offset(image) * _SIGNS[self.bright_side] < 0)
        for side in ('optical', 'sar'):
            image = require_key(
                require_key(results, side, self), 'img', self)
            if results['flip']:
                results[side]['img'] = np.ascontiguousarray(
                    np.flip(image, _AXES[self.direction]))
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(prob={self.prob}, '
            f'direction={self.direction!r}, '
            f'bright_side={self.bright_side!r})')
