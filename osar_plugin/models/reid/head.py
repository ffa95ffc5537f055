"""Identity head: batch-norm neck, classifier and the metric losses.

Letters: B batch, D channels, C training identities.
"""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...registry import MODELS
from ...utils.config_values import Buildable, require_range
from ...utils.errors import ConfigError
from .losses import build_loss

TEST_FEATURES = ('before', 'after')


@MODELS.register_module()
class IdentityHead(BaseModule):
    """BNNeck head (Luo et al. 2019) as TransOSS and SDF-Net use it.

    The triplet loss sees the raw feature, the classifier the one behind a
    BatchNorm whose shift is frozen at zero.

    Args:
        in_channels: Channels D of the fused feature.
        num_classes: Training identities C; 361 in HOSS-ReID.
        test_feature: What is compared at test time: ``'before'`` the
            BatchNorm (TransOSS, MOS) or ``'after'`` it (SDF-Net).
        loss_id: Config of the classification loss.
        loss_triplet: Config of the metric loss, ``None`` for none.
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Raises:
        ConfigError: For an unknown feature or a number out of range.
    """

    def __init__(self,
                 in_channels: int = 768,
                 num_classes: int = 361,
                 test_feature: str = 'before',
                 loss_id: Buildable | None = None,
                 loss_triplet: Buildable | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        require_range(1, 2**20, in_channels=in_channels)
        require_range(1, 2**24, num_classes=num_classes)
        if test_feature not in TEST_FEATURES:
            raise ConfigError(f'test_feature={test_feature!r} is none of '
                              f'{TEST_FEATURES}.')
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.test_feature = test_feature
        self.bottleneck = nn.BatchNorm1d(in_channels)
        self.bottleneck.bias.requires_grad_(False)
        self.classifier = nn.Linear(in_channels, num_classes, bias=False)
        self.loss_id = build_loss(loss_id)
        self.loss_triplet = build_loss(loss_triplet)

    def init_weights(self) -> None:
        """Unit BatchNorm; classifier normal with deviation 0.001."""
        nn.init.ones_(self.bottleneck.weight)
        nn.init.zeros_(self.bottleneck.bias)
        nn.init.normal_(self.classifier.weight, std=0.001)
        super().init_weights()

    def forward(self, features: Tensor) -> Tensor:
        """Descriptors for retrieval, (B, D) to (B, D)."""
        if self.test_feature == 'after':
            return self.bottleneck(features)
        return features

    def loss(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Losses of a batch and its accuracy in percent.

        Args:
            features: (B, D) fused features.
            labels: (B,) long, 0..C-1.
        """
        scores = self.classifier(self.bottleneck(features))
        losses = {}
        if self.loss_id is not None:
            losses['loss_id'] = self.loss_id(scores, labels)
        if self.loss_triplet is not None:
            losses['loss_triplet'] = self.loss_triplet(features, labels)
        with torch.no_grad():
            hits = scores.argmax(dim=1) == labels
            losses['accuracy'] = 100 * hits.float().mean()
        return losses

    def check_labels(self, labels: Tensor) -> None:
        """Refuse labels outside the classifier.

        Args:
            labels: (B,) long, on the host: reading them from a device would
                stall its stream, and CUDA reports such a label as an
                unrelated failure later on.

        Raises:
            ConfigError: Naming the range and the key to set.
        """
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= self.num_classes:
            raise ConfigError(
                f'Labels run from {low} to {high}, but the head has '
                f'num_classes={self.num_classes}. Set '
                'model.head.num_classes to the number of training '
                'identities.')
