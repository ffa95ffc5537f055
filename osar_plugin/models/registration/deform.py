"""Deformable 3 x 3 convolution, with and without compiled operators.

Dai et al., "Deformable Convolutional Networks" (ICCV 2017), without
modulation. Each tap of the kernel reads the input at its own place plus an
offset that is predicted for it; what lies outside of the input is 0.

Legend: B batch, C channels in, O channels out, H W height and width in
pixels; a tap k = 3 i + j is row i, column j of the kernel.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 3
TAPS = SIDE * SIDE
# Values that are sampled at once; all taps of 128 channels of 512 x 512
# pixels would be 1.2 GB.
CHUNK = 2**24


@functools.cache
def compiled() -> bool:
    """Whether mmcv has its compiled operators."""
    return importlib.util.find_spec('mmcv') is not None and (
        importlib.util.find_spec('mmcv._ext') is not None)


def deform_conv(x: Tensor, offset: Tensor, weight: Tensor,
                bias: Tensor | None = None, form: str = 'auto') -> Tensor:
    """Deformable convolution of stride 1 and padding 1.

    Args:
        x: (B, C, H, W).
        offset: (B, 18, H, W), (dy, dx) of each tap in turn.
        weight: (O, C, 3, 3).
        bias: (O,) or None.
        form: ``'ops'`` for mmcv's operator, ``'torch'`` for plain PyTorch,
            ``'auto'`` for the operator where it is compiled.

    Returns:
        (B, O, H, W).
    """
    if form == 'ops' or (form == 'auto' and compiled()):
        from mmcv.ops import deform_conv2d

        out = deform_conv2d(
            x, offset.to(x.dtype), weight.to(x.dtype), (1, 1), (1, 1),
            (1, 1), 1, 1, False, len(x))
        return out if bias is None else out + bias[:, None, None]
    return deform_conv_torch(x, offset, weight, bias)


def deform_conv_torch(x: Tensor, offset: Tensor, weight: Tensor,
                      bias: Tensor | None = None) -> Tensor:
    """The same in plain PyTorch, all taps of a band of rows at once."""
    b, c, height, width = x.shape
    rows = max(1, min(height, CHUNK // max(1, b * c * TAPS * width)))
    # Offsets are pixels: half precision would round the places.
    places = _places(offset.float() if offset.dtype in (
        torch.float16, torch.bfloat16) else offset)
    kernel = weight.flatten(2).flatten(1)  # (O, C * 9)
    bands = []
    for start in range(0, height, rows):
        part = places[:, :, start:start + rows]
        count = part.shape[2]
        grid = part.reshape(b, TAPS * count, width, 2).to(x.dtype)
        taps = F.grid_sample(x, grid, align_corners=False)
        columns = taps.view(b, c * TAPS, count * width)
        bands.append((kernel @ columns).view(b, -1, count, width))
    out = bands[0] if len(bands) == 1 else torch.cat(bands, 2)
    return out if bias is None else out + bias[:, None, None]


def _places(offset: Tensor) -> Tensor:
    """Where each tap reads, (B, 9, H, W, 2) normalised (x, y)."""
    b, _, height, width = offset.shape
    like: dict[str, Any] = dict(dtype=offset.dtype, device=offset.device)
    tap = torch.arange(SIDE, **like) - SIDE // 2
    shift = offset.unflatten(1, (TAPS, 2))
    y = shift[:, :, 0] + torch.arange(height, **like)[:, None] \
        + tap.repeat_interleave(SIDE)[:, None, None]
    x = shift[:, :, 1] + torch.arange(width, **like) \
        + tap.repeat(SIDE)[:, None, None]
    return torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1],
                       -1)


class DeformConv(nn.Module):
    """The weights of :func:`deform_conv`, drawn as those of a convolution.

    Args:
        in_channels: C.
        out_channels: O.
        form: See :func:`deform_conv`.
    """

    def __init__(self, in_channels: int, out_channels: int,
                 form: str = 'auto') -> None:
        super().__init__()
        self.form = form
        self.weight = nn.Parameter(
            torch.empty(out_channels, in_channels, SIDE, SIDE))
        self.bias = nn.Parameter(torch.empty(out_channels))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        bound = 1 / math.sqrt(in_channels * TAPS)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """(B, C, H, W) and (B, 18, H, W) to (B, O, H, W)."""
        return deform_conv(x, offset, self.weight, self.bias, self.form)


class DeformBlock(nn.Module):
    """A deformable convolution that predicts its own offsets.

    Args:
        in_channels: C.
        out_channels: O.
        zero_offsets: Start as a plain convolution; the release starts from
            random offsets.
        form: See :func:`deform_conv`.
    """

    def __init__(self, in_channels: int, out_channels: int,
                 zero_offsets: bool = True, form: str = 'auto') -> None:
        super().__init__()
        self.offset_conv = nn.Conv2d(
            in_channels, 2 * TAPS, SIDE, padding=SIDE // 2)
        if zero_offsets:
            nn.init.zeros_(self.offset_conv.weight)
            nn.init.zeros_(self.offset_conv.bias)  # type: ignore[arg-type]
        self.defconv = DeformConv(in_channels, out_channels, form)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, O, H, W)."""
        return self.defconv(x, self.offset_conv(x))
