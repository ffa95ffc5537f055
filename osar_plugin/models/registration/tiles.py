"""Tiles of learned features, sought in a window of shifts.

The coarse stage of :class:`~.glam.GLAM` in which no cell has to find its
partner alone. Tiles of the fixed image are compared with the moving one at
all shifts of a window, as CFOG does (:mod:`.cfog`), and an affine is fitted
to where they lie, but what is compared is learned::

    features of some strides -> projected, added: learned part, norm 1
    orientated gradients of the image -> their mean over a cell: prior
    descriptor d = gate x (both, weighed)
    score of a tile at a shift: normalised correlation of d over the pixels
    with data on both sides; when matching, its significance

The gate, a number for each cell, lets what helps (a road) count more than
what does not (a lawn).

Letters: B batch, C channels, D channels of descriptors, H W height and width
in cells, r search radius and t side of a tile in cells, s = (2 r + 1)^2
shifts, n tiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...utils.config_values import require_range
from ...utils.errors import ConfigError
from ...utils.geometry import Size, flow_at
from ..precision import full_precision
from .correlation import LOWEST

# Share of a tile's energy that must meet data for a shift to count.
OVERLAP = 0.4
# Correlation beyond which nothing is likelier.
LIKEST = 0.99


@dataclass
class TileMatch:
    """What a stage of tiles found.

    Attributes:
        log_prob: (B, n, s), log-probability of each shift.
        centres: (n, 2), of the tiles, pixels of the whole image.
        stride: Of a cell in pixels.
    """

    log_prob: Tensor
    centres: Tensor
    stride: int


@full_precision
def shift_products(fixed: Tensor, moving: Tensor, radius: int) -> Tensor:
    """Scalar products with all neighbours of a window.

    A row of cells meets a row of the moving image in one matrix product, of
    which the band around the diagonal is what is wanted.

    Args:
        fixed: (B, C, H, W).
        moving: (B, C, H, W).
        radius: r.

    Returns:
        (B, s, H, W), row by row of the window: entry (i, j) compares with
        moving at (x + j - r, y + i - r), which is 0 outside.
    """
    batch, _, height, width = fixed.shape
    side = 2 * radius + 1
    rows = fixed.permute(0, 2, 3, 1)
    others = F.pad(moving, (radius, ) * 4).permute(0, 2, 1, 3)
    out = []
    for i in range(side):
        product = (rows @ others[:, i:i + height]).contiguous()
        step = product.stride()
        out.append(product.as_strided(
            (batch, height, width, side),
            (step[0], step[1], step[2] + step[3], step[3])))
    return torch.cat(out, dim=3).permute(0, 3, 1, 2)


@full_precision
def tile_scores(fixed: Tensor, moving: Tensor, masks: Sequence[Tensor],
                tile: int, step: int, radius: int,
                significance: bool = True) -> Tensor:
    """How well tiles correlate at all shifts of a window.

    Only cells with data on both sides count in the normalised correlation
    rho, and few of them agree by chance more easily than many: the highest
    rho of many shifts draws the tiles at a border outwards. What is to be
    maximised is therefore Fisher's z of rho, in units of its spread::

        score = artanh(rho) sqrt(share)

    with the share of the tile's energy that meets data. Shifts at which it
    is below :data:`OVERLAP` are as low as can be.

    Args:
        fixed: Descriptors (B, D, H, W), 0 without data.
        moving: The same of the other image.
        masks: Of both, (B, 1, H, W), 1 where there is data, else 0.
        tile: t.
        step: Cells between tiles.
        radius: r.
        significance: Else the score is rho.

    Returns:
        (B, n, s), -2.65..2.65; -1..1 of rho.
    """
    def over_tiles(maps: Tensor) -> Tensor:
        return F.avg_pool2d(maps, tile, step).flatten(2).mT

    product = over_tiles(shift_products(fixed, moving, radius))
    energy = [x.square().sum(1, keepdim=True) for x in (fixed, moving)]
    own = over_tiles(shift_products(energy[0], masks[1].float(), radius))
    other = over_tiles(shift_products(masks[0].float(), energy[1], radius))
    whole = over_tiles(energy[0])
    alike = product * (own * other + 1e-12).rsqrt()
    few = own < OVERLAP * whole
    if not significance:
        return alike.masked_fill(few, LOWEST)
    # Below OVERLAP the score does not count, and a root of 0 has no gradient.
    seen = (own / whole.clamp(min=1e-12)).clamp(OVERLAP, 1)
    scores = alike.clamp(-LIKEST, LIKEST).atanh() * seen.sqrt()
    return scores.masked_fill(few, LOWEST)


def tile_centres(size: Size, tile: int, step: int, stride: int,
                 like: Tensor) -> Tensor:
    """Centres of the tiles in pixels of the whole image, (n, 2)."""
    y, x = (torch.arange((side - tile) // step + 1, dtype=like.dtype,
                         device=like.device) * step + tile / 2
            for side in size)
    y, x = torch.meshgrid(y, x, indexing='ij')
    return torch.stack([x, y], -1).flatten(0, 1) * stride - 0.5


@full_precision
def tile_positions(log_prob: Tensor, centres: Tensor, stride: int,
                   window: int = 2) -> tuple[Tensor, Tensor]:
    """Where the tiles lie, and how surely.

    The mean of the shifts around the likeliest, weighed by likelihood.

    Args:
        log_prob: (B, n, s), see :class:`TileMatch`.
        centres: (n, 2).
        stride: Of a cell in pixels.
        window: Cells around the likeliest that count, either way.

    Returns:
        positions: (B, n, 2), pixels of the moving image.
        confidence: (B, n), probability of that neighbourhood, 0..1.
    """
    side = math.isqrt(log_prob.shape[2])
    axis = torch.arange(side, dtype=log_prob.dtype, device=log_prob.device)
    shifts = torch.stack([axis.repeat(side), axis.repeat_interleave(side)],
                         -1) - side // 2
    best = log_prob.argmax(2)
    away = (shifts - shifts[best][:, :, None]).abs().amax(-1)
    near = log_prob.masked_fill(away > window, LOWEST)
    moved = near.softmax(2) @ shifts * stride
    return centres + moved, near.logsumexp(2).exp()


@full_precision
def tile_loss(match: TileMatch, flow: Tensor,
              valid: Tensor | None = None) -> Tensor:
    """Negative log-likelihood of the true shifts.

    The truth lies between four shifts, which share it as in bilinear
    interpolation. Tiles whose truth is beyond the window or whose centre has
    no counterpart do not count.

    Args:
        match: What was found.
        flow: (B, 2, H, W), the truth in pixels of the whole image.
        valid: (B, H, W) bool, pixels that count.

    Returns:
        Scalar; 0 where no tile counts.
    """
    side = math.isqrt(match.log_prob.shape[2])
    points = match.centres.to(flow).expand(len(flow), -1, -1)
    x, y = (flow_at(flow, points) / match.stride + side // 2).unbind(-1)
    counts = (x >= 0) & (x < side - 1) & (y >= 0) & (y < side - 1)
    if valid is not None:
        column, row = (match.centres + 0.5).long().unbind(-1)
        counts = counts & valid[:, row, column]
    x0, y0 = (v.floor().clamp(0, side - 2) for v in (x, y))
    u, v = (x - x0).clamp(0, 1), (y - y0).clamp(0, 1)
    loss = torch.zeros_like(u)
    for right, below, share in ((0, 0, (1 - u) * (1 - v)),
                                (1, 0, u * (1 - v)), (0, 1, (1 - u) * v),
                                (1, 1, u * v)):
        index = ((y0 + below) * side + x0 + right).long()[..., None]
        loss = loss - share * match.log_prob.gather(2, index)[..., 0]
    # A tile without data at its true shift cannot find it.
    counts = counts & (loss < -LOWEST / 4)
    return torch.where(counts, loss, 0).sum() / counts.sum().clamp(min=1)


def _unit(x: Tensor) -> Tensor:
    """Of norm 1 over channels, or 0; F.normalize takes many times longer."""
    return x * (x.square().sum(1, keepdim=True) + 1e-12).rsqrt()


class TileStage(nn.Module):
    """Descriptors of both images, and the tiles matched by them.

    Lengths are pixels of the whole image. In training tiles are scored by
    correlation, else by its significance, see :func:`tile_scores`: the loss
    asks for the true shift, matching for the highest of many. The learned
    temperature is that of the correlation.

    Args:
        channels: Of the features by stride.
        strides: Features that the learned part is made of, on the grid of
            the first.
        width: Channels of the learned part.
        prior: So many last channels of the features of stride 1, the
            gradient stem of :class:`~.pyramid.TwoBranchEncoder`, are
            compared beside it; 0 for none.
        tile: Side of a tile; of smaller images, half of the shorter side.
        step: Between tiles.
        radius: Of the search.
        temperature: Of the softmax over shifts, to begin with; learned.

    Raises:
        ConfigError: If an argument cannot be used.
    """

    def __init__(self, channels: Mapping[int, int],
                 strides: Sequence[int] = (4, 8), width: int = 32,
                 prior: int = 0, tile: int = 64, step: int = 16,
                 radius: int = 32, temperature: float = 0.02) -> None:
        super().__init__()
        self.stride = strides[0]
        require_range(1, 2**12, width=width)
        require_range(self.stride, 2**10, tile=tile, step=step,
                      radius=radius)
        require_range(0, 10, without=(0, ), temperature=temperature)
        if not 0 <= prior < channels.get(1, 1):
            raise ConfigError(
                f'prior={prior}: the features of stride 1 have '
                f'{channels.get(1, 0)} channels, of which the last are '
                'taken. Set gradient_stem=True in the encoder, and prior to '
                'its channels.')
        self.prior = prior
        self.cells = tuple(
            max(1, round(v / self.stride)) for v in (tile, step, radius))
        self.project = nn.ModuleDict({
            str(s): nn.Conv2d(channels[s], width, 1) for s in strides})
        self.gate = nn.Conv2d(width, 1, 1)
        for parameter in self.gate.parameters():
            nn.init.zeros_(parameter)
        # Half of the score, to begin with, is that of the gradients.
        self.mix = nn.Parameter(torch.zeros(()))
        self.log_temperature = nn.Parameter(
            torch.tensor(math.log(temperature)))

    def describe(self, maps: Mapping[int, Tensor],
                 valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Descriptors of an image.

        Args:
            maps: (B, C, H, W) by stride.
            valid: (B, 1, H, W) bool, where the image has data.

        Returns:
            (B, D, h, w), 0 without data; (B, 1, h, w), 1 where there is
            data, else 0.
        """
        first = maps[self.stride]
        size = (first.shape[-2], first.shape[-1])
        x = torch.stack([
            F.interpolate(layer(maps[int(s)]).float(), size,
                          mode='bilinear', align_corners=False)
            for s, layer in self.project.items()]).sum(0)
        learned = _unit(x)
        share = self.mix.sigmoid() if self.prior else x.new_ones(())
        parts = [learned * share.sqrt()]
        if self.prior:
            parts.append(self._structure(maps[1], size)
                         * (1 - share).sqrt())
        made = torch.cat(parts, 1) * (2 * self.gate(x).sigmoid())
        if valid is None:
            return made, torch.ones_like(made[:, :1])
        known = F.interpolate(valid.float(), size, mode='area') > 0.99
        # Features beside a border see what is no ground.
        known = F.max_pool2d((~known).float(), 3, 1, 1) == 0
        return made * known, known.to(made)

    def _structure(self, maps: Tensor, size: Size) -> Tensor:
        """The stem by cells; norm 1, or 0 where there is none."""
        stem = F.adaptive_avg_pool2d(maps[:, -self.prior:], size)
        stem = F.avg_pool2d(stem, 3, 1, 1, count_include_pad=False)
        return _unit(stem)

    def forward(self, fixed: tuple[Tensor, Tensor],
                moving: tuple[Tensor, Tensor],
                radius: int | None = None) -> TileMatch:
        """Seek the tiles of one image in the other.

        Args:
            fixed: Of :meth:`describe`.
            moving: The same of the other image.
            radius: Of the search in pixels; default: the stage's.
        """
        size = (fixed[0].shape[-2], fixed[0].shape[-1])
        tile, step, reach = self.cells
        if radius is not None:
            reach = max(1, round(radius / self.stride))
        tile = min(tile, min(size) // 2)
        scores = tile_scores(fixed[0], moving[0], (fixed[1], moving[1]),
                             tile, step, reach, not self.training)
        return TileMatch(
            (scores / self.log_temperature.exp()).log_softmax(2),
            tile_centres(size, tile, step, self.stride, scores),
            self.stride)
