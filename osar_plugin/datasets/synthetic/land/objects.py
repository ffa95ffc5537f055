"""Objects to detect, put on composed land: ships, tanks, bridges, courts.

Legend: H W cells of the raster, N instances.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..scene import Float, Frame, Mask, Pose
from .compose import compose
from .cover import INTACT, Cover, Instances, Kind, Land, Rng
from .lots import Style, build

#: What can be asked for, in the order of the truth.
THINGS = ('ship', 'tank', 'bridge', 'court')
SHIP, TANK, BRIDGE, COURT = range(len(THINGS))
_PAINTS = ((.5, .14, .08), (.12, .28, .5), (.6, .6, .58), (.3, .3, .32))
_TANKS = ((.78, .78, .77), (.66, .67, .66))
_COURTS = ((.10, .30, .16), (.12, .24, .42), (.42, .16, .11))
# Land that a river can cross, and land with free ground for tanks.
_OPEN = ('farmland', 'forest', 'bare')


class ThingLand(NamedTuple):
    """Land with objects.

    Attributes:
        land: The scene.
        things: (N,) index of :data:`THINGS` for each instance, -1 for what
            is none of them.
    """

    land: Land
    things: NDArray[np.int8]

    def boxes(
        self, frame: Frame, least: float,
    ) -> tuple[Float, NDArray[np.int8]]:
        """Upright boxes of what a picture shows of the objects.

        Args:
            frame: Of the picture.
            least: Pixels below which either side is too small to tell.

        Returns:
            (n, 4) left, top, right, bottom in pixels, and (n,) indices of
            :data:`THINGS`.
        """
        boxes, rows = self.land.boxes(frame)
        things = self.things[rows]
        spans = boxes[:, 2:] - boxes[:, :2]
        keep = (things >= 0) & (spans >= least).all(axis=1)
        return boxes[keep], things[keep]


def compose_things(
    extent: float, spacing: float, geometry: np.random.SeedSequence,
    paint: np.random.SeedSequence, flat: bool,
) -> ThingLand:
    """Draw land with objects on it.

    Args:
        extent: Side in metres.
        spacing: Cell size in metres.
        geometry: Stream of everything that has a shape.
        paint: Stream of everything that has a colour.
        flat: With courts, which only the camera sees.
    """
    land_shape, land_paint = geometry.spawn(1)[0], paint.spawn(1)[0]
    shapes, brush = (
        np.random.default_rng(stream) for stream in (geometry, paint))
    river = shapes.random() < 0.5
    kind = str(shapes.choice(_OPEN)) if river else 'coast'
    land = compose(kind, extent, spacing, land_shape, land_paint)
    things = np.full(len(land.instances), -1, np.int8)
    crossing = _river(land, shapes) if river else None
    wet = land.cover == Cover.WATER
    things = _add(land, things, SHIP, wet if crossing is None else (
        wet & (np.abs(crossing.along) > 45)), shapes, brush)
    if crossing is not None:
        things = _bridge(land, things, crossing, brush)
    things = _add(land, things, TANK, _ground(land), shapes, brush)
    if flat:
        things = _add(land, things, COURT, _ground(land), shapes, brush)
    return ThingLand(land, things)


class _River(NamedTuple):
    """Where a river runs.

    Attributes:
        along: (H, W) metres from the bridge along the river.
        across: (H, W) metres from its middle.
        width: Metres.
        heading: Of the river, degrees clockwise from +y.
    """

    along: Float
    across: Float
    width: float
    heading: float


def _river(land: Land, rng: Rng) -> _River:
    """Flood a band through the middle; what stood there is gone."""
    heading = float(rng.uniform(0, 180))
    x, y = land.scene.axes()
    shift = rng.uniform(-0.12, 0.12, 2) * land.extent
    u, v = Pose(float(shift[0]), float(shift[1]), heading).to_object(
        x[None], y[:, None])
    width = float(rng.uniform(0.16, 0.26)) * land.extent
    bed = np.abs(u) < width / 2
    # Whole instances go, so that no half of a house is left on the bank.
    gone = np.unique(land.owner[bed])
    cleared = np.isin(land.owner, gone[gone > 0])
    land.scene.height[cleared] = float(np.median(land.scene.height[~cleared]))
    land.fill(cleared, Cover.GRASS, (.17, .24, .10), .04)
    land.owner[cleared] = 0
    land.fill(bed, Cover.WATER, (.02, .04, .06), 0.0)
    return _River(v, u, width, heading)


def _bridge(
    land: Land, things: NDArray[np.int8], river: _River, brush: Rng,
) -> NDArray[np.int8]:
    """A deck across the river, with a ramp on either bank."""
    wide = max(11.0, 5 * land.scene.spacing)
    reach = river.width / 2 + 8
    deck = (np.abs(river.along) < wide / 2) & (np.abs(river.across) < reach)
    tone = brush.uniform(.36, .62)
    land.fill(deck, Cover.ROAD, (tone, tone, tone * .97), .06)
    land.scene.height[deck] = 9
    land.owner[deck] = len(land.instances) + 1
    rows, cols = np.nonzero(deck)
    x, y = land.scene.axes()
    one = Instances(
        np.array([[x[cols].mean(), y[rows].mean()]], np.float32),
        np.array([[wide, 2 * reach]], np.float32),
        np.array([river.heading + 90], np.float32),
        np.array([9], np.float32), np.array([Kind.STACK], np.int8),
        np.array([INTACT], np.int8))
    land.instances = land.instances.joined(one)
    return np.append(things, np.int8(BRIDGE))


def _ground(land: Land) -> Mask:
    """Open ground to put something on."""
    return np.isin(land.cover, (Cover.GRASS, Cover.BARE, Cover.FIELD)) & (
        land.owner == 0)


def _add(
    land: Land, things: NDArray[np.int8], thing: int, where: Mask,
    rng: Rng, brush: Rng,
) -> NDArray[np.int8]:
    """Build objects of one sort; returns the longer list."""
    build(land, where, _STYLES[thing], float(rng.uniform(0, 180)), rng,
          brush)
    added = len(land.instances) - len(things)
    return np.append(things, np.full(added, thing, np.int8))


_STYLES = {
    SHIP: Style(
        Kind.STACK, (46, 120), .55, (.30, .48), (.45, .75), (6, 11), (0, 2),
        _PAINTS, .25, 60, cover=Cover.PAVEMENT),
    TANK: Style(
        Kind.TANK, (62, 62), .16, (.42, .72), (.42, .72), (9, 15), (0, .5),
        _TANKS, .05, 40, round=True),
    COURT: Style(
        Kind.STACK, (52, 76), .07, (.5, .6), (.5, .6), (0, .01), (0, 0),
        _COURTS, .012, 0, cover=Cover.PAVEMENT)}
