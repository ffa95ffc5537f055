"""The Lovasz-softmax loss: a surrogate of the mean intersection over union.

Berman, Triki and Blaschko, "The Lovasz-Softmax loss" (CVPR 2018), over the
classes that are present, over the whole batch at once.

Letters: B batch, C classes, H W height and width in pixels, N pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...utils.errors import DataFormatError
from ..precision import full_precision

IGNORED = 255


def jaccard_weights(foreground: Tensor) -> Tensor:
    """Discrete derivative of the Jaccard loss along sorted errors.

    With g pixels of the class, of which c are among the first i + 1 of the
    sorted pixels, the union of truth and errors is u = g + (i + 1) - c. A
    pixel of the class raises the loss by 1 / u, another one by
    (g - c) / (u (u - 1)). (The difference of neighbouring losses in the
    paper's algorithm 1, without the cancellation of numbers near 1.)

    Args:
        foreground: (C, N) bool, whether the pixel with the i-th largest
            error is of the class.

    Returns:
        (C, N) float64, at least 0.
    """
    found = foreground.cumsum(1)
    total = found[:, -1:]
    rank = torch.arange(
        1, foreground.shape[1] + 1, device=foreground.device)
    union = (total + rank - found).double()
    missed = (total - found).double()
    return torch.where(
        foreground, 1 / union, missed / (union * (union - 1).clamp(min=1)))


@full_precision
def lovasz_softmax(logits: Tensor, labels: Tensor,
                   ignore_index: int = IGNORED) -> Tensor:
    """Lovasz-softmax over the classes present in a batch.

    Args:
        logits: (B, C, H, W).
        labels: (B, H, W) integers; ``ignore_index`` counts nowhere.
        ignore_index: See ``labels``.

    Returns:
        The loss, 0-dimensional; 0 and still in the graph where nothing is
        to be compared.

    Raises:
        DataFormatError: If the shapes do not fit together.
    """
    if logits.ndim != 4 or labels.shape != logits.shape[:1] + (
            logits.shape[2:]):
        raise DataFormatError(
            f'Logits of {tuple(logits.shape)} and labels of '
            f'{tuple(labels.shape)}: expected (B, C, H, W) and (B, H, W).')
    count = logits.shape[1]
    probabilities = logits.softmax(1).transpose(0, 1).reshape(count, -1)
    labels = labels.reshape(-1)
    classes = torch.arange(count, device=labels.device)[:, None]
    foreground = labels == classes
    # Pixels that do not count go behind all others, where they change no
    # weight; selecting the others would wait for the device.
    errors = torch.where(
        labels != ignore_index, (foreground.to(logits.dtype)
                                 - probabilities).abs(), -1)
    errors, order = errors.sort(1, descending=True)
    weights = jaccard_weights(foreground.gather(1, order)).to(errors.dtype)
    losses = (errors.clamp(min=0) * weights).sum(1)
    present = foreground.any(1).to(losses.dtype)
    return (losses * present).sum() / present.sum().clamp(min=1)
