"""Registered pairs as pictures: arrays in, arrays out.

* :func:`draw_checkerboard`: squares of one image and of the other in turn;
  edges run on across the squares where the registration is right.
* :func:`draw_overlay`: fixed in red, moving in cyan; what both show is grey.
* :func:`draw_flow`: displacement as colour, its direction as hue;
  :func:`draw_flow_key`: what the colours mean.
* :func:`draw_certainty`: a heat map over the fixed image.

Legend: H W height and width in pixels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..utils.config_values import require_range
from ..utils.errors import DataFormatError

_PAPER = 255
# Dark blue over bluish green to yellow, even steps of lightness.
_HEAT = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140],
                  [94, 201, 98], [253, 231, 37]], np.float32)


def to_grey(image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """An image of any range as 8 bit, between its percentiles 1 and 99.

    Args:
        image: (H, W).
        mask: (H, W) bool, where it has data; the rest is 0.

    Returns:
        (H, W) uint8.
    """
    if image.ndim != 2:
        raise DataFormatError(
            f'A picture has shape {image.shape}; expected (H, W).')
    valid = np.isfinite(image)
    if mask is not None:
        if mask.shape != image.shape:
            raise DataFormatError(
                f'The mask has shape {mask.shape}, the picture '
                f'{image.shape}: they must be alike.')
        valid &= mask
    if not valid.any():
        return np.zeros(image.shape, np.uint8)
    low, high = np.percentile(image[valid], (1, 99))
    scaled = (np.where(valid, image, low) - low) * (
        255 / max(float(high - low), 1e-12))
    return np.where(valid, np.clip(np.rint(scaled), 0, 255), 0).astype(
        np.uint8)


def _pair(fixed: np.ndarray, moved: np.ndarray, masks: Any
          ) -> tuple[np.ndarray, np.ndarray]:
    if fixed.shape != moved.shape:
        raise DataFormatError(
            f'The images have {fixed.shape} and {moved.shape}: they must be '
            'alike.')
    one, other = masks or (None, None)
    return to_grey(fixed, one), to_grey(moved, other)


def draw_checkerboard(
        fixed: np.ndarray, moved: np.ndarray,
        masks: tuple[np.ndarray, np.ndarray] | None = None,
        squares: int = 8) -> np.ndarray:
    """Squares of both images in turn.

    Args:
        fixed: (H, W).
        moved: (H, W), the moving image on the grid of the fixed one.
        masks: Where either has data, (H, W) bool each.
        squares: Along the longer side.

    Returns:
        (H, W, 3) uint8.
    """
    require_range(1, squares=squares)
    one, other = _pair(fixed, moved, masks)
    side = max(1, math.ceil(max(one.shape) / squares))
    rows, columns = (np.arange(length) // side for length in one.shape)
    odd = (rows[:, None] + columns[None]) % 2 == 1
    return np.repeat(np.where(odd, other, one)[..., None], 3, 2)


def draw_overlay(fixed: np.ndarray, moved: np.ndarray,
                 masks: tuple[np.ndarray, np.ndarray] | None = None
                 ) -> np.ndarray:
    """Fixed in red, moving in cyan, (H, W, 3) uint8.

    Args:
        fixed: See :func:`draw_checkerboard`, as the following.
        moved: See there.
        masks: See there.
    """
    one, other = _pair(fixed, moved, masks)
    return np.stack([one, other, other], 2)


def draw_flow(flow: np.ndarray, longest: float | None = None
              ) -> np.ndarray:
    """A displacement as colours: hue its direction, strength its length.

    Red points right, yellow-green down, cyan left, violet up; white does
    not move.

    Args:
        flow: (2, H, W) pixels.
        longest: Length of full colour; default: the longest there is.

    Returns:
        (H, W, 3) uint8; black where the flow is not finite.
    """
    if flow.ndim != 3 or flow.shape[0] != 2:
        raise DataFormatError(
            f'A flow has shape {flow.shape}; expected (2, H, W).')
    require_range(0, longest=longest)
    finite = np.isfinite(flow).all(0)
    dx, dy = np.where(finite, flow, 0).astype(np.float64)
    length = np.hypot(dx, dy)
    top = longest or float(length.max())
    strength = np.clip(length / top, 0, 1) if top > 0 else length
    hue = np.arctan2(dy, dx) / (2 * math.pi) % 1
    # Of a saturated colour, each channel is a trapezium of the hue.
    phase = np.stack([hue, hue - 1 / 3, hue - 2 / 3], 2)
    channel = np.clip(2 - np.abs((phase + 0.5) % 1 - 0.5) * 6, 0, 1)
    picture = _PAPER * (1 - strength[..., None] * (1 - channel))
    return np.where(finite[..., None], np.rint(picture), 0).astype(np.uint8)


def draw_flow_key(longest: float, height: int = 0) -> np.ndarray:
    """The colours of :func:`draw_flow`, to stand beside it.

    Args:
        longest: Pixels of displacement at the rim of the wheel.
        height: Of the picture beside it; the wheel keeps its size.

    Returns:
        (max(height, 150), 120, 3) uint8.
    """
    require_range(0, longest=longest)
    radius, width = 50, 120
    key = np.full((max(height, 150), width, 3), _PAPER, np.uint8)
    y, x = np.mgrid[-radius:radius + 1, -radius:radius + 1] / radius
    inside = np.hypot(x, y) <= 1
    left = (width - 2 * radius) // 2
    part = key[8:8 + len(x), left:left + len(x)]
    part[inside] = draw_flow(np.stack([x, y]), 1.)[inside]
    canvas = Image.fromarray(key)
    font = ImageFont.load_default(12)
    for row, text in enumerate(
            (f'rim: {longest:.3g} px', 'moving lies there')):
        ImageDraw.Draw(canvas).text(
            (width // 2, 8 + len(x) + 10 + 15 * row), text, fill=(0, 0, 0),
            font=font, anchor='mm')
    return np.asarray(canvas)


def draw_certainty(fixed: np.ndarray, certainty: np.ndarray,
                   mask: np.ndarray | None = None) -> np.ndarray:
    """A heat map over the fixed image, (H, W, 3) uint8.

    Args:
        fixed: (H, W).
        certainty: (H, W), 0 (dark blue) to 1 (yellow).
        mask: (H, W) bool, where the fixed image has data.
    """
    if certainty.shape != fixed.shape:
        raise DataFormatError(
            f'The certainty has shape {certainty.shape}, the image '
            f'{fixed.shape}: they must be alike.')
    grey = to_grey(fixed, mask)[..., None].astype(np.float32)
    place = np.clip(np.nan_to_num(certainty), 0, 1) * (len(_HEAT) - 1)
    left = np.minimum(place.astype(int), len(_HEAT) - 2)
    share = (place - left)[..., None]
    heat = _HEAT[left] * (1 - share) + _HEAT[left + 1] * share
    return np.rint(0.4 * grey + 0.6 * heat).astype(np.uint8)
