"""Ship types: where hatches, cranes, stacks, pipes and bridges stand.

Every layout takes two streams. ``major`` draws what sister ships share (the
number of holds, the place of the bridge, the kind of gear); ``detail`` draws
what differs between sisters (stack heights, which crane stands where, what
lies on the deck). Sisters have equal hulls, so size cannot identify them.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .scene import Pose
from .ship import Block, Hull, Part, ShipPlan, bright_points

Rng = np.random.Generator
Layout = Callable[[Hull, Rng, Rng], list[Block]]


def _houses(
    hull: Hull, y: float, major: Rng, tall: float, width: float = 0.85,
) -> list[Block]:
    """A superstructure around ``y``: house, bridge wings, funnel, boats."""
    beam = hull.beam
    length = float(np.clip(major.uniform(0.065, 0.10) * hull.length, 7, 20))
    ahead = 1 if y < 0 else -1
    wide = beam * width
    tier = float(major.uniform(0.55, 0.8))
    out = [
        Block(Part.BRIDGE, 0, y, wide, length, tall * tier),
        Block(Part.BRIDGE, 0, y + ahead * 0.22 * length, wide * 0.8,
              length * 0.5, tall),
        Block(Part.BRIDGE, 0, y + ahead * 0.42 * length, beam * 1.0,
              2.2, tall * 0.95)]
    funnel = float(major.uniform(0.10, 0.2)) * beam
    side = float(major.choice([0.0, 0.0, -0.22, 0.22])) * beam
    out.append(Block(
        Part.FUNNEL, side, y - ahead * (0.5 * length + funnel * 0.4),
        funnel, funnel * 1.3, tall * 0.9))
    for _ in range(int(major.integers(3, 8))):
        spot = major.uniform(-0.4, 0.4, 2)
        size = major.uniform(1.2, 4.0, 2)
        out.append(Block(
            Part.FITTING, float(spot[0]) * wide, y + float(spot[1]) * length,
            float(size[0]), float(size[1]), tall * float(
                major.uniform(0.85, 1.15))))
    for sign in (-1, 1):
        out.append(Block(
            Part.BOAT, sign * beam * 0.42, y - ahead * 0.3 * length,
            2.4, min(7.0, length * 0.6), tall * 0.5))
    return out


def _bow(hull: Hull, major: Rng, detail: Rng) -> list[Block]:
    """Forecastle with windlasses, and a mast."""
    share = float(major.uniform(0.05, 0.09))
    front = hull.length * (0.5 - share)
    mid = front + hull.length * share * 0.35
    half = hull.half_at(mid)
    out = [Block(Part.FORECASTLE, 0, mid, 1.5 * half,
                 hull.length * share * 0.7, 2.5)]
    for sign in (-1, 1):
        out.append(Block(Part.FITTING, sign * half * 0.4, mid, 2.0, 2.5, 4))
    out.append(Block(Part.CRANE, 0, front + 1, 1.5, 1.5, 9))
    if detail.random() < 0.4:
        out.append(Block(
            Part.FITTING, 0, mid + hull.length * 0.015, 3, 1.5, 4))
    return out


def _clutter(
    hull: Hull, low: float, high: float, count: int, detail: Rng,
    reach: float = 0.9, tall: float = 2.5,
) -> list[Block]:
    """Small things lying on the deck between ``low`` and ``high``."""
    out = []
    for _ in range(count):
        y = float(detail.uniform(low, high))
        half = hull.half_at(y)
        x = float(detail.uniform(-reach, reach)) * half
        size = detail.uniform(1.2, 4.0, 2)
        out.append(Block(
            Part.FITTING, x, y, float(size[0]), float(size[1]),
            float(detail.uniform(0.8, tall)),
            angle=float(detail.choice([0, 0, 0, 30, 60]))))
    return out


def _fittings(hull: Hull, detail: Rng) -> list[Block]:
    """Vents, lockers and pipe runs along the sides of the deck."""
    out = []
    for _ in range(int(hull.length / 7)):
        y = float(detail.uniform(-0.46, 0.44)) * hull.length
        half = hull.half_at(y)
        side = float(detail.choice([-1, 1])) * detail.uniform(0.6, 0.95)
        out.append(Block(
            Part.FITTING, float(side) * half, y,
            float(detail.uniform(0.8, 2.2)), float(detail.uniform(0.8, 3)),
            float(detail.uniform(0.8, 2.2))))
    for side in (-1.0, 1.0):
        if detail.random() < 0.6:
            span = float(detail.uniform(0.2, 0.6)) * hull.length
            out.append(Block(
                Part.PIPE, side * float(detail.uniform(0.36, 0.44))
                * hull.beam, float(detail.uniform(-0.1, 0.1))
                * hull.length, 0.7, span, 0.7))
    return out


def _crane(
    x: float, y: float, reach: float, tall: float, angle: float,
) -> list[Block]:
    """A deck crane: pedestal, house and jib."""
    jib = Pose(x, y, angle).place(0, reach / 2)
    return [
        Block(Part.CRANE, x, y, 3.2, 3.2, tall),
        Block(Part.CRANE, jib.x, jib.y, 1.6, reach, tall * 0.85,
              angle=angle, swings=True)]


def _holds(
    low: float, high: float, count: int, fill: float,
) -> list[tuple[float, float]]:
    """Middles and lengths of ``count`` holds between two ordinates."""
    pitch = (high - low) / count
    return [(low + (i + 0.5) * pitch, pitch * fill) for i in range(count)]


def _container(hull: Hull, major: Rng, detail: Rng) -> list[Block]:
    end, beam = hull.length / 2, hull.beam
    house = float(major.choice([-0.42, -0.40, -0.28, -0.2, 0.22]))
    low, high = -end * 0.94, end * 0.84
    at = house * hull.length
    out = _houses(hull, at, major, float(major.uniform(16, 26)), 0.9)
    rows = max(3, int(beam * 0.92 / 5.0))
    y = low
    gap = float(major.uniform(1.6, 3.0))
    crane_every = int(major.choice([0, 0, 3, 4]))
    bay, tiers = 0, int(detail.integers(1, 5))
    while y + 12.4 < high:
        mid = y + 6.2
        y += 12.4 + gap
        if abs(mid - at) < 0.06 * hull.length + 8:
            continue
        bay += 1
        if crane_every and bay % crane_every == 0:
            side = -0.42 if detail.random() < 0.7 else 0.42
            out += _crane(side * beam, y - gap / 2, min(26, 0.8 * beam),
                          20, float(detail.choice([0, 180, -side * 120])))
        tiers = int(np.clip(tiers + detail.integers(-2, 3), 0, 6))
        if detail.random() < 0.14:
            tiers = 0
        out += _bay(hull, mid, rows, tiers, detail)
    return out


def _bay(
    hull: Hull, y: float, rows: int, tiers: int, detail: Rng,
) -> list[Block]:
    """One bay of container stacks; an empty one shows its hatch cover."""
    half = hull.half_at(abs(y) + 6.2) * 0.93
    if half < 5:
        return []
    out = [Block(Part.HATCH, 0, y, 2 * half, 12.2, 1.2)]
    each = 2 * half / rows
    short = detail.random() < 0.15
    for row in range(rows):
        stack = tiers + int(detail.choice([0, 0, 0, -1, 1]))
        if tiers == 0 or stack <= 0 or detail.random() < 0.08:
            continue
        x = -half + (row + 0.5) * each
        tops = 1.2 + 2.6 * stack
        if short:
            out.append(Block(
                Part.CONTAINER, x, y - 3.1, each, 5.9, tops))
            out.append(Block(
                Part.CONTAINER, x, y + 3.1, each, 5.9,
                tops - 2.6 * (detail.random() < 0.4)))
        else:
            out.append(Block(Part.CONTAINER, x, y, each, 12.0, tops))
    return out


def _bulk(hull: Hull, major: Rng, detail: Rng) -> list[Block]:
    end, beam = hull.length / 2, hull.beam
    out = _houses(hull, -end * major.uniform(0.80, 0.9), major,
                  float(major.uniform(13, 20)))
    low, high = -end * 0.70, end * 0.84
    count = int(np.clip(round(hull.length / major.uniform(22, 36)), 3, 9))
    wide = float(major.uniform(0.42, 0.68)) * beam
    fill = float(major.uniform(0.6, 0.78))
    holds = _holds(low, high, count, fill)
    geared = hull.length < 215 and major.random() < 0.65
    style = int(major.integers(3))
    for i, (y, length) in enumerate(holds):
        ends = wide * (0.75 if i in (0, count - 1) else 1.0)
        is_open = detail.random() < 0.13
        part = Part.CARGO if is_open else Part.HATCH
        top = 1.0 if is_open else 2.2
        # A coaming stands around the hatch and shows in both sensors.
        out.append(Block(Part.DECK, 0, y, ends + 1.6, length + 1.6, 1.6))
        out.append(Block(part, 0, y, ends, length, 1.7 if is_open else top))
        if not is_open and style == 1:
            out.append(Block(Part.PIPE, 0, y, 0.7, length, 2.8))
        if not is_open and style == 2:
            out.append(Block(Part.PIPE, 0, y, ends, 0.7, 2.8))
    gaps = [(a[0] + b[0]) / 2
            for a, b in zip(holds[:-1], holds[1:], strict=True)]
    if geared:
        out += _gear(beam, holds, gaps, major, detail)
    else:
        for y in gaps:
            if detail.random() < 0.6:
                out.append(Block(
                    Part.FITTING, float(detail.uniform(-0.2, 0.2)) * beam,
                    y, 4, 2.5, 3.5))
    return out


def _gear(
    beam: float, holds: list[tuple[float, float]], gaps: list[float],
    major: Rng, detail: Rng,
) -> list[Block]:
    """Cranes between the hatches of a bulk carrier."""
    out: list[Block] = []
    side = float(major.choice([0.0, 0.0, -0.4, 0.4])) * beam
    every = int(major.choice([1, 1, 2]))
    skip = int(detail.integers(len(gaps) + 2))
    pitch = holds[1][0] - holds[0][0] if len(holds) > 1 else 25.0
    for i, y in enumerate(gaps):
        if i % every or i == skip:
            continue
        angle = float(detail.choice([0, 180, 0, 180, 40, -40, 140]))
        out += _crane(side, y, float(np.clip(pitch * 0.9, 12, 26)),
                      float(major.uniform(12, 18)), angle)
    return out


def _tanker(hull: Hull, major: Rng, detail: Rng) -> list[Block]:
    end, beam = hull.length / 2, hull.beam
    out = _houses(hull, -end * major.uniform(0.78, 0.9), major,
                  float(major.uniform(13, 22)))
    low, high = -end * 0.66, end * 0.82
    rack = float(major.uniform(0.08, 0.2)) * beam
    shift = float(major.choice([0, 0, -0.12, 0.12])) * beam
    out.append(Block(Part.PIPE, shift, (low + high) / 2, rack,
                     high - low, 1.8))
    ribs = int(major.integers(0, 13))
    for i in range(ribs):
        y = low + (i + 0.5) * (high - low) / ribs
        half = hull.half_at(y)
        out.append(Block(Part.DECK, 0, y, 1.85 * half, 0.9, 0.9))
    mid = float(major.uniform(-0.10, 0.14)) * hull.length
    for i in range(int(major.integers(2, 6))):
        out.append(Block(Part.PIPE, 0, mid + 3.5 * i - 6,
                         beam * 0.88, 1.4, 2.6))
    for side in (-1, 1):
        if detail.random() < 0.75:
            out += _crane(side * beam * 0.15, mid + float(
                detail.uniform(-6, 6)), min(18, 0.42 * beam), 10,
                float(detail.uniform(-60, 60)) + 90 * side)
    tanks = int(major.integers(3, 8))
    for i in range(tanks):
        y = low + (i + 0.5) * (high - low) / tanks
        for side in (-1, 1):
            if detail.random() < 0.7:
                out.append(Block(
                    Part.TANK, side * beam * float(
                        detail.uniform(0.24, 0.36)), y + float(
                        detail.uniform(-4, 4)), 3.6, 3.6, 3, dome=True))
    for _ in range(int(detail.integers(0, 4))):
        y = float(detail.uniform(low, high))
        out.append(Block(Part.PIPE, float(
            detail.choice([-0.25, 0.25])) * beam, y, 1.2, float(
            detail.uniform(12, 40)), 1.6))
    return out + _clutter(
        hull, low, high, int(detail.integers(4, 14)), detail, tall=2)


def _general(hull: Hull, major: Rng, detail: Rng) -> list[Block]:
    end, beam = hull.length / 2, hull.beam
    place = float(major.choice([-0.84, -0.84, 0.66, 0.0]))
    at = place * end
    out = _houses(hull, at, major, float(major.uniform(9, 14)))
    room = 0.075 * hull.length + 5
    spans = [(-end * 0.9, at - room), (at + room, end * 0.82)]
    spans = [s for s in spans if s[1] - s[0] > 12]
    count = int(major.integers(1, 4))
    wide = float(major.uniform(0.55, 0.8)) * beam
    for low, high in spans:
        number = max(1, min(count, int((high - low) / 15)))
        for y, length in _holds(low, high, number, 0.84):
            out.append(Block(
                Part.DECK, 0, y, wide + 1.4, length + 1.4, 2.0))
            out.append(Block(Part.HATCH, 0, y, wide, length, 2.6))
            if detail.random() < 0.4:
                out += _deck_cargo(y, length, wide, detail)
        if major.random() < 0.7:
            side = float(major.choice([-0.42, 0.42])) * beam
            for _ in range(int(major.integers(1, 3))):
                out += _crane(
                    side, float(detail.uniform(low + 5, high - 5)),
                    float(np.clip(0.9 * beam, 9, 20)), 11,
                    float(detail.choice([0, 180, 25, -25])))
    return out + _clutter(
        hull, -end * 0.9, end * 0.8, int(detail.integers(2, 9)), detail)


def _deck_cargo(
    y: float, length: float, wide: float, detail: Rng,
) -> list[Block]:
    """Boxes lashed on a hatch cover."""
    out = []
    for _ in range(int(detail.integers(2, 7))):
        size = detail.uniform(2.4, 7, 2)
        out.append(Block(
            Part.CONTAINER, float(detail.uniform(-0.35, 0.35)) * wide,
            y + float(detail.uniform(-0.4, 0.4)) * length,
            float(size[0]), float(size[1]),
            2.6 + float(detail.uniform(1.5, 5))))
    return out


def _roro(hull: Hull, major: Rng, detail: Rng) -> list[Block]:
    end, beam = hull.length / 2, hull.beam
    low, high = -end * 0.97, end * 0.78
    tall = float(major.uniform(5, 10))
    mid, span = (low + high) / 2, high - low
    out = [Block(Part.DECK, 0, mid, beam * 0.94, span, tall)]
    at = float(major.choice([0.62, 0.62, -0.6, 0.0])) * end
    out += [Block(b.part, b.x, b.y, b.width, b.length, tall + b.top)
            for b in _houses(hull, at, major, 7, 0.92)]
    vents = int(major.integers(4, 12))
    rows = major.choice([-0.38, -0.2, 0.0, 0.2, 0.38], 2, replace=False)
    for i in range(vents):
        y = low + (i + 0.7) * span / (vents + 0.4)
        for x in rows:
            if detail.random() < 0.75:
                out.append(Block(Part.FITTING, float(x) * beam, y, 3.0,
                                 3.0, tall + 2.5))
    for _ in range(int(major.integers(1, 4))):
        out.append(Block(
            Part.CARGO, float(detail.uniform(-0.25, 0.25)) * beam,
            float(detail.uniform(low * 0.8, high * 0.7)), 5, float(
                detail.uniform(14, 30)), tall + 1.0))
    out.append(Block(Part.PIPE, 0, low + 5, beam * 0.5, 8, tall + 1.5))
    return out + [
        Block(b.part, b.x, b.y, b.width, b.length, tall + b.top, b.angle)
        for b in _clutter(hull, low, high, int(
            detail.integers(3, 12)), detail, 0.8)]


def _gas(hull: Hull, major: Rng, detail: Rng) -> list[Block]:
    end, beam = hull.length / 2, hull.beam
    out = _houses(hull, -end * 0.84, major, float(major.uniform(15, 22)))
    low, high = -end * 0.68, end * 0.80
    size = float(major.uniform(0.7, 0.88)) * beam
    count = max(2, min(5, int((high - low) / (size * 1.08))))
    for y, _ in _holds(low, high, count, 1.0):
        out.append(Block(Part.TANK, 0, y, size, size,
                         float(major.uniform(9, 14)), dome=True))
        out.append(Block(Part.FITTING, 0, y, 3, 3, 15))
    out.append(Block(Part.PIPE, float(major.choice([-0.2, 0, 0.2])) * beam,
                     (low + high) / 2, 2.2, high - low, 15))
    mid = float(detail.uniform(-0.1, 0.1)) * hull.length
    for i in range(int(detail.integers(1, 4))):
        out.append(Block(Part.PIPE, 0, mid + 4 * i, beam * 0.9, 1.6, 4))
    return out + _clutter(hull, low, high, int(
        detail.integers(3, 9)), detail, 0.95, 4)


def _supply(hull: Hull, major: Rng, detail: Rng) -> list[Block]:
    end, beam = hull.length / 2, hull.beam
    at = float(major.uniform(0.45, 0.62)) * end
    out = _houses(hull, at, major, float(major.uniform(9, 14)), 0.92)
    out.append(Block(Part.BRIDGE, 0, at + 0.14 * end, beam * 0.7,
                     0.2 * end, 6))
    low, high = -end * 0.92, at - 0.14 * end
    for side in (-1, 1):
        out.append(Block(Part.DECK, side * beam * 0.44,
                         (low + high) / 2, 1.4, high - low, 2.5))
    if major.random() < 0.4:
        out += _crane(float(detail.choice([-0.38, 0.38])) * beam,
                      float(detail.uniform(low, high)), 0.7 * beam, 12,
                      float(detail.uniform(-40, 40)))
    for _ in range(int(detail.integers(2, 10))):
        size = detail.uniform(2.0, 6.5, 2)
        out.append(Block(
            Part.CONTAINER, float(detail.uniform(-0.3, 0.3)) * beam,
            float(detail.uniform(low + 3, high - 3)), float(size[0]),
            float(size[1]), float(detail.uniform(1.5, 5))))
    return out


def _ferry(hull: Hull, major: Rng, detail: Rng) -> list[Block]:
    end, beam = hull.length / 2, hull.beam
    low, high = -end * float(major.uniform(0.8, 0.92)), end * 0.7
    tall = float(major.uniform(8, 14))
    mid, span = (low + high) / 2, high - low
    out = [Block(Part.BRIDGE, 0, mid, beam * 0.9, span, tall * 0.7),
           Block(Part.BRIDGE, 0, mid + 0.05 * span, beam * 0.66,
                 span * float(major.uniform(0.55, 0.85)), tall),
           Block(Part.BRIDGE, 0, high - 0.06 * span, beam, 3, tall)]
    boats = int(major.integers(2, 9))
    start = float(major.uniform(-0.38, -0.1))
    for i in range(boats):
        y = mid + span * (start + 0.65 * i / boats)
        for side in (-1, 1):
            out.append(Block(Part.BOAT, side * beam * 0.43, y, 3, 8,
                             tall * 0.6))
    for _ in range(int(major.integers(1, 3))):
        out.append(Block(Part.FUNNEL, 0, mid + float(
            detail.uniform(-0.4, 0.2)) * span, beam * 0.24, beam * 0.4,
            tall + 6))
    for _ in range(int(detail.integers(2, 6))):
        out.append(Block(
            Part.TANK, float(detail.uniform(-0.2, 0.2)) * beam,
            mid + float(detail.uniform(-0.4, 0.4)) * span, 5, 5,
            tall + 3, dome=True))
    for _ in range(int(detail.integers(1, 4))):
        out.append(Block(
            Part.HATCH, 0, mid + float(detail.uniform(-0.4, 0.4)) * span,
            beam * 0.3, float(detail.uniform(6, 14)), tall + 0.8))
    return out


#: Ship types: layout, range of lengths (m), length / beam, share of traffic.
TYPES: dict[str, tuple[Layout, tuple[float, float],
                       tuple[float, float], float]] = {
    'container': (_container, (130, 330), (6.2, 7.6), 0.22),
    'bulk': (_bulk, (110, 300), (5.6, 6.9), 0.26),
    'tanker': (_tanker, (100, 320), (5.5, 6.6), 0.17),
    'general': (_general, (65, 150), (5.2, 6.6), 0.13),
    'roro': (_roro, (110, 215), (5.8, 7.0), 0.07),
    'gas': (_gas, (120, 290), (5.6, 6.5), 0.05),
    'supply': (_supply, (60, 100), (3.9, 4.9), 0.05),
    'ferry': (_ferry, (80, 220), (5.4, 7.2), 0.05)}


def draw_hull(kind: str, rng: Rng) -> Hull:
    """A hull of the given type.

    Args:
        kind: A key of :data:`TYPES`.
        rng: The stream that sister ships share.

    Raises:
        ValueError: If the type is unknown.
    """
    if kind not in TYPES:
        raise ValueError(
            f'unknown ship type {kind!r}, expected one of {list(TYPES)}')
    _, lengths, slender, _ = TYPES[kind]
    length = float(rng.uniform(*lengths))
    full = kind in ('bulk', 'tanker', 'gas')
    return Hull(
        length=length, beam=length / float(rng.uniform(*slender)),
        freeboard=float(rng.uniform(0.008, 0.022) * length + 1.5),
        bow=float(rng.uniform(0.08, 0.15) if full
                  else rng.uniform(0.15, 0.28)),
        bow_power=float(rng.uniform(2.0, 3.4) if full
                        else rng.uniform(1.5, 2.3)),
        stern=float(rng.uniform(0.04, 0.12)),
        transom=float(rng.uniform(0.45, 0.95)))


def draw_plan(
    family: np.random.SeedSequence, detail: np.random.SeedSequence,
) -> ShipPlan:
    """The geometry of one ship.

    Args:
        family: What sisters share: type, hull, main arrangement.
        detail: What is this ship's own.

    Returns:
        The plan, blocks sorted so that lower things are drawn first.
    """
    major = np.random.default_rng(family)
    own = np.random.default_rng(detail)
    shares = np.array([t[3] for t in TYPES.values()])
    kind = str(list(TYPES)[int(major.choice(
        len(shares), p=shares / shares.sum()))])
    hull = draw_hull(kind, major)
    blocks = TYPES[kind][0](hull, major, own)
    if kind != 'ferry':
        blocks += _bow(hull, major, own)
        blocks += _fittings(hull, own)
    blocks.sort(key=lambda b: b.top)
    solid = tuple(blocks)
    return ShipPlan(kind, hull, solid, bright_points(hull, solid, own))
