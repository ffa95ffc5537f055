"""Parts that HiViT and iTPN share, and their common trunk.

A hierarchical transformer without shifted windows. An image is cut into
units of 16 x 16 pixels; until the attention stage nothing leaves its unit,
so that units can be masked out before any work is done on them::

    image (B, 3, H, W) -- patch_embed --> units (B, L, 4, 4, D/4)
    -- keep: only N of the L units -->   (B, N, 4, 4, D/4)
    -- MLP blocks --> cells4 (B, N, 4, 4, D/4) -- PatchMerge -->
    -- MLP blocks --> cells8 (B, N, 2, 2, D/2) -- PatchMerge -->
    -- + positions, attention blocks --> tokens (B, N, D)

Module and parameter names are the official ones, so that the authors'
checkpoints load as they are.

Letters: B batch, L units of an image, N units that are kept (L without
masking), D channels of the attention stage, C channels, H W height and width
in pixels, Hp Wp the same in units (H/16, W/16), S side of the square grid
for which the position tables are made.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...utils.errors import ConfigError, DataFormatError
from .vit import MLP, Block, DropPath

UNIT = 16  # pixels
CELL = 4  # pixels


class PatchEmbed(nn.Module):
    """Pixels to units of 4 x 4 cells.

    Args:
        in_channels: Channels of the image.
        dim: Channels of a cell, D/4.
        norm_eps: Epsilon of the LayerNorm.
    """

    def __init__(self, in_channels: int, dim: int, norm_eps: float) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, CELL, stride=CELL)
        self.norm = nn.LayerNorm(dim, eps=norm_eps)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, L, 4, 4, D/4), units and cells row by row.

        The convolution does not overlap, so it is one matrix product on
        pixels that are brought into the order of the units first: a third
        of the values that would have to be moved behind it.

        Raises:
            DataFormatError: If the images are no floats (B, C, H, W) with
                sides that are multiples of 16.
        """
        channels = self.proj.in_channels
        if images.ndim != 4 or images.shape[1] != channels or (
                0 in images.shape or not images.is_floating_point()):
            raise DataFormatError(
                f'The backbone takes images (B, {channels}, H, W) of floats '
                f'and got {tuple(images.shape)} {images.dtype}. Let the '
                'data_preprocessor stack and normalise them.')
        b, c, h, w = images.shape
        if h % UNIT or w % UNIT:
            raise DataFormatError(
                f'The backbone takes sides that are multiples of {UNIT} '
                f'pixels and got {h} x {w} (H x W). Set '
                f'data_preprocessor.pad_size_divisor={2 * UNIT} or resize '
                'in the pipeline.')
        # b, c, unit row, cell row, pixel row, unit column, ...
        pixels = images.reshape(b, c, h // UNIT, CELL, CELL, w // UNIT, CELL,
                                CELL).permute(0, 2, 5, 3, 6, 1, 4, 7)
        cells = pixels.reshape(b, -1, CELL, CELL, c * CELL**2)
        weight = self.proj.weight.flatten(1)
        return self.norm(F.linear(cells, weight, self.proj.bias))


class PatchMerge(nn.Module):
    """Halve the side of every unit, double the channels.

    Args:
        dim: Channels of the input.
        norm_eps: Epsilon of the LayerNorm.
    """

    def __init__(self, dim: int, norm_eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim, eps=norm_eps)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, 2h, 2w, C) to (B, N, h, w, 2C).

        The four neighbours are concatenated column by column: (0, 0),
        (1, 0), (0, 1), (1, 1) as (row, column), official order.
        """
        b, n, rows, columns, c = x.shape
        x = x.reshape(b, n, rows // 2, 2, columns // 2, 2, c)
        x = x.permute(0, 1, 2, 4, 5, 3, 6)
        return self.reduction(self.norm(x.flatten(4)))


class PatchSplit(nn.Module):
    """Double the side of every unit: the way back up in the pyramid.

    Args:
        in_dim: Channels of the input.
        out_dim: Channels F of the pyramid.
        norm_eps: Epsilon of the LayerNorm.
    """

    def __init__(self, in_dim: int, out_dim: int, norm_eps: float) -> None:
        super().__init__()
        self.out_dim = out_dim
        self.norm = nn.LayerNorm(in_dim, eps=norm_eps)
        self.reduction = nn.Linear(in_dim, 4 * out_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, h, w, C) to (B, N, 2h, 2w, F); groups (row, column)."""
        b, n, rows, columns, _ = x.shape
        x = self.reduction(self.norm(x)).unflatten(-1, (2, 2, self.out_dim))
        return x.permute(0, 1, 2, 4, 3, 5, 6).reshape(
            b, n, 2 * rows, 2 * columns, self.out_dim)


