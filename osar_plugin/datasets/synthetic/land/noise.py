"""Smooth random fields of land."""
from __future__ import annotations

import cv2
import numpy as np

from ..scene import Float


def smooth_noise(
    shape: tuple[int, int], sigma: float, rng: np.random.Generator,
) -> Float:
    """Smooth random field, mean 0, standard deviation about 1.

    Cubic between its nodes, so that shores and rims of forests have no
    corners.

    Args:
        shape: Rows and columns.
        sigma: Width of a blob in cells; at least 1.
        rng: Source of randomness.
    """
    small = tuple(int(count / sigma) + 3 for count in shape)
    noise = rng.standard_normal(small, np.float32)
    if sigma <= 1:
        return noise[:shape[0], :shape[1]]
    # One node to one blob: the matrix takes cells to nodes, half a node in
    # from the rim, where all four neighbours exist.
    scale = np.array([[1 / sigma, 0, 0.5], [0, 1 / sigma, 0.5]])
    return cv2.warpAffine(
        noise, scale, shape[::-1], borderMode=cv2.BORDER_REFLECT_101,
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
