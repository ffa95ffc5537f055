"""Weight-free matchers behind one interface.

Each takes two images and gives a :class:`~.match.Match`; a transform comes
out of it in :mod:`.estimate`. See :class:`~.match.Matcher`.

Legend: H W height and width in pixels, N matches, t side of a tile, r search
radius.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from osar_plugin.registry import MODELS
from osar_plugin.utils.config_values import require_range
from osar_plugin.utils.errors import ConfigError, DataFormatError
from osar_plugin.utils.geometry import (
    apply,
    move_points,
    pixel_grid,
    similarity,
)

from .cfog import (
    DIRECTIONS,
    compress,
    difference_maps,
    distinctness,
    lowest,
    orientation_channels,
)
from .estimate import Transform, uncertain_affine
from .match import (
    SMALLEST,
    Match,
    MatchSettings,
    empty_side,
    grey_image,
    no_match,
    warped_onto,
)

# Degrees between rotations that are tried; tiles bear half of it.
ANGLE_STEP = 8.
# log10 of the transforms as good that are to be expected among random
# matches, below which no further rotation is tried.
CERTAIN = -4.

Pair = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class GreyMatcher:
    """Checks both images, then hands one channel of each on."""

    def match(self, fixed: np.ndarray, moving: np.ndarray,
              settings: MatchSettings | None = None) -> Match:
        """See :meth:`.match.Matcher.match`."""
        settings = settings or MatchSettings()
        a, a_valid = grey_image(fixed, settings.fixed_valid, 'fixed')
        b, b_valid = grey_image(moving, settings.moving_valid, 'moving')
        reason = empty_side(a, a_valid, 'fixed') or empty_side(
            b, b_valid, 'moving')
        if reason:
            return no_match(reason)
        return self._match((a, a_valid, b, b_valid), settings)

    def _match(self, pair: Pair, settings: MatchSettings) -> Match:
        raise NotImplementedError


@MODELS.register_module()
class CFOGMatcher(GreyMatcher):
    """Tiles of orientated gradients, coarse to fine. See :mod:`.cfog`.

    Round one seeks each tile of the fixed image over ``max_shift`` in the
    moving one, and a robust affine joins what was found. Each further round
    brings the moving image onto the fixed one by that affine and seeks
    nearby, with tiles that are no longer rotated or scaled. Two rounds with
    ``smooth=1.2`` and ``threshold=3`` are the plain recipe; the third round
    and the wider settings help where images are rotated against each other.

    Args:
        tile: Side of a tile in pixels; of images too small for two tiles,
            half of the shorter side.
        step: Distance of tiles.
        radius: Search radius of the first round; default: ``max_shift`` of
            the settings.
        fine_radius: Search radius of the further rounds.
        rounds: In all.
        directions: Orientation channels.
        presmooth: Sigma in pixels before the gradient.
        smooth: Sigma of the channels.
        harmonics: Of the channels over direction that are compared, see
            :func:`.cfog.compress`; None compares the channels themselves.
        min_valid: Share of a tile that must have data.
        threshold: Of the affine between rounds, pixels.
        coarse_side: The first of several rounds is on images reduced by
            the whole number of times that this goes into the shorter side.
    """

    def __init__(
            self, tile: int = 80, step: int = 24, radius: int | None = None,
            fine_radius: int = 10, rounds: int = 3,
            directions: int = DIRECTIONS, presmooth: float = 1.,
            smooth: float = 2., harmonics: int | None = 2,
            min_valid: float = 0.5, threshold: float = 5.,
            coarse_side: int = 256) -> None:
        require_range(8, tile=tile)
        require_range(1, step=step, fine_radius=fine_radius, rounds=rounds)
        require_range(1, radius=radius or 1)
        require_range(3, directions=directions)
        require_range(0, presmooth=presmooth, smooth=smooth)
        require_range(0, 1, min_valid=min_valid)
        require_range(0, threshold=threshold, without=(0,))
        require_range(32, coarse_side=coarse_side)
        if harmonics is not None and not (
                0 < harmonics <= (directions - 1) // 2):
            raise ConfigError(
                f'harmonics={harmonics} must be None or 1 to '
                f'{(directions - 1) // 2} with directions={directions}.')
        self.tile, self.step, self.radius = tile, step, radius
        self.fine_radius, self.rounds = fine_radius, rounds
        self.directions, self.harmonics = directions, harmonics
        self.presmooth, self.smooth = presmooth, smooth
        self.min_valid, self.threshold = min_valid, threshold
        self.coarse_side = coarse_side

    def describe(self, grey: np.ndarray, valid: np.ndarray) -> Tensor:
        """Descriptors (D, H, W), 0 where a filter saw no data."""
        channels = orientation_channels(
            grey, self.directions, self.presmooth, self.smooth)
        if not valid.all():
            # The border of the data is the strongest edge of many images.
            reach = round(2 + 3 * (self.presmooth**2 + self.smooth**2)**0.5)
            channels *= shrink(valid, reach)
        if self.harmonics is not None:
            channels = compress(channels, self.harmonics)
        return torch.from_numpy(np.ascontiguousarray(channels))

    def _match(self, pair: Pair, settings: MatchSettings) -> Match:
        fixed, fixed_valid, moving, moving_valid = pair
        tile = min(self.tile, max(8, min(fixed.shape) // 2))
        corners = tile_corners(fixed_valid, tile, self.step, self.min_valid)
        if len(corners) < 3:
            return no_match(
                f'{len(corners)} tiles of {tile} px have data on '
                f'{self.min_valid:.0%} of their area; at least 3 are '
                'needed.')
        target = self.describe(fixed, fixed_valid)
        found = self._begin(pair, target, corners, tile, settings)
        for _ in range(self.rounds - 1):
            joined = self._join(found, fixed.shape, settings)
            if joined is None or joined.matrix is None:
                break
            nearer = self._as_match(self._round(
                target, moving, moving_valid, joined.matrix, corners, tile,
                self.fine_radius), self.fine_radius, tile, moving.shape)
            if not nearer.ok:
                break
            found = replace(nearer, tries=found.tries)
        return found

    def _begin(self, pair: Pair, target: Tensor, corners: np.ndarray,
               tile: int, settings: MatchSettings) -> Match:
        """The first round, turned if unturned gives no certain answer."""
        size, shape = pair[0].shape, pair[2].shape
        radius = self.radius or round(settings.max_shift)
        reduction = max(1, min(size) // self.coarse_side)
        angles = turns(settings.max_angle)
        best, lowest_chance = no_match(''), math.inf
        for number, angle in enumerate(angles, 1):
            if reduction > 1 and self.rounds > 1:
                points = self._reduced(pair, angle, reduction, radius)
            else:
                points = self._round(target, pair[2], pair[3], turned(
                    angle, size), corners, tile, radius)
            found = self._as_match(points, radius, tile, shape)
            if len(angles) == 1:
                return found
            joined = self._join(found, size, settings)
            chance = math.inf if joined is None else joined.chance
            if number == 1 or chance < lowest_chance:
                best, lowest_chance = found, chance
            if lowest_chance < CERTAIN:
                break
        return replace(best, tries=number)

    def _join(self, found: Match, size: tuple[int, ...],
              settings: MatchSettings) -> Transform | None:
        """The affine of a round."""
        return uncertain_affine(
            found, (size[0], size[1]), threshold=self.threshold,
            hypotheses=1000, seed=settings.seed)

    def _reduced(self, pair: Pair, angle: float, reduction: int,
                 radius: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The first round on images that are smaller by a factor.

        A wide search costs the square of its radius; what is lost in
        accuracy lies within the radius of the next round.
        """
        images, factors = [], []
        for grey, valid in (pair[:2], pair[2:]):
            size = (grey.shape[1] // reduction, grey.shape[0] // reduction)
            small = [cv2.resize(x, size, interpolation=cv2.INTER_AREA)
                     for x in (grey, valid.astype(np.float32))]
            images.append((small[0], small[1] > 0.99))
            factors.append(np.array(size) / grey.shape[::-1])
        (fixed, fixed_valid), (moving, moving_valid) = images
        tile = min(self.tile, max(8, min(fixed.shape) // 2))
        corners = tile_corners(fixed_valid, tile, self.step, self.min_valid)
        empty = np.zeros((0, 2))
        if len(corners) < 3 or min(moving.shape) < SMALLEST:
            return empty, empty, np.zeros(0)
        a, b, scores = self._round(
            self.describe(fixed, fixed_valid), moving, moving_valid,
            turned(angle, fixed.shape), corners, tile,
            -(-radius // reduction))
        a, b = ((points + 0.5) / factor - 0.5
                for points, factor in zip((a, b), factors, strict=True))
        return a, b, scores

    def _round(self, target: Tensor, moving: np.ndarray, valid: np.ndarray,
               affine: np.ndarray, corners: np.ndarray, tile: int,
               radius: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fixed points, moving points and scores of the tiles found."""
        size = (target.shape[1], target.shape[2])
        identity = np.array_equal(affine, np.eye(2, 3))
        image, mask = (moving, valid) if identity else warped_onto(
            moving, valid, affine, size)
        source = self.describe(image, mask)
        maps = difference_maps(
            target, source, torch.from_numpy(corners), tile, radius)
        shift, border = lowest(maps)
        scores = distinctness(maps).numpy().astype(np.float64)
        keep = ~border.numpy()
        centres = corners + (tile - 1) / 2
        found = centres + shift.numpy().astype(np.float64) - radius
        if not identity:
            found = apply(affine, found)
        return centres[keep], found[keep], scores[keep]

    def _as_match(self, found: tuple[np.ndarray, np.ndarray, np.ndarray],
                  radius: int, tile: int, shape: tuple[int, ...]) -> Match:
        fixed, moving, scores = found
        if len(fixed) < 3:
            return no_match(
                f'{len(fixed)} tiles were found within {radius} px; at '
                'least 3 are needed. Allow a larger max_shift.')
        return Match(
            fixed, moving, scores, search_area=(2. * radius + 1)**2,
            redundancy=max(1., min(tile / self.step, 3.)),
            moving_size=(shape[0], shape[1]))


def turns(max_angle: float) -> list[float]:
    """Rotations that are tried, none first, then to either side.

    Args:
        max_angle: Degrees that are to be within reach: half of
            :data:`ANGLE_STEP` from a rotation that is tried.
    """
    count = max(0, math.ceil(max_angle / ANGLE_STEP - 0.5))
    return [0., *(sign * n * ANGLE_STEP for n in range(1, count + 1)
                  for sign in (1, -1))]


def turned(angle: float, size: tuple[int, ...]) -> np.ndarray:
    """The affine (2, 3) of a rotation about the centre."""
    return similarity(angle, centre=((size[1] - 1) / 2, (size[0] - 1) / 2))


def shrink(valid: np.ndarray, reach: int) -> np.ndarray:
    """A mask without what is nearer than ``reach`` to where there is none.

    The border of the image itself does not count.
    """
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    return cv2.erode(valid.astype(np.uint8), kernel).astype(bool)


def tile_corners(valid: np.ndarray, tile: int, step: int,
                 min_valid: float) -> np.ndarray:
    """Upper left corners (n, 2) of tiles with enough data.

    The grid of tiles is centred in the image.
    """
    axes = []
    for side in valid.shape[::-1]:
        count = max((side - tile) // step + 1, 1)
        offset = (side - tile - (count - 1) * step) // 2
        axes.append(offset + step * np.arange(count))
    x, y = np.meshgrid(*axes)
    corners = np.stack([x.ravel(), y.ravel()], 1)
    table = np.pad(valid, ((1, 0), (1, 0))).astype(np.int64).cumsum(
        0).cumsum(1)
    x0, y0 = corners.T
    area = (table[y0 + tile, x0 + tile] - table[y0, x0 + tile]
            - table[y0 + tile, x0] + table[y0, x0])
    return corners[area >= min_valid * tile**2]


class KeypointMatcher(GreyMatcher):
    """Key points of OpenCV, matched by nearest neighbours.

    Args:
        max_points: Key points of an image.
        ratio: Largest distance to the nearest over that to the second.
    """

    norm = cv2.NORM_L2

    def __init__(self, max_points: int = 5000, ratio: float = 0.9) -> None:
        require_range(10, max_points=max_points)
        require_range(0, 1, ratio=ratio, without=(0,))
        self.max_points, self.ratio = max_points, ratio

    def detector(self) -> Any:
        """OpenCV's detector."""
        raise NotImplementedError

    def _match(self, pair: Pair, settings: MatchSettings) -> Match:
        detector = self.detector()
        sides = []
        for grey, valid in (pair[:2], pair[2:]):
            mask = shrink(valid, 8).astype(np.uint8) * 255
            sides.append(detector.detectAndCompute(to_bytes(grey, valid),
                                                   mask))
        (a, a_codes), (b, b_codes) = sides
        if a_codes is None or b_codes is None or len(b) < 2:
            return no_match(
                f'{len(a)} and {len(b)} key points were found in the fixed '
                'and the moving image; both need some.')
        pairs = cv2.BFMatcher(self.norm).knnMatch(a_codes, b_codes, 2)
        rows = [(p[0].queryIdx, p[0].trainIdx,
                 1 - p[0].distance / max(p[1].distance, 1e-9))
                for p in pairs if len(p) == 2
                and p[0].distance <= self.ratio * p[1].distance]
        if not rows:
            return no_match('No key point has a match that stands out.')
        points = np.array([
            (*a[i].pt, *b[j].pt, score) for i, j, score in rows], np.float64)
        # Key points of several orientations lie in one place.
        points = np.unique(points, axis=0)
        height, width = pair[2].shape
        return Match(points[:, :2], points[:, 2:4], points[:, 4],
                     search_area=float(height * width),
                     moving_size=(height, width))


@MODELS.register_module()
class SIFTMatcher(KeypointMatcher):
    """SIFT with the ratio test. See :class:`KeypointMatcher`."""

    def detector(self) -> Any:
        return vars(cv2)['SIFT_create'](nfeatures=self.max_points)


@MODELS.register_module()
class ORBMatcher(KeypointMatcher):
    """ORB with the ratio test. See :class:`KeypointMatcher`."""

    norm = cv2.NORM_HAMMING

    def detector(self) -> Any:
        return vars(cv2)['ORB_create'](nfeatures=self.max_points)


def to_bytes(grey: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """8 bit between the percentiles 1 and 99 of what has data."""
    low, high = np.percentile(grey[valid], (1, 99))
    scaled = (grey - low) * (255 / max(float(high - low), 1e-12))
    return np.clip(scaled, 0, 255).astype(np.uint8)


def gradient_size(grey: np.ndarray, valid: np.ndarray,
                  sigma: float) -> np.ndarray:
    """Size of the blurred image's gradient, 0 near where there is no data.

    Divided by its mean.
    """
    blurred = cv2.GaussianBlur(grey, (0, 0), sigma)
    size = np.hypot(cv2.Sobel(blurred, cv2.CV_32F, 1, 0),
                    cv2.Sobel(blurred, cv2.CV_32F, 0, 1))
    if not valid.all():
        size = size * shrink(valid, round(2 + 2 * sigma))
    return (size / max(float(size.mean()), 1e-12)).astype(np.float32)


def from_affine(affine: np.ndarray, score: float, fixed_shape: Any,
                moving_shape: Any, area: float) -> Match:
    """A match of a method that gives an affine: 8 x 8 points through it.

    They agree because they come from one transform; ``redundancy`` is
    chosen so that this proves nothing.
    """
    height, width = fixed_shape
    x, y = np.meshgrid(np.linspace(0, width - 1, 8),
                       np.linspace(0, height - 1, 8))
    points = np.stack([x.ravel(), y.ravel()], 1)
    return Match(points, apply(affine, points), np.full(64, score),
                 search_area=area, redundancy=1.,
                 moving_size=(moving_shape[0], moving_shape[1]))


@MODELS.register_module()
class ECCMatcher(GreyMatcher):
    """Affine of highest correlation of gradients (``findTransformECC``).

    Evangelidis and Psarakis, PAMI 2008. On the size of the blurred gradient,
    which both sensors share more than grey values.

    Args:
        gradient: Whether on the gradient; else on grey values.
        sigma: Of the blur before the gradient, pixels.
        blur: Side of ECC's own Gaussian, odd.
        iterations: At most.
        epsilon: Increment of the correlation that ends it.
        min_correlation: Below that it has failed.
    """

    def __init__(
            self, gradient: bool = True, sigma: float = 2., blur: int = 5,
            iterations: int = 100, epsilon: float = 1e-5,
            min_correlation: float = 0.1) -> None:
        require_range(0, sigma=sigma, epsilon=epsilon, without=(0,))
        require_range(1, iterations=iterations, blur=blur)
        require_range(-1, 1, min_correlation=min_correlation)
        if blur % 2 == 0:
            raise ConfigError(f'blur={blur} must be odd.')
        self.gradient, self.sigma, self.blur = gradient, sigma, blur
        self.iterations, self.epsilon = iterations, epsilon
        self.min_correlation = min_correlation

    def _match(self, pair: Pair, settings: MatchSettings) -> Match:
        fixed, fixed_valid, moving, moving_valid = pair
        if self.gradient:
            fixed = gradient_size(fixed, fixed_valid, self.sigma)
            moving = gradient_size(moving, moving_valid, self.sigma)
        start = np.eye(2, 3, dtype=np.float32)
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT,
                    self.iterations, self.epsilon)
        try:
            correlation, found = cv2.findTransformECC(
                fixed, moving, start, cv2.MOTION_AFFINE, criteria,
                moving_valid.astype(np.uint8) * 255, self.blur)
        except cv2.error as error:
            if error.code != cv2.Error.StsNoConv:
                raise
            return no_match('ECC did not converge.')
        if not (np.isfinite(found).all()
                and correlation >= self.min_correlation):
            return no_match(
                f'ECC ended at a correlation of {correlation:.3f}; at least '
                f'{self.min_correlation:g} is needed.')
        area = (2 * settings.max_shift + 1)**2
        return from_affine(found.astype(np.float64), float(correlation),
                           fixed.shape, moving.shape, area)


@MODELS.register_module()
class PhaseCorrelationMatcher(GreyMatcher):
    """One shift for the whole image, by phase correlation.

    Args:
        gradient: Whether on the size of the gradient.
        sigma: Of the blur before the gradient, pixels.
        min_response: Share of the energy in the peak below which it has
            failed.
    """

    def __init__(self, gradient: bool = False, sigma: float = 2.,
                 min_response: float = 0.) -> None:
        require_range(0, sigma=sigma, without=(0,))
        require_range(0, 1, min_response=min_response)
        self.gradient, self.sigma = gradient, sigma
        self.min_response = min_response

    def _match(self, pair: Pair, settings: MatchSettings) -> Match:
        sides = []
        height = max(pair[0].shape[0], pair[2].shape[0])
        width = max(pair[0].shape[1], pair[2].shape[1])
        for grey, valid in (pair[:2], pair[2:]):
            if self.gradient:
                grey = gradient_size(grey, valid, self.sigma)
            grey = (grey - grey.mean()).astype(np.float64)
            grey *= cv2.createHanningWindow(grey.shape[::-1], cv2.CV_64F)
            sides.append(np.pad(grey, (
                (0, height - grey.shape[0]), (0, width - grey.shape[1]))))
        shift, response = cv2.phaseCorrelate(*sides)
        if not np.isfinite(shift).all() or response < self.min_response:
            return no_match(
                f'The peak holds {response:.3f} of the energy; at least '
                f'{self.min_response:g} is needed.')
        affine = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
        return from_affine(affine, float(response), pair[0].shape,
                           pair[2].shape, float(height * width))


@MODELS.register_module()
class CallableMatcher:
    """Whatever function of two images the user brings.

    The function is called as ``function(fixed, moving)``, with
    ``settings=...`` if ``pass_settings``, and returns one of

    * a :class:`~.match.Match`;
    * (points_fixed, points_moving) or (points_fixed, points_moving, score);
    * a flow (2, H, W) in pixels, or (flow, certainty (H, W));
    * an affine (2, 3) or homography (3, 3), fixed to moving;
    * None: no registration.

    All in the conventions of :mod:`osar_plugin.utils.geometry`: pixel
    centres are integers. (RoMa's are at 0.5: take 0.5 off its points.)

    Args:
        function: A callable, ``'module:name'`` or ``'package.module:a.b'``,
            or a config dict that the registry builds an object of; with a
            method ``match`` that is called, else the object itself.
        pass_settings: Hand the :class:`~.match.MatchSettings` on.
        grid: Step in pixels at which points are taken from a flow.
    """

    def __init__(self, function: Any, pass_settings: bool = False,
                 grid: int = 16) -> None:
        require_range(1, grid=grid)
        self.function = resolve(function)
        self.pass_settings, self.grid = pass_settings, grid

    def match(self, fixed: np.ndarray, moving: np.ndarray,
              settings: MatchSettings | None = None) -> Match:
        """See :meth:`.match.Matcher.match`."""
        settings = settings or MatchSettings()
        grey_image(fixed, settings.fixed_valid, 'fixed')
        grey_image(moving, settings.moving_valid, 'moving')
        options = dict(settings=settings) if self.pass_settings else {}
        result = self.function(fixed, moving, **options)
        if result is None:
            return no_match('The function found no registration.')
        if isinstance(result, Match):
            return result
        return self._read(result, np.shape(fixed)[:2], np.shape(moving)[:2])

    def _read(self, result: Any, fixed: tuple[int, ...],
              moving: tuple[int, ...]) -> Match:
        """A Match of what the function returned."""
        parts = result if isinstance(result, (tuple, list)) else (result,)
        arrays = [_as_array(part) for part in parts]
        area = float(moving[0] * moving[1])
        shape = arrays[0].shape
        if shape in ((2, 3), (3, 3)) and len(arrays) == 1:
            return from_affine(arrays[0], 1., fixed, moving, area)
        if shape == (2, *fixed) and len(arrays) <= 2:
            return from_flow(arrays[0], arrays[1] if len(arrays) == 2 else
                             None, self.grid, moving)
        if len(arrays) in (2, 3) and arrays[0].ndim == 2:
            scores = arrays[2] if len(arrays) == 3 else np.ones(shape[0])
            return Match(arrays[0], arrays[1], scores, search_area=area,
                         moving_size=(moving[0], moving[1]))
        raise DataFormatError(
            f'The matching function returned {[a.shape for a in arrays]} '
            f'for images of {fixed} and {moving}; expected points (N, 2) '
            'twice with or without scores (N,), a flow (2, H, W) with or '
            'without certainty (H, W), a matrix (2, 3) or (3, 3), a Match '
            'or None.')


def from_flow(flow: np.ndarray, certainty: np.ndarray | None, grid: int,
              moving_shape: Any) -> Match:
    """A match of a dense flow: points on a grid, and the flow itself.

    Args:
        flow: (2, H, W).
        certainty: (H, W) or None.
        grid: Step of the points, pixels.
        moving_shape: (h, w).

    Raises:
        DataFormatError: If it holds NaN or infinity.
    """
    size = (flow.shape[1], flow.shape[2])
    if not np.isfinite(flow).all() or (
            certainty is not None and certainty.shape != size):
        raise DataFormatError(
            'A flow must be finite, and its certainty (H, W) as it is; found '
            f'{flow.shape}, '
            f'{None if certainty is None else certainty.shape}.')
    cut = (slice(None), slice(grid // 2, None, grid),
           slice(grid // 2, None, grid))
    points = pixel_grid(size, torch.float64).numpy()[cut].reshape(2, -1).T
    scores = np.ones(len(points)) if certainty is None else certainty[
        cut[1:]].ravel()
    return Match(
        points, move_points(flow.astype(np.float64), points),
        scores.astype(np.float64), flow=flow, certainty=certainty,
        search_area=float(moving_shape[0] * moving_shape[1]),
        moving_size=(moving_shape[0], moving_shape[1]))


def identity(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """No motion: what a method has to beat."""
    return np.eye(2, 3)


def _as_array(value: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise DataFormatError(
            f'The matching function returned {type(value).__name__}, which '
            'is no array of numbers.') from error


def resolve(function: Any) -> Callable[..., Any]:
    """A callable of what a config or a command line names.

    Raises:
        ConfigError: If there is no such thing, or it cannot be called.
    """
    if isinstance(function, Mapping):
        function = MODELS.build(dict(function))
    elif isinstance(function, str):
        module, _, path = function.partition(':')
        if not module or not path:
            raise ConfigError(
                f'{function!r} names no function: write module:name, e.g. '
                'my_package.matching:match.')
        try:
            function = importlib.import_module(module)
            for name in path.split('.'):
                function = getattr(function, name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f'{module}:{path} cannot be imported ({error}). The module '
                'must be on the Python path.') from error
        if isinstance(function, type):
            function = function()
    if callable(getattr(function, 'match', None)):
        function = function.match
    if not callable(function):
        raise ConfigError(
            f'{function!r} cannot be called and has no method match.')
    return function


__all__ = [
    'CFOGMatcher', 'CallableMatcher', 'ECCMatcher', 'ORBMatcher',
    'PhaseCorrelationMatcher', 'SIFTMatcher', 'from_affine', 'from_flow',
    'gradient_size', 'identity', 'resolve', 'shrink', 'tile_corners',
    'to_bytes'
]