class MLPBlock(nn.Module):
    """Pre-norm block without attention: x + mlp(norm2(x)).

    Args:
        dim: Channels.
        mlp_ratio: Hidden channels over ``dim``.
        drop_path: Stochastic depth.
        norm_eps: Epsilon of the LayerNorm.
    """

    def __init__(self, dim: int, mlp_ratio: float, drop_path: float,
                 norm_eps: float) -> None:
        super().__init__()
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = MLP(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, h, w, C) to the same."""
        return x + self.drop_path(self.mlp(self.norm2(x)))


class AttentionBlock(Block):
    """Pre-norm transformer block with relative positions or windows.

    Args:
        dim: Channels D.
        num_heads: Attention heads.
        mlp_ratio: Hidden channels of the MLP over D.
        drop_path: Stochastic depth.
        norm_eps: Epsilon of the LayerNorms.
        attention: See :class:`osar_plugin.models.backbones.vit.Attention`.
        rpe_side: S, for a table of relative positions; 0 for none.
        window: Side of the attention windows in units; 0 for global
            attention.
    """

    def __init__(self,
                 dim: int,
                 num_heads: int,
                 mlp_ratio: float,
                 drop_path: float,
                 norm_eps: float,
                 attention: str = 'auto',
                 rpe_side: int = 0,
                 window: int = 0) -> None:
        super().__init__(dim, num_heads, mlp_ratio, True, drop_path, norm_eps,
                         attention)
        self.window = window
        rows = (2 * rpe_side - 1)**2
        self.attn.register_parameter(
            'relative_position_bias_table',
            nn.Parameter(torch.zeros(rows, num_heads)) if rpe_side else None)

    def forward(self,  # type: ignore[override]
                x: Tensor, grid: tuple[int, int],
                relative: Tensor | None = None) -> Tensor:
        """(B, N, D) to (B, N, D).

        Args:
            x: Tokens, all of the grid row by row where windows are used.
            grid: (Hp, Wp).
            relative: (N, N) or (B, N, N) long: row of the table of relative
                positions for each pair of tokens.
        """
        if self.window:
            y = in_windows(
                lambda part: self.attn(self.norm1(part)), x, grid,
                self.window)
        else:
            y = self.attn(self.norm1(x), self.relative_bias(relative))
        x = x + self.drop_path(y)
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def relative_bias(self, relative: Tensor | None) -> Tensor | None:
        """(1 or B, heads, N, N), what the table adds to the logits."""
        table = self.attn.relative_position_bias_table
        if table is None or relative is None:
            return None
        bias = F.embedding(relative, table)  # type: ignore[arg-type]
        bias = bias.movedim(-1, -3).contiguous()
        return bias if bias.ndim == 4 else bias[None]


def in_windows(function: Callable[[Tensor], Tensor], x: Tensor,
               grid: tuple[int, int], window: int) -> Tensor:
    """Apply a function inside windows that do not overlap.

    The grid is filled up with zeros at the bottom and the right. As in the
    official detectors they go through the function like all tokens: behind
    its LayerNorm they are that norm's bias, and they are attended to.

    Args:
        function: (B', window * window, D) to the same.
        x: (B, Hp * Wp, D).
        grid: (Hp, Wp).
        window: Side of a window in units.

    Returns:
        (B, Hp * Wp, D).
    """
    b, _, d = x.shape
    down, right = (-side % window for side in grid)
    maps = F.pad(x.unflatten(1, grid), (0, 0, 0, right, 0, down))
    rows, columns = maps.shape[1] // window, maps.shape[2] // window
    maps = maps.reshape(b, rows, window, columns, window, d)
    tokens = function(maps.transpose(2, 3).reshape(-1, window**2, d))
    maps = tokens.view(b, rows, columns, window, window, d).transpose(2, 3)
    maps = maps.reshape(b, rows * window, columns * window, d)
    return maps[:, :grid[0], :grid[1]].flatten(1, 2)


def relative_index(side: int) -> Tensor:
    """Row of the table of relative positions for each pair of tokens.

    (row difference + S-1) * (2S-1) + (column difference + S-1), as in Swin.

    Args:
        side: S.

    Returns:
        (S * S, S * S) long.
    """
    place = torch.arange(side)
    row = place.repeat_interleave(side)
    column = place.repeat(side)
    rows = row[:, None] - row[None] + side - 1
    columns = column[:, None] - column[None] + side - 1
    return rows * (2 * side - 1) + columns


def gather_relative(index: Tensor, keep: Tensor) -> Tensor:
    """The pairs of the kept tokens.

    Args:
        index: (L, L), see :func:`relative_index`.
        keep: (B, N) long.

    Returns:
        (B, N, N) long.
    """
    return index[keep[:, :, None], keep[:, None, :]]


def gather_units(units: Tensor, keep: Tensor) -> Tensor:
    """The kept units of each image.

    Args:
        units: (B, L, ...).
        keep: (B, N) long.

    Returns:
        (B, N, ...).
    """
    b, length = units.shape[:2]
    first = torch.arange(b, device=keep.device)[:, None] * length
    chosen = units.flatten(0, 1).index_select(0, (keep + first).flatten())
    return chosen.unflatten(0, keep.shape)


def resize_positions(table: Tensor, grid: tuple[int, int],
                     mode: str = 'official') -> Tensor:
    """Bicubic position table for a grid.

    Args:
        table: (1, S * S, D).
        grid: (Hp, Wp).
        mode: ``'official'``: scale factors (Hp + 0.1) / S and (Wp + 0.1) / S
            used as they are, which zooms a little (official code);
            ``'size'``: exactly from S x S to Hp x Wp.

    Returns:
        (1, Hp * Wp, D).
    """
    side = square_side(table)
    maps = table.transpose(1, 2).unflatten(2, (side, side))
    with torch.autocast(table.device.type, enabled=False):
        if mode == 'size':
            maps = F.interpolate(maps.float(), size=grid, mode='bicubic')
        else:
            factors = [(g + 0.1) / side for g in grid]
            maps = F.interpolate(
                maps.float(), scale_factor=factors, mode='bicubic')
    if tuple(maps.shape[-2:]) != tuple(grid):
        raise DataFormatError(
            f'The position table of {side} x {side} came out as '
            f'{tuple(maps.shape[-2:])} for a grid of {tuple(grid)} units. '
            "Use position='size'.")
    return maps.flatten(2).transpose(1, 2).to(table.dtype)


def square_side(table: Tensor) -> int:
    """S of a position table (1, S * S, D)."""
    return round(table.shape[1]**0.5)


def sincos_table(dim: int, side: int) -> Tensor:
    """Fixed sine-cosine positions, MAE's convention.

    The first half of the channels encodes the column, the second the row;
    each half is [sine | cosine] of the place times 10000^(-i / (D/4)).

    Args:
        dim: D, a multiple of 4.
        side: S.

    Returns:
        (1, S * S, D) float32.

    Raises:
        ConfigError: If ``dim`` is no multiple of 4.
    """
    if dim % 4:
        raise ConfigError(
            f'{dim} channels cannot hold sine and cosine of two axes: '
            'expected a multiple of 4.')
    steps = torch.arange(dim // 4, dtype=torch.float64) / (dim // 4)
    angles = torch.arange(side).double()[:, None] * 10000.**-steps
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # (S, D/2)
    column = waves[None].expand(side, side, -1)
    row = waves[:, None].expand(side, side, -1)
    return torch.cat([column, row], dim=2).reshape(1, -1, dim).float()


def to_map(cells: Tensor, grid: tuple[int, int]) -> Tensor:
    """Units to a feature map.

    Args:
        cells: (B, Hp * Wp, h, w, C).
        grid: (Hp, Wp).

    Returns:
        (B, C, Hp * h, Wp * w).
    """
    b, _, rows, columns, c = cells.shape
    maps = cells.unflatten(1, grid).permute(0, 5, 1, 3, 2, 4)
    return maps.reshape(b, c, grid[0] * rows, grid[1] * columns)
