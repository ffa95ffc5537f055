"""From matches to one transform, or to the statement that there is none.

Random sampling (RANSAC, scored as MSAC: squared residuals cut off at the
threshold) finds the pairs that agree; least squares on these gives the
transform. All hypotheses are solved and scored at once.

A result is reported as failed where any of these holds:

* too few pairs agree (``min_inliers``);
* as many could agree by chance: the expected number of equally good
  transforms among random matches, as in Moisan and Stival's a-contrario
  RANSAC (IJCV 2004), is above ``max_chance``. Matches of overlapping tiles
  are not independent, so a method says how many of its matches are worth one
  (``Match.redundancy``);
* the agreeing pairs cover too little of where there were matches
  (``min_cover``), so that the rest of the image would be extrapolated;
* the transform cannot be: mirrored, or scaled or sheared beyond
  ``max_scale`` anywhere in the image.

Legend: N pairs, k agreeing ones, n hypotheses, m pairs of a minimal sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from osar_plugin.utils.config_values import require_range
from osar_plugin.utils.errors import ConfigError, DataFormatError
from osar_plugin.utils.geometry import (
    Size,
    apply,
    flow_to_affine,
    inside,
    matrix_to_flow,
    move_points,
    pixel_grid,
)

from .fitting import (
    BASES,
    FITS,
    MINIMUM,
    Warping,
    homography_system,
    spread,
)
from .match import Match

TRANSFORMS = (*MINIMUM, 'flow')


@dataclass(frozen=True)
class EstimateSettings:
    """How a transform is found and when it is refused.

    Attributes:
        threshold: Residual in pixels up to which a pair agrees.
        hypotheses: Random samples.
        seed: Of the samples.
        min_inliers: Agreeing pairs at least.
        max_chance: Number of equally good transforms to be expected among
            random matches, at most.
        min_cover: Area over which agreeing pairs are spread, over that of
            all pairs, see :func:`spread_area`.
        max_scale: Largest factor, and 1 / max_scale the smallest, by which
            the transform may stretch any direction.
        smoothing: Of the spline, see :func:`.fitting.fit_tps`.
    """

    threshold: float = 3.
    hypotheses: int = 2000
    seed: int = 0
    min_inliers: int = 8
    max_chance: float = 1e-2
    min_cover: float = 0.2
    max_scale: float = 2.5
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        require_range(0, threshold=self.threshold, without=(0,))
        require_range(1, hypotheses=self.hypotheses)
        require_range(3, min_inliers=self.min_inliers)
        require_range(0, max_chance=self.max_chance)
        require_range(0, 1, min_cover=self.min_cover)
        require_range(1, max_scale=self.max_scale)
        require_range(0, smoothing=self.smoothing)


@dataclass(frozen=True)
class Transform:
    """A transform from fixed to moving, and how good it is.

    Attributes:
        kind: One of :data:`TRANSFORMS`.
        matrix: (2, 3) or (3, 3) of affines and homographies, else the
            least-squares affine of the others.
        warping: Of ``poly2`` and ``tps``.
        flow_field: (2, H, W) of ``flow``.
        ok: Whether it can be used.
        reason: Why not; empty if it can.
        inliers: (N,) bool, the matches that agree.
        residuals: (N,) pixels, infinite without a transform.
        chance: log10 of the expected number of equally good transforms
            among random matches; NaN for dense flows.
    """

    kind: str
    matrix: np.ndarray | None
    ok: bool
    reason: str = ''
    warping: Warping | None = None
    flow_field: np.ndarray | None = None
    inliers: np.ndarray = field(
        default_factory=lambda: np.zeros(0, bool))
    residuals: np.ndarray = field(default_factory=lambda: np.zeros(0))
    chance: float = math.nan

    @property
    def rmse(self) -> float:
        """Root mean square residual of the agreeing matches, pixels."""
        if not self.inliers.any():
            return math.nan
        return float(np.sqrt((self.residuals[self.inliers]**2).mean()))

    def points(self, points: np.ndarray) -> np.ndarray:
        """(N, 2) of the fixed image to the moving one.

        Raises:
            DataFormatError: If the registration failed.
        """
        self._require()
        points = np.asarray(points, np.float64)
        if self.flow_field is not None:
            return move_points(self.flow_field.astype(np.float64), points)
        if self.warping is not None:
            return self.warping(points)
        return apply(self.matrix, points)

    def flow(self, size: Size) -> np.ndarray:
        """(2, H, W) float32 on the grid of the fixed image."""
        self._require()
        if self.flow_field is not None:
            if self.flow_field.shape[1:] != tuple(size):
                raise DataFormatError(
                    f'A flow of {self.flow_field.shape[1:]} is not one of '
                    f'{tuple(size)}: resize it with geometry.resize_flow.')
            return self.flow_field.astype(np.float32)
        if self.warping is None:
            return matrix_to_flow(self.matrix, size).astype(np.float32)
        grid = pixel_grid(size, torch.float64).numpy()
        points = grid.reshape(2, -1).T
        moved = self.warping(points) - points
        return moved.T.reshape(grid.shape).astype(np.float32)

    def _require(self) -> None:
        if self.matrix is None:
            raise DataFormatError(
                f'There is no transform: {self.reason} Check `ok` first.')


def estimate(match: Match, kind: str = 'affine', size: Size | None = None,
             settings: EstimateSettings | None = None) -> Transform:
    """The transform that most matches agree on.

    Args:
        match: What a matcher found.
        kind: One of :data:`TRANSFORMS`. ``'flow'``: the matcher's dense
            flow; of one that has none, a thin-plate spline.
        size: (H, W) of the fixed image; needed for ``'flow'``.
        settings: See there.

    Returns:
        With ``ok`` False and the reason where it must not be used. The
        transform itself is then there as far as it was found.

    Raises:
        ConfigError: If the kind is not known.
    """
    if kind not in TRANSFORMS:
        raise ConfigError(
            f'transform {kind!r} is not known: use one of '
            f'{", ".join(TRANSFORMS)}.')
    settings = settings or EstimateSettings()
    if not match.ok:
        return Transform(kind, None, False, match.reason)
    if kind == 'flow' and match.flow is not None:
        return _from_flow(match, settings)
    wanted = 'tps' if kind == 'flow' else kind
    found = _from_points(match, wanted, size, settings)
    if kind == 'flow' and found.matrix is not None and size is not None:
        return Transform(
            'flow', found.matrix, found.ok, found.reason,
            flow_field=found.flow(size), inliers=found.inliers,
            residuals=found.residuals, chance=found.chance)
    return found


def uncertain_affine(match: Match, size: Size, **options: Any
                     ) -> Transform | None:
    """The affine of a match, however uncertain; None without one.

    For what goes on from it, or compares its ``chance`` with another's.

    Args:
        match: What a matcher found.
        size: (H, W) of the fixed image.
        **options: Of :class:`EstimateSettings`.
    """
    found = estimate(match, 'affine', size, EstimateSettings(
        min_inliers=4, max_chance=1e300, min_cover=0, **options))
    return found if found.ok else None


def _from_flow(match: Match, settings: EstimateSettings) -> Transform:
    """A dense flow as it is, checked by its affine."""
    flow = np.asarray(match.flow, np.float64)
    finite = np.isfinite(flow).all()
    if not finite:
        return Transform('flow', None, False,
                         'The flow holds NaN or infinity.')
    matrix = flow_to_affine(flow)
    moving_size = match.moving_size or (flow.shape[1], flow.shape[2])
    reason = implausible(matrix, flow.shape[1:], settings.max_scale)
    share = float(inside(flow, moving_size).mean())
    if not reason and share < 0.05:
        reason = (f'The flow leaves the moving image on {1 - share:.0%} of '
                  'the fixed one: there is no overlap to speak of.')
    points = np.asarray(match.points_fixed, np.float64)
    residuals = np.linalg.norm(
        move_points(flow, points) - match.points_moving, axis=1)
    return Transform('flow', matrix, not reason, reason, flow_field=flow,
                     inliers=residuals <= settings.threshold,
                     residuals=residuals)


def _from_points(match: Match, kind: str, size: Size | None,
                 settings: EstimateSettings) -> Transform:
    fixed = np.asarray(match.points_fixed, np.float64)
    moving = np.asarray(match.points_moving, np.float64)
    count = len(fixed)
    least = max(settings.min_inliers, MINIMUM[kind])
    if count < least:
        return Transform(
            kind, None, False,
            f'{count} matches; at least {least} are needed.')
    model, room = kind, settings.threshold
    if kind == 'tps':
        # A spline follows any match: a stiffer transform chooses, with
        # room for what it cannot follow.
        model = 'poly2' if count >= 4 * MINIMUM['poly2'] else 'affine'
        room = 2 * settings.threshold
    inliers = ransac(fixed, moving, model, room, settings.hypotheses,
                     settings.seed)
    if inliers.sum() < least:
        return Transform(
            kind, None, False, f'{int(inliers.sum())} of {count} matches '
            f'agree to {room:g} px; at least {least} are needed.')
    try:
        matrix, warping, residuals = _fit(fixed, moving, inliers, kind,
                                          settings)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        return Transform(kind, None, False, 'The matches lie on a line.')
    chance = math.log10(match.tries) + log_chance(
        count, int(inliers.sum()), MINIMUM[model], room, match.search_area,
        match.redundancy)
    reason = _refuse(fixed, inliers, chance, settings)
    extent = size or (int(fixed[:, 1].max()) + 1, int(fixed[:, 0].max()) + 1)
    reason = reason or implausible(matrix, extent, settings.max_scale)
    return Transform(kind, matrix, not reason, reason, warping, None,
                     inliers, residuals, chance)


def _fit(fixed: np.ndarray, moving: np.ndarray, inliers: np.ndarray,
         kind: str, settings: EstimateSettings
         ) -> tuple[np.ndarray, Warping | None, np.ndarray]:
    """Matrix, warping and residuals of all pairs."""
    a, b = torch.from_numpy(fixed), torch.from_numpy(moving)
    chosen = torch.from_numpy(inliers)
    if kind in ('affine', 'homography'):
        matrix = FITS[kind](a[chosen], b[chosen])
        mapped = apply(matrix, a)
        warping = None
    else:
        options = dict(smoothing=settings.smoothing) if kind == 'tps' else {}
        warping = FITS[kind](a[chosen], b[chosen], **options)
        matrix = FITS['affine'](a[chosen], b[chosen])
        mapped = warping(a)
    residuals = (mapped - b).norm(dim=1)
    return matrix.numpy(), warping, residuals.numpy()


def ransac(fixed: np.ndarray, moving: np.ndarray, kind: str,
           threshold: float, hypotheses: int = 2000, seed: int = 0,
           rounds: int = 4) -> np.ndarray:
    """The pairs that the best of many random transforms agrees with.

    Args:
        fixed: (N, 2).
        moving: (N, 2).
        kind: ``'affine'``, ``'homography'`` or ``'poly2'``.
        threshold: Pixels.
        hypotheses: Samples; where N is so small that there are fewer, some
            repeat.
        seed: Of the samples.
        rounds: Refits of the best on what agrees with it, until that no
            longer changes.

    Returns:
        (N,) bool; none where no sample determined a transform.
    """
    minimum, count = MINIMUM[kind], len(fixed)
    if count < minimum:
        return np.zeros(count, bool)
    rng = np.random.default_rng(seed)
    a, b = torch.from_numpy(fixed), torch.from_numpy(moving)
    best, agree = math.inf, torch.zeros(count, dtype=torch.bool)
    # About 32 MB of residuals at a time.
    step = max(1, min(hypotheses, 2_000_000 // count))
    for start in range(0, hypotheses, step):
        rows = min(step, hypotheses - start)
        picks = torch.from_numpy(
            rng.random((rows, count)).argpartition(
                minimum - 1, axis=1)[:, :minimum]
            if count <= 200 else rng.integers(0, count, (rows, minimum)))
        squared = _residuals(a, b, picks, kind)
        cost = squared.clamp(max=threshold**2).sum(1)
        low = int(cost.argmin())
        if float(cost[low]) < best:
            best, agree = float(cost[low]), squared[low] <= threshold**2
    for _ in range(rounds):
        if agree.sum() < minimum:
            break
        again = _residuals(a, b, agree.nonzero().T, kind)[0] <= threshold**2
        if again.sum() < agree.sum() or torch.equal(again, agree):
            break
        agree = again
    return agree.numpy()


def _residuals(fixed: torch.Tensor, moving: torch.Tensor,
               picks: torch.Tensor, kind: str) -> torch.Tensor:
    """Squared residuals (n, N) of transforms fitted to samples (n, m').

    Samples of the minimal size are solved as they are, larger ones by least
    squares; one that determines nothing has infinite residuals.
    """
    (c, s), (d, t) = spread(fixed), spread(moving)
    local, target = (fixed - c) / s, (moving - d) / t
    if kind == 'homography':
        rows, right = homography_system(local[picks], target[picks])
        solution = _solve(rows, right)[..., 0]
        ones = torch.ones_like(solution[..., :1])
        matrix = torch.cat([solution, ones], -1).unflatten(-1, (3, 3))
        mapped = apply(matrix, local.expand(len(picks), -1, -1))
    else:
        basis = BASES[kind](local)
        mapped = basis @ _solve(basis[picks], target[picks])
    squared = (mapped - target).square().sum(-1) * t[0, 0]**2
    return torch.nan_to_num(squared, math.inf, math.inf, math.inf)


def _solve(rows: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Solutions (n, m, c) of n systems; NaN where there is none."""
    if rows.shape[-2] != rows.shape[-1]:
        turned = rows.transpose(-1, -2)
        rows, right = turned @ rows, turned @ right
    solution, info = torch.linalg.solve_ex(rows, right)
    return solution.masked_fill((info != 0)[:, None, None], math.nan)


def log_chance(count: int, agreeing: int, minimum: int, threshold: float,
               search_area: float, redundancy: float = 1.) -> float:
    """log10 of the expected number of transforms as good among noise.

    (N - m) C(N, k) C(k, m) p^(k - m), with p the share of the search area
    within the threshold (Moisan and Stival 2004, eq. 12).

    Args:
        count: N.
        agreeing: k.
        minimum: m.
        threshold: Pixels.
        search_area: Pixels^2 in which a match was sought.
        redundancy: So many matches are worth one independent one.
    """
    n = max(count / redundancy, minimum + 1e-9)
    k = min(max(agreeing / redundancy, minimum), n)
    p = min(max(math.pi * threshold**2 / search_area, 1e-12), 1.)

    def choose(a: float, b: float) -> float:
        return (math.lgamma(a + 1) - math.lgamma(b + 1)
                - math.lgamma(a - b + 1)) / math.log(10)

    return (math.log10(max(n - minimum, 1)) + choose(n, k)
            + choose(k, minimum) + (k - minimum) * math.log10(p))


def _refuse(fixed: np.ndarray, inliers: np.ndarray, chance: float,
            settings: EstimateSettings) -> str:
    """Why matches prove nothing; empty if they do."""
    agreeing, count = int(inliers.sum()), len(fixed)
    if chance > math.log10(max(settings.max_chance, 1e-300)):
        return (f'{agreeing} of {count} matches agree, which random matches '
                f'would do, too (10^{chance:.1f} such transforms expected).')
    whole, part = spread_area(fixed), spread_area(fixed[inliers])
    if whole > 0 and part < settings.min_cover * whole:
        return (f'The agreeing matches cover {part / whole:.0%} of the '
                f'matched area; at least {settings.min_cover:.0%} are '
                'needed.')
    return ''


def spread_area(points: np.ndarray) -> float:
    """Area that points (N, 2) are spread over, pixels^2; 0 on a line.

    12 times the root of the determinant of their covariance: the area of a
    rectangle that they fill evenly. Unlike a hull it hardly feels the few
    pairs that agree by chance.
    """
    if len(points) < 3:
        return 0.
    determinant = np.linalg.det(np.cov(points.T, bias=True))
    return 12 * math.sqrt(max(float(determinant), 0.))


def implausible(matrix: np.ndarray, size: Any, max_scale: float) -> str:
    """Why a transform cannot be; empty if it can.

    The stretch of a homography is looked at in the corners and the middle.
    """
    if not np.isfinite(matrix).all():
        return 'The transform holds NaN or infinity.'
    height, width = size
    points = np.array([[0, 0], [width, 0], [0, height], [width, height],
                       [width / 2, height / 2]], np.float64)
    if len(matrix) == 2:
        jacobians = matrix[None, :, :2]
    else:
        value = points @ matrix[:, :2].T + matrix[:, 2]
        if (value[:, 2] <= 0).any() and (value[:, 2] >= 0).any():
            return 'The horizon of the homography crosses the image.'
        mapped = value[:, :2] / value[:, 2:]
        jacobians = (matrix[None, :2, :2]
                     - mapped[:, :, None] * matrix[None, 2:, :2]
                     ) / value[:, 2, None, None]
    if (np.linalg.det(jacobians) <= 0).any():
        return 'The transform mirrors the image.'
    stretch = np.linalg.svd(jacobians, compute_uv=False)
    low, high = float(stretch.min()), float(stretch.max())
    if low < 1 / max_scale or high > max_scale:
        return (f'The transform scales by {low:.2f} to {high:.2f}; '
                f'{1 / max_scale:.2f} to {max_scale:g} are allowed.')
    return ''
