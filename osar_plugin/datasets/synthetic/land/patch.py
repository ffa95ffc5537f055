"""One pair of pictures of one piece of land, from a seed and a key."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..build import WorldError, stream
from ..scene import Frame
from .compose import KINDS, compose
from .cover import Land
from .sensors import MARGIN, SPACING, Pass, draw_pass

#: First number of all streams of land; the ships have lower ones.
WORLD = 16
_GEOMETRY, _PAINT, _SHOT, _CLASS, _PASS = range(5)


class Patch(NamedTuple):
    """A rendered pair and what it shows.

    Attributes:
        optical: (size, size, 3) uint8 RGB.
        sar: (size, size) uint8.
        label: Scene class, index of :data:`.compose.KINDS`.
        land: The scene.
        frame: What both pictures show of it.
    """

    optical: NDArray[np.uint8]
    sar: NDArray[np.uint8]
    label: int
    land: Land
    frame: Frame


def scene_class(seed: int, key: tuple[int, ...]) -> int:
    """The class that a patch will have, without drawing it."""
    rng = np.random.default_rng(stream(seed, WORLD, *key, _CLASS))
    return int(rng.integers(len(KINDS)))


def acquisition(seed: int, key: tuple[int, ...], pixel: float) -> Pass:
    """The pass that patches with a common key share."""
    return draw_pass(np.random.default_rng(
        stream(seed, WORLD, *key, _PASS)), pixel)


def render_patch(
    seed: int, key: tuple[int, ...], size: int, pixel: float, seen: Pass,
) -> Patch:
    """Compose a piece of land and take both pictures of it.

    Args:
        seed: Seed of the demo world.
        key: Numbers of the patch; equal ones give equal bytes.
        size: Side of the pictures in pixels.
        pixel: Size of a pixel in metres.
        seen: The pass.
    """
    label = scene_class(seed, key)
    land = compose(
        KINDS[label], (size + 2 * MARGIN) * pixel, SPACING * pixel,
        stream(seed, WORLD, *key, _GEOMETRY),
        stream(seed, WORLD, *key, _PAINT))
    rng = np.random.default_rng(stream(seed, WORLD, *key, _SHOT))
    frame = Frame(size, size, pixel)
    return Patch(
        seen.optical(land, rng, frame), seen.sar(land, rng, frame), label,
        land, frame)


def check_size(size: int, seed: int) -> None:
    """Refuse sizes and seeds that cannot be rendered.

    Raises:
        WorldError: If one is out of range.
    """
    if not 32 <= size <= 1024:
        raise WorldError(f'size must be in 32..1024 pixels, got {size}')
    if seed < 0:
        raise WorldError(f'seed must be at least 0, got {seed}')
