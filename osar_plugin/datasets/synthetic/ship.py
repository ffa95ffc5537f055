"""Ships: a rigid hull, what stands on its deck, and separately its paint.

Geometry (:class:`ShipPlan`) and paint (:func:`draw_paint`) never share a
random stream, so the same ship can be repainted and another ship can wear
the same colours.

A ship points to +y; x is starboard. Block heights count from the main deck.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from .scene import Colour, Float, Pose, Scatterers, Scene


class Part(IntEnum):
    """What a block is; decides its roughness and its kind of paint."""

    DECK = 0
    FORECASTLE = 1
    BRIDGE = 2
    FUNNEL = 3
    HATCH = 4
    CARGO = 5
    CONTAINER = 6
    CRANE = 7
    PIPE = 8
    TANK = 9
    FITTING = 10
    BOAT = 11


#: Radar reflectivity of the upper sides, power per square metre.
SIGMA0: dict[Part, float] = {
    Part.DECK: 0.06, Part.FORECASTLE: 0.06, Part.BRIDGE: 0.25,
    Part.FUNNEL: 0.2, Part.HATCH: 0.018, Part.CARGO: 0.12,
    Part.CONTAINER: 0.14, Part.CRANE: 0.5, Part.PIPE: 0.3,
    Part.TANK: 0.08, Part.FITTING: 0.4, Part.BOAT: 0.3}

#: Median radar cross section (square metres) of an edge point of a part.
EDGE_RCS: dict[Part, float] = {
    Part.DECK: 0.6, Part.FORECASTLE: 2.0, Part.BRIDGE: 5.0,
    Part.FUNNEL: 5.0, Part.HATCH: 3.5, Part.CARGO: 0.8,
    Part.CONTAINER: 2.5, Part.CRANE: 8.0, Part.PIPE: 1.5,
    Part.TANK: 2.0, Part.FITTING: 2.0, Part.BOAT: 2.0}


@dataclass(frozen=True)
class Hull:
    """The rigid outline of a ship.

    Attributes:
        length: Length over all, metres.
        beam: Greatest width, metres.
        freeboard: Height of the main deck above the water, metres.
        bow: Length of the tapering bow, share of ``length``.
        bow_power: Exponent of the taper: 1 pointed, 3 and more full.
        stern: Length of the tapering stern, share of ``length``.
        transom: Width of the stern end, share of ``beam``.
    """

    length: float
    beam: float
    freeboard: float
    bow: float
    bow_power: float
    stern: float
    transom: float

    def half_width(self, y: Float) -> Float:
        """Half width in metres at ``y`` metres before midship, 0 outside."""
        end = self.length / 2
        ahead = np.clip(
            (y - (end - self.bow * self.length))
            / (self.bow * self.length), 0, 1)
        aft = np.clip(
            ((self.stern * self.length - end) - y)
            / (self.stern * self.length), 0, 1)
        shape = (1 - ahead ** self.bow_power) * (
            1 - (1 - self.transom) * aft ** 2)
        half = np.where(np.abs(y) <= end, self.beam / 2 * shape, 0)
        return np.asarray(half, np.float32)

    def half_at(self, y: float) -> float:
        """:meth:`half_width` at one place."""
        return float(self.half_width(np.array(y, np.float32)))


@dataclass(frozen=True)
class Block:
    """One solid on the deck.

    Attributes:
        part: What it is.
        x: Middle, metres to starboard.
        y: Middle, metres to the bow.
        width: Extent across the ship, metres.
        length: Extent along the ship, metres.
        top: Height of its top above the main deck, metres.
        angle: Turn against the ship's axis, degrees.
        dome: Round (an ellipse seen from above, a dome from the side).
        swings: A crane's jib: stands a little differently on every visit.
    """

    part: Part
    x: float
    y: float
    width: float
    length: float
    top: float
    angle: float = 0.0
    dome: bool = False
    swings: bool = False


@dataclass(frozen=True)
class ShipPlan:
    """The geometry of one ship: hull, blocks and bright points.

    Attributes:
        kind: Name of the ship type.
        hull: The outline.
        blocks: What stands on the deck, lower things first.
        points: Bright points, ship coordinates, z from the water line.
    """

    kind: str
    hull: Hull
    blocks: tuple[Block, ...]
    points: Scatterers = field(default_factory=Scatterers)


@dataclass(frozen=True)
class Paint:
    """Colours of one ship.

    Attributes:
        deck: Reflectance of the main deck, 3 values in [0, 1].
        rim: Reflectance of the bulwark and of the deck's edge.
        blocks: (number of blocks, 3) reflectances.
        wear: Seed of the stains and rust of the deck.
    """

    deck: Float
    rim: Float
    blocks: Float
    wear: int


class Ship:
    """A ship that can be drawn on a scene.

    Args:
        plan: Its geometry.
        paint: Its colours.
        swing: Turn of the crane jibs on this visit, degrees.

    Raises:
        ValueError: If the paint was made for another number of blocks.
    """

    def __init__(
        self, plan: ShipPlan, paint: Paint, swing: float = 0.0,
    ) -> None:
        if len(paint.blocks) != len(plan.blocks):
            raise ValueError(
                f'paint for {len(paint.blocks)} blocks on a ship with '
                f'{len(plan.blocks)}: draw the paint for this plan')
        self.plan, self.paint, self.swing = plan, paint, swing

    def draw(self, scene: Scene, pose: Pose) -> None:
        """Put the ship on ``scene`` at ``pose``."""
        self.draw_fixed(scene, pose)
        self.draw_moving(scene, pose, self.swing)

    def draw_fixed(self, scene: Scene, pose: Pose) -> None:
        """All but what moves from visit to visit."""
        self._draw_hull(scene, pose)
        for block, colour in self._blocks(moving=False):
            self._draw_block(scene, pose, block, colour)
        scene.add_scatterers(self.plan.points.placed(pose))

    def draw_moving(self, scene: Scene, pose: Pose, swing: float) -> None:
        """The crane jibs, turned by ``swing`` degrees."""
        for block, colour in self._blocks(moving=True):
            self._draw_block(scene, pose, block, colour, swing)

    def _blocks(self, moving: bool) -> list[tuple[Block, Float]]:
        return [
            (block, colour) for block, colour in zip(
                self.plan.blocks, self.paint.blocks, strict=True)
            if block.swings == moving]

    def _draw_hull(self, scene: Scene, pose: Pose) -> None:
        hull, paint = self.plan.hull, self.paint
        win = scene.window(pose, hull.beam / 2 + 1, hull.length / 2 + 1)
        half = hull.half_width(win.y)
        inside = np.abs(win.x) <= half
        scene.put(win, inside, hull.freeboard, paint.deck,
                  SIGMA0[Part.DECK])
        # A bulwark of about a metre runs around the deck.
        rim = inside & (
            (np.abs(win.x) > half - 0.8)
            | (np.abs(win.y) > hull.length / 2 - 1.0))
        scene.put(win, rim, hull.freeboard + 1.0, paint.rim, 0.1)
        self._weather(scene, pose)

    def _weather(self, scene: Scene, pose: Pose) -> None:
        """Rust and stains: patches and streaks fixed to the ship."""
        hull = self.plan.hull
        rng = np.random.default_rng(self.paint.wear)
        shape = (int(hull.length) + 4, int(hull.beam) + 4)
        map_ = 0.8 * _blur_noise(shape, (7, 1.5), rng)
        map_ += 0.9 * _blur_noise(shape, (0.6, 0.6), rng)
        win = scene.window(pose, hull.beam / 2 + 1, hull.length / 2 + 1)
        rows = np.clip(
            np.rint(win.y + hull.length / 2), 0, shape[0] - 1).astype(int)
        cols = np.clip(
            np.rint(win.x + hull.beam / 2), 0, shape[1] - 1).astype(int)
        gain = 1 + 0.13 * map_[rows, cols]
        aboard = np.abs(win.x) <= hull.half_width(win.y)
        gain = np.where(aboard, np.clip(gain, 0.6, 1.5), 1)
        scene.albedo[win.rows, win.cols] *= gain[..., None]

    def _draw_block(
        self, scene: Scene, pose: Pose, block: Block, colour: Colour,
        swing: float = 0.0,
    ) -> None:
        freeboard = self.plan.hull.freeboard
        at = pose.place(block.x, block.y, block.angle)
        if block.swings:
            # A jib turns about its heel, not about its middle.
            heel = at.place(0, -block.length / 2, swing)
            at = heel.place(0, block.length / 2)
        win = scene.window(at, block.width / 2, block.length / 2)
        across = np.abs(win.x) / (block.width / 2)
        along = np.abs(win.y) / (block.length / 2)
        top: Float | float = freeboard + block.top
        if block.dome:
            radius = across ** 2 + along ** 2
            inside = radius <= 1
            top = freeboard + block.top * np.sqrt(
                np.clip(1 - 0.8 * radius, 0, 1)).astype(np.float32)
        else:
            inside = (across <= 1) & (along <= 1)
        scene.put(win, inside, top, colour, SIGMA0[block.part])


def _blur_noise(
    shape: tuple[int, int], sigma: tuple[float, float],
    rng: np.random.Generator,
) -> Float:
    """Noise blurred by ``sigma`` cells, scaled back to deviation 1."""
    from scipy.ndimage import gaussian_filter
    noise = gaussian_filter(
        rng.standard_normal(shape, np.float32), sigma)
    return np.asarray(noise / max(float(noise.std()), 1e-6), np.float32)


#: One bright point: x, y, z (m), cross section (m2), facing, lobe (deg).
Point = tuple[float, float, float, float, float, float]


def bright_points(
    hull: Hull, blocks: tuple[Block, ...], rng: np.random.Generator,
) -> Scatterers:
    """Bright points along the hull, on the deck and on the blocks.

    They are fixed to the ship, so they come back in every image in which
    they face the radar: brackets, rails and corners that are too small for
    the height field.

    Args:
        hull: The outline.
        blocks: What stands on the deck.
        rng: The ship's own geometry stream.

    Returns:
        Points in ship coordinates, z above the water line.
    """
    rows = _deck_points(hull, rng)
    for block in blocks:
        rows.extend(_block_points(hull, block, rng))
    # A few true corner reflectors outshine everything: their sidelobes
    # cross the chip.
    for i in rng.choice(len(rows), min(len(rows), 14), replace=False):
        x, y, z, _, facing, _ = rows[i]
        rows.append((x, y, z, 120 * _spread(rng, 1.0), facing, 50))
    table = np.asarray(rows, np.float32).reshape(-1, 6)
    return Scatterers(
        table[:, :3].copy(), table[:, 3].copy(), table[:, 4] % 360,
        table[:, 5].copy())


def _spread(rng: np.random.Generator, sigma: float) -> float:
    """Log-normal factor with median 1."""
    return float(np.exp(sigma * rng.standard_normal()))


def _steps(low: float, high: float, step: float) -> list[float]:
    return [float(v) for v in np.arange(low, high, step)]


def _deck_points(hull: Hull, rng: np.random.Generator) -> list[Point]:
    """Rails and frames along both sides, and fittings all over the deck."""
    out: list[Point] = []
    base = EDGE_RCS[Part.DECK]
    step = float(rng.uniform(4, 9))
    for y in _steps(-hull.length / 2 + 2, hull.length / 2 - 2, step):
        half = hull.half_at(y)
        for side in (-1, 1):
            out.append((
                side * half, y, hull.freeboard + 1,
                1.5 * base * _spread(rng, 1.2), 90.0 * side, 80))
    for _ in range(int(hull.length * hull.beam / 70)):
        y = float(rng.uniform(-0.48, 0.48)) * hull.length
        half = hull.half_at(y)
        out.append((
            float(rng.uniform(-0.95, 0.95)) * half, y, hull.freeboard + 1.5,
            base * _spread(rng, 1.3), float(rng.uniform(0, 360)), 100))
    return out


def _block_points(
    hull: Hull, block: Block, rng: np.random.Generator,
) -> list[Point]:
    """Corners, and points along the four sides, of one block."""
    base = EDGE_RCS[block.part]
    z = hull.freeboard + block.top
    if block.dome:
        return [(block.x, block.y, z, 4 * base * _spread(rng, 0.6),
                 0.0, np.inf)]
    out: list[Point] = []
    at = Pose(block.x, block.y, block.angle)
    half_w, half_l = block.width / 2, block.length / 2
    places = [(half_w, half_l, 45.0), (half_w, -half_l, 135.0),
              (-half_w, -half_l, 225.0), (-half_w, half_l, 315.0)]
    for x in _steps(-half_w + 2, half_w - 1, 4.5):
        places += [(x, half_l, 0.0), (x, -half_l, 180.0)]
    for y in _steps(-half_l + 2, half_l - 1, 4.5):
        places += [(half_w, y, 90.0), (-half_w, y, 270.0)]
    for right, up, facing in places:
        if rng.random() < 0.6:
            spot = at.place(right, up)
            out.append((spot.x, spot.y, z, base * _spread(rng, 1.2),
                        facing + block.angle, 90))
    return out


def draw_paint(plan: ShipPlan, rng: np.random.Generator) -> Paint:
    """Colours for a ship, from a stream that geometry never uses.

    Args:
        plan: The ship; only the parts of its blocks are looked at.
        rng: The ship's paint stream.

    Returns:
        Reflectances in [0, 1].
    """
    def near(colour: Colour, spread: float = 0.03) -> Float:
        value = np.asarray(colour) + rng.normal(0, spread, 3)
        return np.clip(value, 0.01, 0.95).astype(np.float32)

    deck = near(_pick(_DECKS, rng))
    theme = {
        Part.DECK: deck,
        Part.FORECASTLE: deck if rng.random() < 0.6 else near(
            _pick(_DECKS, rng)),
        Part.BRIDGE: near(_pick(_WHITES, rng)),
        Part.FUNNEL: near(_pick(_STRONG, rng)),
        Part.HATCH: deck * 1.15 if rng.random() < 0.45 else near(
            _pick(_DECKS + _WHITES[1:], rng)),
        Part.CARGO: near(_pick(_CARGO, rng)),
        Part.CRANE: near(_pick(_WHITES + _STRONG, rng)),
        Part.PIPE: near(_pick(_PIPES, rng)),
        Part.TANK: near(_pick(_DECKS + _WHITES, rng)),
        Part.FITTING: near(_pick(_PIPES, rng)),
        Part.BOAT: near((0.75, 0.3, 0.08))}
    boxes = [near(_pick(_BOXES, rng)) for _ in range(rng.integers(2, 9))]
    blocks = np.zeros((len(plan.blocks), 3), np.float32)
    for i, block in enumerate(plan.blocks):
        if block.part == Part.CONTAINER:
            blocks[i] = near(boxes[rng.integers(len(boxes))], 0.02)
        elif block.part == Part.FITTING and rng.random() < 0.3:
            blocks[i] = near(_pick(_WHITES + _STRONG, rng))
        else:
            blocks[i] = near(theme[block.part], 0.015)
    rim = near(_pick([tuple(deck * 0.6), *_WHITES, *_STRONG], rng))
    return Paint(deck, rim, blocks, int(rng.integers(2 ** 31)))


def _pick(
    colours: list[tuple[float, ...]], rng: np.random.Generator,
) -> tuple[float, ...]:
    return colours[int(rng.integers(len(colours)))]


_DECKS: list[tuple[float, ...]] = [
    (0.33, 0.12, 0.08), (0.42, 0.17, 0.14), (0.25, 0.11, 0.05),
    (0.10, 0.30, 0.20), (0.13, 0.38, 0.33), (0.07, 0.20, 0.12),
    (0.25, 0.26, 0.28), (0.40, 0.39, 0.37), (0.09, 0.11, 0.16),
    (0.08, 0.15, 0.33), (0.12, 0.28, 0.45), (0.45, 0.35, 0.25)]
_WHITES: list[tuple[float, ...]] = [
    (0.80, 0.80, 0.78), (0.72, 0.66, 0.52), (0.62, 0.63, 0.66)]
_STRONG: list[tuple[float, ...]] = [
    (0.75, 0.55, 0.08), (0.65, 0.12, 0.08), (0.10, 0.28, 0.62),
    (0.08, 0.08, 0.09), (0.15, 0.45, 0.22), (0.78, 0.35, 0.08)]
_CARGO: list[tuple[float, ...]] = [
    (0.06, 0.06, 0.06), (0.42, 0.22, 0.12), (0.55, 0.48, 0.32),
    (0.30, 0.26, 0.22)]
_PIPES: list[tuple[float, ...]] = [
    (0.70, 0.68, 0.60), (0.75, 0.70, 0.40), (0.45, 0.44, 0.42),
    (0.35, 0.20, 0.14)]
_BOXES: list[tuple[float, ...]] = [
    (0.45, 0.13, 0.08), (0.50, 0.25, 0.08), (0.10, 0.20, 0.42),
    (0.12, 0.35, 0.22), (0.62, 0.62, 0.62), (0.25, 0.26, 0.28),
    (0.60, 0.45, 0.12), (0.35, 0.10, 0.12), (0.10, 0.35, 0.45)]
