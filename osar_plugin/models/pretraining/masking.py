"""Which units a masked encoder sees.

Functions of plain tensors. A unit is a 16 x 16 patch; it is kept or removed
whole.

Letters: B images, L units of an image, N kept, M = L - N removed, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ...utils.config_values import require_range
from ...utils.errors import ConfigError, DataFormatError


class Masking(NamedTuple):
    """A draw of kept units.

    Attributes:
        keep: (B, N) int64, units that the encoder sees, in the order of the
            draw.
        masked: (B, M) int64, the others.
        restore: (B, L) int64, where each unit stands in ``[keep, masked]``.
    """

    keep: Tensor
    masked: Tensor
    restore: Tensor

    def mask(self) -> Tensor:
        """(B, L) float32, 1 where a unit is removed."""
        return (self.restore >= self.keep.shape[1]).float()

    def repeat(self, times: int) -> Masking:
        """The same draw for several stacks of B images: (times B, ...)."""
        return Masking(*(ids.repeat(times, 1) for ids in self))


def masking_of(inputs: Mapping[str, Tensor], images: Tensor, units: int,
               mask_ratio: float) -> Masking:
    """The masking of a batch.

    Args:
        inputs: With ``noise`` (B, L) where it was drawn already.
        images: (B, C, H, W).
        units: L.
        mask_ratio: See :func:`random_masking`.

    Raises:
        DataFormatError: If the noise does not fit the images.
    """
    noise = inputs.get('noise')
    if noise is None:
        noise = draw_noise(len(images), units, images.device)
    if tuple(noise.shape) != (len(images), units):
        raise DataFormatError(
            f'noise has the shape {tuple(noise.shape)}, expected '
            f'{(len(images), units)}: a number for each unit of each image.')
    return random_masking(noise, mask_ratio)


def draw_noise(batch: int, units: int, device: torch.device | str = 'cpu',
               generator: torch.Generator | None = None) -> Tensor:
    """Uniform numbers (B, L) that decide which units are kept.

    Args:
        batch: B.
        units: L.
        device: Where they are drawn.
        generator: Of the same device; by default the global one.
    """
    return torch.rand(batch, units, device=device, generator=generator)


def kept_units(units: int, mask_ratio: float) -> int:
    """N of L at a mask ratio, rounded down (official code).

    Raises:
        ConfigError: If the ratio is out of range, or nothing is left to
            see.
    """
    require_range(0, 1, without=(1, ), mask_ratio=mask_ratio)
    keep = int(units * (1 - mask_ratio))
    if not keep:
        raise ConfigError(
            f'mask_ratio={mask_ratio} leaves none of {units} units to see. '
            'Lower it, or take larger images.')
    return keep


def random_masking(noise: Tensor, mask_ratio: float) -> Masking:
    """Keep the units with the smallest numbers (MAE; official code).

    Give both images of a pair the same row: their units are then the same
    ground.

    Args:
        noise: (B, L), see :func:`draw_noise`.
        mask_ratio: Share of units to remove, 0 up to below 1.

    Raises:
        ConfigError: See :func:`kept_units`.
    """
    keep = kept_units(noise.shape[1], mask_ratio)
    shuffle = noise.argsort(dim=1)
    return Masking(shuffle[:, :keep], shuffle[:, keep:],
                   shuffle.argsort(dim=1))
