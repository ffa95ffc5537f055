"""The middle of an image, as torchvision cuts it.

Legend: H W height and width in pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from osar_plugin.registry import TRANSFORMS
from osar_plugin.utils.config_values import require_range

from .loading import require_key


@TRANSFORMS.register_module()
class CenterCropPad(BaseTransform):
    """Crop the middle; an image that is too small gets zeros on all sides.

    In place of ``mmpretrain.CenterCrop``, which leaves small images as they
    are, so that a resizing behind it stretches them.

    Required key: ``img``. Changed: ``img``, ``img_shape``.

    Args:
        crop_size: (H, W) of the result, or its side.
    """

    def __init__(self, crop_size: int | tuple[int, int]) -> None:
        require_range(1, 2**16, crop_size=crop_size)
        self.crop_size = (crop_size, crop_size) if isinstance(
            crop_size, int) else (int(crop_size[0]), int(crop_size[1]))

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop ``img``."""
        results['img'] = center_crop_pad(
            require_key(results, 'img', self), self.crop_size)
        results['img_shape'] = self.crop_size
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(crop_size={self.crop_size})'


def center_crop_pad(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of an image (``torchvision.transforms.CenterCrop``).

    Where the margin is odd, a crop begins at the even one of the two pixels
    next to the exact place, and the pixel more of padding is on the right and
    at the bottom.

    Args:
        image: (H, W) or (H, W, C).
        size: (H, W) of the result.

    Returns:
        The same type, of that size.
    """
    pads = [(0, 0)] * image.ndim
    window = [slice(None)] * image.ndim
    for axis, wanted in enumerate(size):
        free = image.shape[axis] - wanted
        if free < 0:
            pads[axis] = (-free // 2, (1 - free) // 2)
        else:
            start = round(free / 2)
            window[axis] = slice(start, start + wanted)
    return np.ascontiguousarray(np.pad(image[tuple(window)], pads))
