"""What the decoders are asked to predict.

Functions of plain tensors, after the released CoDe-MAE and SARATR-X code. A
target is made in three steps: an image is reduced (its colour, its detail or
both are taken away), described (pixels, HOG or MGF), and cut into patches
that are normalised one by one.

Letters: B images, C channels, H W height and width, L patches of an image,
a patch is a unit of 16 x 16 pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...utils.errors import DataFormatError
from ..backbones.hierarchical import UNIT
from ..backbones.trunk import MODALITIES, check_word
from ..precision import full_precision

KINDS = ('pixel', 'hog', 'mgf')
REDUCTIONS = ('none', 'channel', 'spatial', 'median', 'dual')
# ITU-R BT.601 luma (official code).
LUMA = (0.299, 0.587, 0.114)
HOG_BINS, HOG_CELL = 9, 8
MGF_SCALES = (9, 13, 17)
MGF_OFFSET = 0.01
MEDIAN_SIDE = 5


def patchify(images: Tensor, size: int = UNIT) -> Tensor:
    """(B, C, H, W) to (B, L, size * size * C): row, column, channel.

    Raises:
        DataFormatError: If a side is no multiple of the patch.
    """
    b, c, h, w = images.shape
    if h % size or w % size:
        raise DataFormatError(
            f'Images of {h} x {w} cannot be cut into patches of {size}: crop '
            f'to multiples of {size} in the pipeline.')
    cut = images.reshape(b, c, h // size, size, w // size, size)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, grid: tuple[int, int],
               size: int = UNIT) -> Tensor:
    """The inverse of :func:`patchify` for a grid (h, w) of patches."""
    b, _, values = patches.shape
    c = values // size**2
    cut = patches.reshape(b, *grid, size, size, c).permute(0, 5, 1, 3, 2, 4)
    return cut.reshape(b, c, grid[0] * size, grid[1] * size)


@full_precision
def normalize_patches(patches: Tensor, eps: float = 1e-6) -> Tensor:
    """Zero mean and unit variance within each patch (MAE's norm-pix).

    ``(t - mean) / sqrt(var + eps)`` over all values of a patch, the variance
    unbiased.

    Args:
        patches: (B, L, values).
        eps: Added to the variance.
    """
    var, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) / (var + eps).sqrt()


def grey(images: Tensor, modality: str) -> Tensor:
    """(B, 3, H, W) to (B, 1, H, W): luma of optical, mean of SAR channels.

    Args:
        images: Normalised or not; the official code takes normalised ones.
        modality: ``'rgb'`` or ``'sar'``.
    """
    check_word('modality', modality, MODALITIES)
    if images.shape[1] == 1:
        return images
    if modality == 'sar':
        return images.mean(dim=1, keepdim=True)
    # Numbers, not a tensor of them: nothing travels to the device.
    parts = [weight * channel for weight, channel in zip(
        LUMA, images.split(1, dim=1), strict=True)]
    return parts[0] + parts[1] + parts[2]


def block_mean(images: Tensor, size: int = UNIT) -> Tensor:
    """Each patch replaced by its mean, the shape kept.

    With normalised patches nothing is left of such a target: use it with
    ``norm_target=False``.
    """
    coarse = F.avg_pool2d(images, size)
    return coarse.repeat_interleave(size, -2).repeat_interleave(size, -1)


def median_filter(images: Tensor, side: int = MEDIAN_SIDE) -> Tensor:
    """Median of the square around each pixel, borders reflected.

    Args:
        images: (B, C, H, W).
        side: Of the square, odd.
    """
    padded = F.pad(images, (side // 2, ) * 4, mode='reflect')
    windows = padded.unfold(2, side, 1).unfold(3, side, 1)
    return windows.flatten(4).median(dim=-1).values


def reduce_image(images: Tensor, reduction: str, modality: str) -> Tensor:
    """Take information away before it becomes a target.

    ``'none'``: all of it stays; ``'channel'`` (published): colour goes;
    ``'spatial'``: detail within a patch goes; ``'median'``: detail below 5
    pixels goes (the released constructor refuses this one); ``'dual'``:
    first colour, then detail within a patch.

    Args:
        images: (B, 3, H, W).
        reduction: One of the above.
        modality: ``'rgb'`` or ``'sar'``.

    Returns:
        (B, 3, H, W), or (B, 1, H, W) where colour is gone.

    Raises:
        ConfigError: If the reduction is not known.
    """
    check_word('reduction', reduction, REDUCTIONS)
    if reduction in ('channel', 'dual'):
        images = grey(images, modality)
    if reduction in ('spatial', 'dual'):
        images = block_mean(images)
    if reduction == 'median':
        images = median_filter(images)
    return images


@full_precision
def hog(images: Tensor) -> Tensor:
    """Histograms of oriented gradients at full size.

    Sobel gradients, 9 unsigned orientations, each pixel's magnitude in one
    bin, mean over cells of 8 pixels, unit length over the bins of a channel,
    bilinear to the size of the image.

    Args:
        images: (B, C, H, W), sides multiples of 8.

    Returns:
        (B, 9 C, H, W), the bins of a channel side by side.
    """
    b, c, h, w = images.shape
    gx, gy = sobel(images.flatten(0, 1))
    turn = torch.atan2(gy, gx) / math.pi * HOG_BINS
    bins = turn.floor().long().remainder(HOG_BINS).unsqueeze(1)
    every = torch.arange(HOG_BINS, device=images.device).view(-1, 1, 1)
    votes = torch.hypot(gx, gy).unsqueeze(1) * (bins == every)
    cells = F.normalize(F.avg_pool2d(votes, HOG_CELL), dim=1)
    full = F.interpolate(cells, (h, w), mode='bilinear', align_corners=False)
    return full.reshape(b, c * HOG_BINS, h, w)


def sobel(images: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients to the right and down (N, H, W), borders reflected."""
    p = F.pad(images, (1, 1, 1, 1), mode='reflect')
    right, down = p[:, :, 2:] - p[:, :, :-2], p[:, 2:] - p[:, :-2]
    return (right[:, :-2] + 2 * right[:, 1:-1] + right[:, 2:],
            down[:, :, :-2] + 2 * down[:, :, 1:-1] + down[:, :, 2:])


def gradient_ratio(images: Tensor, radius: int) -> Tensor:
    """Gradient by ratio at one scale: robust to multiplicative speckle.

    In the square of side ``2 radius + 1`` around each pixel, per axis, the
    logarithm of the ratio of the two halves' sums, the centre line in both;
    then the length over the axes. Borders are reflected.

    Both halves of an axis are the same running mean, read ``radius`` apart,
    and the running means are separable: some ``6 radius`` additions a pixel
    instead of ``8 radius**2``.

    Args:
        images: (B, 1, H, W), positive.
        radius: k of the scale.
    """
    h, w = images.shape[-2:]
    padded = F.pad(images, (radius, ) * 4, mode='reflect')
    side = 2 * radius + 1
    columns = F.avg_pool2d(padded, (side, 1), 1)
    columns = F.avg_pool2d(columns, (1, radius + 1), 1).log()
    rows = F.avg_pool2d(padded, (1, side), 1)
    rows = F.avg_pool2d(rows, (radius + 1, 1), 1).log()
    gx = columns[..., :w] - columns[..., radius:radius + w]
    gy = rows[..., :h, :] - rows[..., radius:radius + h, :]
    return torch.hypot(gx, gy)


@full_precision
def mgf(images: Tensor, scales: Sequence[int] = MGF_SCALES) -> Tensor:
    """Multi-scale gradient features (SARATR-X, official code).

    Args:
        images: (B, 1, H, W) on the scale 0..1.
        scales: Radii.

    Returns:
        (B, number of scales, H, W).

    Raises:
        DataFormatError: If the image is too small for the largest scale.
    """
    if min(images.shape[-2:]) <= max(scales):
        raise DataFormatError(
            f'Images of {tuple(images.shape[-2:])} are too small for MGF of '
            f'radius {max(scales)}: both sides must be larger.')
    shifted = images + MGF_OFFSET
    return torch.cat([gradient_ratio(shifted, k) for k in scales], dim=1)


def target_channels(kind: str, reduction: str) -> int:
    """Channels C of a target; a patch has 256 C values.

    Raises:
        ConfigError: If kind or reduction are not known.
    """
    check_word('target', kind, KINDS)
    check_word('reduction', reduction, REDUCTIONS)
    if kind == 'mgf':
        return len(MGF_SCALES)
    channels = 1 if reduction in ('channel', 'dual') else 3
    return channels * (HOG_BINS if kind == 'hog' else 1)


def describe(kind: str, reduction: str, images: Tensor, raw: Tensor | None,
             modality: str) -> Tensor:
    """The image that a target is cut from.

    Args:
        kind: ``'pixel'``, ``'hog'`` or ``'mgf'``.
        reduction: See :func:`reduce_image`; MGF is of the grey image
            whatever it is.
        images: (B, 3, H, W), normalised as the encoder sees them.
        raw: The same on the scale 0..1, (B, 1 or 3, H, W); for MGF.
        modality: ``'rgb'`` or ``'sar'``.

    Returns:
        (B, C, H, W) with C of :func:`target_channels`.

    Raises:
        ConfigError: If kind or reduction are not known.
        DataFormatError: If MGF has no image on the scale 0..1.
    """
    check_word('target', kind, KINDS)
    if kind == 'mgf':
        if raw is None:
            raise DataFormatError(
                f"target='mgf' needs the {modality} image on the scale 0..1 "
                f"as inputs['{modality}01']: use "
                'osar_plugin.PairPretrainPreprocessor.')
        return mgf(grey(raw, modality))
    reduced = reduce_image(images, reduction, modality)
    return hog(reduced) if kind == 'hog' else reduced
