"""Tile matching on channel features of orientated gradients.

An own implementation of the published formula of CFOG (Ye et al., "Fast and
Robust Matching for Multimodal Remote Sensing Image Registration", TGRS 2019);
the framework is patented by its authors for commercial use.

The gradient of an image is looked at in K directions, sign left out, because
a radar turns edges from bright to dark at will. Tiles of the fixed image are
sought in the moving one by the sum of squared differences of the K channels,
all tiles at once in the Fourier domain.

Legend: H W height and width in pixels, K directions, D channels that are
kept, n tiles, t side of a tile, r search radius; T and M descriptors of
tiles and of their search windows.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

DIRECTIONS = 9


def orientation_channels(image: np.ndarray, directions: int = DIRECTIONS,
                         presmooth: float = 1., smooth: float = 1.2
                         ) -> np.ndarray:
    """Channel features of orientated gradients.

    Gaussian; Sobel g_x, g_y; channel k = |g_x cos(k pi / K) + g_y sin(k pi
    / K)|; Gaussian of each channel; [1 2 1] / 4 over the channels, which
    are a cycle; divided by their norm at each pixel.

    Args:
        image: (H, W) float32.
        directions: K.
        presmooth: Sigma of the first Gaussian in pixels, 0 for none.
        smooth: Sigma of the second.

    Returns:
        (K, H, W) float32, of norm 1 at each pixel, or 0 where the image is
        flat.
    """
    image = image.astype(np.float32, copy=False)
    if presmooth:
        image = cv2.GaussianBlur(image, (0, 0), presmooth)
    gx = cv2.Sobel(image, cv2.CV_32F, 1, 0)
    gy = cv2.Sobel(image, cv2.CV_32F, 0, 1)
    angle = np.arange(directions, dtype=np.float32) * np.float32(
        math.pi / directions)
    # Channels last: OpenCV filters all of them in one call.
    stack = np.abs(gx[..., None] * np.cos(angle)
                   + gy[..., None] * np.sin(angle))
    if smooth:
        stack = np.stack([
            cv2.GaussianBlur(stack[..., k], (0, 0), smooth)
            for k in range(directions)])
    else:
        stack = np.ascontiguousarray(stack.transpose(2, 0, 1))
    stack = (2 * stack + np.roll(stack, 1, 0) + np.roll(stack, -1, 0)) / 4
    norm = np.sqrt((stack * stack).sum(0))
    # Below a thousandth of the usual gradient a direction is rounding.
    flat = norm <= 1e-3 * norm.mean()
    stack *= np.where(flat, 0, 1 / np.where(flat, 1, norm))
    return stack


def compress(channels: np.ndarray, harmonics: int = 2) -> np.ndarray:
    """The K channels in their first Fourier coefficients over direction.

    The channels are a smooth function on the cycle of directions; the
    transform is orthonormal, so with all harmonics scalar products stay
    what they were, and the higher ones hold next to nothing.

    Args:
        channels: (K, H, W).
        harmonics: Kept beside the mean; (K - 1) / 2 keeps everything of an
            odd K.

    Returns:
        (1 + 2 harmonics, H, W).
    """
    count = len(channels)
    k = np.arange(count)
    rows = [np.full(count, 1 / math.sqrt(count))]
    for h in range(1, harmonics + 1):
        phase = 2 * math.pi * h * k / count
        rows += [math.sqrt(2 / count) * np.cos(phase),
                 math.sqrt(2 / count) * np.sin(phase)]
    basis = np.array(rows, np.float32)
    return (basis @ channels.reshape(count, -1)).reshape(
        -1, *channels.shape[1:])


def cut_tiles(image: Tensor, corners: Tensor, side: int) -> Tensor:
    """Square cuts of an image, zeros outside.

    Args:
        image: (D, H, W).
        corners: (n, 2) upper left (x, y), whole numbers, may lie outside.
        side: Of the cuts.

    Returns:
        (n, D, side, side).
    """
    low = int(min(0, int(corners.min())))
    high_x = int(max(image.shape[2], int(corners[:, 0].max()) + side))
    high_y = int(max(image.shape[1], int(corners[:, 1].max()) + side))
    padded = F.pad(image, (-low, high_x - image.shape[2], -low,
                           high_y - image.shape[1]))
    views = padded.unfold(1, side, 1).unfold(2, side, 1)
    return views[:, corners[:, 1] - low, corners[:, 0] - low].transpose(0, 1)


def fast_length(length: int) -> int:
    """The next length with no prime factor beyond 5."""
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1


def difference_maps(fixed: Tensor, moving: Tensor, corners: Tensor,
                    tile: int, radius: int, min_overlap: float = 0.5,
                    batch: int = 64) -> Tensor:
    """Mean squared difference of tiles at all shifts of a window.

    Descriptors have norm 1, or 0 where there is no data, and only pixels
    with data on both sides count: with their number c the mean is
    2 - 2 T M / c. Products and numbers are correlations in the Fourier
    domain, where the channels are summed before the way back.

    Args:
        fixed: (D, H, W).
        moving: (D, h, w).
        corners: (n, 2) upper left corners (x, y) of the tiles.
        tile: t.
        radius: r.
        min_overlap: Share of a tile's data that must meet data; shifts
            with less are infinite.
        batch: Tiles at once.

    Returns:
        (n, 2 r + 1, 2 r + 1); [i, j] belongs to the shift (j - r, i - r).
    """
    side = tile + 2 * radius
    size = (fast_length(side), ) * 2
    out = []
    data = [(x.square().sum(0, keepdim=True) > 0.5).to(x.dtype)
            for x in (fixed, moving)]
    everywhere = bool(data[0].all() and data[1].all())
    for part in corners.split(batch):
        templates = cut_tiles(fixed, part, tile)
        windows = cut_tiles(moving, part - radius, side)
        product = correlate(templates, windows, size, radius)
        masks = cut_tiles(data[0], part, tile)
        own = masks.sum((1, 2, 3))[:, None, None]
        seen = cut_tiles(data[1], part - radius, side)
        if everywhere and bool(seen.all()):
            common = own.expand_as(product)
        else:
            common = correlate(masks, seen, size, radius).round()
        means = 2 - 2 * product / common.clamp(min=1)
        out.append(means.masked_fill(common < min_overlap * own, math.inf))
    return torch.cat(out)


def correlate(templates: Tensor, windows: Tensor, size: tuple[int, int],
              radius: int) -> Tensor:
    """Correlation over the shifts of a window, summed over channels.

    Args:
        templates: (n, D, t, t).
        windows: (n, D, t + 2 r, t + 2 r).
        size: Of the Fourier transforms, not below that of the windows.
        radius: r.

    Returns:
        (n, 2 r + 1, 2 r + 1).
    """
    spectrum = torch.einsum(
        'nchw,nchw->nhw', torch.fft.rfft2(windows, size),
        torch.fft.rfft2(templates, size).conj())
    shifts = 2 * radius + 1
    return torch.fft.irfft2(spectrum, size)[:, :shifts, :shifts]


def lowest(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Where each map is lowest, to a fraction of a pixel.

    A parabola through the lowest value and its two neighbours in x and in
    y; on the border of the map the whole pixel.

    Args:
        maps: (n, s, s).

    Returns:
        shifts: (n, 2), (x, y), from the upper left of the map.
        border: (n,) bool, the lowest value lies on the border.
    """
    count, side = maps.shape[0], maps.shape[-1]
    index = maps.flatten(1).argmin(1)
    y, x = index // side, index % side
    border = (x == 0) | (y == 0) | (x == side - 1) | (y == side - 1)
    rows = torch.arange(count, device=maps.device)
    xc, yc = x.clamp(1, side - 2), y.clamp(1, side - 2)
    centre = maps[rows, yc, xc]

    def vertex(before: Tensor, after: Tensor) -> Tensor:
        curve = before - 2 * centre + after
        step = (before - after) / (2 * curve)
        usable = (curve > 0) & curve.isfinite()
        return torch.where(usable, step, 0).clamp(-0.5, 0.5)

    # A neighbour without overlap is infinite: then no parabola.
    dx = vertex(maps[rows, yc, xc - 1], maps[rows, yc, xc + 1])
    dy = vertex(maps[rows, yc - 1, xc], maps[rows, yc + 1, xc])
    step = torch.where(border[:, None], 0, torch.stack([dx, dy], 1))
    return torch.stack([x, y], 1) + step, border


def distinctness(maps: Tensor, exclude: int = 4) -> Tensor:
    """How far the lowest value stands out, 0..1.

    1 - lowest / second lowest, the second being sought more than
    ``exclude`` pixels away from the lowest.

    Args:
        maps: (n, s, s), not negative.
        exclude: Pixels.

    Returns:
        (n,).
    """
    side = maps.shape[-1]
    flat = maps.flatten(1)
    best, index = flat.min(1)
    axis = torch.arange(side, device=maps.device)
    far_y = (axis - (index // side)[:, None]).abs() > exclude
    far_x = (axis - (index % side)[:, None]).abs() > exclude
    far = far_y[:, :, None] | far_x[:, None, :]
    second = maps.masked_fill(~far, math.inf).flatten(1).min(1).values
    ratio = best.clamp(min=0) / second.clamp(min=1e-12)
    return torch.where(second.isinf(), 0, 1 - ratio).clamp(0, 1)
