"""From two rasters to one transform: overview, then tiles.

The moving image is first brought onto the grid of the fixed one by what is
known beforehand (:class:`Alignment`: georeferences, or sizes). What remains
is matched on an overview of both; of scenes larger than that, tiles at full
resolution follow, each fetched through the overview's affine, so that
memory is that of one tile. An overview that gives nothing is tried once more
at twice the size. A tile in which nothing is found has no say; in
transforms that bend, points of the affine hold its place.

Legend: x a pixel of the fixed grid, N points, k factor of the overview;
P the alignment, T the transform that is found: x lies at P(T(x)) in the
moving image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import torch

from ..compat import require
from ..models.registration import (
    EstimateSettings,
    Match,
    MatchSettings,
    Transform,
    estimate,
)
from ..models.registration.cfog import (
    compress,
    correlate,
    distinctness,
    fast_length,
    lowest,
    orientation_channels,
)
from ..utils.config_values import require_range
from ..utils.errors import ConfigError, DataFormatError
from ..utils.geometry import (
    Size,
    apply,
    compose,
    invert,
    rescale,
)
from .registration_raster import Box, Place, Raster, resample

ALIGNMENTS = ('auto', 'georeference', 'size', 'pixels')

Points = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Alignment:
    """P: where the fixed image's pixels lie in the moving one, beforehand.

    Attributes:
        how: ``'georeference'``, ``'size'`` or ``'pixels'``.
        matrix: (2, 3) where it is an affine, else None.
        points: (N, 2) to (N, 2); NaN where there is no answer.
    """

    how: str
    matrix: np.ndarray | None
    points: Points


def align(fixed: Raster, moving: Raster, how: str = 'auto') -> Alignment:
    """What is known of a pair before it is matched.

    Args:
        fixed: An image.
        moving: Another.
        how: ``'georeference'``; ``'size'``: both show the same ground, from
            border to border; ``'pixels'``: pixel on pixel; ``'auto'``: by
            georeference where both have one, by size where none has.

    Raises:
        ConfigError: If that cannot be, with what to do.
    """
    if how not in ALIGNMENTS:
        raise ConfigError(
            f'align={how!r} is not known: use one of '
            f'{", ".join(ALIGNMENTS)}.')
    if how == 'auto':
        if fixed.place is None and moving.place is not None:
            raise ConfigError(
                f'MOVING ({moving.name}) has a georeference, FIXED '
                f'({fixed.name}) has none: are they swapped? FIXED is the '
                'image whose position is right. If this is meant, say '
                "align='size' or 'pixels'.")
        both = fixed.place is not None and moving.place is not None
        how = 'georeference' if both else 'size'
    if how == 'georeference':
        return _by_place(fixed, moving)
    matrix = np.eye(2, 3)
    if how == 'size':
        matrix = rescale(matrix, moving=(
            moving.size[1] / fixed.size[1], moving.size[0] / fixed.size[0]))
    return Alignment(how, matrix, lambda points: apply(matrix, points))


def _by_place(fixed: Raster, moving: Raster) -> Alignment:
    for name, raster in (('FIXED', fixed), ('MOVING', moving)):
        if raster.place is None:
            raise ConfigError(
                f'{name} ({raster.name}) has no georeference. Say '
                "align='size' if both images show the same ground.")
    a, b = fixed.place, moving.place
    if a is None or b is None:
        raise ConfigError('Both images need a georeference.')
    if a.transform is None:
        raise ConfigError(
            f'FIXED ({fixed.name}) has ground control points, but no '
            'geotransform, and can be no reference: rectify it first '
            '(gdalwarp). Or are FIXED and MOVING swapped?')
    if (a.crs is None) != (b.crs is None):
        name = 'FIXED' if a.crs is None else 'MOVING'
        raster = fixed if a.crs is None else moving
        raise ConfigError(
            f'{name} ({raster.name}) has a geotransform but no reference '
            f'system (CRS). Name it with {name.lower()}_crs, e.g. '
            "'EPSG:32632', or leave georeferences aside with align='size'.")
    to_world = from_corner(a.transform)
    if a.crs == b.crs and b.transform is not None:
        matrix = compose(invert(from_corner(b.transform)), to_world)
        found = Alignment(
            'georeference', matrix, lambda points: apply(matrix, points))
    else:
        back = _world_to_pixels(b)
        found = Alignment('georeference', None, lambda points: back(
            _reproject(apply(to_world, points), a.crs, b.crs)))
    _require_overlap(found, fixed, moving)
    return found


def from_corner(transform: np.ndarray) -> np.ndarray:
    """A geotransform for pixel centres at integers, (2, 3).

    Only the pixel side is shifted: T (x + 0.5).
    """
    return compose(transform, np.array([[1., 0, 0.5], [0, 1, 0.5]]))


def to_geotransform(world: np.ndarray) -> np.ndarray:
    """The inverse of :func:`from_corner`."""
    return compose(world, np.array([[1., 0, -0.5], [0, 1, -0.5]]))


def _world_to_pixels(place: Place) -> Points:
    if place.transform is not None:
        inverse = invert(from_corner(place.transform))
        return lambda world: apply(inverse, world)
    transformer = require('rasterio.transform', 'geo').GCPTransformer(
        list(place.gcps))

    def back(world: np.ndarray) -> np.ndarray:
        rows, columns = transformer.rowcol(
            world[:, 0], world[:, 1], op=lambda value: value)
        return np.stack([columns, rows], 1).astype(np.float64) - 0.5

    return back


def _reproject(world: np.ndarray, source: Any, target: Any) -> np.ndarray:
    if source == target:
        return world
    module = require('rasterio.warp', 'geo')
    found = module.transform(source, target, world[:, 0], world[:, 1])
    out = np.stack([np.asarray(values, np.float64) for values in found], 1)
    out[~np.isfinite(out).all(1)] = np.nan
    return out


def lattice(size: Size, count: int) -> np.ndarray:
    """Count x count points over an image, borders included, (N, 2)."""
    x, y = np.meshgrid(np.linspace(-0.5, size[1] - 0.5, count),
                       np.linspace(-0.5, size[0] - 0.5, count))
    return np.stack([x.ravel(), y.ravel()], 1)


def inside(points: np.ndarray, size: Size) -> np.ndarray:
    """Which points lie on an image, (N,) bool."""
    with np.errstate(invalid='ignore'):
        within = (points >= -0.5) & (points <= np.array(size[::-1]) - 0.5)
    return np.asarray(within.all(1))


def _require_overlap(found: Alignment, fixed: Raster, moving: Raster
                     ) -> None:
    places = found.points(lattice(fixed.size, 65))
    if inside(places, moving.size).any():
        return
    known = places[np.isfinite(places).all(1)]
    where = 'nowhere' if not len(known) else (
        'columns {:.0f} to {:.0f}, rows {:.0f} to {:.0f}'.format(
            *(bound(known[:, i]) for i in (0, 1) for bound in (
                np.min, np.max))))
    raise DataFormatError(
        f'{fixed.name} and {moving.name} do not overlap by their '
        f'georeferences: FIXED lies at {where} of MOVING, which has '
        f'{moving.size[1]} columns and {moving.size[0]} rows. Check that '
        'both are of the same place and name the right reference system.')


# ------------------------------------------------------------------ matching


@dataclass(frozen=True)
class SceneSettings:
    """How a pair is gone through.

    Attributes:
        overview: Longest side of the overview in pixels; pairs no larger
            are matched at once.
        tile: Side of a tile, pixels.
        max_tiles: Tiles at most, spread evenly.
        max_points: Tie points at most of all tiles together.
        max_shift: Largest displacement expected, pixels of the fixed image;
            default: 0.11 of its longer side.
        max_angle: Largest rotation expected, degrees.
        min_tiles: Tiles that must be matched.
        check: Refuse a transform that :func:`confirm` does not confirm.
        estimate: Of the transform.
    """

    overview: int = 1024
    tile: int = 512
    max_tiles: int = 196
    max_points: int = 1500
    max_shift: float | None = None
    max_angle: float = 20.
    min_tiles: int = 3
    check: bool = True
    estimate: EstimateSettings = field(default_factory=EstimateSettings)

    def __post_init__(self) -> None:
        require_range(64, overview=self.overview, tile=self.tile)
        require_range(3, max_tiles=self.max_tiles, min_tiles=self.min_tiles)
        require_range(16, max_points=self.max_points)
        require_range(1, max_shift=self.max_shift)
        require_range(0, 180, max_angle=self.max_angle)


@dataclass(frozen=True)
class Found:
    """What came out of a pair.

    Attributes:
        transform: T, on the fixed grid at full resolution.
        match: The tie points that it was estimated from.
        factor: k of the overview.
        tiles: Tiles that were matched, of how many; 0 of 0 without tiles.
        fixed_view: (H, W) float32, the overview of the fixed image.
        fixed_mask: (H, W) bool.
        check: Of :func:`confirm`.
    """

    transform: Transform
    match: Match
    factor: int
    tiles: tuple[int, int]
    fixed_view: np.ndarray
    fixed_mask: np.ndarray
    check: dict[str, float] = field(default_factory=dict)


class ScenePair:
    """A pair, looked at in parts.

    Args:
        fixed: An image.
        moving: Another.
        alignment: P.
        fixed_bands: Bands to match, from 0; default: all.
        moving_bands: The same of the other.
    """

    def __init__(self, fixed: Raster, moving: Raster, alignment: Alignment,
                 fixed_bands: list[int] | None = None,
                 moving_bands: list[int] | None = None) -> None:
        self.fixed, self.moving = fixed, moving
        self.alignment = alignment
        self.fixed_bands, self.moving_bands = fixed_bands, moving_bands
        for raster, bands in ((fixed, fixed_bands), (moving, moving_bands)):
            if bands is not None and not all(
                    0 <= i < raster.count for i in bands):
                raise ConfigError(
                    f'bands={[i + 1 for i in bands]} of {raster.name}, '
                    f'which has {raster.count}.')

    def fixed_part(self, box: Box, k: int = 1
                   ) -> tuple[np.ndarray, np.ndarray]:
        """A window of the fixed image, (H, W) float32, and its mask."""
        return _grey(*self.fixed.read(box, k, self.fixed_bands),
                     self.fixed.dtype)

    def moving_part(self, box: Box, k: int, through: Points
                    ) -> tuple[np.ndarray, np.ndarray]:
        """The moving image on a window of the fixed grid, through P(T(x)).

        Args:
            box: Window of the fixed grid.
            k: Every so many pixels.
            through: T.
        """
        places = positions(box, k, lambda points: self.alignment.points(
            through(points)))
        return _grey(*resample(self.moving, places, 'bilinear',
                               self.moving_bands), self.moving.dtype)


def _grey(pixels: np.ndarray, valid: np.ndarray, dtype: np.dtype
          ) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the bands; depths beyond 8 bit without their extremes.

    A few strong scatterers would else be all that a gradient sees.
    """
    grey = pixels.mean(0, dtype=np.float32)
    if dtype != np.uint8 and valid.any():
        low, high = np.percentile(grey[valid], (0.5, 99.5))
        grey = np.clip(grey, low, high)
    return np.where(valid, grey, 0).astype(np.float32, copy=False), valid


