"""Losses of cross-modal re-identification, as functions and thin modules.

All distances and statistics are computed in float32, also under autocast:
in half precision the distance of a feature to itself is about 1, not 0.
Nothing loops over identities; a batch in which nothing can be compared gives
a zero that is still in the graph.

Letters: B batch, D channels, C classes, P identities.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...registry import MODELS
from ...utils.config_values import require_range
from ...utils.errors import ConfigError, DataFormatError
from ..precision import full_precision


@full_precision
def pairwise_distance(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances, (B, D) and (G, D) to (B, G), float32.

    The square is clamped to 1e-12 before the root, which keeps the gradient
    finite where two features coincide.
    """
    square = (
        x.square().sum(1, keepdim=True) + y.square().sum(1) - 2 * x @ y.T)
    return square.clamp(min=1e-12).sqrt()


@full_precision
def hard_pairs(features: Tensor,
               labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find for each sample its hardest positive and hardest negative.

    Args:
        features: (B, D), not normalised.
        labels: (B,) long.

    Returns:
        Distance to the furthest sample of the same identity, itself
        included, (B,); distance to the nearest of another identity, (B,);
        and whether there is one, (B,) bool.
    """
    _check_rows(features, labels)
    distance = pairwise_distance(features, features)
    same = labels[:, None] == labels[None, :]
    positive = distance.masked_fill(~same, 0.).amax(dim=1)
    # A finite filler keeps inf - inf out of the backward pass.
    filler = torch.finfo(distance.dtype).max / 4
    negative = distance.masked_fill(same, filler).amin(dim=1)
    has_negative = (~same).any(dim=1)
    return positive, negative, has_negative


@full_precision
def triplet_loss(features: Tensor,
                 labels: Tensor,
                 margin: float | None = None) -> Tensor:
    """Batch-hard triplet loss (Hermans et al. 2017).

    Args:
        features: (B, D), not normalised.
        labels: (B,) long.
        margin: ``None`` for the soft margin ``log(1 + exp(ap - an))`` of the
            official recipe, else the hinge ``max(0, ap - an + margin)``.

    Returns:
        Scalar, mean over the samples that have a negative.
    """
    positive, negative, valid = hard_pairs(features, labels)
    return _margin_mean(positive, negative, valid, margin)


@full_precision
def weighted_triplet_loss(features: Tensor, labels: Tensor) -> Tensor:
    """Weighted regularised triplet loss (Ye et al. 2021, AGW).

    Every positive counts by the softmax of its distance and every negative
    by the softmax of its negated distance; soft margin between the two
    averages. The SDF-Net paper writes "weighted triplet" where the released
    code has :func:`triplet_loss`.

    Args:
        features: (B, D), not normalised.
        labels: (B,) long.
    """
    _check_rows(features, labels)
    distance = pairwise_distance(features, features)
    same = labels[:, None] == labels[None, :]
    filler = torch.finfo(distance.dtype).min / 4
    far = distance.masked_fill(~same, filler).softmax(dim=1)
    near = (-distance).masked_fill(same, filler).softmax(dim=1)
    positive = (distance * far * same).sum(dim=1)
    negative = (distance * near * ~same).sum(dim=1)
    return _margin_mean(positive, negative, (~same).any(dim=1), None)


def _margin_mean(positive: Tensor, negative: Tensor, valid: Tensor,
                 margin: float | None) -> Tensor:
    gap = torch.where(valid, positive - negative, 0. * positive)
    loss = F.softplus(gap) if margin is None else F.relu(gap + margin)
    return (loss * valid).sum() / valid.sum().clamp(min=1)


@full_precision
def orthogonality_loss(shared: Tensor, specific: Tensor) -> Tensor:
    """Mean absolute cosine between two features of each sample.

    SDF-Net, L_orth: ``E |<f_sh / |f_sh|, f_sp / |f_sp|>|``.

    Args:
        shared: (B, D) modality-invariant features.
        specific: (B, D) modality-specific features.
    """
    if shared.shape != specific.shape:
        raise DataFormatError(
            f'The two features have shapes {tuple(shared.shape)} and '
            f'{tuple(specific.shape)}, but must agree.')
    return F.cosine_similarity(shared, specific, dim=1).abs().mean()


@full_precision
def modality_prototypes(
        features: Tensor, labels: Tensor,
        modality: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean optical and mean SAR feature of each sample's identity.

    Row i belongs to the identity of sample i, so an identity stands once
    per sample; its weights sum to 1 over the rows. That needs no list of
    identities, hence neither a loop nor a device synchronisation.

    Args:
        features: (B, D).
        labels: (B,) long.
        modality: (B,) long, 0 optical, 1 SAR.

    Returns:
        Optical means (B, D), SAR means (B, D), and weights (B,): 1 / (rows
        of that identity) where it has both modalities, else 0.
    """
    _check_rows(features, labels)
    same = labels[:, None] == labels[None, :]
    means, counts = [], []
    for index in (0, 1):
        member = (same & (modality == index)[None, :]).to(features)
        count = member.sum(dim=1)
        means.append(member @ features / count.clamp(min=1)[:, None])
        counts.append(count)
    both = (counts[0] > 0) & (counts[1] > 0)
    weights = both.to(features) / same.sum(dim=1)
    return means[0], means[1], weights


@full_precision
def clip_loss(optical: Tensor, sar: Tensor, logit_scale: Tensor) -> Tensor:
    """Symmetric contrastive loss of the pair pre-training of TransOSS.

    Args:
        optical: (B, D) features, row i paired with row i of ``sar``.
        sar: (B, D) features.
        logit_scale: Scalar, the logarithm of the inverse temperature.

    Returns:
        Scalar: mean of the cross-entropies over rows (SAR to optical) and
        over columns.
    """
    optical = F.normalize(optical, dim=1)
    sar = F.normalize(sar, dim=1)
    logits = logit_scale.exp() * sar @ optical.T
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target)
            + F.cross_entropy(logits.T, target)) / 2


