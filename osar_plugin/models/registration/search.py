"""Rotations and scales tried before a pair is matched.

Features of a convolution do not turn with the image. So the moving image is
brought onto the fixed one by some rotations and scales; for each, the shift
with the highest normalised correlation of all descriptors is found at once in
the Fourier domain, and the best of them all is where matching begins.

Letters: B batch, D channels of descriptors, h w height and width in cells,
A an affine (2, 3) in pixels, fixed to moving.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...utils.config_values import require_range
from ...utils.geometry import (
    Size,
    apply,
    compose,
    matrix_to_flow,
    pixel_grid,
    rescale,
    resize_flow,
    similarity,
    warp,
)
from ..precision import full_precision
from .glam_blocks import GLAMOutput

Features = Mapping[int, Tensor]
Encode = Callable[[Tensor, Tensor], Features]

# Share of the fixed image that must meet the moving one.
OVERLAP = 0.25
# Sides of images that encoders take.
SMALLEST, DIVISOR = 64, 32


@dataclass(frozen=True)
class SearchSettings:
    """Where a pair is looked for.

    Attributes:
        angles: Degrees that are tried.
        scales: Factors that are tried with each.
        shift: Largest shift in x and in y, as a share of the longer side.
        keep: So many of the best go on; the one whose images agree best
            after all rounds is the result.
        radii: Pixels within which tiles are sought, one for each round of
            matching; a round begins where the last one ended.
        reduction: The search is on images this many times smaller: in less
            time by its square, and with less speckle.
        enlarge: Matching is on images this many times larger, so that cells
            are finer on the ground.
    """

    angles: Sequence[float] = (-20., -15., -10., -5., 0., 5., 10., 15., 20.)
    scales: Sequence[float] = (1., )
    shift: float = 0.15
    keep: int = 2
    radii: Sequence[int] = (20, 12)
    reduction: int = 1
    enlarge: int = 1

    def __post_init__(self) -> None:
        require_range(-180, 180, angles=list(self.angles))
        require_range(0.1, 10, scales=list(self.scales))
        require_range(0, 1, shift=self.shift)
        require_range(1, len(self.angles) * len(self.scales),
                      keep=self.keep)
        require_range(1, 2**10, radii=list(self.radii))
        require_range(1, 16, rounds=len(self.radii),
                      reduction=self.reduction, enlarge=self.enlarge)

    def starts(self, size: Size, like: Tensor) -> Tensor:
        """The affines that are tried, about the centre, (n, 2, 3)."""
        centre = ((size[1] - 1) / 2, (size[0] - 1) / 2)
        return torch.stack([
            torch.from_numpy(similarity(angle, scale, centre=centre)).to(like)
            for scale in self.scales for angle in self.angles])


def bring(image: Tensor, valid: Tensor, affine: Tensor
          ) -> tuple[Tensor, Tensor]:
    """The moving image on the grid of the fixed one.

    Without data it gets the mean of what has some, so that its border is no
    edge, see :class:`~.preprocessor.RegistrationPreprocessor`.

    Args:
        image: (B, C, H, W).
        valid: (B, 1, H, W) bool.
        affine: (B, 2, 3).
    """
    flow = matrix_to_flow(affine, (image.shape[2], image.shape[3]))
    moved = warp(image, flow)
    known = warp(valid.to(image), flow) > 0.999
    number = known.sum((2, 3), keepdim=True).clamp(min=1)
    mean = torch.where(known, moved, 0).sum((2, 3), keepdim=True) / number
    return torch.where(known, moved, mean), known


@full_precision
def best_shift(fixed: Tensor, moving: Tensor, masks: Sequence[Tensor],
               reach: Size) -> tuple[Tensor, Tensor]:
    """The whole-image shift at which descriptors agree best.

    Args:
        fixed: (B, D, h, w), 0 without data.
        moving: The same of the other image.
        masks: Of both, (B, 1, h, w), 1 where there is data, else 0.
        reach: Largest shift in cells, (rows, columns).

    Returns:
        shift: (B, 2) cells (x, y): fixed(x) lies at moving(x + shift).
        score: (B,), normalised correlation, -1..1.
    """
    height, width = fixed.shape[-2:]
    size = (height + reach[0], width + reach[1])

    def correlate(a: Tensor, b: Tensor) -> Tensor:
        product = (torch.fft.rfft2(a, size).conj()
                   * torch.fft.rfft2(b, size)).sum(1)
        whole = torch.fft.irfft2(product, size)
        whole = torch.cat([whole[:, -reach[0]:], whole[:, :reach[0] + 1]], 1)
        return torch.cat([whole[:, :, -reach[1]:],
                          whole[:, :, :reach[1] + 1]], 2)

    energy = [x.square().sum(1, keepdim=True) for x in (fixed, moving)]
    own = correlate(energy[0], masks[1].float())
    other = correlate(masks[0].float(), energy[1])
    floor = OVERLAP * energy[0].sum((1, 2, 3))[:, None, None] + 1e-6
    score = correlate(fixed, moving) * (
        own.clamp(min=1e-6) * other.clamp(min=1e-6)).rsqrt()
    score = score.masked_fill(own < floor, -1)
    best, index = score.flatten(1).max(1)
    side = 2 * reach[1] + 1
    shift = torch.stack([index % side - reach[1],
                         index // side - reach[0]], 1)
    return shift.to(fixed), best


def agreement(fixed: Tensor, moving: Tensor, masks: Sequence[Tensor]
              ) -> Tensor:
    """Normalised correlation of images that lie on each other, (B,)."""
    both = masks[0].float() * masks[1].float()
    product = (fixed * moving).sum(1, keepdim=True) * both
    energy = [x.square().sum(1, keepdim=True) * both
              for x in (fixed, moving)]
    total = [x.sum((1, 2, 3)) for x in (product, *energy)]
    return total[0] * (total[1] * total[2] + 1e-12).rsqrt()


def shrunk(image: Tensor, valid: Tensor, times: int
           ) -> tuple[Tensor, Tensor]:
    """An image of means, padded to sides that an encoder takes.

    Args:
        image: (B, C, H, W).
        valid: (B, 1, H, W) bool.
        times: By which it is smaller.

    Returns:
        (B, C, h, w) and (B, 1, h, w) bool: pixels all of whose parts have
        data, none in the padding at the bottom and the right.
    """
    if times == 1:
        return image, valid
    image = F.avg_pool2d(image, times)
    known = F.avg_pool2d(valid.to(image), times) > 0.999
    height, width = (max(SMALLEST, -(-side // DIVISOR) * DIVISOR) - side
                     for side in image.shape[2:])
    room = (0, width, 0, height)
    return F.pad(image, room), F.pad(known, room)


def enlarged(image: Tensor, valid: Tensor, times: int
             ) -> tuple[Tensor, Tensor]:
    """An image this many times larger, and where it has data."""
    if times == 1:
        return image, valid
    image, known = (F.interpolate(
        x, scale_factor=times, mode='bilinear', align_corners=False)
        for x in (image, valid.to(image)))
    return image, known > 0.999


def reach_of(share: float, size: Size) -> Size:
    """Cells of a shift that is a share of the longer side, (rows, columns).

    At least one and less than the image.
    """
    cells = math.ceil(share * max(size))
    return (max(1, min(cells, size[0] - 1)),
            max(1, min(cells, size[1] - 1)))


def match_searched(images: Sequence[Tensor], masks: Sequence[Tensor],
                   encode: Sequence[Encode], matcher: Any,
                   settings: SearchSettings) -> GLAMOutput:
    """Match pairs from the best of many starts.

    Args:
        images: Fixed and moving, (B, C, H, W).
        masks: Of both, (B, 1, H, W) bool, where there is data.
        encode: Of both, an image and its mask to features by stride.
        matcher: A :class:`~.glam.GLAM` with a coarse stage of tiles.
        settings: What is tried.

    Returns:
        The matcher's output for the pairs as they were given.
    """
    small, large = ([change(image, mask, times) for image, mask in zip(
        images, masks, strict=True)] for change, times in (
            (shrunk, settings.reduction), (enlarged, settings.enlarge)))
    affines = _starts(small, encode, matcher.tiles, settings)
    factor = settings.reduction * settings.enlarge
    affines = rescale(affines, factor, factor)
    fixed = encode[0](*large[0])
    target = matcher.tiles.describe(fixed, large[0][1])
    every = [_followed(fixed, target, large, encode[1], matcher, affine,
                       settings) for affine in affines]
    best, top = every[0]
    for found, score in every[1:]:
        best = _better(best, found, score > top)
        top = torch.maximum(score, top)
    return _at_size(best, settings.enlarge)


def _starts(small: Sequence[tuple[Tensor, Tensor]],
            encode: Sequence[Encode], tiles: Any, settings: SearchSettings
            ) -> Tensor:
    """The affines to go on with, best first, (keep, B, 2, 3)."""
    target = tiles.describe(encode[0](*small[0]), small[0][1])
    moving, valid = small[1]
    size = (moving.shape[2], moving.shape[3])
    grid = (target[0].shape[2], target[0].shape[3])
    reach = reach_of(settings.shift, grid)
    affines, scores = [], []
    for start in settings.starts(size, moving):
        start = start.expand(len(moving), 2, 3)
        image, known = bring(moving, valid, start)
        source = tiles.describe(encode[1](image, known), known)
        shift, score = best_shift(
            target[0], source[0], (target[1], source[1]), reach)
        step = torch.eye(2, 3).to(start).repeat(len(moving), 1, 1)
        step[:, :, 2] = shift * tiles.stride
        affines.append(compose(start, step))
        scores.append(score)
    order = torch.stack(scores).topk(settings.keep, 0).indices
    every = torch.stack(affines)
    return every[order, torch.arange(len(moving), device=order.device)]


def _followed(fixed: Features, target: tuple[Tensor, Tensor],
              large: Sequence[tuple[Tensor, Tensor]], encode: Encode,
              matcher: Any, affine: Tensor, settings: SearchSettings
              ) -> tuple[GLAMOutput, Tensor]:
    """Match from a start, and say how well the images agree then."""
    moving, valid = large[1]
    size = (moving.shape[2], moving.shape[3])
    tiles = matcher.tiles
    for number, radius in enumerate(settings.radii, 1):
        image, known = bring(moving, valid, affine)
        maps = encode(image, known)
        found = matcher(fixed, maps, (large[0][1], known),
                        radius * settings.enlarge)
        if number < len(settings.radii):
            affine = compose(affine, found.affine)
    source, mask = tiles.describe(maps, known)
    flow = resize_flow(found.flow, (source.shape[2], source.shape[3]))
    score = agreement(target[0], warp(source, flow), (
        target[1], (warp(mask, flow) > 0.999).to(mask)))
    grid = pixel_grid(size, found.flow.dtype, found.flow.device)
    points = (grid + found.flow).flatten(2).mT
    whole = apply(affine, points).mT.unflatten(2, size) - grid
    return GLAMOutput(compose(affine, found.affine), whole,
                      found.certainty), score


def _at_size(found: GLAMOutput, times: int) -> GLAMOutput:
    """What was found on images that had been enlarged."""
    if times == 1:
        return found
    size = [side // times for side in found.flow.shape[2:]]
    return GLAMOutput(
        rescale(found.affine, 1 / times, 1 / times),
        resize_flow(found.flow, (size[0], size[1])),
        F.avg_pool2d(found.certainty, times))


def _better(first: GLAMOutput, second: GLAMOutput, which: Tensor
            ) -> GLAMOutput:
    """Of each pair the second where ``which`` (B,) is, else the first."""
    return GLAMOutput(
        torch.where(which[:, None, None], second.affine, first.affine),
        torch.where(which[:, None, None, None], second.flow, first.flow),
        torch.where(which[:, None, None, None], second.certainty,
                    first.certainty))
