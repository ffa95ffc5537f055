"""Structure-aware consistency learning (SDF-Net, SCL).

A ship is rigid: its outline and deck edges show in both sensors, its texture
does not. SCL reads the feature map after an intermediate block, keeps how
much it changes from place to place (gradient energy), normalises that and
pulls each identity's optical and SAR averages together::

    F (B, h, w, D) -- gradient_energy --> e_h + e_w (B, D)
    -- standardise over D --> descriptors -- prototypes per identity and
    modality --> distance, mean over the identities that have both

Letters: B batch, D channels, h w height and width in patches.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ...registry import MODELS
from ...utils.config_values import require_range
from ...utils.errors import ConfigError, DataFormatError
from ..precision import full_precision
from .losses import modality_prototypes

DIFFERENCES = {'forward': 1, 'central': 2}
DISTANCES = ('mse', 'squared', 'euclidean')


@full_precision
def gradient_energy(maps: Tensor, difference: str = 'forward') -> Tensor:
    """Mean absolute spatial difference of each channel, both directions.

    Args:
        maps: (B, h, w, D).
        difference: ``'forward'``, ``F[i+1] - F[i]`` as released, or
            ``'central'``, ``F[i+1] - F[i-1]`` as the paper writes it. Only
            positions inside the map count; nothing is padded.

    Returns:
        (B, D), the sum of the two directions' energies.

    Raises:
        DataFormatError: If the map is too small to have a difference.
    """
    if difference not in DIFFERENCES:
        raise ConfigError(f'difference={difference!r} is none of '
                          f'{sorted(DIFFERENCES)}.')
    step = DIFFERENCES[difference]
    if maps.ndim != 4 or min(maps.shape[1:3]) <= step:
        raise DataFormatError(
            f'A {difference} difference needs a (B, h, w, D) map with more '
            f'than {step} rows and columns, got {tuple(maps.shape)}.')
    down = (maps[:, step:] - maps[:, :-step]).abs().mean(dim=(1, 2))
    right = (maps[:, :, step:] - maps[:, :, :-step]).abs().mean(dim=(1, 2))
    return down + right


@full_precision
def structure_descriptor(maps: Tensor,
                         difference: str = 'forward',
                         eps: float = 1e-5) -> Tensor:
    """Gradient energy standardised over the channels of each sample.

    The "instance normalisation" of the paper on a (B, 1, D) tensor, that is
    a LayerNorm without parameters: it removes the sensors' difference in
    contrast.

    Args:
        maps: (B, h, w, D).
        difference: See :func:`gradient_energy`.
        eps: Added to the biased variance.

    Returns:
        (B, D).
    """
    energy = gradient_energy(maps, difference)
    return F.layer_norm(energy, energy.shape[1:], eps=eps)


@full_precision
def structure_consistency_loss(descriptors: Tensor,
                               labels: Tensor,
                               modality: Tensor,
                               distance: str = 'mse') -> Tensor:
    """Distance between the optical and SAR prototypes of an identity.

    Args:
        descriptors: (B, D).
        labels: (B,) long.
        modality: (B,) long, 0 optical, 1 SAR.
        distance: ``'mse'``, mean over channels of the squared difference,
            as released; ``'squared'``, the sum; ``'euclidean'``, the root
            of the sum, as the paper words it.

    Returns:
        Scalar, mean over the identities with both modalities, else 0.
    """
    optical, sar, weights = modality_prototypes(descriptors, labels, modality)
    square = (optical - sar).square()
    if distance == 'mse':
        gap = square.mean(dim=1)
    elif distance == 'squared':
        gap = square.sum(dim=1)
    elif distance == 'euclidean':
        # The clamp keeps the root's gradient finite where prototypes meet,
        # as they do (0 = 0) for identities without a partner.
        gap = square.sum(dim=1).clamp(min=1e-12).sqrt()
    else:
        raise ConfigError(f'distance={distance!r} is none of {DISTANCES}.')
    return (gap * weights).sum() / weights.sum().clamp(min=1.)


@MODELS.register_module()
class StructureConsistency(nn.Module):
    """Descriptor and loss of SCL on one block of the backbone.

    Args:
        layer: 1-based number of the block that is read; 6 as published.
        difference: See :func:`gradient_energy`.
        distance: See :func:`structure_consistency_loss`.
        loss_weight: Factor of the loss; 1 in the released recipe.

    Raises:
        ConfigError: If an argument cannot be used.
    """

    def __init__(self,
                 layer: int = 6,
                 difference: str = 'forward',
                 distance: str = 'mse',
                 loss_weight: float = 1.) -> None:
        super().__init__()
        require_range(1, layer=layer)
        require_range(0, 1e6, loss_weight=loss_weight)
        if difference not in DIFFERENCES or distance not in DISTANCES:
            raise ConfigError(
                f'difference={difference!r} must be one of '
                f'{sorted(DIFFERENCES)} and distance={distance!r} one of '
                f'{DISTANCES}.')
        self.layer = layer
        self.difference = difference
        self.distance = distance
        self.loss_weight = loss_weight

    def describe(self, maps: Tensor) -> Tensor:
        """(B, h, w, D) feature map to (B, D) descriptors."""
        return structure_descriptor(maps, self.difference)

    def forward(self, descriptors: Tensor, labels: Tensor,
                modality: Tensor) -> Tensor:
        """(B, D) descriptors, (B,) labels and modalities to a scalar."""
        return self.loss_weight * structure_consistency_loss(
            descriptors, labels, modality, self.distance)
