"""Linear probing: how much of the classes a frozen encoder has laid open.

The protocol of CoDe-MAE's official code: pooled tokens of a frozen backbone
go through a BatchNorm without weights and one linear layer, which alone is
trained. Nothing is augmented, so features are computed once.

Where the official code keeps the best of the evaluations on the test set,
the figure is too good by the choosing; :class:`ProbeResult` has the final one
beside it. The head is trained in float32; officially under autocast.

Legend: N images, L tokens of an image, D channels, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..utils.config_values import require_range
from ..utils.errors import DataFormatError

# Of the head's BatchNorm and of the norm of the pooled tokens.
EPS = 1e-6
_MULTI_LABEL_FIGURES = ('micro_ap', 'micro_f1')


@dataclass(frozen=True)
class ProbeSettings:
    """How the head is trained (official code).

    Attributes:
        epochs: Passes over the training features.
        batch_size: The last, incomplete batch of an epoch is left out where
            there are more images than one batch.
        lr: Of SGD at the start; not scaled with the batch.
        min_lr: At the end of half a cosine, followed step by step.
        momentum: Of SGD.
        weight_decay: Of SGD.
        interval: Epochs between evaluations; the last one is evaluated too.

    Raises:
        ConfigError: If a number is out of range.
    """

    epochs: int = 50
    batch_size: int = 256
    lr: float = 0.5
    min_lr: float = 1e-6
    momentum: float = 0.9
    weight_decay: float = 0.
    interval: int = 5

    def __post_init__(self) -> None:
        require_range(1, epochs=self.epochs, interval=self.interval)
        require_range(2, batch_size=self.batch_size)
        require_range(0, 1000, without=(0, ), lr=self.lr)
        require_range(0, self.lr, min_lr=self.min_lr)
        require_range(0, 1, without=(1, ), momentum=self.momentum)
        require_range(0, 1000, weight_decay=self.weight_decay)

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of step 0..steps - 1 of the whole training."""
        cosine = math.cos(math.pi * step / steps)
        return self.min_lr + (self.lr - self.min_lr) * 0.5 * (1 + cosine)


@dataclass
class ProbeResult:
    """What became of one training of the head.

    Attributes:
        curve: Figures of each evaluation, by epoch (counted from 1): with
            single labels ``accuracy``, with several ``micro_ap`` and
            ``micro_f1``; percent.
    """

    curve: dict[int, dict[str, float]] = field(default_factory=dict)

    @property
    def final(self) -> dict[str, float]:
        """Figures after the last epoch."""
        return self.curve[max(self.curve)]

    @property
    def best_epoch(self) -> int:
        """The epoch of the best first figure, the earliest of equals."""
        return max(self.curve, key=lambda e: next(
            iter(self.curve[e].values())))

    @property
    def best(self) -> dict[str, float]:
        """Figures at that epoch (reported officially)."""
        return self.curve[self.best_epoch]


