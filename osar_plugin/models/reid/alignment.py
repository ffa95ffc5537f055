"""Category-level modality alignment (MOS, CMAL) and fusion of views.

Letters: B batch, D channels, K pseudo-SAR views of an optical image.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from ...registry import MODELS
from ...utils.config_values import require_range
from ...utils.errors import ConfigError, DataFormatError
from ..precision import full_precision
from .losses import modality_prototypes

FORMS = ('official', 'paper')


class Moments(NamedTuple):
    """Means and biased variances (B, D) of each sample's identity.

    Attributes:
        means: Of the optical and of the SAR samples.
        variances: Likewise.
        weights: (B,), see :func:`modality_prototypes`.
    """

    means: tuple[Tensor, Tensor]
    variances: tuple[Tensor, Tensor]
    weights: Tensor


def modality_moments(features: Tensor, labels: Tensor,
                     modality: Tensor) -> Moments:
    """First two moments per identity and modality, without a loop.

    Args:
        features: (B, D).
        labels: (B,) long.
        modality: (B,) long, 0 optical, 1 SAR.
    """
    optical, sar, weights = modality_prototypes(features, labels, modality)
    # Deviations from the own mean: E[x^2] - E[x]^2 would cancel digits.
    own = optical.where((modality == 0)[:, None], sar)
    spread = (features - own).square()
    variances = modality_prototypes(spread, labels, modality)[:2]
    return Moments((optical, sar), variances, weights)


@full_precision
def modality_alignment_loss(features: Tensor,
                            labels: Tensor,
                            modality: Tensor,
                            normalize: bool = True,
                            squared: bool = False) -> Tensor:
    """Distance of an identity's optical and SAR means and variances.

    MOS, eq. of L_CMAL: a diagonal stand-in for the Wasserstein-2 distance.
    The released code takes the norms of both differences, the paper their
    squares.

    Args:
        features: (B, D).
        labels: (B,) long.
        modality: (B,) long, 0 optical, 1 SAR.
        normalize: Scale the features to unit length first, as released.
        squared: Square the norms, as the paper writes it.

    Returns:
        Scalar, mean over the identities with both modalities, else 0.
    """
    if normalize:
        features = F.normalize(features, dim=1)
    moments = modality_moments(features, labels, modality)
    gap = features.new_zeros(len(features))
    for optical, sar in (moments.means, moments.variances):
        square = (optical - sar).square().sum(dim=1)
        # The clamp keeps the root's gradient finite where both agree.
        gap = gap + (square if squared else square.clamp(min=1e-24).sqrt())
    weights = moments.weights
    return (gap * weights).sum() / weights.sum().clamp(min=1.)


@MODELS.register_module()
class ModalityAlignmentLoss(nn.Module):
    """Module form of :func:`modality_alignment_loss`.

    Args:
        form: ``'official'``, the norms of the differences, with which the
            published weights were trained; or ``'paper'``, their squares.
        normalize: Scale the features to unit length first; the paper does
            not say.
        loss_weight: Factor of the loss; 2 in the released recipe.

    Raises:
        ConfigError: If an argument cannot be used.
    """

    def __init__(self,
                 form: str = 'official',
                 normalize: bool = True,
                 loss_weight: float = 2.) -> None:
        super().__init__()
        require_range(0, 1e6, loss_weight=loss_weight)
        if form not in FORMS:
            raise ConfigError(
                f'form={form!r} is not known: use one of {", ".join(FORMS)}.')
        self.form = form
        self.normalize = normalize
        self.loss_weight = loss_weight

    def forward(self, features: Tensor, labels: Tensor,
                modality: Tensor) -> Tensor:
        """(B, D) features, (B,) labels and modalities to a scalar."""
        return self.loss_weight * modality_alignment_loss(
            features, labels, modality, self.normalize, self.form == 'paper')


@full_precision
def fuse_views(optical: Tensor, views: Tensor, tau: float = 0.02) -> Tensor:
    """Blend an optical feature with those of its pseudo-SAR views.

    MOS, CDGF: ``normalise((1 - tau) f_opt + tau mean_k f_k)``.

    Args:
        optical: (B, D) features.
        views: (B, K, D) features of the views.
        tau: Share of the views, 0..1; 0.02 in the released evaluation.

    Returns:
        (B, D), unit length.

    Raises:
        ConfigError: If tau is outside 0..1.
        DataFormatError: If the shapes do not belong together.
    """
    if not 0 <= tau <= 1:
        raise ConfigError(f'tau={tau} is a share and must lie in 0..1.')
    if views.ndim != 3 or views.shape[::2] != optical.shape:
        raise DataFormatError(
            f'Expected features (B, D) and views (B, K, D), got '
            f'{tuple(optical.shape)} and {tuple(views.shape)}.')
    mean = F.normalize(views, dim=2).mean(dim=1)
    return F.normalize(
        (1 - tau) * F.normalize(optical, dim=1) + tau * mean, dim=1)
