"""Optical-anchored knowledge distillation (OKD).

Letters: B pairs, L units, N visible, D channels of the tokens, T channels of
the teacher.
"""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...registry import MODELS
from ...utils.config_values import require_range
from ...utils.errors import ConfigError, DataFormatError
from ..backbones.hierarchical import gather_units
from ..backbones.vit import Block
from ..precision import full_precision
from .decoder import init_parts

# PyTorch's smooth L1 with beta 1, mean over everything (official code).
smooth_l1 = full_precision(F.smooth_l1_loss)


@MODELS.register_module()
class OpticalDistillation(BaseModule):
    """Hold visible optical tokens against a frozen teacher's.

    Two heads: one on the embedding of the pyramid that the decoders see, one
    on tokens from within the trunk, through two blocks of its own. SAR is
    reached through the shared weights only.

    Args:
        dim: D of the embedding (the decoder's).
        trunk_dim: D of the trunk.
        teacher_dim: T.
        depth: Blocks before the second head; 0 leaves that head out.
        num_heads: Attention heads of these blocks.
        mlp_ratio: Hidden channels of their MLP over D.
        tap: Which attention block of the trunk the second head listens to:
            ``int(tap * number of attention blocks)``, counted from 0.
        norm_eps: Epsilon of the norms.
        with_cp: Recompute the blocks in the backward pass to save memory.

    Raises:
        ConfigError: If a number is out of range or sizes do not divide.
    """

    def __init__(self,
                 dim: int = 512,
                 trunk_dim: int = 512,
                 teacher_dim: int = 1024,
                 depth: int = 2,
                 num_heads: int = 8,
                 mlp_ratio: float = 4.,
                 tap: float = 0.75,
                 norm_eps: float = 1e-6,
                 with_cp: bool = False) -> None:
        super().__init__()
        require_range(1, 2**16, dim=dim, trunk_dim=trunk_dim,
                      teacher_dim=teacher_dim, num_heads=num_heads)
        require_range(0, 2**8, depth=depth)
        require_range(0, 1, without=(1, ), tap=tap)
        if trunk_dim % num_heads:
            raise ConfigError(
                f'distillation.trunk_dim={trunk_dim} is not a multiple of '
                f'num_heads={num_heads}. Choose a divisor.')
        self.tap = tap
        self.with_cp = with_cp
        self.teacher_dim = teacher_dim
        self.norm = nn.LayerNorm(dim, eps=norm_eps)
        self.head = nn.Linear(dim, teacher_dim)
        self.has_aux = depth > 0
        if self.has_aux:
            self.aux_blocks = nn.ModuleList(
                Block(trunk_dim, num_heads, mlp_ratio, norm_eps=norm_eps)
                for _ in range(depth))
            self.aux_norm = nn.LayerNorm(trunk_dim, eps=norm_eps)
            self.aux_head = nn.Linear(trunk_dim, teacher_dim)

    def init_weights(self) -> None:
        """Draw the official initialisation."""
        init_parts(self)
        super().init_weights()

    def tap_block(self, attention_blocks: int) -> int:
        """The attention block to listen to, counted from 0."""
        return int(self.tap * attention_blocks)

    def auxiliary(self, tokens: Tensor) -> Tensor:
        """Trunk tokens (B, N, D) through the blocks of the second head."""
        for block in self.aux_blocks:
            if self.with_cp and self.training:
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
        return tokens

    def forward(self, visible: Tensor, tapped: Tensor | None,
                teacher: Tensor, keep: Tensor) -> dict[str, Tensor]:
        """Losses of the optical half of a batch.

        Args:
            visible: (B, N, D), embedded tokens.
            tapped: (B, N, D), tokens of the trunk; ``None`` without a
                second head.
            teacher: (B, L, T).
            keep: (B, N) int64, the visible units.

        Returns:
            ``main`` and, with a second head, ``aux``: scalars.
        """
        goal = gather_units(teacher, keep)
        losses = dict(main=smooth_l1(self.head(self.norm(visible)), goal))
        if tapped is not None and self.has_aux:
            hidden = self.aux_norm(self.auxiliary(tapped))
            losses['aux'] = smooth_l1(self.aux_head(hidden), goal)
        return losses

    def check(self, teacher: Tensor, batch: int,
              grid: tuple[int, int]) -> None:
        """Refuse features that do not lie on the encoder's grid.

        Raises:
            DataFormatError: Naming both.
        """
        units = grid[0] * grid[1]
        expected = (batch, units, self.teacher_dim)
        if tuple(teacher.shape) != expected:
            raise DataFormatError(
                f'The teacher gives features {tuple(teacher.shape)}, '
                f'expected {expected}: one for each of the {grid[0]} x '
                f'{grid[1]} units of 16 pixels, of distillation.teacher_dim '
                'channels. Use a teacher with patches of 16 pixels, or '
                'compute its features at the size of the training images.')
