"""Feature Gradient Enhancer of SOMA (AAAI 2026).

Structure that survives the change of sensor is made distinct: features are
filtered in eight directions, and attention decides where the result counts::

    x (B, C, H, W)
    f = x + SC(x)                  redundancy taken out (SCConv, CVPR 2023)
    u = f + G(f)                   eight directional filters, if with_filter
    v = u + u a_channel a_space    if with_attention
    v + smooth(norm(multiscale(v)))   dilations 1, 2, 3

Computation and parameter names are those of the release. In the paper's
ablation the filter without attention does worse than neither.

Letters: B batch, C channels, H W height and width in pixels.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...utils.config_values import require_range
from ...utils.errors import ConfigError

ANGLES = tuple(22.5 * k for k in range(8))
SOBEL = ((-1., 0., 1.), (-2., 0., 2.), (-1., 0., 1.))
KERNELS = ('nearest', 'steered', 'random')


def sobel_kernels(kind: str = 'nearest') -> Tensor:
    """Derivative kernels of eight directions.

    Args:
        kind: ``'nearest'``: the x kernel of Sobel rotated on the 3 x 3 grid
            to the nearest cell (release; of eight directions four are
            distinct, up to sign); ``'steered'``: cos(a) S_x + sin(a) S_y,
            all distinct.

    Returns:
        (8, 3, 3).

    Raises:
        ConfigError: If the kind is not known.
    """
    base = torch.tensor(SOBEL)
    if kind == 'steered':
        return torch.stack([
            math.cos(math.radians(a)) * base
            + math.sin(math.radians(a)) * base.T for a in ANGLES])
    if kind != 'nearest':
        raise ConfigError(
            f"kernels {kind!r} are not known: use 'nearest' or 'steered'.")
    out = torch.zeros(len(ANGLES), 3, 3)
    for kernel, angle in zip(out, ANGLES, strict=True):
        cos, sin = (f(math.radians(angle)) for f in (math.cos, math.sin))
        for row in range(3):
            for column in range(3):
                x, y = column - 1, row - 1
                i = round(x * sin + y * cos) + 1
                j = round(x * cos - y * sin) + 1
                if 0 <= i < 3 and 0 <= j < 3:
                    kernel[row, column] = base[i, j]
    return out


class SpatialReconstruction(nn.Module):
    """Gate channels by their share of the norm's scale (SRU of SCConv).

    Args:
        channels: C, a multiple of ``groups``.
        groups: Of the norm.
    """

    def __init__(self, channels: int, groups: int = 4) -> None:
        super().__init__()
        self.gn = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        x = self.gn(x)
        scale = self.gn.weight / self.gn.weight.sum()
        # sigmoid(z) >= 1/2 is z >= 0. Halves of what passes and of what does
        # not are added crosswise.
        passes = scale[:, None, None] * x >= 0
        first, second = torch.where(passes, x, 0).chunk(2, dim=1)
        third, fourth = torch.where(passes, 0, x).chunk(2, dim=1)
        return torch.cat([first + fourth, second + third], dim=1)


class ChannelReconstruction(nn.Module):
    """Rich and cheap features, weighed by their means (CRU of SCConv).

    Args:
        channels: C, a multiple of 8.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.squeeze_up = nn.Conv2d(half, quarter, 1, bias=False)
        self.squeeze_low = nn.Conv2d(half, quarter, 1, bias=False)
        self.gwc = nn.Conv2d(quarter, channels, 3, padding=1, groups=2)
        self.pwc1 = nn.Conv2d(quarter, channels, 1, bias=False)
        self.pwc2 = nn.Conv2d(quarter, channels - quarter, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        up, low = x.chunk(2, dim=1)
        up, low = self.squeeze_up(up), self.squeeze_low(low)
        rich = self.gwc(up) + self.pwc1(up)
        cheap = torch.cat([low, self.pwc2(low)], dim=1)
        both = torch.cat([rich, cheap], dim=1)
        weight = both.mean((2, 3), keepdim=True).softmax(dim=1)
        first, second = (both * weight).chunk(2, dim=1)
        return first + second


class Reconstruction(nn.Module):
    """SRU, then CRU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.sru = SpatialReconstruction(channels)
        self.cru = ChannelReconstruction(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return self.cru(self.sru(x))


class DirectionalFilters(nn.Module):
    """Eight learnable derivative filters, rectified and fused.

    Args:
        channels: C.
        kernel_init: ``'nearest'`` (release), ``'steered'``, see
            :func:`sobel_kernels`, or ``'random'`` as any convolution.
    """

    def __init__(self, channels: int, kernel_init: str = 'nearest') -> None:
        super().__init__()
        if kernel_init not in KERNELS:
            raise ConfigError(
                f'kernel_init={kernel_init!r} is none of '
                f'{", ".join(map(repr, KERNELS))}.')
        self.branches = nn.ModuleList(
            nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False)
            for _ in ANGLES)
        if kernel_init != 'random':
            kernels = sobel_kernels(kernel_init)
            for weight, kernel in zip(self._weights(), kernels, strict=True):
                weight.data.copy_(kernel.expand_as(weight))
        self.fusion_conv = nn.Conv2d(
            channels // 2 * len(ANGLES), channels, 1)
        self.norm = nn.BatchNorm2d(channels)

    def _weights(self) -> list[Tensor]:
        branches: Any = self.branches
        return [branch.weight for branch in branches]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        # One convolution for all directions: one pass over the input.
        weight = torch.cat(self._weights())
        return self.norm(self.fusion_conv(
            F.conv2d(x, weight, padding=1).relu_()))


class FGE(nn.Module):
    """Feature Gradient Enhancer.

    Args:
        channels: C, a multiple of 8.
        with_filter: The directional filters.
        with_attention: The channel and the spatial attention.
        kernel_init: Of the filters, see :class:`DirectionalFilters`.

    Raises:
        ConfigError: If an argument cannot be used.
    """

    def __init__(self, channels: int, with_filter: bool = True,
                 with_attention: bool = True,
                 kernel_init: str = 'nearest') -> None:
        super().__init__()
        require_range(8, 2**16, channels=channels)
        if channels % 8:
            raise ConfigError(
                f'channels={channels} of FGE must be a multiple of 8: its '
                'parts halve, quarter and group them.')
        self.sc = nn.Sequential(
            nn.Conv2d(channels, channels, 1), Reconstruction(channels),
            nn.Conv2d(channels, channels, 1))
        self.md_gradient = DirectionalFilters(
            channels, kernel_init) if with_filter else None
        self.channel_att = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels // 8, 1),
            nn.ReLU(inplace=True), nn.Conv2d(channels // 8, channels, 1),
            nn.Sigmoid()) if with_attention else None
        self.spatial_att = nn.Sequential(
            nn.Conv2d(channels, 1, 1), nn.Sigmoid()
        ) if with_attention else None
        self.dilated_conv = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=d, dilation=d)
            for d in (1, 2, 3))
        self.fusion_multi_scale = nn.Conv2d(3 * channels, channels, 1)
        self.norm = nn.InstanceNorm2d(channels, eps=1e-6)
        # Called so in the release; it is learnt.
        self.gaussian = nn.Conv2d(
            channels, channels, 3, padding=1, groups=channels, bias=False)
        nn.init.normal_(self.gaussian.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        x = x + self.sc(x)
        if self.md_gradient is not None:
            x = x + self.md_gradient(x)
        if self.channel_att is not None and self.spatial_att is not None:
            x = x + x * self.channel_att(x) * self.spatial_att(x)
        scales = torch.cat([conv(x) for conv in self.dilated_conv], dim=1)
        return x + self.gaussian(self.norm(self.fusion_multi_scale(scales)))
