"""Parts of both forms of GLAM.

Names of modules are those of the release.

Letters: B batch, C channels, H W height and width in pixels of a stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .deform import DeformBlock
from .tiles import TileMatch

WIDTHS = (128, 128, 64)
SLOPE = 0.2
STAGES = ('stage1', 'stage2', 'stage5')


@dataclass
class Stage:
    """What one scale of a matcher did, for its losses.

    Flows are (B, 2, h, w) on any grid, in pixels of the whole resolution
    unless the release had it otherwise.

    Attributes:
        stride: Of the features that were compared.
        before: Flow that the stage started from.
        delta: What it added.
        affine: Flow of its affine update, and
        local: its own flow, which must agree with it; both or neither.
    """

    stride: int
    before: Tensor
    delta: Tensor
    affine: Tensor | None = None
    local: Tensor | None = None


@dataclass
class GLAMOutput:
    """What a matcher found.

    Attributes:
        affine: (B, 2, 3) pixels, fixed to moving.
        flow: (B, 2, H, W) pixels on the grid of fixed, channels (dx, dy).
        certainty: (B, 1, H, W) logits.
        stages: One for each scale, coarse to fine.
        matches: (B, n, m) log-probabilities of the coarse cells of fixed
            over those of moving, where the coarse stage is a correlation.
        grid: (h, w) of the coarse cells.
        tiles: What the coarse stage found where it is one of tiles.
    """

    affine: Tensor
    flow: Tensor
    certainty: Tensor
    stages: list[Stage] = field(default_factory=list)
    matches: Tensor | None = None
    grid: tuple[int, int] = (0, 0)
    tiles: TileMatch | None = None


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, pixel centres; values are left as they are."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(
        x, tuple(size), mode='bilinear', align_corners=False)


class ChannelReducer(nn.Module):
    """1 x 1 convolution, norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1),
            nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out_channels, H, W)."""
        return self.reduce(x)


class Regressor(nn.Module):
    """Six numbers of two images: convolutions, mean, linear layer.

    Args:
        in_channels: Of both images together.
        widths: Of the two convolutions.
        zero: Start at 0.
    """

    def __init__(self, in_channels: int, widths: Sequence[int] = (128, 64),
                 zero: bool = False) -> None:
        super().__init__()
        first, second = widths
        last = nn.Linear(second, 6)
        self.regressor = nn.Sequential(
            nn.Conv2d(in_channels, first, 3, padding=1), nn.ReLU(),
            nn.Conv2d(first, second, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
        if zero:
            zero_start(last)

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Two (B, C, h, w) to (B, 2, 3)."""
        both = torch.cat([fixed, moving], dim=1)
        return self.regressor(both).unflatten(1, (2, 3))


def zero_start(layer: nn.Module) -> None:
    """Let a layer give 0 before it has learnt anything."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class StageEncoder(nn.Module):
    """Three blocks of a convolution and a deformable convolution.

    Args:
        in_channels: Of what is concatenated.
        widths: Channels of the blocks.
        deformable: Else plain convolutions in their place.
        zero_offsets: See :class:`~.deform.DeformBlock`.
    """

    def __init__(self, in_channels: int, widths: Sequence[int] = WIDTHS,
                 deformable: bool = True, zero_offsets: bool = True) -> None:
        super().__init__()
        for name, width in zip(STAGES, widths, strict=True):
            second = DeformBlock(width, width, zero_offsets) if deformable \
                else nn.Conv2d(width, width, 3, padding=1)
            self.add_module(name, nn.Sequential(
                nn.Conv2d(in_channels, width, 3, padding=1),
                nn.LeakyReLU(SLOPE, inplace=True), second,
                nn.LeakyReLU(SLOPE, inplace=True)))
            in_channels = width

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, last width, H, W)."""
        for name in STAGES:
            x = getattr(self, name)(x)
        return x


def flow_head(in_channels: int, out_channels: int,
              zero: bool = False) -> nn.Sequential:
    """Two convolutions, C to C / 2 to ``out_channels``."""
    last = nn.Conv2d(in_channels // 2, out_channels, 3, padding=1)
    if zero:
        zero_start(last)
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels // 2, 3, padding=1),
        nn.LeakyReLU(SLOPE, inplace=True), last)
