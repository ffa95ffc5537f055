"""From features of two images to positions.

Letters: B batch, C channels, H W height and width in pixels, h w and n = h w
the coarse cells of the fixed image, m those of the moving one, r radius.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...utils.geometry import Size, pixel_grid
from ..precision import full_precision

# Below any logit of cosines, yet finite: a row that is masked all over still
# has a softmax.
LOWEST = -1e4


def cell_centres(grid: Size, stride: float, like: Tensor) -> Tensor:
    """Centres of cells in pixels of the whole image, (n, 2)."""
    cells = pixel_grid(grid, like.dtype, like.device).flatten(1).mT
    return (cells + 0.5) * stride - 0.5


@full_precision
def match_cells(fixed: Tensor, moving: Tensor, temperature: float,
                valid: Tensor | None = None) -> Tensor:
    """Log of how likely cells belong together, both ways.

    Softmax of cosines over the cells of the moving image, times the softmax
    over those of the fixed one.

    Args:
        fixed: (B, C, h, w).
        moving: (B, C, h', w').
        temperature: Of both softmaxes.
        valid: (B, 1, h', w') bool, cells of moving with data.

    Returns:
        (B, n, m), at most 0.
    """
    a = F.normalize(fixed.flatten(2), dim=1)
    b = F.normalize(moving.flatten(2), dim=1)
    logits = a.mT @ b / temperature
    if valid is not None:
        logits = logits.masked_fill(~valid.flatten(2), LOWEST)
    return logits.log_softmax(2) + logits.log_softmax(1)


@full_precision
def soft_positions(log_joint: Tensor, grid: Size, stride: float,
                   window: int = 2) -> tuple[Tensor, Tensor]:
    """Where each cell of the fixed image lies, and how surely.

    The mean position of the cells around the likeliest one, weighed by
    their likelihood. Over all cells the mean would be drawn to the centre
    of the image.

    Args:
        log_joint: (B, n, m), see :func:`match_cells`.
        grid: Cells (h', w') of the moving image.
        stride: Of a cell in pixels.
        window: Cells around the likeliest that count, either way.

    Returns:
        positions: (B, n, 2), pixels of the whole moving image.
        confidence: (B, n), likelihood of the likeliest, 0..1.
    """
    centres = cell_centres(grid, stride, log_joint)
    best, index = log_joint.max(2)
    away = (centres - centres[index][:, :, None]).abs().amax(-1)
    near = log_joint.masked_fill(away > (window + 0.5) * stride, LOWEST)
    return near.softmax(2) @ centres, best.exp()


def local_correlation(fixed: Tensor, moving: Tensor,
                      radius: int) -> Tensor:
    """Cosines with the neighbours at the same place.

    Args:
        fixed: (B, C, H, W).
        moving: (B, C, H, W), warped onto the fixed grid; 0 outside.
        radius: r.

    Returns:
        (B, (2 r + 1)^2, H, W), row by row of the neighbourhood: entry
        (i, j) compares with moving at (x + j - r, y + i - r).
    """
    height, width = fixed.shape[-2:]
    a = F.normalize(fixed, dim=1)
    b = F.pad(F.normalize(moving, dim=1), (radius, ) * 4)
    side = 2 * radius + 1
    return torch.stack([
        (a * b[:, :, i:i + height, j:j + width]).sum(1)
        for i in range(side) for j in range(side)], dim=1)


@full_precision
def match_loss(log_joint: Tensor, grid: Size, stride: float, flow: Tensor,
               valid: Tensor | None = None) -> Tensor:
    """Negative log-likelihood of where cells truly belong.

    The truth lies between four cells of the moving image, which share it as
    in bilinear interpolation. Cells that leave the moving image do not
    count.

    Args:
        log_joint: (B, n, m), see :func:`match_cells`.
        grid: Cells (h, w), of either image.
        stride: Of a cell in pixels.
        flow: (B, 2, h, w) truth at the centres of cells, pixels of the
            whole image.
        valid: (B, 1, h, w) bool, cells that count.

    Returns:
        Scalar; 0 where no cell counts.
    """
    height, width = grid
    place = pixel_grid(grid, flow.dtype, flow.device) + flow / stride
    x, y = place.flatten(2).unbind(1)
    counts = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    if valid is not None:
        counts = counts & valid.flatten(1)
    x0 = x.floor().clamp(0, max(width - 2, 0))
    y0 = y.floor().clamp(0, max(height - 2, 0))
    u, v = (x - x0).clamp(0, 1), (y - y0).clamp(0, 1)
    loss = torch.zeros_like(u)
    for right, below, share in ((0, 0, (1 - u) * (1 - v)),
                                (1, 0, u * (1 - v)), (0, 1, (1 - u) * v),
                                (1, 1, u * v)):
        column = (x0 + right).clamp(max=width - 1)
        row = (y0 + below).clamp(max=height - 1)
        index = (row * width + column).long()[..., None]
        loss = loss - share * log_joint.gather(2, index)[..., 0]
    count = counts.sum().clamp(min=1)
    return torch.where(counts, loss, 0).sum() / count
