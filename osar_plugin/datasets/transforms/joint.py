"""Augmentation that falls alike on both images of a pair."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from osar_plugin.registry import TRANSFORMS
from osar_plugin.utils.errors import ConfigError

from .loading import require_key

_AXES = {'horizontal': 1, 'vertical': 0}


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

    Raises:
        ConfigError: If an argument cannot be used.
    """

    def __init__(
            self, prob: float = 0.5, direction: str = 'horizontal') -> None:
        if not 0 <= prob <= 1:
            raise ConfigError(f'prob={prob} must lie in 0..1.')
        if direction not in _AXES:
            raise ConfigError(
                f'direction={direction!r} is not known: use one of '
                f'{", ".join(_AXES)}.')
        self.prob = prob
        self.direction = direction

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mirror both images, or neither."""
        results['flip'] = bool(np.random.random() < self.prob)
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
            f'direction={self.direction!r})')