def _check_rows(features: Tensor, labels: Tensor) -> None:
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise DataFormatError(
            f'Expected features (B, D) and labels (B,), got '
            f'{tuple(features.shape)} and {tuple(labels.shape)}.')


@MODELS.register_module()
class TripletLoss(nn.Module):
    """Module form of the triplet losses.

    Args:
        margin: See :func:`triplet_loss`.
        weighted: Use :func:`weighted_triplet_loss`; excludes ``margin``.
        loss_weight: Factor of the loss.
    """

    def __init__(self,
                 margin: float | None = None,
                 weighted: bool = False,
                 loss_weight: float = 1.) -> None:
        super().__init__()
        require_range(0, 1e6, margin=margin, loss_weight=loss_weight)
        if weighted and margin is not None:
            raise ConfigError(
                f'weighted=True has no margin, but margin={margin} is given.'
                ' Leave one out.')
        self.margin = margin
        self.weighted = weighted
        self.loss_weight = loss_weight

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """(B, D) features and (B,) labels to a scalar."""
        if self.weighted:
            return self.loss_weight * weighted_triplet_loss(features, labels)
        return self.loss_weight * triplet_loss(features, labels, self.margin)


@MODELS.register_module()
class IdentityLoss(nn.Module):
    """Cross-entropy over the training identities.

    Args:
        label_smoothing: Mass spread evenly over all classes; the paper of
            SDF-Net uses 0.1, its released recipe 0.
        loss_weight: Factor of the loss.
    """

    def __init__(self,
                 label_smoothing: float = 0.,
                 loss_weight: float = 1.) -> None:
        super().__init__()
        require_range(0, 1, label_smoothing=label_smoothing)
        require_range(0, 1e6, loss_weight=loss_weight)
        self.label_smoothing = label_smoothing
        self.loss_weight = loss_weight

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """(B, C) scores and (B,) labels to a scalar."""
        return self.loss_weight * full_precision(F.cross_entropy)(
            scores, labels, label_smoothing=self.label_smoothing)


@MODELS.register_module()
class OrthogonalityLoss(nn.Module):
    """Module form of :func:`orthogonality_loss`.

    Args:
        loss_weight: Factor of the loss; 10 in the released recipe.
    """

    def __init__(self, loss_weight: float = 10.) -> None:
        super().__init__()
        require_range(0, 1e6, loss_weight=loss_weight)
        self.loss_weight = loss_weight

    def forward(self, shared: Tensor, specific: Tensor) -> Tensor:
        """Two (B, D) features to a scalar."""
        return self.loss_weight * orthogonality_loss(shared, specific)


def build_loss(cfg: dict[str, Any] | None) -> Any:
    """Build a loss from its config; ``None`` leaves the loss out."""
    return None if cfg is None else MODELS.build(cfg)
