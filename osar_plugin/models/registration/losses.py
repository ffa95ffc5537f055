"""Losses of SOMA (its release), with masks that it does not have.

The weights are those of the release's training: its total is

    warp + 0.5 agreement + 0.1 uniformity + 0.1 updates + 0.1 certainty

A flow of each scale is compared in pixels of the whole image.

Letters: B batch, H W height and width in pixels, h w those of a stage; an
end-point error is the length of the difference of two flows.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...registry import MODELS
from ...utils.config_values import require_range
from ...utils.errors import DataFormatError
from ..precision import full_precision
from .correlation import match_loss
from .glam_blocks import GLAMOutput, Stage
from .tiles import tile_loss

# Of the updates of each stride; the release has no supervision of its own
# for the coarse stage.
UPDATE_WEIGHTS = {16: 0.125, 8: 0.125, 4: 0.25, 2: 0.5, 1: 1.}


def endpoint_error(flow: Tensor, truth: Tensor) -> Tensor:
    """(B, 2, H, W) twice to (B, H, W); its gradient at 0 is 0."""
    squared = (flow - truth).square().sum(1)
    some = squared > 0
    return torch.where(some, squared, 1).sqrt() * some


def masked_mean(values: Tensor, valid: Tensor | None) -> Tensor:
    """Mean of the values that count; 0 if none does.

    Args:
        values: (B, H, W).
        valid: (B, H, W) bool, or None for all.
    """
    if valid is None:
        return values.mean()
    return torch.where(valid, values, 0).sum() / valid.sum().clamp(min=1)


@full_precision
def warp_loss(flow: Tensor, truth: Tensor, valid: Tensor | None = None,
              eps: float = 1e-6) -> Tensor:
    """Mean of sqrt(d^2 + eps^2) over both components (L_warp)."""
    distance = ((flow - truth).square() + eps**2).sqrt()
    return masked_mean(distance.mean(1), valid)


@full_precision
def rmse(flow: Tensor, truth: Tensor,
         valid: Tensor | None = None) -> Tensor:
    """Root of the mean squared end-point error over the batch.

    Its gradient at no error at all is 0.
    """
    mean = masked_mean((flow - truth).square().sum(1), valid)
    some = mean > 0
    return torch.where(some, mean, 1).sqrt() * some


@full_precision
def uniformity_loss(flow: Tensor, truth: Tensor,
                    valid: Tensor | None = None, parts: int = 4) -> Tensor:
    """How unevenly the error lies over an image (L_uni).

    Standard deviation (unbiased) over ``parts`` x ``parts`` tiles of their
    mean end-point error, mean over the batch. Rows and columns that are
    left over do not count; nor do tiles without a valid pixel.

    Args:
        flow: (B, 2, H, W).
        truth: (B, 2, H, W).
        valid: (B, H, W) bool, or None for all.
        parts: Tiles along a side.
    """
    error = endpoint_error(flow, truth)
    counts = torch.ones_like(error) if valid is None else valid.to(error)
    tiles = [error.shape[1] // parts, error.shape[2] // parts]
    inside = (slice(None), slice(tiles[0] * parts),
              slice(tiles[1] * parts))
    number = F.avg_pool2d(counts[inside][:, None], tiles).flatten(1)
    total = F.avg_pool2d((error * counts)[inside][:, None], tiles).flatten(1)
    seen = number > 0
    mean = total / number.masked_fill(~seen, 1)
    n = seen.sum(1)
    centre = (mean * seen).sum(1) / n.clamp(min=1)
    variance = ((mean - centre[:, None]).square() * seen).sum(1) / (
        n - 1).clamp(min=1)
    some = variance > 0
    return (torch.where(some, variance, 1).sqrt() * some).mean()


@full_precision
def certainty_loss(logit: Tensor, flow: Tensor, truth: Tensor,
                   valid: Tensor | None = None,
                   detach: bool = False) -> Tensor:
    """Mean of (sigmoid(c) - exp(-error))^2 (L_cert).

    Args:
        logit: (B, 1, H, W), c.
        flow: (B, 2, H, W).
        truth: (B, 2, H, W).
        valid: (B, H, W) bool, or None for all. What does not count has no
            counterpart: its certainty is to be 0.
        detach: The flow gets no gradient (release: it does).
    """
    target = torch.exp(-endpoint_error(flow, truth))
    if valid is not None:
        target = torch.where(valid, target, 0)
    if detach:
        target = target.detach()
    return (logit.sigmoid()[:, 0] - target).square().mean()


def agreement_loss(stage: Stage) -> Tensor:
    """RMSE between a stage's local flow and its affine update (L_tf)."""
    if stage.local is None or stage.affine is None:
        return stage.delta.new_zeros(())
    return rmse(stage.local, stage.affine)