class ProbeHead(nn.Module):
    """BatchNorm without weights, then a linear layer.

    Args:
        dim: D.
        num_classes: C.
        generator: Draws the weights, from N(0, 0.01^2); biases are 0.
    """

    def __init__(self, dim: int, num_classes: int,
                 generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim, eps=EPS, affine=False)
        self.linear = nn.Linear(dim, num_classes)
        nn.init.normal_(self.linear.weight, std=0.01, generator=generator)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(N, D) to (N, C)."""
        return self.linear(self.norm(features))


def pool_tokens(tokens: Tensor) -> Tensor:
    """Tokens (N, L, D) to features (N, D) float32.

    The mean, then the classifier's LayerNorm, which no pre-training has
    trained: without weights (official code).
    """
    pooled = tokens.float().mean(1)
    return F.layer_norm(pooled, pooled.shape[-1:], eps=EPS)


def train_probe(
        features: Tensor, labels: Tensor, test_features: Tensor,
        test_labels: Tensor, num_classes: int,
        settings: ProbeSettings | None = None, seed: int = 0) -> ProbeResult:
    """Train a head on features and evaluate it on others.

    Args:
        features: (N, D), of :func:`pool_tokens`.
        labels: (N,) int64 classes, or (N, C) of 0 and 1 where an image has
            several: then the loss is that of each class by itself.
        test_features: (M, D).
        test_labels: Of the same kind.
        num_classes: C.
        settings: The official ones by default.
        seed: Of the head's weights and of the order.

    Raises:
        DataFormatError: If the arrays do not fit together, or features are
            not finite.
    """
    settings = settings or ProbeSettings()
    _check(features, labels, num_classes, 'training')
    _check(test_features, test_labels, num_classes, 'test')
    if len(features) < 2:
        raise DataFormatError(
            f'{len(features)} training image: BatchNorm needs two at least.')
    generator = torch.Generator().manual_seed(seed)
    head = ProbeHead(features.shape[1], num_classes, generator).to(
        features.device)
    optimizer = torch.optim.SGD(
        head.parameters(), settings.lr, settings.momentum,
        weight_decay=settings.weight_decay)
    count = len(features)
    size = min(settings.batch_size, count)
    batches = count // size  # the rest is left out
    result = ProbeResult()
    for epoch in range(settings.epochs):
        head.train()
        order = torch.randperm(count, generator=generator)
        order = order[:batches * size].to(features.device)
        for i, rows in enumerate(order.split(size)):
            optimizer.param_groups[0]['lr'] = settings.rate(
                epoch * batches + i, settings.epochs * batches)
            optimizer.zero_grad(set_to_none=True)
            _loss(head(features[rows]), labels[rows]).backward()
            optimizer.step()
        done = epoch + 1
        if done % settings.interval == 0 or done == settings.epochs:
            result.curve[done] = evaluate(head, test_features, test_labels)
    return result


def _loss(scores: Tensor, labels: Tensor) -> Tensor:
    if labels.ndim == 1:
        return F.cross_entropy(scores, labels)
    return F.multilabel_soft_margin_loss(scores, labels.float())


@torch.no_grad()
def evaluate(head: nn.Module, features: Tensor,
             labels: Tensor) -> dict[str, float]:
    """Figures of a head, see :class:`ProbeResult`."""
    scores = head.eval()(features)
    if labels.ndim == 1:
        right = (scores.argmax(1) == labels).double().mean()
        return dict(accuracy=100 * float(right))
    figures = micro_average_precision(scores, labels), micro_f1(
        scores, labels)
    return {name: 100 * value for name, value in zip(
        _MULTI_LABEL_FIGURES, figures, strict=True)}


def micro_average_precision(scores: Tensor, labels: Tensor) -> float:
    """Average precision over all decisions of all images at once.

    ``sum_n (R_n - R_(n-1)) P_n`` over the distinct scores in falling order;
    equal scores are one threshold (as torchmetrics computes it).

    Args:
        scores: (N, C), of any scale that is the same for all classes.
        labels: (N, C) of 0 and 1.

    Returns:
        0..1; NaN where no image has any class.
    """
    flat, order = scores.flatten().double().sort(descending=True)
    found = labels.flatten()[order].double().cumsum(0)
    # The last of equal scores.
    ends = torch.ones_like(flat, dtype=torch.bool)
    ends[:-1] = flat[1:] != flat[:-1]
    found = found[ends]
    if not len(found) or not found[-1]:
        return math.nan
    shown = ends.nonzero().flatten() + 1
    gained = found.diff(prepend=found.new_zeros(1))
    return float((gained * found / shown).sum() / found[-1])


def micro_f1(scores: Tensor, labels: Tensor) -> float:
    """F1 over all decisions, a class being told where its score is above 0.

    Args:
        scores: (N, C) logits.
        labels: (N, C) of 0 and 1.

    Returns:
        0..1; NaN where no class is there and none is told.
    """
    told, true = scores > 0, labels > 0
    whole = int(told.sum()) + int(true.sum())
    return 2 * int((told & true).sum()) / whole if whole else math.nan


def _check(features: Tensor, labels: Tensor, num_classes: int,
           which: str) -> None:
    """Refuse arrays that do not fit together."""
    if features.ndim != 2 or not len(features) or len(features) != len(
            labels) or labels.shape[1:] not in ((), (num_classes, )):
        raise DataFormatError(
            f'{which} features {tuple(features.shape)} and labels '
            f'{tuple(labels.shape)}: expected (N, D), and (N,) or '
            f'(N, {num_classes}).')
    if not torch.isfinite(features).all():
        raise DataFormatError(
            f'{int((~torch.isfinite(features)).any(1).sum())} of '
            f'{len(features)} {which} features are NaN or infinite. Check '
            'the checkpoint and the images.')
    highest = 1 if labels.ndim == 2 else num_classes - 1
    if labels.min() < 0 or labels.max() > highest:
        raise DataFormatError(
            f'{which} labels reach from {int(labels.min())} to '
            f'{int(labels.max())}; expected 0 to {highest}.')
