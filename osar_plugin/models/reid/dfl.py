"""From tokens to identity features, with and without disentangling.

SDF-Net's disentangled feature learning (DFL) splits the last class token
into a feature that both sensors share and one that belongs to a sensor, and
adds the two up::

    tokens (B, N, D) -- neck --> shared, specific, fused (B, D or 2 D)

Letters: B batch, N tokens, D channels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...registry import MODELS
from ...utils.config_values import require_range
from ...utils.errors import ConfigError, DataFormatError

FUSIONS = ('sum', 'shared', 'specific', 'concat')
SOURCES = ('token', 'projection')


class ReIDFeatures(NamedTuple):
    """Features of a batch.

    Attributes:
        fused: (B, D), or (B, 2 D) for the fusion 'concat': what is
            classified and compared.
        shared: (B, D) modality-invariant part, if the neck separates it.
        specific: (B, D) modality-specific part, likewise.
    """

    fused: Tensor
    shared: Tensor | None = None
    specific: Tensor | None = None


def fuse(shared: Tensor, specific: Tensor, how: str) -> Tensor:
    """Combine two (B, D) features; see :class:`DisentangledNeck`."""
    if how == 'sum':
        return shared + specific
    if how == 'concat':
        return torch.cat([shared, specific], dim=1)
    if how == 'shared':
        return shared
    if how == 'specific':
        return specific
    raise ConfigError(f'fusion={how!r} is none of {FUSIONS}.')


@MODELS.register_module()
class ClassTokenNeck(BaseModule):
    """Take the class token: the feature of TransOSS."""

    def out_channels(self, embed_dim: int) -> int:
        """Channels of the fused feature, from those of a token."""
        return embed_dim

    def forward(self, tokens: Tensor) -> ReIDFeatures:
        """(B, N, D) tokens to a feature (B, D)."""
        return ReIDFeatures(tokens[:, 0])


@MODELS.register_module()
class DisentangledNeck(BaseModule):
    """Shared and specific features and their fusion.

    Args:
        embed_dim: Channels D of a token.
        source: Where the two come from. ``'token'``: the class token and
            the modality token behind it, as in the released code (build
            the backbone with ``modality_token=True``). ``'projection'``:
            two linear heads on the class token, as the paper writes it.
        fusion: ``'sum'`` as published, ``'shared'``, ``'specific'`` or
            ``'concat'`` (2 D channels).
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Raises:
        ConfigError: For an unknown source or fusion, or a width out of
            range.
    """

    def __init__(self,
                 embed_dim: int = 768,
                 source: str = 'token',
                 fusion: str = 'sum',
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        require_range(1, 2**20, embed_dim=embed_dim)
        if source not in SOURCES or fusion not in FUSIONS:
            raise ConfigError(
                f'source={source!r} must be one of {SOURCES} and '
                f'fusion={fusion!r} one of {FUSIONS}.')
        self.embed_dim = embed_dim
        self.source = source
        self.fusion = fusion
        if source == 'projection':
            self.shared_head = nn.Linear(embed_dim, embed_dim)
            self.specific_head = nn.Linear(embed_dim, embed_dim)

    def out_channels(self, embed_dim: int) -> int:
        """Channels of the fused feature, from those of a token.

        Raises:
            ConfigError: If the linear heads are made for other tokens.
        """
        if self.source == 'projection' and embed_dim != self.embed_dim:
            raise ConfigError(
                f'neck.embed_dim={self.embed_dim}, but the backbone has '
                f'embed_dim={embed_dim}. Give both the same value.')
        return 2 * embed_dim if self.fusion == 'concat' else embed_dim

    def init_weights(self) -> None:
        """Truncated normal weights of deviation 0.02, zero biases."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        super().init_weights()

    def forward(self, tokens: Tensor) -> ReIDFeatures:
        """(B, N, D) tokens to the three features."""
        if self.source == 'token':
            if tokens.shape[1] < 2:
                raise DataFormatError(
                    f'Expected tokens (B, N >= 2, D), got '
                    f'{tuple(tokens.shape)}: the second is the modality '
                    'token of a backbone with modality_token=True.')
            shared, specific = tokens[:, 0], tokens[:, 1]
        else:
            shared = self.shared_head(tokens[:, 0])
            specific = self.specific_head(tokens[:, 0])
        return ReIDFeatures(
            fuse(shared, specific, self.fusion), shared, specific)
