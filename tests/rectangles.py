"""Rectangles at all angles, as fields and buildings lie."""

from __future__ import annotations

import cv2
import numpy as np


def rectangles(size: tuple[int, int], seed: int,
               longest: float = 50) -> np.ndarray:
    """(H, W) uint8 with sixty of them, sides of 8 to ``longest`` pixels."""
    rng = np.random.default_rng(seed)
    image = np.full(size, 90, np.uint8)
    for _ in range(60):
        box = ((rng.uniform(0, size[1]), rng.uniform(0, size[0])),
               tuple(rng.uniform(8, longest, 2)), rng.uniform(0, 180))
        corners = np.rint(cv2.boxPoints(box)).astype(np.int32)
        cv2.fillPoly(image, [corners], int(rng.integers(20, 235)))
    return image
