"""What a pre-trained encoder has learned, in figures.

Pure functions behind the figures of the CoDe-MAE paper: how many directions
of the feature space are in use (:func:`singular_spectrum`,
:func:`effective_rank`), how closely patches of both sensors agree
(:func:`patch_alignment`) where their images do or do not
(:func:`patch_ssim`), how images of both sensors drift apart with finer
pixels (:func:`ssim_by_scale`), and how both sensors lie to each other
(:func:`modality_gap`).

Legend: N images, L tokens of an image, D channels, H W height and width in
pixels, K pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..utils.config_values import require_range
from ..utils.errors import DataFormatError
from .similarity import blur

# Wang et al., "Image quality assessment: from error visibility to structural
# similarity", 2004; for images on the scale 0..1.
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
_WINDOW_RADIUS, _WINDOW_SIGMA = 5, 1.5
# Of the Gaussian pyramid of Burt and Adelson, 1983.
_PYRAMID_TAPS = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


# ------------------------------------------------------------------ capacity


def singular_spectrum(features: Tensor) -> Tensor:
    """Standard deviations of features along their principal directions.

    Singular values of the centred features over ``sqrt(N - 1)``, largest
    first.

    Args:
        features: (N, D).

    Returns:
        (min(N, D),) float64.

    Raises:
        DataFormatError: If there are less than two features, or any is not
            finite.
    """
    require_features(features, 2)
    centred = features.double() - features.double().mean(0)
    return torch.linalg.svdvals(centred) / math.sqrt(len(features) - 1)


def effective_rank(spectrum: Tensor) -> float:
    """Number of directions that carry the features.

    ``exp(-sum p ln p)`` with p the singular values over their sum (Roy and
    Vetterli, "The effective rank", 2007): 1 if all lies on a line, D if all
    directions count alike.

    Args:
        spectrum: Of :func:`singular_spectrum`.

    Returns:
        1 to the number of values; 0 if all features are equal.
    """
    total = spectrum.sum()
    if total <= 0:
        return 0.
    return float(torch.special.entr(spectrum / total).sum().exp())


# ----------------------------------------------------------------- alignment


def patch_alignment(rgb: Tensor, sar: Tensor) -> Tensor:
    """Cosine similarity of tokens of both sensors at one place.

    Args:
        rgb: (N, L, D).
        sar: (N, L, D), of the same ground.

    Returns:
        (N, L), -1..1.

    Raises:
        DataFormatError: If the shapes differ.
    """
    if rgb.shape != sar.shape:
        raise DataFormatError(
            f'Optical tokens {tuple(rgb.shape)} and SAR tokens '
            f'{tuple(sar.shape)} do not correspond.')
    return F.cosine_similarity(rgb.float(), sar.float(), dim=-1)


def structural_similarity(
        first: Tensor, second: Tensor,
        average: Callable[[Tensor], Tensor]) -> Tensor:
    """SSIM at every place of a running average.

    Args:
        first: (N, H, W), 0..1.
        second: The same shape.
        average: Local mean, (N, H, W) to (N, h, w).

    Returns:
        (N, h, w), 1 where both are equal, -1 at least.
    """
    first, second = first.double(), second.double()
    stack = torch.cat(
        [first, second, first**2, second**2, first * second])
    mean_a, mean_b, square_a, square_b, product = average(stack).chunk(5)
    var_a, var_b = square_a - mean_a**2, square_b - mean_b**2
    covariance = product - mean_a * mean_b
    return ((2 * mean_a * mean_b + SSIM_C1) * (2 * covariance + SSIM_C2)
            / ((mean_a**2 + mean_b**2 + SSIM_C1)
               * (var_a + var_b + SSIM_C2))).float()


def patch_ssim(first: Tensor, second: Tensor, size: int = 16) -> Tensor:
    """SSIM of corresponding patches, each patch one window.

    Args:
        first: (N, H, W), 0..1; sides multiples of ``size``.
        second: The same shape.
        size: Of a patch in pixels.

    Returns:
        (N, L), row by row.

    Raises:
        DataFormatError: If shapes differ or cannot be cut.
    """
    _require_pair(first, second)
    if first.shape[-2] % size or first.shape[-1] % size:
        raise DataFormatError(
            f'Images of {first.shape[-2]} x {first.shape[-1]} cannot be cut '
            f'into patches of {size}.')
    return structural_similarity(
        first, second, lambda x: F.avg_pool2d(x, size)).flatten(1)


def image_ssim(first: Tensor, second: Tensor) -> Tensor:
    """Mean SSIM of images, windows of 11 x 11 with sigma 1.5 (2004).

    Args:
        first: (N, H, W), 0..1.
        second: The same shape.

    Returns:
        (N,).

    Raises:
        DataFormatError: If shapes differ or a side is below 11.
    """
    _require_pair(first, second)
    if min(first.shape[-2:]) <= 2 * _WINDOW_RADIUS:
        raise DataFormatError(
            f'Images of {first.shape[-2]} x {first.shape[-1]} pixels are '
            f'too small for SSIM: {2 * _WINDOW_RADIUS + 1} are needed on '
            'each side.')

    def average(x: Tensor) -> Tensor:
        return blur(x.float(), _WINDOW_SIGMA, _WINDOW_RADIUS)

    return structural_similarity(first, second, average).mean((1, 2))


def ssim_by_scale(first: Tensor, second: Tensor,
                  levels: int = 5) -> list[Tensor]:
    """SSIM at the images' own pixels and at coarser ones.

    Each level has half the pixels of the one before on each side, as a
    Gaussian pyramid (Burt and Adelson, 1983); it ends where SSIM's window no
    longer fits.

    Args:
        first: (N, H, W), 0..1.
        second: The same shape.
        levels: At most.

    Returns:
        (N,) for each level; pixels of level i are 2^i times as large.

    Raises:
        DataFormatError: See :func:`image_ssim`.
    """
    require_range(1, 32, levels=levels)
    out = [image_ssim(first, second)]
    while len(out) < levels:
        first, second = _halve(first), _halve(second)
        if min(first.shape[-2:]) <= 2 * _WINDOW_RADIUS:
            break
        out.append(image_ssim(first, second))
    return out


def _halve(images: Tensor) -> Tensor:
    """The next level of a Gaussian pyramid, borders reflected."""
    taps = images.new_tensor(_PYRAMID_TAPS)
    padded = F.pad(images[:, None], (2, ) * 4, mode='reflect')
    rows = F.conv2d(padded, taps.view(1, 1, -1, 1), stride=(2, 1))
    return F.conv2d(rows, taps.view(1, 1, 1, -1), stride=(1, 2))[:, 0]


def correlation(x: Tensor, y: Tensor) -> float:
    """Pearson correlation of two series; NaN if one does not vary."""
    return float(torch.corrcoef(torch.stack([
        x.flatten().double(), y.flatten().double()]))[0, 1])


def binned_means(x: Tensor, y: Tensor, bins: int = 10) -> list[
        tuple[float, float, float, int]]:
    """Mean of y in bins of x that hold equal numbers.

    Args:
        x: (K,).
        y: (K,).
        bins: How many, at most K.

    Returns:
        For each bin: mean of x, mean of y, standard deviation of y, count.

    Raises:
        DataFormatError: If there is nothing to put into bins.
    """
    require_range(1, bins=bins)
    if not x.numel() or x.shape != y.shape:
        raise DataFormatError(
            f'{x.numel()} and {y.numel()} values: expected as many of both, '
            'and one at least.')
    order = x.flatten().argsort()
    rows = order.tensor_split(min(bins, x.numel()))
    return [
        (float(a.mean()), float(b.mean()), float(b.std(correction=0)),
         a.numel())
        for a, b in ((x.flatten()[i].double(), y.flatten()[i].double())
                     for i in rows)]


# ----------------------------------------------------------------------- gap


def modality_gap(rgb: Tensor, sar: Tensor) -> dict[str, float]:
    """How the features of both sensors lie to each other.

    Of features at unit length:

    * ``gap``: distance of the two centres (Liang et al., "Mind the gap",
      2022);
    * ``pair_cosine``: mean cosine of the two images of a pair;
    * ``other_cosine``: the same of images of different pairs;
    * ``parallel``: length of the mean of the unit vectors from each optical
      image to its SAR image: 1 if all pairs are joined alike (same
      direction), near 0 if each by its own;
    * ``topology``: correlation of the distances among optical images with
      those among their SAR images: 1 if both clouds have one shape.

    Args:
        rgb: (K, D) pooled features.
        sar: (K, D), of the same pairs.

    Raises:
        DataFormatError: If shapes differ, there are less than three pairs,
            or a feature is not finite.
    """
    if rgb.shape != sar.shape:
        raise DataFormatError(
            f'Features {tuple(rgb.shape)} and {tuple(sar.shape)}: expected '
            'one of each sensor for every pair.')
    require_features(rgb, 3)
    require_features(sar, 3)
    a, b = (F.normalize(x.double(), dim=1) for x in (rgb, sar))
    cosines = a @ b.T
    count = len(a)
    own = cosines.diagonal().mean()
    others = (cosines.sum() - cosines.diagonal().sum()) / (
        count * (count - 1))
    above = torch.triu_indices(count, count, 1)
    shapes = [torch.cdist(x, x)[above[0], above[1]] for x in (a, b)]
    return dict(
        gap=float((a.mean(0) - b.mean(0)).norm()), pair_cosine=float(own),
        other_cosine=float(others),
        parallel=float(F.normalize(b - a, dim=1).mean(0).norm()),
        topology=correlation(*shapes))


def principal_plane(features: Tensor) -> tuple[Tensor, Tensor]:
    """Features in the plane in which they spread most.

    Args:
        features: (N, D).

    Returns:
        (N, 2) coordinates, the sign of each axis such that its largest
        weight is positive, and the two shares of the variance.

    Raises:
        DataFormatError: If there are less than three features or any is not
            finite.
    """
    require_features(features, 3)
    centred = features.double() - features.double().mean(0)
    _, values, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:2]
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    axes = axes * torch.where(largest < 0, -1., 1.)
    shares = values**2 / (values**2).sum().clamp(min=1e-300)
    return centred @ axes.T, shares[:2]


def require_features(features: Tensor, least: int) -> None:
    """Refuse features that nothing can be said about.

    Raises:
        DataFormatError: Saying why.
    """
    if features.ndim != 2 or len(features) < least or not features.shape[1]:
        raise DataFormatError(
            f'Features {tuple(features.shape)}: expected (N, D) of at least '
            f'{least} images.')
    if not torch.isfinite(features).all():
        raise DataFormatError(
            'Features are NaN or infinite. Check the checkpoint and the '
            'images.')


def _require_pair(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or first.ndim != 3 or not len(first):
        raise DataFormatError(
            f'Images {tuple(first.shape)} and {tuple(second.shape)} cannot '
            'be compared: expected two stacks (N, H, W) of one shape.')
