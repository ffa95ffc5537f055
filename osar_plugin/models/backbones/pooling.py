"""From the tokens of a backbone to the features of a classifier.

The head of CoDe-MAE's classifiers (official code)::

    tokens (B, N, D) --mean--> (B, D) --fc_norm--> (B, D) [--BatchNorm-->]

Letters: B batch, N tokens, D channels, Hp Wp the patches of a map.
"""

from __future__ import annotations

from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from ...registry import MODELS
from ...utils.config_values import require_range
from ...utils.errors import DataFormatError


@MODELS.register_module()
class MeanPoolNeck(BaseModule):
    """Mean of the tokens, then LayerNorm; the neck of a classifier.

    ``fc_norm`` is not in the checkpoints of masked pre-training and starts
    as the identity (official code). Names of the weights are the official
    ones behind ``neck.``.

    Args:
        dim: Channels D.
        batch_norm: Add a BatchNorm without weights in front of the head, as
            in the few-shot recipes for SAR targets (official code).
        norm_eps: Epsilon of both norms.
        init_cfg: See ``BaseModule``.

    Raises:
        ConfigError: If an argument is out of range.
    """

    def __init__(self,
                 dim: int,
                 batch_norm: bool = False,
                 norm_eps: float = 1e-6,
                 init_cfg: dict[str, Any] | None = None) -> None:
        super().__init__(init_cfg)
        require_range(1, 2**16, dim=dim)
        require_range(0, 1, without=(0, ), norm_eps=norm_eps)
        self.fc_norm = nn.LayerNorm(dim, eps=norm_eps)
        self.batch_norm = nn.BatchNorm1d(
            dim, eps=norm_eps, affine=False) if batch_norm else None

    def forward(self, features: Tensor | tuple[Tensor, ...]) -> tuple[Tensor]:
        """Pool the tokens or the last map of a backbone.

        Args:
            features: Tokens (B, N, D), or a tuple whose last map is
                (B, D, Hp, Wp).

        Returns:
            A tuple of (B, D), as heads of MMPretrain take it.

        Raises:
            DataFormatError: If the shape is another one, or a batch of one
                image is to train a BatchNorm.
        """
        x = features if isinstance(features, Tensor) else features[-1]
        if x.ndim == 4:
            x = x.flatten(2).transpose(1, 2)
        dim = self.fc_norm.normalized_shape[0]
        if x.ndim != 3 or x.shape[-1] != dim:
            raise DataFormatError(
                f'MeanPoolNeck got {tuple(x.shape)} and takes tokens '
                f'(B, N, {dim}) or maps (B, {dim}, H, W). Set dim to the '
                "backbone's channels, and num_outs=1 (or out='tokens').")
        x = self.fc_norm(x.mean(1))
        if self.batch_norm is not None and self.training and len(x) == 1:
            raise DataFormatError(
                'A training batch of one image: BatchNorm needs two. Set '
                'train_dataloader.drop_last=True, or another batch_size.')
        return (x if self.batch_norm is None else self.batch_norm(x), )
