"""What every matcher takes and gives.

Legend: N matches, H W height and width in pixels, C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from osar_plugin.utils.config_values import require_range
from osar_plugin.utils.errors import DataFormatError
from osar_plugin.utils.geometry import Size

# Anything smaller holds no tile, no pyramid and no three points.
SMALLEST = 16


@dataclass(frozen=True)
class MatchSettings:
    """What is known of a pair before it is matched.

    Attributes:
        max_shift: Largest displacement to be expected, pixels of the fixed
            image. A method may go further.
        fixed_valid: (H, W) bool, where the fixed image has data; default:
            everywhere.
        moving_valid: (h, w) bool, the same of the moving image.
        seed: Of methods that draw.
        max_angle: Largest rotation to be expected, degrees. Methods whose
            features do not turn with the image try some where the unturned
            image gives no certain answer.
    """

    max_shift: float = 28.
    fixed_valid: np.ndarray | None = None
    moving_valid: np.ndarray | None = None
    seed: int = 0
    max_angle: float = 0.

    def __post_init__(self) -> None:
        require_range(1, max_shift=self.max_shift)
        require_range(0, 180, max_angle=self.max_angle)


@dataclass(frozen=True)
class Match:
    """Points of the fixed image and where they lie in the moving one.

    Attributes:
        points_fixed: (N, 2) float64, (x, y).
        points_moving: (N, 2) float64.
        score: (N,) float64, the higher the surer; its meaning is the
            method's.
        flow: (2, H, W) of dense methods, see the conventions in
            :mod:`osar_plugin.utils.geometry`.
        certainty: (H, W), 0..1, beside a flow.
        ok: Whether there is anything to go on.
        reason: Why not; empty if there is.
        search_area: Pixels^2 in which each match was sought, for the odds
            of agreement by chance.
        redundancy: So many matches are worth one independent one.
        moving_size: (h, w) of the moving image.
        tries: It is the best of so many, which adds to the odds of
            agreement by chance.
    """

    points_fixed: np.ndarray
    points_moving: np.ndarray
    score: np.ndarray
    flow: np.ndarray | None = None
    certainty: np.ndarray | None = None
    ok: bool = True
    reason: str = ''
    search_area: float = math.inf
    redundancy: float = 1.
    moving_size: Size | None = None
    tries: int = 1

    def __post_init__(self) -> None:
        count = len(self.points_fixed)
        shapes = (np.shape(self.points_fixed), np.shape(self.points_moving),
                  np.shape(self.score))
        if shapes != ((count, 2), (count, 2), (count,)):
            raise DataFormatError(
                f'A match has points of {shapes[0]} and {shapes[1]} and '
                f'scores of {shapes[2]}; expected (N, 2), (N, 2) and (N,).')
        if not all(np.isfinite(v).all() for v in (
                self.points_fixed, self.points_moving, self.score)):
            raise DataFormatError(
                'A match holds NaN or infinity; finite points and scores '
                'are expected. Leave such matches out.')


class Matcher(Protocol):
    """What finds matches between two images."""

    def match(self, fixed: np.ndarray, moving: np.ndarray,
              settings: MatchSettings | None = None) -> Match:
        """Match a pair.

        Args:
            fixed: (H, W) or (H, W, C), numbers of any type.
            moving: (h, w) or (h, w, C).
            settings: What is known of the pair.

        Returns:
            Matches, or ``ok`` False and the reason.

        Raises:
            DataFormatError: If an array is no image.
        """


def no_match(reason: str) -> Match:
    """A match that failed."""
    empty = np.zeros((0, 2))
    return Match(empty, empty, np.zeros(0), ok=False, reason=reason)


def grey_image(image: np.ndarray, valid: np.ndarray | None,
               name: str) -> tuple[np.ndarray, np.ndarray]:
    """An image as one channel, and its mask.

    Channels are averaged: what they mean is not known here.

    Args:
        image: (H, W) or (H, W, C).
        valid: (H, W) bool or None.
        name: ``'fixed'`` or ``'moving'``, for messages.

    Returns:
        grey: (H, W) float32; without data the mean of the others, so that
            the step at the border is as small as it can be.
        valid: (H, W) bool.

    Raises:
        DataFormatError: If it is no image, holds NaN or infinity where it
            is valid, is too small, or the mask is of another size.
    """
    image = np.asarray(image)
    if image.ndim not in (2, 3) or image.dtype.kind not in 'uifb':
        raise DataFormatError(
            f'The {name} image has shape {image.shape} and type '
            f'{image.dtype}; expected (H, W) or (H, W, C) of real numbers.')
    if min(image.shape[:2]) < SMALLEST or not image.size:
        raise DataFormatError(
            f'The {name} image has {image.shape[0]} x {image.shape[1]} '
            f'pixels; at least {SMALLEST} x {SMALLEST} are needed.')
    grey = image.astype(np.float32)
    if grey.ndim == 3:
        grey = grey.mean(2)
    if valid is None:
        valid = np.ones(grey.shape, bool)
    valid = np.asarray(valid, bool)
    if valid.shape != grey.shape:
        raise DataFormatError(
            f'The mask of the {name} image has {valid.shape}, the image '
            f'{grey.shape}: they must be alike.')
    if not np.isfinite(grey[valid]).all():
        raise DataFormatError(
            f'The {name} image holds NaN or infinity: fill them, or leave '
            'them out with its mask.')
    if not valid.all():
        grey = np.where(valid, grey, grey[valid].mean() if valid.any() else 0)
    return grey.astype(np.float32, copy=False), valid


def warped_onto(image: np.ndarray, valid: np.ndarray, affine: np.ndarray,
                size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The moving image on the grid of the fixed one, and its mask.

    Args:
        image: (h, w) float32.
        valid: (h, w) bool.
        affine: (2, 3), fixed to moving.
        size: (H, W).

    Returns:
        (H, W) float32, outside as at the border, and (H, W) bool.
    """
    shape = (size[1], size[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(image, affine, shape, flags=flags,
                           borderMode=cv2.BORDER_REPLICATE)
    known = cv2.warpAffine(valid.astype(np.float32), affine, shape,
                           flags=flags)
    return moved, known > 0.99


def empty_side(grey: np.ndarray, valid: np.ndarray, name: str) -> str:
    """Why an image cannot be matched at all; empty if it can."""
    share = float(valid.mean())
    if share < 0.01:
        return (f'The {name} image has data on {share:.1%} of its pixels: '
                'there is nothing to match.')
    values = grey[valid]
    if values.max() == values.min():
        return f'The {name} image is {values[0]:g} everywhere it has data.'
    return ''
