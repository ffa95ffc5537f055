"""SAR denoising of MOS: the weakest echoes are taken for noise.

Legend: H W height and width in pixels, n their product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from osar_plugin.registry import TRANSFORMS
from osar_plugin.utils.errors import ConfigError, DataFormatError

from .sar import SARToUint8, scale_by_percentiles

FORMS = ('official', 'paper')


def truncate_lowest(image: np.ndarray, alpha: float = 5.0) -> np.ndarray:
    """Drop the lowest alpha percent, stretch the rest, cut to 8 bit.

    MOS as its paper writes it: all pixel values are sorted, the lowest
    ``floor(alpha n / 100)`` are truncated, and the rest becomes
    ``255 (p - p_min) / (p_max - p_min + 1e-8)``, p_min being the smallest
    that is left. Truncated pixels are 0. Equal values end alike on whichever
    side of the cut they fall: both are p_min or below.

    The released code cuts at an interpolated percentile
    (:func:`~.sar.scale_by_percentiles`), which lies between two values of
    the image where p_min is the upper one.

    Args:
        image: Float array of any shape.
        alpha: Share in percent, 0 up to but without 100.

    Returns:
        uint8 array of the same shape.

    Raises:
        ConfigError: If alpha is out of range.
    """
    check_alpha(alpha)
    image = image.astype(np.float32, copy=False)
    # Rounding must not move the cut: 7 % of 100 is 7.000000000000001.
    dropped = math.floor(round(image.size * alpha / 100, 6))
    bottom = np.partition(image, dropped, axis=None)[dropped]
    width = image.max() - bottom + np.float32(1e-8)
    return np.clip(
        (image - bottom) / width * np.float32(255), 0, 255).astype(np.uint8)


def check_alpha(alpha: float) -> None:
    """Check a share in percent.

    Raises:
        ConfigError: If it is not in 0..100, 100 excluded.
    """
    if not 0 <= alpha < 100:
        raise ConfigError(
            f'alpha={alpha} is the share of pixels to truncate, in percent: '
            '0 or more and below 100; 5 as published.')


@TRANSFORMS.register_module()
class SARDenoise(SARToUint8):
    """Denoise a SAR image on its way to 8 bit; leave optical alone.

    Takes the place of :class:`~.sar.SARToUint8` in the pipeline, with the
    same keys: ``img`` becomes (H, W, 3) uint8.

    Args:
        form: ``'official'``, the released code's percentile stretch, with
            which the published weights were made (the same as
            ``SARToUint8(mode='percentile')``); or ``'paper'``, sorting and
            truncation, see :func:`truncate_lowest`.
        alpha: Share of the lowest pixels in percent.
        as_is: See :class:`~.sar.SARToUint8`.
        strict: Raise where nothing is left above the cut (an image without
            echo, or one value everywhere) rather than use a black image.

    Raises:
        ConfigError: If an argument cannot be used.
    """

    def __init__(
            self,
            form: str = 'official',
            alpha: float = 5.0,
            as_is: Sequence[str] = (),
            strict: bool = True) -> None:
        if form not in FORMS:
            raise ConfigError(
                f'form={form!r} is not known: use one of {", ".join(FORMS)}.')
        check_alpha(alpha)
        super().__init__('percentile', alpha, 100.0, as_is, strict)
        self.form = form
        self.alpha = alpha

    def _scaled(self, image: np.ndarray, path: str) -> np.ndarray:
        denoised = (
            scale_by_percentiles(image, self.alpha, 100.0)
            if self.form == 'official' else
            truncate_lowest(image, self.alpha))
        if self.strict and not denoised.any():
            raise DataFormatError(
                f'{path}: nothing of this SAR image lies above its lowest '
                f'{self.alpha:g} % (values from {image.min():g} to '
                f'{image.max():g}). Take the file out, or set strict=False '
                'in SARDenoise to use a black image.')
        return denoised

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(form={self.form!r}, alpha={self.alpha}, '
            f'as_is={self.as_is}, strict={self.strict})')
