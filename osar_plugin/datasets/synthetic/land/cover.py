"""Land: a scene with the map of what covers it and what stands on it.

Legend: H W cells of the raster, N instances.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from ..scene import Float, Frame, Mask, Scene
from .noise import smooth_noise

Rng = np.random.Generator


class Cover(IntEnum):
    """What covers a cell; the values of a label map."""

    WATER = 0
    BARE = 1
    FIELD = 2
    GRASS = 3
    FOREST = 4
    ROAD = 5
    PAVEMENT = 6
    BUILDING = 7


class Kind(IntEnum):
    """What an instance is."""

    HOUSE = 0
    SHED = 1
    TANK = 2
    STACK = 3
    TREE = 4


#: Kinds that a map of buildings shows.
BUILDINGS = (Kind.HOUSE, Kind.SHED, Kind.TANK)
#: What a disaster can leave, as the damage maps of BRIGHT count them.
INTACT, DAMAGED, DESTROYED = 1, 2, 3
# Contrast of the texture that the camera sees, and of the one that the radar
# sees; two draws that know nothing of each other.
_GRAIN = np.array([0, .13, .08, .10, .24, .05, .06, .05], np.float32)
_ROUGH = np.array([0, .35, .10, .15, .25, .10, .20, .10], np.float32)


@dataclass(frozen=True)
class Instances:
    """Things that stand on the land, one to a row.

    Attributes:
        xy: (N, 2) middles in metres.
        size: (N, 2) extent across and along the heading, metres.
        heading: (N,) degrees clockwise from +y.
        height: (N,) metres above the ground.
        kind: (N,) of :class:`Kind`.
        damage: (N,) ``INTACT``, ``DAMAGED`` or ``DESTROYED``.
    """

    xy: Float
    size: Float
    heading: Float
    height: Float
    kind: NDArray[np.int8]
    damage: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.xy)

    @staticmethod
    def none() -> Instances:
        """No instance at all."""
        return Instances(
            np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32),
            np.zeros(0, np.float32), np.zeros(0, np.float32),
            np.zeros(0, np.int8), np.zeros(0, np.int8))

    def joined(self, other: Instances) -> Instances:
        """These and others, in this order."""
        return Instances(*(
            np.concatenate([getattr(self, name), getattr(other, name)])
            for name in Instances.__dataclass_fields__))


@dataclass
class Land:
    """A scene and its truth.

    Attributes:
        scene: What the sensors see: height, albedo, reflectivity, water.
        kind: Dominant land use, one of the scene classes.
        cover: (H, W) of :class:`Cover`.
        owner: (H, W) number of the instance on a cell, from 1; 0 none.
        instances: What stands there.
    """

    scene: Scene
    kind: str = ''
    cover: NDArray[np.uint8] = field(
        default_factory=lambda: np.zeros((0, 0), np.uint8))
    owner: NDArray[np.int32] = field(
        default_factory=lambda: np.zeros((0, 0), np.int32))
    instances: Instances = field(default_factory=Instances.none)

    def __post_init__(self) -> None:
        if not self.cover.size:
            self.cover = np.full(self.scene.shape, Cover.GRASS, np.uint8)
            self.owner = np.zeros(self.scene.shape, np.int32)
            self.scene.water[:] = False

    @property
    def extent(self) -> float:
        """The longer side of the raster in metres."""
        return max(self.scene.shape) * self.scene.spacing

    def fill(
        self, where: Mask, cover: Cover, colour: Float | tuple[float, ...],
        sigma0: Float | float,
    ) -> None:
        """Cover ground; heights stay, but water is flat.

        Args:
            where: (H, W) cells.
            cover: With what.
            colour: Reflectance, 3 values or (cells, 3).
            sigma0: Radar reflectivity, one value or (cells,).
        """
        self.cover[where] = cover
        self.scene.albedo[where] = np.asarray(colour, np.float32)
        self.scene.sigma0[where] = sigma0
        self.scene.water[where] = cover is Cover.WATER
        if cover is Cover.WATER:
            self.scene.height[where] = 0

    def labels(self, frame: Frame) -> NDArray[np.uint8]:
        """The label map of a picture, (rows, cols) of :class:`Cover`."""
        return self.cover[self._nearest(frame)]

    def owners(self, frame: Frame) -> NDArray[np.int32]:
        """The instance map of a picture, (rows, cols); 0 is none."""
        return self.owner[self._nearest(frame)]

    def damage(self, frame: Frame) -> NDArray[np.uint8]:
        """(rows, cols) 0 off buildings, else their state 1 to 3."""
        shown = np.isin(self.instances.kind, BUILDINGS)
        states = np.where(shown, self.instances.damage, 0)
        return np.concatenate([[0], states]).astype(np.uint8)[
            self.owners(frame)]

    def boxes(self, frame: Frame) -> tuple[Float, NDArray[np.int64]]:
        """What can be seen of each instance, as upright boxes.

        Returns:
            (n, 4) left, top, right, bottom in pixels (right and bottom
            outside), and (n,) rows of the instances.
        """
        owners = self.owners(frame)
        rows, cols = np.nonzero(owners)
        which, back = np.unique(owners[rows, cols], return_inverse=True)
        low = np.full((2, len(which)), 1 << 30)
        high = np.zeros((2, len(which)), np.int64)
        for axis, place in enumerate((cols, rows)):
            np.minimum.at(low[axis], back, place)
            np.maximum.at(high[axis], back, place + 1)
        return (np.stack([*low, *high], axis=1).astype(np.float32),
                which.astype(np.int64) - 1)

    def _nearest(
        self, frame: Frame,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and column of the cell under each pixel."""
        places = self.scene.cells(*frame.positions())
        rows, cols = (
            np.clip(np.rint(place), 0, count - 1).astype(np.int64)
            for place, count in zip(places, self.scene.shape, strict=True))
        return rows, cols