def positions(box: Box, k: int, points: Points, stride: int = 8
              ) -> np.ndarray:
    """Where the pixels of a window lie, (2, H, W) float64.

    Evaluated at every ``stride``-th pixel and bilinear in between, which is
    exact for affines.

    Args:
        box: Window of the grid.
        k: Every so many pixels, their blocks' centres.
        points: The map.
        stride: See above; 1 evaluates every pixel.
    """
    height, width = -(-box.height // k), -(-box.width // k)
    rows, columns = (
        np.append(np.arange(0, side - 1, stride), side - 1).astype(float)
        for side in (height, width))
    x, y = np.meshgrid(columns, rows)
    at = np.stack([x.ravel(), y.ravel()], 1)
    at = np.array([box.x, box.y]) + k * (at + 0.5) - 0.5
    nodes = points(at).T.reshape(2, len(rows), len(columns))
    if len(rows) == height and len(columns) == width:
        return nodes
    return _between(_between(nodes, rows, height).swapaxes(1, 2), columns,
                    width).swapaxes(1, 2)


def _between(nodes: np.ndarray, at: np.ndarray, length: int) -> np.ndarray:
    """Linear along axis 1, from nodes at ``at`` to 0 .. length - 1."""
    if len(at) == 1:
        return np.repeat(nodes, length, 1)
    where = np.arange(length)
    left = np.clip(np.searchsorted(at, where, 'right') - 1, 0, len(at) - 2)
    share = ((where - at[left]) / (at[left + 1] - at[left]))[None, :, None]
    return nodes[:, left] * (1 - share) + nodes[:, left + 1] * share


def register(pair: ScenePair, matcher: Any, kind: str,
             settings: SceneSettings) -> Found:
    """Find T of a pair.

    Args:
        pair: The images.
        matcher: A Matcher.
        kind: ``'affine'``, ``'poly2'``, ``'tps'`` or ``'flow'``.
        settings: See there.

    Returns:
        With ``transform.ok`` False and the reason where it failed.

    Raises:
        DataFormatError: If an image has no data, or they do not overlap.
    """
    size = pair.fixed.size
    whole = Box(0, 0, size[1], size[0])
    k = max(1, -(-max(size) // settings.overview))
    match, found, view = _overview(pair, matcher, kind, k, settings)
    if not found.ok and k > 1:
        # Details that the reduction took away may decide.
        k = -(-k // 2)
        match, found, view = _overview(pair, matcher, kind, k, settings)
    tiles = (0, 0)
    if k > 1 and found.ok and found.matrix is not None:
        start = rescale(found.matrix, fixed=k, moving=k)
        match, tiles = _tiles(pair, matcher, start, k, settings)
        found = _joined(match, tiles, kind, size, settings)
    check: dict[str, float] = {}
    if found.ok:
        moved, mask = pair.moving_part(whole, k, found.points)
        check, reason = confirm(*view, moved, mask)
        if reason and settings.check:
            found = replace(found, ok=False, reason=reason)
    return Found(found, match, k, tiles, *view, check)


def _overview(pair: ScenePair, matcher: Any, kind: str, k: int,
              settings: SceneSettings
              ) -> tuple[Match, Transform, tuple[np.ndarray, np.ndarray]]:
    """Both images at once: matches, transform, the fixed one's view.

    The transform is the final one where k is 1, else an affine of the
    overview's pixels.
    """
    size = pair.fixed.size
    whole = Box(0, 0, size[1], size[0])
    view = pair.fixed_part(whole, k)
    moving, mask = pair.moving_part(whole, k, lambda points: points)
    _require_data(pair, view[1], mask)
    shift = settings.max_shift or 0.11 * max(size)
    match = matcher.match(view[0], moving, MatchSettings(
        max(shift / k, 1), view[1], mask, settings.estimate.seed,
        settings.max_angle))
    used = kind if k == 1 else 'affine'
    found = estimate(_thinned(match, used, settings), used, view[0].shape,
                     settings.estimate)
    return match, found, view


def _require_data(pair: ScenePair, fixed: np.ndarray, moving: np.ndarray
                  ) -> None:
    if not fixed.any():
        raise DataFormatError(
            f'{pair.fixed.name}: has no data anywhere, only nodata or NaN.')
    if not moving.any():
        raise DataFormatError(
            f'{pair.moving.name}: has no data where FIXED '
            f'({pair.fixed.name}) lies, only nodata or NaN.')
    if not (fixed & moving).any():
        raise DataFormatError(
            f'{pair.fixed.name} and {pair.moving.name} overlap only where '
            'one of them has no data.')


def _thinned(match: Match, kind: str, settings: SceneSettings) -> Match:
    """No more points than a spline can take, the surest ones."""
    count = len(match.points_fixed)
    if kind in ('affine', 'poly2') or count <= settings.max_points:
        return match
    best = np.sort(np.argsort(-match.score, kind='stable')[
        :settings.max_points])
    return replace(
        match, points_fixed=match.points_fixed[best],
        points_moving=match.points_moving[best], score=match.score[best])


def tile_boxes(size: Size, tile: int, most: int) -> list[Box]:
    """Tiles on a grid that is spread over an image.

    They touch or overlap where ``most`` allows it, else they leave gaps.
    """
    sides = [min(tile, side) for side in size]
    counts = [-(-side // t) for side, t in zip(size, sides, strict=True)]
    if counts[0] * counts[1] > most:
        share = math.sqrt(most / (counts[0] * counts[1]))
        counts = [max(1, int(count * share)) for count in counts]
    rows, columns = (
        np.linspace(0, side - t, count).round().astype(int)
        for side, t, count in zip(size, sides, counts, strict=True))
    return [Box(int(x), int(y), sides[1], sides[0])
            for y in rows for x in columns]


def _tiles(pair: ScenePair, matcher: Any, start: np.ndarray, k: int,
           settings: SceneSettings) -> tuple[Match, tuple[int, int]]:
    """Tie points of the tiles; matched tiles and all that have data."""
    boxes = tile_boxes(pair.fixed.size, settings.tile, settings.max_tiles)
    each = max(8, settings.max_points // len(boxes))
    local = replace(settings.estimate, min_inliers=max(
        6, settings.estimate.min_inliers // 2))
    parts, tried, area, redundancy, tries = [], 0, math.inf, 1., 1
    for box in boxes:
        fixed, fixed_mask = pair.fixed_part(box)
        if fixed_mask.mean() < 0.25:
            continue
        moving, moving_mask = pair.moving_part(
            box, 1, lambda points: apply(start, points))
        if (fixed_mask & moving_mask).mean() < 0.25:
            continue
        tried += 1
        match = matcher.match(fixed, moving, MatchSettings(
            max(4. * k, 12.), fixed_mask, moving_mask, local.seed))
        found = estimate(match, 'affine', fixed.shape, local)
        if not found.ok:
            continue
        rows = np.flatnonzero(found.inliers)
        rows = rows[np.argsort(-match.score[rows], kind='stable')][:each]
        corner = np.array([box.x, box.y])
        parts.append((
            match.points_fixed[rows] + corner,
            apply(start, match.points_moving[rows] + corner),
            match.score[rows]))
        area, redundancy = match.search_area, match.redundancy
        tries = max(tries, match.tries)
    if not parts:
        empty = np.zeros((0, 2))
        return Match(empty, empty, np.zeros(0), ok=False,
                     reason='No tile could be matched.'), (0, tried)
    fixed_points, moving_points, scores = (
        np.concatenate(part) for part in zip(*parts, strict=True))
    joined = Match(
        fixed_points, moving_points, scores, search_area=area,
        redundancy=redundancy, moving_size=pair.fixed.size, tries=tries)
    return joined, (len(parts), tried)


def _joined(match: Match, tiles: tuple[int, int], kind: str, size: Size,
            settings: SceneSettings) -> Transform:
    """One transform of all tiles; the affine where there was nothing."""
    if tiles[0] < settings.min_tiles:
        return Transform(
            kind, None, False, f'The overviews agree, but only {tiles[0]} '
            f'of {tiles[1]} tiles at full resolution could be matched; at '
            f'least {settings.min_tiles} are needed.')
    affine = estimate(match, 'affine', size, settings.estimate)
    if kind == 'affine' or not affine.ok:
        return replace(affine, kind=kind)
    points = _anchors(match.points_fixed, size, settings.tile)
    held = replace(
        match,
        points_fixed=np.concatenate([match.points_fixed, points]),
        points_moving=np.concatenate([
            match.points_moving, affine.points(points)]),
        score=np.concatenate([match.score, np.zeros(len(points))]))
    # A dense flow of a scene would be larger than the scene.
    bent = 'tps' if kind == 'flow' else kind
    found = estimate(held, bent, size, settings.estimate)
    count = len(match.points_fixed)
    return replace(found, kind=kind, inliers=found.inliers[:count],
                   residuals=found.residuals[:count])


def _anchors(points: np.ndarray, size: Size, spacing: int) -> np.ndarray:
    """Points of a grid that have no tie point near them, (M, 2)."""
    counts = [max(2, side // spacing + 1) for side in size]
    x, y = np.meshgrid(np.linspace(0, size[1] - 1, counts[1]),
                       np.linspace(0, size[0] - 1, counts[0]))
    grid = np.stack([x.ravel(), y.ravel()], 1)
    distance = np.linalg.norm(grid[:, None] - points[None], axis=2).min(1)
    return grid[distance > spacing]


# -------------------------------------------------------------------- check


def confirm(fixed: np.ndarray, fixed_mask: np.ndarray, moved: np.ndarray,
            moved_mask: np.ndarray, radius: int = 24, slack: float = 3.
            ) -> tuple[dict[str, float], str]:
    """Whether the images fit each other best where they were laid.

    The orientated gradients of both (see :mod:`..models.registration.cfog`)
    are compared as a whole at all shifts up to ``radius``: the best fit of a
    right registration is at 0. Independent of how the transform was found,
    so it also judges methods that give a matrix and no evidence.

    Args:
        fixed: (H, W) float32.
        fixed_mask: (H, W) bool.
        moved: (H, W), the moving image through the transform.
        moved_mask: (H, W) bool.
        radius: Pixels; less for images smaller than four of it.
        slack: Distance from 0 that is let pass.

    Returns:
        ``shift_x``, ``shift_y`` and ``peak`` (how far the best fit stands
        out, in standard deviations of all shifts); and why the registration
        is to be refused, empty if it is not.
    """
    radius = min(radius, min(fixed.shape) // 4)
    kernel = np.ones((9, 9), np.uint8)
    stacks = []
    for grey, mask in ((fixed, fixed_mask), (moved, moved_mask)):
        filled = np.where(mask, grey, grey[mask].mean() if mask.any() else 0)
        channels = orientation_channels(filled.astype(np.float32), smooth=2.)
        inner = cv2.erode(mask.astype(np.uint8), kernel)
        stacks.append(compress(channels * inner))
    # The middle of the fixed image, so that every shift has the same area.
    middle = (slice(None), slice(radius, -radius), slice(radius, -radius))
    a = torch.from_numpy(np.ascontiguousarray(stacks[0][middle]))[None]
    b = torch.from_numpy(stacks[1])[None]
    shape = (fast_length(b.shape[2]), fast_length(b.shape[3]))
    product = correlate(a, b, shape, radius)
    masks = [(x.square().sum(1, keepdim=True) > 0.5).float() for x in (a, b)]
    common = correlate(masks[0], masks[1], shape, radius).round()
    enough = common > 0.02 * a.shape[2] * a.shape[3]
    if not enough[0, radius, radius]:
        return {}, ('The images share too little ground after the '
                    'registration to confirm it.')
    maps = (2 - 2 * product / common.clamp(min=1)).masked_fill(
        ~enough, math.inf)
    best, _ = lowest(maps)
    shift = best[0].numpy().astype(np.float64) - radius
    values = maps[enough]
    peak = float((values.mean() - values.min()) / values.std().clamp(
        min=1e-12))
    result = dict(shift_x=float(shift[0]), shift_y=float(shift[1]),
                  peak=peak, distinctness=float(distinctness(maps)[0]))
    length = float(np.hypot(*shift))
    if length <= slack:
        return result, ''
    return result, (
        f'Laid over each other, the images fit better {length:.0f} px away '
        'from where the transform puts them (on the overview): it is '
        'wrong, or they show too little in common.')