@full_precision
def update_loss(stage: Stage, truth: Tensor,
                valid: Tensor | None = None) -> Tensor:
    """Mean of |update - (truth - flow before)| (L_delta).

    Args:
        stage: With flows (B, 2, h, w).
        truth: (B, 2, H, W).
        valid: (B, H, W) bool, or None for all.
    """
    wanted, counts = at_size(truth, valid, stage.delta)
    missed = (stage.delta - (wanted - stage.before)).abs().mean(1)
    return masked_mean(missed, counts)


def at_size(truth: Tensor, valid: Tensor | None,
            like: Tensor) -> tuple[Tensor, Tensor | None]:
    """Truth and mask on the grid of a stage, in pixels of the whole image.

    A cell counts if all of its pixels do.
    """
    size = like.shape[-2:]
    if truth.shape[-2:] == size:
        return truth, valid
    truth = F.interpolate(truth, size, mode='area')
    if valid is not None:
        share = F.interpolate(valid[:, None].float(), size, mode='area')
        valid = share[:, 0] > 0.999
    return truth, valid


@MODELS.register_module()
class SOMALoss(nn.Module):
    """The losses of a matcher, by name.

    Args:
        warp: Weight of :func:`warp_loss`.
        agreement: Of :func:`agreement_loss`, summed over stages.
        uniformity: Of :func:`uniformity_loss`.
        update: Of :func:`update_loss`, summed with ``update_weights``.
        update_weights: By stride.
        certainty: Of :func:`certainty_loss`.
        match: Of :func:`~.correlation.match_loss`, where the coarse stage
            is a correlation, or :func:`~.tiles.tile_loss`, where it is one
            of tiles; 0 in the release, which has none.
        mask: Only pixels count whose ground both images show; the release
            counts all.
        detach_certainty: See :func:`certainty_loss`.
    """

    def __init__(self,
                 warp: float = 1.,
                 agreement: float = 0.5,
                 uniformity: float = 0.1,
                 update: float = 0.1,
                 update_weights: Mapping[int, float] | None = None,
                 certainty: float = 0.1,
                 match: float = 0.,
                 mask: bool = True,
                 detach_certainty: bool = True) -> None:
        super().__init__()
        require_range(
            0, warp=warp, agreement=agreement, uniformity=uniformity,
            update=update, certainty=certainty, match=match,
            update_weights=list((update_weights or {}).values()))
        self.warp, self.agreement = warp, agreement
        self.uniformity, self.update = uniformity, update
        self.certainty, self.match, self.mask = certainty, match, mask
        self.update_weights = {
            int(s): w for s, w in (update_weights or UPDATE_WEIGHTS).items()}
        self.detach_certainty = detach_certainty

    def forward(self, output: GLAMOutput, truth: Tensor,
                valid: Tensor | None = None) -> dict[str, Tensor]:
        """Compare.

        Args:
            output: Of a matcher.
            truth: (B, 2, H, W).
            valid: (B, H, W) bool, or None for all.

        Returns:
            ``loss_*``, weighed, and ``rmse`` in pixels, without a gradient.

        Raises:
            DataFormatError: If the truth has another size.
        """
        if truth.shape != output.flow.shape:
            raise DataFormatError(
                f'The true flow has {tuple(truth.shape)}, the predicted one '
                f'{tuple(output.flow.shape)}: they must be alike.')
        truth = truth.to(output.flow.dtype)
        if not self.mask:
            valid = None
        pair = (output.flow, truth, valid)
        losses = dict(
            loss_warp=self.warp * warp_loss(*pair),
            loss_uniformity=self.uniformity * uniformity_loss(*pair),
            loss_certainty=self.certainty * certainty_loss(
                output.certainty, *pair, self.detach_certainty))
        stages = output.stages
        losses['loss_agreement'] = self.agreement * sum(
            (agreement_loss(stage) for stage in stages),
            truth.new_zeros(()))
        losses['loss_update'] = self.update * sum((
            self.update_weights.get(stage.stride, 0.) * update_loss(
                stage, truth, valid) for stage in stages),
            truth.new_zeros(()))
        if self.match and output.matches is not None:
            losses['loss_match'] = self.match * _of_cells(
                output.matches, output.grid, truth, valid)
        if self.match and output.tiles is not None:
            losses['loss_match'] = self.match * tile_loss(
                output.tiles, truth, valid)
        with torch.no_grad():
            losses['rmse'] = rmse(*pair)
        return losses


def _of_cells(matches: Tensor, grid: tuple[int, int], truth: Tensor,
              valid: Tensor | None) -> Tensor:
    wanted, counts = at_size(truth, valid, truth.new_empty(0, 2, *grid))
    return match_loss(
        matches, grid, truth.shape[-1] / grid[1], wanted,
        None if counts is None else counts[:, None])
