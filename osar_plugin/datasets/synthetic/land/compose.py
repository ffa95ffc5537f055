"""Composing land: one recipe for each scene class.

Every recipe takes its shapes from one stream and its colours from another.
Sizes are metres; nothing is drawn smaller than the raster can show, so a
coarse raster has blocks of houses where a fine one has houses.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..scene import Float, Mask, Pose, Scene
from .cover import Cover, Kind, Land, Rng, roughen
from .lots import Style, build
from .noise import smooth_noise

_ROOFS = ((.45, .18, .12), (.38, .22, .16), (.32, .30, .29), (.5, .42, .36),
          (.24, .25, .28))
_SHEDS = ((.72, .73, .74), (.55, .57, .6), (.2, .35, .55), (.62, .6, .52),
          (.35, .36, .38))
_BOXES = ((.5, .14, .08), (.12, .28, .5), (.55, .32, .1), (.14, .38, .26),
          (.6, .6, .58))
_LEAVES = ((.07, .13, .05), (.09, .17, .06), (.12, .18, .08))
# What covers can turn to, and how far at most.
_TONES = {
    Cover.FIELD: (((.38, .33, .2), (.14, .24, .08), (.3, .24, .18)), .75),
    Cover.GRASS: (((.36, .31, .19), (.13, .22, .08), (.3, .3, .28)), .85),
    Cover.FOREST: (((.26, .17, .08), (.2, .18, .16), (.08, .16, .06)), .75),
    Cover.BARE: (((.3, .3, .29), (.26, .27, .17), (.55, .5, .42)), .8),
    Cover.PAVEMENT: (((.42, .37, .29), (.22, .22, .22), (.3, .31, .24)), .8),
    Cover.ROAD: (((.4, .36, .28), (.16, .16, .16)), .7),
    Cover.BUILDING: (((.3, .29, .28), (.5, .48, .45)), .5)}
_CROPS = np.array([
    (.10, .22, .07), (.16, .28, .09), (.24, .30, .12), (.42, .38, .20),
    (.34, .26, .16), (.28, .21, .14), (.20, .17, .12)], np.float32)


def compose(
    kind: str, extent: float, spacing: float,
    geometry: np.random.SeedSequence, paint: np.random.SeedSequence,
) -> Land:
    """Draw a square piece of land.

    Args:
        kind: One of :data:`KINDS`.
        extent: Side in metres.
        spacing: Cell size in metres.
        geometry: Stream of everything that has a shape.
        paint: Stream of everything that has a colour.

    Raises:
        ValueError: If the kind is not known.
    """
    if kind not in _RECIPES:
        raise ValueError(
            f'kind {kind!r} is not known: use one of {", ".join(KINDS)}')
    shapes, brush = np.random.default_rng(geometry), np.random.default_rng(
        paint)
    land = Land(Scene(extent, extent, spacing), kind)
    _terrain(land, shapes, 0.08 if kind == 'bare' else 0.03)
    _RECIPES[kind](land, shapes, brush)
    _season(land, brush)
    roughen(land, shapes, brush)
    return land


def _season(land: Land, brush: Rng) -> None:
    """Season, soil and light of the place: colours tell little of the class.

    Fields may be green or straw, forests green, brown or bare, soil and
    concrete of any tone; what remains is how they are arranged.
    """
    albedo = land.scene.albedo
    for cover, (tones, most) in _TONES.items():
        where = land.cover == cover
        tone = np.array(tones[int(brush.integers(len(tones)))])
        share = most * float(brush.random())
        albedo[where] = (1 - share) * albedo[where] + share * tone
    light = np.exp(brush.normal(0, 0.22) + brush.normal(0, 0.07, 3))
    np.clip(albedo * light, 0.01, 0.95, out=albedo, dtype=np.float32)


def _terrain(land: Land, rng: Rng, slope: float) -> None:
    """Hills with a given typical slope, above the water line."""
    scene = land.scene
    width = land.extent * float(rng.uniform(0.15, 0.35))
    hills = smooth_noise(scene.shape, width / scene.spacing, rng)
    # A tenth of a metre from cell to cell is typical at most: steps four
    # times as high, the radar takes for walls.
    slope = min(slope * float(rng.uniform(0.3, 1)), 0.1 / scene.spacing)
    scene.height[:] = 2 + slope * width * (hills - hills.min())


def _colour(brush: Rng, base: tuple[float, ...], spread: float) -> tuple[
        float, ...]:
    tone = np.array(base) * brush.uniform(1 - spread, 1 + spread)
    tone = tone + brush.normal(0, 0.012, 3)
    return tuple(np.clip(tone, 0.01, 0.95).tolist())


def _sizes(land: Land, *metres: float) -> tuple[float, ...]:
    """Lengths that the raster can show: at least three cells."""
    return tuple(max(size, 3 * land.scene.spacing) for size in metres)


def _axes(land: Land, heading: float) -> tuple[Float, Float]:
    """(H, W) coordinates along a grid with the given heading."""
    x, y = land.scene.axes()
    return Pose(heading=heading).to_object(x[None], y[:, None])


def _everything(land: Land) -> Mask:
    return np.ones(land.scene.shape, np.bool_)


def _grass(land: Land, where: Mask, brush: Rng) -> None:
    land.fill(where, Cover.GRASS, _colour(brush, (.17, .24, .10), 0.3), .04)


def _bare(land: Land, where: Mask, rng: Rng, brush: Rng) -> None:
    land.fill(where, Cover.BARE, _colour(brush, (.44, .36, .25), 0.25),
              float(rng.uniform(.012, .035)))


def _pave(land: Land, where: Mask, brush: Rng) -> None:
    land.fill(where, Cover.PAVEMENT, _colour(brush, (.34, .34, .33), 0.3),
              .018)


def _water(land: Land, where: Mask) -> None:
    land.fill(where, Cover.WATER, (.02, .04, .06), 0.0)


def _trees(
    land: Land, where: Mask, rng: Rng, brush: Rng,
) -> None:
    """A closed canopy: its crowns are bumps, its rim a step."""
    cell = land.scene.spacing
    crowns = smooth_noise(land.scene.shape, max(1.0, 3.5 / cell), rng)
    tall = float(rng.uniform(8, 18))
    bumps = np.clip(tall + 0.7 * crowns, 3, None)
    land.scene.height[where] += bumps[where]
    land.fill(where, Cover.FOREST, _colour(
        brush, _LEAVES[int(brush.integers(3))], 0.3),
        float(rng.uniform(.06, .12)))


def _patches(land: Land, level: float, size: float, rng: Rng) -> Mask:
    """Irregular patches; a higher level leaves fewer."""
    noise = smooth_noise(
        land.scene.shape, size / land.scene.spacing, rng)
    rim = smooth_noise(land.scene.shape, max(
        1.0, 0.12 * size / land.scene.spacing), rng)
    return noise + 0.15 * rim > level


def _fields(land: Land, where: Mask, rng: Rng, brush: Rng) -> None:
    """Parcels in strips, each with a crop, between grassy banks."""
    heading = float(rng.uniform(0, 180))
    u, v = _axes(land, heading)
    width = land.extent / float(rng.uniform(3, 7))
    count = 24
    edges = np.cumsum(rng.uniform(0.5, 1.5, count)) * width
    edges -= edges[-1] / 2
    strip = np.clip(np.searchsorted(edges, u), 0, count - 1)
    long = rng.uniform(0.7, 2.5, count) * width
    along = v / long[strip] + rng.uniform(0, 1, count)[strip]
    parcel = np.floor(along).astype(int) % count
    tone = _CROPS[brush.integers(
        len(_CROPS), size=(count, count))] * brush.uniform(
            0.8, 1.25, (count, count, 1))
    rough = np.exp(rng.normal(np.log(.05), 0.55, (count, count)))
    colour = tone[strip, parcel]
    # Rows of plants or of the plough, where the raster can show them.
    row = max(4.0, 3 * land.scene.spacing)
    turned = rng.random((count, count)) < 0.5
    phase = np.where(turned[strip, parcel], u, v) * (2 * np.pi / row)
    colour = colour * (1 + 0.08 * np.sin(phase))[..., None]
    land.fill(where, Cover.FIELD, colour[where], rough[strip, parcel][where])
    bank = max(2.5, 0.8 * land.scene.spacing)
    off = np.abs(along - np.rint(along)) * long[strip] < bank / 2
    near = np.abs(u[..., None] - edges).min(axis=-1) < bank / 2
    _grass(land, where & (off | near), brush)


def _roads(
    land: Land, count: int, width: float, rng: Rng, brush: Rng,
) -> Mask:
    """Roads across the land, slightly bent; returns their cells."""
    width = max(width, 1.5 * land.scene.spacing)
    all_roads = np.zeros(land.scene.shape, np.bool_)
    for _ in range(count):
        u, v = _axes(land, float(rng.uniform(0, 180)))
        bend = float(rng.uniform(0, 0.06)) * land.extent
        middle = float(rng.uniform(-0.35, 0.35)) * land.extent
        wave = bend * np.sin(v * (2 * np.pi / (1.3 * land.extent)))
        all_roads |= np.abs(u - middle - wave) < width / 2
    all_roads &= land.cover != Cover.WATER
    land.fill(all_roads, Cover.ROAD, _colour(brush, (.3, .3, .3), .25), .009)
    return all_roads


def _streets(
    land: Land, where: Mask, block: tuple[float, float], heading: float,
    rng: Rng, brush: Rng,
) -> None:
    """A grid of streets."""
    u, v = _axes(land, heading)
    width = max(7.0, 1.3 * land.scene.spacing)
    street = np.zeros(land.scene.shape, np.bool_)
    for place, step in zip((u, v), block, strict=True):
        street |= (place + float(rng.uniform(0, step))) % step < width
    land.fill(street & where, Cover.ROAD, _colour(
        brush, (.3, .3, .31), 0.2), .009)


def _free(land: Land) -> Mask:
    """Cells to build on."""
    return np.isin(land.cover, (
        Cover.GRASS, Cover.PAVEMENT, Cover.BARE, Cover.FIELD))


def _farmland(land: Land, rng: Rng, brush: Rng) -> None:
    _fields(land, _everything(land), rng, brush)
    _trees(land, _patches(land, 1.5, 0.06 * land.extent, rng), rng, brush)
    _roads(land, int(rng.integers(0, 3)), 6, rng, brush)
    pitch = _sizes(land, 28, 34)
    build(land, _free(land) & _patches(land, 1.7, 0.05 * land.extent, rng),
          Style(Kind.HOUSE, (pitch[0], pitch[1]), .5, (.35, .55), (.4, .7),
                (4, 7), (1, 3), _ROOFS, .05, 4),
          float(rng.uniform(0, 180)), rng, brush)


def _forest(land: Land, rng: Rng, brush: Rng) -> None:
    _grass(land, _everything(land), brush)
    level = float(rng.uniform(-1.6, -0.7))
    canopy = _patches(land, level, 0.15 * land.extent, rng)
    _roads(land, int(rng.integers(0, 2)), 5, rng, brush)
    _trees(land, canopy & (land.cover != Cover.ROAD), rng, brush)


def _residential(land: Land, rng: Rng, brush: Rng) -> None:
    _grass(land, _everything(land), brush)
    heading = float(rng.uniform(0, 180))
    pitch = _sizes(land, float(rng.uniform(14, 22)), float(
        rng.uniform(15, 24)))
    block = (pitch[0] * int(rng.integers(2, 4)) + 8,
             pitch[1] * int(rng.integers(4, 8)) + 8)
    _trees(land, _patches(land, 1.8, 0.1 * land.extent, rng), rng, brush)
    _streets(land, _everything(land), block, heading, rng, brush)
    build(land, _free(land), Style(
        Kind.HOUSE, (pitch[0], pitch[1]), float(rng.uniform(.7, .95)),
        (.45, .7), (.45, .75), (4, 9), (1, 3.5), _ROOFS, .05, 5),
        heading, rng, brush)
    small = _sizes(land, 7, 7)
    build(land, land.cover == Cover.GRASS, Style(
        Kind.TREE, (small[0], small[1]), .25, (.5, .95), (.5, .95), (3, 7),
        (2, 4), _LEAVES, .12, round=True, cover=Cover.FOREST),
        heading, rng, brush)


def _industrial(land: Land, rng: Rng, brush: Rng) -> None:
    everywhere = _everything(land)
    _pave(land, everywhere, brush)
    _grass(land, _patches(land, 0.9, 0.12 * land.extent, rng), brush)
    heading = float(rng.uniform(0, 180))
    pitch = _sizes(land, float(rng.uniform(45, 80)), float(
        rng.uniform(50, 110)))
    _streets(land, everywhere, (2 * pitch[0] + 14, 2 * pitch[1] + 14),
             heading, rng, brush)
    tanks = _patches(land, 1.1, 0.12 * land.extent, rng)
    build(land, _free(land) & ~tanks, Style(
        Kind.SHED, (pitch[0], pitch[1]), .8, (.55, .9), (.55, .9), (6, 14),
        (0, 1.5), _SHEDS, .05, 25), heading, rng, brush)
    small = _sizes(land, 22, 22)
    build(land, (land.cover == Cover.PAVEMENT) & tanks, Style(
        Kind.TANK, (small[0], small[1]), .8, (.6, .85), (.6, .85), (8, 15),
        (0, .5), ((.75, .75, .74), (.6, .61, .6)), .04, 20, round=True),
        heading, rng, brush)


def _shore(land: Land, low: float, high: float, wavy: float,
           rng: Rng) -> tuple[Mask, Float, float]:
    """Open water on one side; (cells, metres inland, heading)."""
    heading = float(rng.uniform(0, 360))
    u, v = _axes(land, heading)
    edge = float(rng.uniform(low, high)) * land.extent
    noise = smooth_noise(
        land.scene.shape, 0.12 * land.extent / land.scene.spacing, rng)
    inland = u - edge + wavy * land.extent * noise
    return inland < 0, inland, heading


def _coast(land: Land, rng: Rng, brush: Rng) -> None:
    wet, inland, _ = _shore(land, 0.0, 0.25, 0.05, rng)
    (_fields if rng.random() < 0.5 else _meadow)(
        land, _everything(land), rng, brush)
    _trees(land, _patches(land, 0.9, 0.1 * land.extent, rng) & (
        inland > 0.06 * land.extent), rng, brush)
    _roads(land, int(rng.integers(0, 2)), 6, rng, brush)
    beach = inland < float(rng.uniform(0.01, 0.05)) * land.extent
    land.scene.height[beach] = np.minimum(land.scene.height[beach], 1.5)
    _bare(land, beach, rng, brush)
    _water(land, wet)


def _meadow(land: Land, where: Mask, rng: Rng, brush: Rng) -> None:
    _grass(land, where, brush)


def _desert(land: Land, rng: Rng, brush: Rng) -> None:
    _bare(land, _everything(land), rng, brush)
    rock = _patches(land, 0.7, 0.12 * land.extent, rng)
    land.fill(rock, Cover.BARE, _colour(brush, (.33, .27, .21), 0.25),
              float(rng.uniform(.05, .1)))
    sand = _patches(land, 1.0, 0.15 * land.extent, rng)
    land.fill(sand, Cover.BARE, _colour(brush, (.58, .5, .36), 0.15), .007)
    _roads(land, int(rng.integers(0, 2)), 5, rng, brush)
    small = _sizes(land, 9, 9)
    build(land, _patches(land, 0.8, 0.1 * land.extent, rng), Style(
        Kind.TREE, (small[0], small[1]), .15, (.25, .5), (.25, .5), (1, 2),
        (.5, 1), ((.2, .22, .1), (.16, .2, .09)), .08, round=True,
        cover=Cover.GRASS), 0.0, rng, brush)


def _port(land: Land, rng: Rng, brush: Rng) -> None:
    wet, inland, heading = _shore(land, -0.15, 0.12, 0.0, rng)
    land.scene.height[:] = 2.5
    _pave(land, _everything(land), brush)
    _water(land, wet)
    pitch = _sizes(land, float(rng.uniform(26, 40)), float(
        rng.uniform(50, 90)))
    yard = float(rng.uniform(0.12, 0.3)) * land.extent
    _streets(land, inland > yard, (pitch[0] + 16, 3 * pitch[1]), heading,
             rng, brush)
    build(land, _free(land) & (inland > yard), Style(
        Kind.SHED, (pitch[0], pitch[1]), .75, (.6, .85), (.6, .9), (6, 13),
        (0, 1), _SHEDS, .05, 25), heading, rng, brush)
    stack = _sizes(land, 6, 14)
    apron = (inland > 18) & (inland < yard - 4)
    build(land, apron & _patches(land, -0.2, 0.1 * land.extent, rng), Style(
        Kind.STACK, (stack[0], stack[1]), .85, (.6, .9), (.85, .95),
        (2.6, 10), (0, 0), _BOXES, .1, 12, cover=Cover.PAVEMENT),
        heading, rng, brush)
    # Ships and barges alongside are stacks that float.
    long = _sizes(land, 26, 120)
    build(land, wet & (inland > -34 - 2 * land.scene.spacing), Style(
        Kind.STACK, (long[0], long[1]), .6, (.5, .75), (.5, .9), (5, 9),
        (0, 1), _BOXES + _SHEDS, .12, 40, cover=Cover.PAVEMENT),
        heading, rng, brush)


_RECIPES: dict[str, Callable[[Land, Rng, Rng], None]] = {
    'farmland': _farmland, 'forest': _forest, 'residential': _residential,
    'industrial': _industrial, 'coast': _coast, 'bare': _desert,
    'port': _port}
#: The scene classes.
KINDS = tuple(_RECIPES)
