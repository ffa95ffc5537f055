"""Rows of houses, sheds, tanks or trees, drawn all at once.

A rotated grid of lots lies over the land. What stands on a lot is an entry
of arrays (U, V); each cell of the raster looks up the lot that it lies on,
so the cost does not depend on the number of things.

Legend: H W cells of the raster, U V lots along x and y of the grid.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..scene import Float, Mask, Pose, Scatterers
from .cover import INTACT, Cover, Instances, Kind, Land, Rng


@dataclass(frozen=True)
class Style:
    """What may stand on the lots of a quarter; ranges are low and high.

    Attributes:
        kind: Of all instances.
        pitch: Size of a lot across and along, metres.
        share: Of the lots that are built on.
        width: Range of the extent across, share of the pitch.
        length: Range of the extent along, share of the pitch.
        height: Range of the height, metres.
        ridge: Range of the height of a roof's ridge above its eaves.
        colours: Reflectances to choose from, (colours, 3).
        sigma0: Radar reflectivity of the top.
        corner: Median radar cross section of a corner; 0 for none.
        round: Ellipses instead of boxes.
        cover: What the map shows there.
    """

    kind: Kind
    pitch: tuple[float, float]
    share: float
    width: tuple[float, float]
    length: tuple[float, float]
    height: tuple[float, float]
    ridge: tuple[float, float] = (0.0, 0.0)
    colours: tuple[tuple[float, float, float], ...] = ((.5, .5, .5), )
    sigma0: float = 0.05
    corner: float = 0.0
    round: bool = False
    cover: Cover = Cover.BUILDING


@dataclass
class _Lots:
    """Values of all lots, (U, V) each."""

    there: Mask
    size: Float  # (2, U, V)
    shift: Float  # (2, U, V)
    height: Float
    ridge: Float
    colour: Float  # (U, V, 3)

    @property
    def shape(self) -> tuple[int, int]:
        rows, cols = self.there.shape
        return rows, cols


def build(
    land: Land, where: Mask, style: Style, heading: float, geometry: Rng,
    brush: Rng,
) -> None:
    """Build on the lots that lie wholly inside ``where``.

    Args:
        land: Changed in place.
        where: (H, W) cells that may be built on.
        style: What to build.
        heading: Of the grid, degrees clockwise from +y.
        geometry: Stream of everything that has a shape.
        brush: Stream of colours.
    """
    pitch = np.array(style.pitch, np.float32)
    half = np.ceil(0.75 * land.extent / pitch).astype(int)
    lots = _draw(style, (2 * half[0], 2 * half[1]), geometry, brush)
    pose = Pose(heading=heading)
    steps = [np.arange(2 * n) - n + 0.5 for n in half]
    middle = np.stack(np.meshgrid(
        steps[0] * pitch[0], steps[1] * pitch[1], indexing='ij'))
    middle = (middle + lots.shift).astype(np.float32)
    lots.there &= _allowed(land, where, middle, lots.size, pose)
    x, y = pose.to_scene(middle[0], middle[1])
    ground = _sample(land.scene.height, land, x, y)
    _stamp(land, lots, middle, ground, style, pose, pitch, half)
    if style.corner > 0:
        land.scene.add_scatterers(_corners(
            lots, middle, ground, style.corner, pose, geometry))


def _draw(
    style: Style, shape: tuple[int, int], geometry: Rng, brush: Rng,
) -> _Lots:
    """Sizes, heights and colours of all lots."""
    def among(span: tuple[float, float]) -> Float:
        return geometry.uniform(*span, shape).astype(np.float32)

    there = geometry.random(shape) < style.share
    pitch = np.array(style.pitch, np.float32)[:, None, None]
    size = np.stack([among(style.width), among(style.length)]) * pitch
    if style.round:
        size[1] = size[0]
    play = np.maximum(pitch - size, 0) / 2
    shift = play * geometry.uniform(-0.7, 0.7, (2, *shape))
    colours = np.array(style.colours, np.float32)
    tone = colours[brush.integers(len(colours), size=shape)] * brush.uniform(
        0.8, 1.2, (*shape, 1))
    return _Lots(
        there, size, shift.astype(np.float32), among(style.height),
        among(style.ridge), np.clip(tone, 0.02, 0.95).astype(np.float32))


def _sample(
    layer: NDArray, land: Land, x: Float, y: Float,
) -> NDArray:
    """Values of a layer at positions in metres; of the rim outside."""
    rows, cols = (
        np.clip(np.rint(place), 0, count - 1).astype(int)
        for place, count in zip(
            land.scene.cells(x, y), land.scene.shape, strict=True))
    return layer[rows, cols]


def _allowed(
    land: Land, where: Mask, middle: Float, size: Float, pose: Pose,
) -> Mask:
    """(U, V) lots whose middle and corners are free and inside."""
    free = np.ones(middle.shape[1:], np.bool_)
    rows, cols = land.scene.shape
    for across, along in ((0, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        x, y = pose.to_scene(
            middle[0] + across * size[0] / 2,
            middle[1] + along * size[1] / 2)
        row, col = land.scene.cells(x, y)
        inside = (row > 0) & (row < rows - 1) & (col > 0) & (col < cols - 1)
        free &= _sample(where, land, x, y)
        # The middle must lie in the raster; corners may stick out.
        if not across:
            free &= inside
    return free


def _stamp(
    land: Land, lots: _Lots, middle: Float, ground: Float, style: Style,
    pose: Pose, pitch: Float, half: NDArray[np.int64],
) -> None:
    """Write all lots into the raster, and their list into the land."""
    scene = land.scene
    x, y = scene.axes()
    u, v = pose.to_object(x[None], y[:, None])
    i, j = (
        np.clip(np.floor(place / step).astype(int) + n, 0, 2 * n - 1)
        for place, step, n in zip((u, v), pitch, half, strict=True))
    across = np.abs(u - middle[0][i, j]) / (lots.size[0][i, j] / 2)
    along = np.abs(v - middle[1][i, j]) / (lots.size[1][i, j] / 2)
    reach = np.hypot(across, along) if style.round else np.maximum(
        across, along)
    inside = lots.there[i, j] & (reach <= 1)
    # The roof falls from its ridge; a crown from its middle.
    fall = reach ** 2 if style.round else across
    top = (ground + lots.height)[i, j] + lots.ridge[i, j] * (1 - fall)
    scene.height[inside] = top[inside]
    land.fill(inside, style.cover, lots.colour[i, j][inside], style.sigma0)
    count = len(land.instances)
    number = np.zeros(lots.shape, np.int32)
    number[lots.there] = np.arange(1, lots.there.sum() + 1) + count
    land.owner[inside] = number[i, j][inside]
    there = lots.there
    place = np.stack(pose.to_scene(middle[0][there], middle[1][there]), 1)
    total = len(place)
    land.instances = land.instances.joined(Instances(
        place.astype(np.float32), lots.size[:, there].T.copy(),
        np.full(total, pose.heading, np.float32), lots.height[there],
        np.full(total, style.kind, np.int8),
        np.full(total, INTACT, np.int8)))


def _corners(
    lots: _Lots, middle: Float, ground: Float, median: float, pose: Pose,
    rng: Rng,
) -> Scatterers:
    """One bright corner on a third of the instances."""
    chosen = lots.there & (rng.random(lots.shape) < 1 / 3)
    count = int(chosen.sum())
    side = rng.choice([-0.5, 0.5], (2, count))
    x, y = pose.to_scene(
        middle[0][chosen] + side[0] * lots.size[0][chosen],
        middle[1][chosen] + side[1] * lots.size[1][chosen])
    z = (ground + lots.height)[chosen]
    facing = np.rad2deg(np.arctan2(side[0], side[1])) + pose.heading
    return Scatterers(
        np.stack([x, y, z], axis=1).astype(np.float32),
        (median * np.exp(rng.standard_normal(count))).astype(np.float32),
        (facing % 360).astype(np.float32),
        np.full(count, 60, np.float32))