def roughen(land: Land, geometry: Rng, brush: Rng) -> None:
    """Give every surface its texture, for each sensor its own."""
    scene = land.scene
    cell = scene.spacing
    fine = brush.standard_normal(scene.shape, np.float32)
    blobs = smooth_noise(scene.shape, max(1.0, 5 / cell), brush)
    tone = 1 + _GRAIN[land.cover] * (0.6 * fine + 0.8 * blobs)
    scene.albedo *= np.clip(tone, 0.4, 1.8)[..., None]
    broad = smooth_noise(scene.shape, 6, geometry)
    clump = smooth_noise(scene.shape, max(1.0, 4 / cell), geometry)
    scene.sigma0 *= np.exp(
        _ROUGH[land.cover] * (0.5 * broad + 0.8 * clump))


def damaged(
    land: Land, states: NDArray[np.int8], rng: Rng,
) -> Land:
    """The same land after an event.

    Destroyed buildings are heaps of rubble a fifth as high, rough in the
    radar and grey to the camera; damaged ones have lost parts of the roof.

    Args:
        land: The land before; it is not changed.
        states: (N,) ``INTACT``, ``DAMAGED`` or ``DESTROYED``.
        rng: The event's own stream.

    Raises:
        ValueError: If there is not one state for each instance.
    """
    if len(states) != len(land.instances):
        raise ValueError(
            f'{len(states)} states for {len(land.instances)} instances')
    scene = land.scene.copy()
    state = np.concatenate([[0], states])[land.owner]
    holes = smooth_noise(scene.shape, max(1.0, 3 / scene.spacing), rng) > 0.3
    broken = (state == DESTROYED) | ((state == DAMAGED) & holes)
    heap = np.abs(rng.standard_normal(scene.shape, np.float32))
    height = np.concatenate([[0], land.instances.height])[land.owner]
    ground = scene.height - height
    rubble = ground + height * 0.2 + 0.5 * heap
    scene.height = np.where(broken, rubble, scene.height).astype(np.float32)
    grey = 0.3 + 0.08 * rng.standard_normal(scene.shape, np.float32)
    scene.albedo[broken] = np.clip(grey[broken], 0.1, 0.7)[:, None]
    scene.sigma0[broken] = 0.25
    return Land(
        scene, land.kind, land.cover, land.owner,
        replace(land.instances, damage=states))
