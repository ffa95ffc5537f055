"""Statistics of pairs that were just written."""
from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
from PIL import Image

from ...pair_statistics import Moments, moments


def measure_pairs(
    pairs: Iterable[tuple[Path, Path]],
) -> tuple[Moments, Moments]:
    """Optical and SAR moments of pairs of files.

    Args:
        pairs: Optical and SAR file of each.
    """
    sides = zip(*(
        tuple(moments(np.asarray(Image.open(path))) for path in pair)
        for pair in pairs), strict=True)
    optical, sar = (reduce(add, side) for side in sides)
    return optical, sar
