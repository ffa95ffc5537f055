"""SAR brought to 8 bit.

Legend: H W height and width in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from osar_plugin.registry import TRANSFORMS
from osar_plugin.utils.errors import ConfigError, DataFormatError

from ..layout import check_suffixes
from .loading import SAR, modality_of, require_key


def scale_by_max(image: np.ndarray) -> np.ndarray:
    """``x / max(x) * 255``, cut (not rounded) to 8 bit.

    The released code of TransOSS and SDF-Net.
    Negative values, for which the official cast has no defined result,
    become 0.

    Args:
        image: Float array of any shape with a maximum above 0.

    Returns:
        uint8 array of the same shape.
    """
    image = image.astype(np.float32, copy=False)
    return np.maximum(image / image.max() * np.float32(255), 0) \
        .astype(np.uint8)


def scale_by_percentiles(
        image: np.ndarray, low: float = 5.0,
        high: float = 100.0) -> np.ndarray:
    """Stretch between two percentiles, cut (not rounded) to 8 bit.

    ``clip((x - p_low) / (p_high - p_low + 1e-8) * 255, 0, 255)``, the
    denoising of MOS.

    Args:
        image: Float array of any shape.
        low: Lower percentile, 0..100.
        high: Upper percentile, 0..100.

    Returns:
        uint8 array of the same shape.
    """
    image = image.astype(np.float32, copy=False)
    bottom, top = np.percentile(image, (low, high)).astype(np.float32)
    width = top - bottom + np.float32(1e-8)
    scaled = (image - bottom) / width * np.float32(255)
    return np.clip(scaled, 0, 255).astype(np.uint8)


@TRANSFORMS.register_module()
class SARToUint8(BaseTransform):
    """Bring a SAR image to 8 bit and three channels; leave optical alone.

    Required keys: ``img``, ``modality``. Changed key: ``img``, (H, W, 3)
    uint8; one channel is repeated, three are scaled together.

    An image that is 0 everywhere has no echo to show, and in ``'max'`` mode
    one without any value above 0 cannot be scaled (the official code divides
    by the maximum). Both are errors here; with ``strict=False`` they become
    a black image.

    Args:
        mode: ``'max'`` (TransOSS, SDF-Net), see :func:`scale_by_max`, or
            ``'percentile'`` (MOS), see :func:`scale_by_percentiles`.
        low: Lower percentile.
        high: Upper percentile.
        as_is: Suffixes of files that hold 8-bit values already, e.g.
            ``('.png',)``; they are not scaled. The official code scales
            ``SAR.tif`` only, and the pre-training set has ``SAR.png`` too.
        strict: Raise on an image without echo rather than use a black one.
    """

    def __init__(
            self,
            mode: str = 'max',
            low: float = 5.0,
            high: float = 100.0,
            as_is: Sequence[str] = (),
            strict: bool = True) -> None:
        if mode not in ('max', 'percentile'):
            raise ConfigError(
                f'mode={mode!r} is not known: use "max" or "percentile".')
        if not 0 <= low < high <= 100:
            raise ConfigError(
                f'low={low} and high={high} must satisfy '
                '0 <= low < high <= 100.')
        self.mode = mode
        self.low = low
        self.high = high
        suffixes = check_suffixes(as_is, 'as_is') if as_is else ()
        self.as_is = tuple(suffix.lower() for suffix in suffixes)
        self.strict = strict

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace ``img`` by its 8-bit version."""
        if modality_of(results, self) != SAR:
            return results
        image = require_key(results, 'img', self)
        path = str(results.get('img_path', 'SAR image'))
        if self.as_is and PurePath(path).suffix.lower() in self.as_is:
            image = self._unscaled(image, path)
        else:
            image = self._scaled(image, path)
        if image.ndim == 2:
            image = image[:, :, None]
        if image.shape[2] == 1:
            image = np.repeat(image, 3, axis=2)
        results['img'] = image
        return results

    def _scaled(self, image: np.ndarray, path: str) -> np.ndarray:
        if image.max() > 0 or (self.mode == 'percentile' and image.any()):
            if self.mode == 'max':
                return scale_by_max(image)
            return scale_by_percentiles(image, self.low, self.high)
        if not self.strict:
            return np.zeros(image.shape, np.uint8)
        kind = (
            'is zero everywhere' if not image.any() else
            f'has no value above 0 (largest {image.max():g}, decibels?)')
        raise DataFormatError(
            f'{path}: SAR image {kind}; amplitudes above 0 are expected. '
            'Take the file out, convert it to amplitude, or set '
            'strict=False in SARToUint8 to use a black image.')

    @staticmethod
    def _unscaled(image: np.ndarray, path: str) -> np.ndarray:
        if image.min() < 0 or image.max() > 255:
            raise DataFormatError(
                f'{path}: values from {image.min():g} to {image.max():g}, '
                'but as_is in SARToUint8 promises 0..255. Take its suffix '
                'out of as_is to have it scaled.')
        return image.astype(np.uint8)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(mode={self.mode!r}, low={self.low}, '
            f'high={self.high}, as_is={self.as_is}, strict={self.strict})')
