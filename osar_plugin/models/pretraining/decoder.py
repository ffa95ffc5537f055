"""From visible tokens to a prediction for every unit.

Letters: B sequences, L units, N visible ones, M others, D channels of the
decoder, F channels of the pyramid, V values that are predicted for a unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule, ModuleDict
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...registry import MODELS
from ...utils.config_values import require_range
from ...utils.errors import ConfigError, DataFormatError
from ..backbones.hierarchical import UNIT, gather_units, sincos_table
from ..backbones.vit import Block

# Cells on a side of a unit, by level of the pyramid: strides 16, 8, 4.
CELLS = (1, 2, 4)


def init_parts(module: nn.Module) -> None:
    """Draw the official initialisation of linear layers and norms.

    Weights from a truncated normal of 0.02, biases 0, norms 1 and 0.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm) and part.elementwise_affine:
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)


class LevelEmbedding(BaseModule):
    """One token per unit from the three levels of the pyramid.

    Each level goes through LayerNorm and a linear layer whose width makes
    the unit's cells, row by row, D values together; the levels are summed.

    Args:
        in_dim: F.
        dim: D, a multiple of 16.
        norm_eps: Epsilon of the norms.

    Raises:
        ConfigError: If the channels do not divide.
    """

    def __init__(self, in_dim: int = 256, dim: int = 512,
                 norm_eps: float = 1e-6) -> None:
        super().__init__()
        if dim % CELLS[-1]**2:
            raise ConfigError(
                f'decoder.dim={dim} is not a multiple of {CELLS[-1]**2}, the '
                'cells of a unit.')
        self.levels = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(in_dim, eps=norm_eps),
                          nn.Linear(in_dim, dim // cells**2))
            for cells in CELLS)

    def init_weights(self) -> None:
        """Draw the official initialisation."""
        init_parts(self)
        super().init_weights()

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels (B, N, c, c, F) with c = 1, 2, 4 to (B, N, D)."""
        parts = [embed(level).flatten(2) for embed, level in zip(
            self.levels, levels, strict=True)]
        return parts[0] + parts[1] + parts[2]


@MODELS.register_module()
class MaskedDecoder(BaseModule):
    """Transformer that fills in what was masked.

    Visible tokens return to their places, the others are mask tokens, fixed
    positions are added, then blocks, a norm and a linear layer follow.

    Args:
        dim: D.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden channels of the MLP over D.
        img_size: Side of the square images in pixels, a multiple of 16.
        out_dim: V.
        mask_copies: How often the mask token is added at a masked unit. 3
            in CoDe-MAE, whose code fills each level of the pyramid up
            before it sums them; 1 in HiViT-MAE.
        norm_eps: Epsilon of the norms.
        attention: See :class:`~osar_plugin.models.backbones.vit.Attention`.
        with_cp: Recompute the blocks in the backward pass to save memory.

    Raises:
        ConfigError: If a number is out of range or sizes do not divide.
    """

    def __init__(self,
                 dim: int = 512,
                 depth: int = 8,
                 num_heads: int = 16,
                 mlp_ratio: float = 4.,
                 img_size: int = 224,
                 out_dim: int = 768,
                 mask_copies: int = 3,
                 norm_eps: float = 1e-6,
                 attention: str = 'auto',
                 with_cp: bool = False) -> None:
        super().__init__()
        require_range(1, 2**16, dim=dim, num_heads=num_heads,
                      img_size=img_size, out_dim=out_dim)
        require_range(1, 2**12, depth=depth)
        require_range(1, 16, mask_copies=mask_copies)
        require_range(0, 2**10, without=(0, ), mlp_ratio=mlp_ratio)
        require_range(0, 1, without=(0, ), norm_eps=norm_eps)
        if dim % num_heads:
            raise ConfigError(
                f'decoder.dim={dim} is not a multiple of '
                f'num_heads={num_heads}. Choose a divisor.')
        if img_size % UNIT:
            raise ConfigError(
                f'decoder.img_size={img_size} is not a multiple of {UNIT}. '
                'Choose one.')
        self.grid_size = (img_size // UNIT, img_size // UNIT)
        self.dim = dim
        self.mask_copies = mask_copies
        self.with_cp = with_cp
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        # Kept in the state dict: the authors' files have it, too.
        self.register_buffer(
            'pos_embed', sincos_table(dim, img_size // UNIT))
        self.blocks = nn.ModuleList(
            Block(dim, num_heads, mlp_ratio, norm_eps=norm_eps,
                  attention=attention) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=norm_eps)
        self.pred = nn.Linear(dim, out_dim)

    def init_weights(self) -> None:
        """Draw the official initialisation."""
        init_parts(self)
        nn.init.normal_(self.mask_token, std=0.02)
        super().init_weights()

    def forward(self, visible: Tensor, keep: Tensor,
                wanted: Tensor | None = None) -> Tensor:
        """Predict the units of a batch of sequences.

        Args:
            visible: (B, N, D), embedded tokens.
            keep: (B, N) int64, the units that they are.
            wanted: (B, M) int64, the units to predict, ``None`` for all.

        Returns:
            (B, M, V), or (B, L, V).
        """
        x = self.fill(visible, keep)
        for block in self.blocks:
            if self.with_cp and self.training:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        if wanted is not None:
            # Norm and prediction see each token alone.
            x = gather_units(x, wanted)
        return self.pred(self.norm(x))

    def fill(self, visible: Tensor, keep: Tensor) -> Tensor:
        """Put (B, N, D) tokens and mask tokens in place: (B, L, D)."""
        positions: Any = self.pos_embed
        b, units = len(visible), positions.shape[1]
        token = (self.mask_token * self.mask_copies).to(visible.dtype)
        first = torch.arange(b, device=keep.device)[:, None] * units
        # Row by row: what is visible is moved once, the rest not at all.
        full = token[0].expand(b * units, -1).index_copy(
            0, (keep + first).flatten(), visible.flatten(0, 1))
        return full.view(b, units, -1) + positions

    def check_images(self, images: Tensor) -> None:
        """Refuse images of another size than the position table's.

        Raises:
            DataFormatError: Naming both sizes.
        """
        expected = tuple(side * UNIT for side in self.grid_size)
        if tuple(images.shape[-2:]) != expected:
            raise DataFormatError(
                f'The decoder was built for images of {expected} (H, W) and '
                f'got {tuple(images.shape[-2:])}. Crop to that size in the '
                'pipeline or set decoder.img_size.')


def decoder_set(decoder: dict[str, Any], out_dim: int,
                share: bool) -> ModuleDict:
    """One decoder for both sensors, or one each.

    Args:
        decoder: Config of a :class:`MaskedDecoder`.
        out_dim: V.
        share: Whether there is one.

    Returns:
        ``shared``, or ``rgb`` and ``sar``.
    """
    names = ('shared', ) if share else ('rgb', 'sar')
    # PyTorch's own would keep MMEngine's initialisation from the parts.
    return ModuleDict({
        name: MODELS.build(dict(decoder, out_dim=out_dim)) for name in names})


def decode_pair(decoders: ModuleDict, visible: Tensor, keep: Tensor,
                wanted: Tensor | None) -> Tensor:
    """Run the decoders on ``[optical; SAR]``, see :class:`MaskedDecoder`.

    Args:
        decoders: See :func:`decoder_set`.
        visible: (2 B, N, D).
        keep: (2 B, N).
        wanted: (2 B, M) or ``None``.
    """
    if 'shared' in decoders:
        return decoders['shared'](visible, keep, wanted)
    goals = (None, None) if wanted is None else wanted.chunk(2)
    return torch.cat([
        decoders[name](tokens, ids, goal) for name, tokens, ids, goal in zip(
            ('rgb', 'sar'), visible.chunk(2), keep.chunk(2), goals,
            strict=True)])
