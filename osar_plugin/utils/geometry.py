"""Coordinates, affines, homographies and flows of registration.

The conventions of the whole package:

* A point is (x, y): column, row. Pixel **centres** are integers, so an image
  of width W reaches from -0.5 to W - 0.5.
* A transform maps the fixed image to the moving one: what lies at x in
  ``fixed`` lies at A(x) in ``moving``. Matrices are (..., 2, 3) or, for
  homographies, (..., 3, 3), in pixels.
* A flow (..., 2, H, W) has channels (dx, dy) in pixels on the grid of
  ``fixed``: moving(x + f(x)) = fixed(x).
* Normalised coordinates are those of ``align_corners=False``:
  x_n = (2 x + 1) / W - 1.

All functions take tensors of any device and are differentiable; those on
matrices, points and whole flows take NumPy arrays as well and then give NumPy
arrays (float64 unless the input is float32). Sizes are always (H, W).

Legend: B batch, N points, H W height and width in pixels; A an affine,
f a flow, k a factor of resolution.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import ConfigError, DataFormatError

Size = tuple[int, int]


def numpy_too(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of tensors take NumPy arrays.

    If the first argument is an array, the arrays among all arguments become
    tensors (integers float64) and the result an array.
    """

    @functools.wraps(function)
    def wrapper(first: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(first, Tensor):
            return function(first, *args, **kwargs)
        out = function(_to_tensor(np.asarray(first)),
                       *map(_to_tensor, args),
                       **{k: _to_tensor(v) for k, v in kwargs.items()})
        return out.numpy()

    return wrapper


def _to_tensor(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype not in (np.float32, np.float64, np.bool_):
        value = value.astype(np.float64)
    return torch.from_numpy(np.ascontiguousarray(value))


def check_matrix(matrix: Any, name: str = 'affine') -> np.ndarray:
    """A finite, invertible 2x3 matrix (or 3x3 homography) of numbers.

    Args:
        matrix: Nested lists or an array.
        name: Of the value, for messages.

    Returns:
        float64 array.

    Raises:
        DataFormatError: If it is anything else.
    """
    try:
        array = np.asarray(matrix, np.float64)
    except (TypeError, ValueError) as error:
        raise DataFormatError(
            f'{name}={matrix!r} is no matrix of numbers.') from error
    if array.shape not in ((2, 3), (3, 3)) or not np.isfinite(array).all():
        raise DataFormatError(
            f'{name} has shape {array.shape} and values {array.tolist()}; '
            'expected 2 x 3 or 3 x 3 finite numbers.')
    part = array[:, :2] if len(array) == 2 else array
    if abs(np.linalg.det(part)) < 1e-12:
        raise DataFormatError(
            f'{name}={array.tolist()} cannot be inverted: it maps the image '
            'to a line or a point.')
    return array


# ----------------------------------------------------------------- matrices


def similarity(angle: float, scale: float = 1., shift: tuple[float, float]
               = (0., 0.), centre: tuple[float, float] = (0., 0.)
               ) -> np.ndarray:
    """Rotation and scale about a centre, then a shift.

    As ``cv2.getRotationMatrix2D`` with the shift added: positive angles
    turn counter-clockwise on the screen (y points down).

    Args:
        angle: Degrees.
        scale: Factor above 0.
        shift: (x, y) pixels.
        centre: (x, y) pixels.

    Returns:
        (2, 3) float64.
    """
    a = scale * math.cos(math.radians(angle))
    b = scale * math.sin(math.radians(angle))
    x, y = centre
    return np.array([
        [a, b, (1 - a) * x - b * y + shift[0]],
        [-b, a, b * x + (1 - a) * y + shift[1]]])


@numpy_too
def homogeneous(matrix: Tensor) -> Tensor:
    """(..., 2, 3) or (..., 3, 3) to (..., 3, 3)."""
    if matrix.shape[-2] == 3:
        return matrix
    last = matrix.new_tensor([0., 0., 1.]).expand(*matrix.shape[:-2], 1, 3)
    return torch.cat([matrix, last], -2)


@numpy_too
def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The transform x -> outer(inner(x)).

    Returns:
        (..., 2, 3) if both are affine, else (..., 3, 3).
    """
    affine = outer.shape[-2] == 2 and inner.shape[-2] == 2
    product = homogeneous(outer) @ homogeneous(inner)
    return product[..., :2, :] if affine else product


@numpy_too
def invert(matrix: Tensor) -> Tensor:
    """The inverse transform, of the same kind."""
    full = homogeneous(matrix)
    # By LU in one call; half precision has no solver.
    inverse = torch.linalg.inv(full)
    return inverse[..., :2, :] if matrix.shape[-2] == 2 else inverse


@numpy_too
def apply(matrix: Tensor, points: Tensor) -> Tensor:
    """Points through an affine or a homography.

    Args:
        matrix: (..., 2, 3) or (..., 3, 3).
        points: (..., N, 2).

    Returns:
        (..., N, 2). Points that a homography sends beyond the horizon come
        out infinite or NaN, as the division gives them.
    """
    linear = matrix[..., :2].transpose(-1, -2)
    mapped = points @ linear + matrix[..., None, :, 2]
    if matrix.shape[-2] == 2:
        return mapped
    return mapped[..., :2] / mapped[..., 2:]


def _resizing(factors: Any, like: Tensor) -> Tensor:
    """The map x -> k (x + 0.5) - 0.5, (3, 3); k or (k_x, k_y)."""
    kx, ky = factors if isinstance(factors, (tuple, list)) else (
        factors, factors)
    if not (kx > 0 and ky > 0):
        raise ConfigError(f'Factors {factors} must be above 0.')
    return like.new_tensor([
        [kx, 0, (kx - 1) / 2], [0, ky, (ky - 1) / 2], [0, 0, 1]])


@numpy_too
def rescale(matrix: Tensor,
            fixed: float | tuple[float, float] = 1.,
            moving: float | tuple[float, float] = 1.) -> Tensor:
    """The same transform for images resized by factors.

    Resizing by k takes x to k (x + 0.5) - 0.5: borders stay, centres move.

    Args:
        matrix: (..., 2, 3) or (..., 3, 3) between the images as they are.
        fixed: New size of the fixed image over its old one, or the two
            factors (x, y).
        moving: The same of the moving image.
    """
    affine = matrix.shape[-2] == 2
    out = _resizing(moving, matrix) @ homogeneous(matrix) @ torch.linalg.inv(
        _resizing(fixed, matrix))
    return out[..., :2, :] if affine else out


@numpy_too
def to_corner_convention(matrix: Tensor) -> Tensor:
    """From integer pixel centres to GDAL's integer pixel corners.

    S A S^-1 with S the shift by (+0.5, +0.5).
    """
    return _shifted(matrix, 0.5)


@numpy_too
def from_corner_convention(matrix: Tensor) -> Tensor:
    """The inverse of :func:`to_corner_convention`."""
    return _shifted(matrix, -0.5)


def _shifted(matrix: Tensor, by: float) -> Tensor:
    shift = matrix.new_tensor([[1, 0, by], [0, 1, by], [0, 0, 1]])
    back = matrix.new_tensor([[1, 0, -by], [0, 1, -by], [0, 0, 1]])
    out = shift @ homogeneous(matrix) @ back
    return out[..., :2, :] if matrix.shape[-2] == 2 else out


def _normaliser(size: Size, like: Tensor) -> Tensor:
    """Pixels to normalised coordinates, (3, 3)."""
    height, width = size
    return like.new_tensor([
        [2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1],
        [0, 0, 1]])


@numpy_too
def to_theta(matrix: Tensor, fixed_size: Size,
             moving_size: Size | None = None) -> Tensor:
    """Pixels to the theta of ``F.affine_grid(..., align_corners=False)``.

    theta = N_moving A N_fixed^-1.
    """
    theta = _normaliser(moving_size or fixed_size, matrix) @ homogeneous(
        matrix) @ torch.linalg.inv(_normaliser(fixed_size, matrix))
    return theta[..., :2, :] if matrix.shape[-2] == 2 else theta


@numpy_too
def from_theta(theta: Tensor, fixed_size: Size,
               moving_size: Size | None = None) -> Tensor:
    """The inverse of :func:`to_theta`."""
    matrix = torch.linalg.inv(_normaliser(
        moving_size or fixed_size, theta)) @ homogeneous(
            theta) @ _normaliser(fixed_size, theta)
    return matrix[..., :2, :] if theta.shape[-2] == 2 else matrix


# -------------------------------------------------------------------- flows


def pixel_grid(size: Size, dtype: torch.dtype = torch.float32,
               device: torch.device | str | None = None) -> Tensor:
    """(2, H, W): x and y of every pixel centre."""
    height, width = size
    y, x = torch.meshgrid(
        torch.arange(height, dtype=dtype, device=device),
        torch.arange(width, dtype=dtype, device=device), indexing='ij')
    return torch.stack([x, y])


@numpy_too
def matrix_to_flow(matrix: Tensor, size: Size) -> Tensor:
    """A(x) - x on the grid of the fixed image.

    Computed as (A - I) x for an affine, so that identity gives 0 exactly.

    Args:
        matrix: (..., 2, 3) or (..., 3, 3).
        size: Of the fixed image.

    Returns:
        (..., 2, H, W).
    """
    grid = pixel_grid(size, matrix.dtype, matrix.device)
    if matrix.shape[-2] == 3:
        points = grid.flatten(1).mT
        moved = apply(matrix, points.expand(*matrix.shape[:-2], -1, 2))
        return (moved - points).mT.unflatten(-1, size)
    linear = matrix[..., :2] - torch.eye(
        2, dtype=matrix.dtype, device=matrix.device)
    return torch.einsum('...ij,jhw->...ihw', linear, grid) \
        + matrix[..., 2, None, None]


@numpy_too
def resize_flow(flow: Tensor, size: Size) -> Tensor:
    """A flow for images resized alike: its grid and its values.

    Up-sampling by k multiplies the flow by k. Enlarging is bilinear
    (``align_corners=False``); shrinking takes means of the area.

    Args:
        flow: (B, 2, H, W) or (2, H, W).
        size: New (H, W).
    """
    height, width = flow.shape[-2:]
    batch = flow.reshape(-1, 2, height, width)
    shrinks = size[0] < height and size[1] < width
    out = F.interpolate(batch, size, mode='area') if shrinks else \
        F.interpolate(batch, size, mode='bilinear', align_corners=False)
    factors = out.new_tensor([size[1] / width, size[0] / height])
    out = out * factors[:, None, None]
    return out.reshape(*flow.shape[:-2], *size)


@numpy_too
def normalise(positions: Tensor, size: Size) -> Tensor:
    """Pixels (..., 2), (x, y), to normalised coordinates."""
    factors = positions.new_tensor([2 / size[1], 2 / size[0]])
    return (positions + 0.5) * factors - 1


@numpy_too
def denormalise(positions: Tensor, size: Size) -> Tensor:
    """The inverse of :func:`normalise`."""
    factors = positions.new_tensor([size[1] / 2, size[0] / 2])
    return (positions + 1) * factors - 0.5


def sample(image: Tensor, positions: Tensor, mode: str = 'bilinear',
           padding: str = 'zeros') -> Tensor:
    """Values of an image at positions in pixels.

    Args:
        image: (B, C, H, W).
        positions: (B, 2, h, w), (x, y).
        mode: ``'bilinear'``, ``'nearest'`` or ``'bicubic'``.
        padding: Outside: ``'zeros'`` or ``'border'``.

    Returns:
        (B, C, h, w).
    """
    size = (image.shape[-2], image.shape[-1])
    grid = normalise(positions.permute(0, 2, 3, 1), size)
    return F.grid_sample(image, grid, mode, padding, align_corners=False)


def warp(moving: Tensor, flow: Tensor, mode: str = 'bilinear',
         padding: str = 'zeros') -> Tensor:
    """The moving image on the grid of the fixed one: moving(x + f(x)).

    Args:
        moving: (B, C, h, w).
        flow: (B, 2, H, W).
        mode: See :func:`sample`.
        padding: See :func:`sample`.

    Returns:
        (B, C, H, W).
    """
    size = (flow.shape[-2], flow.shape[-1])
    grid = pixel_grid(size, flow.dtype, flow.device)
    return sample(moving, grid + flow, mode, padding)


@numpy_too
def inside(flow: Tensor, moving_size: Size | None = None) -> Tensor:
    """Where the target of a flow lies on a pixel of the moving image.

    Positions from 0 to W - 1 count, so all four neighbours of a bilinear
    sample exist. (A hundred-thousandth of a pixel beyond is let pass, for
    the rounding of float32.)

    Args:
        flow: (..., 2, H, W).
        moving_size: Of the moving image; default: that of the flow.

    Returns:
        (..., H, W) bool.
    """
    size = (flow.shape[-2], flow.shape[-1])
    target = flow + pixel_grid(size, flow.dtype, flow.device)
    height, width = moving_size or size
    x, y = target[..., 0, :, :], target[..., 1, :, :]
    slack = 1e-5 * max(height, width) / 256
    return (x >= -slack) & (x <= width - 1 + slack) & (
        y >= -slack) & (y <= height - 1 + slack)


@numpy_too
def flow_at(flow: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of a flow at points; beyond the border, linear.

    Outside of the grid the flow continues with the slope of its outermost
    cell, so that an affine flow is exact everywhere.

    Args:
        flow: (..., 2, H, W).
        points: (..., N, 2).

    Returns:
        (..., N, 2).
    """
    height, width = flow.shape[-2:]
    x, y = points[..., 0], points[..., 1]
    x0 = x.detach().floor().clamp(0, max(width - 2, 0))
    y0 = y.detach().floor().clamp(0, max(height - 2, 0))
    u, v = (x - x0)[..., None], (y - y0)[..., None]
    values = flow.flatten(-2).transpose(-1, -2)  # (..., H W, 2)
    right, below = min(width - 1, 1), width * min(height - 1, 1)
    index = (y0 * width + x0).long()

    def at(offset: int) -> Tensor:
        rows = (index + offset)[..., None].expand(*index.shape, 2)
        source = values.expand(*index.shape[:-1], *values.shape[-2:])
        return source.gather(-2, rows)

    top = at(0) * (1 - u) + at(right) * u
    bottom = at(below) * (1 - u) + at(below + right) * u
    return top * (1 - v) + bottom * v


@numpy_too
def move_points(flow: Tensor, points: Tensor) -> Tensor:
    """Points of the fixed image through a flow: p + f(p)."""
    return points + flow_at(flow, points)


@numpy_too
def compose_flows(outer: Tensor, inner: Tensor) -> Tensor:
    """First ``inner``, fixed to an intermediate image, then ``outer``.

    x -> x + f_in(x) + f_out(x + f_in(x)); beyond its border the outer flow
    continues linearly, see :func:`flow_at`.

    Args:
        outer: (..., 2, h, w) on the grid of the intermediate image.
        inner: (..., 2, H, W) on the grid of the fixed image.

    Returns:
        (..., 2, H, W).
    """
    size = (inner.shape[-2], inner.shape[-1])
    target = inner + pixel_grid(size, inner.dtype, inner.device)
    points = target.flatten(-2).transpose(-1, -2)
    step = flow_at(outer, points).transpose(-1, -2)
    return inner + step.unflatten(-1, size)


@numpy_too
def invert_flow(flow: Tensor, moving_size: Size | None = None,
                iterations: int = 30) -> Tensor:
    """The flow g on the grid of ``moving`` with fixed(y + g(y)) = moving(y).

    Starts from the least-squares affine of the flow, which is exact where
    the flow is affine, and repeats g(y) <- g(y) - A^-1 r(y) with r the
    residual of f(y + g(y)) + g(y) = 0. Converges where what the affine
    leaves over changes by less than one pixel per pixel.

    Args:
        flow: (..., 2, H, W).
        moving_size: Of the moving image; default: that of the flow.
        iterations: Rounds.

    Returns:
        (..., 2, h, w).
    """
    size = moving_size or (flow.shape[-2], flow.shape[-1])
    inverse = invert(flow_to_affine(flow))
    start = matrix_to_flow(inverse, size)
    linear = inverse[..., :2]
    points = pixel_grid(size, flow.dtype, flow.device).flatten(1).mT
    points = points.expand(*flow.shape[:-3], -1, 2)
    back = start.flatten(-2).transpose(-1, -2)
    for _ in range(iterations):
        residual = flow_at(flow, points + back) + back
        back = back - residual @ linear.transpose(-1, -2)
    return back.transpose(-1, -2).unflatten(-1, size)


@numpy_too
def flow_to_affine(flow: Tensor, weight: Tensor | None = None) -> Tensor:
    """The weighted least-squares affine of a flow.

    Args:
        flow: (..., 2, H, W).
        weight: (..., H, W), not negative; default: 1.

    Returns:
        (..., 2, 3), fixed to moving.
    """
    size = (flow.shape[-2], flow.shape[-1])
    height, width = size
    # Sums over a quarter of a million pixels: float32 is off by 1e-3 px.
    target = flow.double()
    grid = pixel_grid(size, target.dtype, flow.device)
    centre = target.new_tensor([(width - 1) / 2, (height - 1) / 2])
    # Centred and scaled, so that the normal matrix is well conditioned.
    scale = max(height, width) / 2
    basis = torch.cat([
        (grid - centre[:, None, None]) / scale,
        torch.ones_like(grid[:1])]).flatten(1)
    weighted = basis if weight is None else basis * weight.double().flatten(
        -2)[..., None, :]
    normal = weighted @ basis.mT
    right = weighted @ target.flatten(-2).transpose(-1, -2)
    solution = torch.linalg.solve(normal, right).transpose(-1, -2)
    linear = solution[..., :2] / scale
    shift = solution[..., 2] - linear @ centre
    eye = torch.eye(2, dtype=target.dtype, device=flow.device)
    return torch.cat([linear + eye, shift[..., None]], -1).to(flow.dtype)
