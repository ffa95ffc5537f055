"""Transforms fitted to pairs of points by least squares.

All are linear in their coefficients over a basis of the fixed point, which
is centred and scaled first:

* ``affine``: x, y, 1;
* ``poly2``: 1, x, y, x^2, x y, y^2;
* ``tps``: the affine basis and r^2 log r to each fixed point (Bookstein,
  "Principal Warps", PAMI 1989), with the bending energy times ``smoothing``
  added to the squared residuals.

Batched, differentiable, of tensors or NumPy arrays. What chooses among wrong
matches is in :mod:`.estimate`.

Legend: B batch, N points, m size of a basis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from osar_plugin.utils.errors import ConfigError
from osar_plugin.utils.geometry import apply, numpy_too

# Points without which a transform is not determined.
MINIMUM = {'affine': 3, 'homography': 4, 'poly2': 6, 'tps': 3}
KINDS = tuple(MINIMUM)


def affine_basis(points: Tensor) -> Tensor:
    """(..., N, 2) to (..., N, 3): x, y, 1."""
    return torch.cat([points, torch.ones_like(points[..., :1])], -1)


def poly2_basis(points: Tensor) -> Tensor:
    """(..., N, 2) to (..., N, 6): 1, x, y, x^2, x y, y^2."""
    x, y = points.unbind(-1)
    return torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y], -1)


def spread(points: Tensor) -> tuple[Tensor, Tensor]:
    """Centre (..., 1, 2) and mean distance from it (..., 1, 1).

    The distance is 1 where all points are one.
    """
    centre = points.mean(-2, keepdim=True)
    size = (points - centre).norm(dim=-1, keepdim=True).mean(
        -2, keepdim=True)
    return centre.detach(), torch.where(size > 0, size, 1).detach()


def solve_weighted(basis: Tensor, target: Tensor,
                   weight: Tensor | None) -> Tensor:
    """Weighted least squares by the normal equations.

    Args:
        basis: (..., N, m).
        target: (..., N, 2).
        weight: (..., N), not negative, or None for 1.

    Returns:
        (..., m, 2).

    Raises:
        torch.linalg.LinAlgError: If the points do not determine the
            transform (too few, or on a line).
    """
    turned = basis.transpose(-1, -2)
    if weight is not None:
        turned = turned * weight[..., None, :]
    return torch.linalg.solve(turned @ basis, turned @ target)


@numpy_too
def fit_affine(fixed: Tensor, moving: Tensor,
               weight: Tensor | None = None) -> Tensor:
    """Least-squares affine from fixed to moving points.

    Args:
        fixed: (..., N, 2).
        moving: (..., N, 2).
        weight: (..., N), not negative; default: 1.

    Returns:
        (..., 2, 3).
    """
    centre, size = spread(fixed)
    solution = solve_weighted(
        affine_basis((fixed - centre) / size), moving, weight)
    linear = (solution[..., :2, :] / size).transpose(-1, -2)
    shift = solution[..., 2, :] - (linear @ centre.transpose(-1, -2))[..., 0]
    return torch.cat([linear, shift[..., None]], -1)


@numpy_too
def fit_affine_robust(
        fixed: Tensor, moving: Tensor, weight: Tensor | None = None,
        start: float = 24., end: float = 3., steps: int = 8) -> Tensor:
    """Affine by iterated reweighting against Geman and McClure's loss.

    Each round weighs a pair by (c^2 / (c^2 + r^2))^2, r its residual, and c
    falls geometrically from ``start`` to ``end``. Differentiable: gradients
    run through the rounds.

    Args:
        fixed: (..., N, 2).
        moving: (..., N, 2).
        weight: (..., N), not negative; default: 1.
        start: First c in pixels.
        end: Last c in pixels.
        steps: Rounds, at least 1.

    Returns:
        (..., 2, 3).
    """
    if not (start >= end > 0 and steps >= 1):
        raise ConfigError(
            f'start={start}, end={end}, steps={steps}: expected start >= '
            'end > 0 and at least one step.')
    prior = torch.ones_like(fixed[..., 0]) if weight is None else weight
    affine = fit_affine(fixed, moving, prior)
    for step in range(steps):
        share = step / max(steps - 1, 1)
        c2 = (start * (end / start)**share)**2
        squared = (apply(affine, fixed) - moving).square().sum(-1)
        affine = fit_affine(
            fixed, moving, prior * (c2 / (c2 + squared)).square())
    return affine


@numpy_too
def fit_homography(fixed: Tensor, moving: Tensor,
                   weight: Tensor | None = None) -> Tensor:
    """Homography by the direct linear transform, with its last entry 1.

    Both sides are centred and scaled first (Hartley, "In Defense of the
    Eight-Point Algorithm", PAMI 1997).

    Args:
        fixed: (..., N, 2), N at least 4.
        moving: (..., N, 2).
        weight: (..., N), not negative; default: 1.

    Returns:
        (..., 3, 3).
    """
    (c, s), (d, t) = spread(fixed), spread(moving)
    rows, right = homography_system((fixed - c) / s, (moving - d) / t)
    both = None if weight is None else torch.cat([weight, weight], -1)
    eight = solve_weighted(rows, right, both)[..., 0]
    matrix = torch.cat(
        [eight, torch.ones_like(eight[..., :1])], -1).unflatten(-1, (3, 3))
    whole = _scaling(1 / t, d) @ matrix @ torch.linalg.inv(
        _scaling(1 / s, c))
    return whole / whole[..., 2:, 2:]


def homography_system(fixed: Tensor, moving: Tensor
                      ) -> tuple[Tensor, Tensor]:
    """Linear equations of the first eight entries of a homography.

    Args:
        fixed: (..., N, 2).
        moving: (..., N, 2).

    Returns:
        (..., 2 N, 8) and (..., 2 N, 1).
    """
    x, y = fixed.unbind(-1)
    u, v = moving.unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    rows = torch.cat([
        torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], -1),
        torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], -1)], -2)
    return rows, torch.cat([u, v], -1)[..., None]


def _scaling(factor: Tensor, centre: Tensor) -> Tensor:
    """The map x -> x / factor + centre, (..., 3, 3)."""
    out = factor.new_zeros(*factor.shape[:-2], 3, 3)
    out[..., 0, 0] = out[..., 1, 1] = (1 / factor)[..., 0, 0]
    out[..., 0, 2], out[..., 1, 2] = centre[..., 0, 0], centre[..., 0, 1]
    out[..., 2, 2] = 1
    return out


@dataclass(frozen=True)
class Warping:
    """A transform that is no matrix: a polynomial or a spline.

    Attributes:
        kind: ``'poly2'`` or ``'tps'``.
        coefficients: (m, 2).
        centre: (1, 2), taken off a fixed point first.
        size: (1, 1), what it is then divided by.
        knots: (N, 2), the spline's fixed points, centred and scaled.
    """

    kind: str
    coefficients: Tensor
    centre: Tensor
    size: Tensor
    knots: Tensor | None = None

    def __call__(self, points: Any) -> Any:
        """(N, 2) of the fixed image to (N, 2) of the moving one.

        NumPy arrays in, NumPy arrays out.
        """
        return _evaluate(points, self)


@numpy_too
def _evaluate(points: Tensor, warping: Warping) -> Tensor:
    like = warping.coefficients
    local = (points.to(like) - warping.centre) / warping.size
    # A spline of many knots: rows in parts, or memory grows with both.
    parts = [_basis(part, warping) @ like for part in local.split(65536)]
    return torch.cat(parts).to(points.dtype)


def _basis(local: Tensor, warping: Warping) -> Tensor:
    if warping.kind == 'poly2':
        return poly2_basis(local)
    if warping.knots is None:
        return affine_basis(local)
    return torch.cat(
        [tps_kernel(local, warping.knots), affine_basis(local)], -1)


def tps_kernel(points: Tensor, knots: Tensor) -> Tensor:
    """r^2 log r, (N, 2) and (M, 2) to (N, M); 0 at r = 0."""
    squared = (points[:, None] - knots[None]).square().sum(-1)
    safe = torch.where(squared > 0, squared, 1)
    return 0.5 * squared * safe.log()


def fit_poly2(fixed: Tensor, moving: Tensor,
              weight: Tensor | None = None) -> Warping:
    """Second-order polynomial of both coordinates.

    Args:
        fixed: (N, 2), N at least 6.
        moving: (N, 2).
        weight: (N,), not negative; default: 1.
    """
    centre, size = spread(fixed)
    basis = poly2_basis((fixed - centre) / size)
    return Warping('poly2', solve_weighted(basis, moving, weight), centre,
                   size)


def fit_tps(fixed: Tensor, moving: Tensor, weight: Tensor | None = None,
            smoothing: float = 0.) -> Warping:
    """Thin-plate spline.

    Args:
        fixed: (N, 2), no two alike.
        moving: (N, 2).
        weight: (N,), above 0; the larger, the nearer the spline passes.
        smoothing: Of the bending energy, in pixels^2 of residual; 0 passes
            through all points.

    Returns:
        The spline; its bending part is 0 for points of an affine.
    """
    if not 0 <= smoothing < math.inf:
        raise ConfigError(f'smoothing={smoothing} must be at least 0.')
    centre, size = spread(fixed)
    knots = (fixed - centre) / size
    count = len(knots)
    kernel = tps_kernel(knots, knots)
    ridge = torch.full_like(knots[:, 0], smoothing) if weight is None else \
        smoothing / weight
    basis = affine_basis(knots)
    system = torch.cat([
        torch.cat([kernel + torch.diag(ridge), basis], 1),
        torch.cat([basis.mT, basis.new_zeros(3, 3)], 1)])
    right = torch.cat([moving, moving.new_zeros(3, 2)])
    solution = torch.linalg.solve(system, right)
    return Warping('tps', solution, centre, size,
                   knots if count else None)


BASES = {'affine': affine_basis, 'poly2': poly2_basis}
Fit = Callable[..., Any]
FITS: dict[str, Fit] = {
    'affine': fit_affine, 'homography': fit_homography, 'poly2': fit_poly2,
    'tps': fit_tps}
