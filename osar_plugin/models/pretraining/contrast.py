"""Conditioned contrastive learning (CCL), and the vanilla kind.

Letters: B pairs of a process, W processes, N visible tokens, D channels.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...registry import MODELS
from ...utils.config_values import require_range
from ...utils.errors import ConfigError
from ..backbones.trunk import check_word
from ..backbones.vit import plain_attention
from ..gather import gather_rows, world_size
from ..precision import full_precision
from .decoder import init_parts

GATHERS = ('official', 'differentiable')


def gather_keys(x: Tensor, rule: str = 'official') -> Tensor:
    """(B, D) of every process to (W * B, D): what queries are held against.

    ``'official'``: without gradients, as the released code gathers; each
    process trains through its own queries only. ``'differentiable'``: the
    gradients are those of one process with the joint batch. With one
    process both are the identity.

    Args:
        x: The same number of rows in each process.
        rule: One of the above.

    Raises:
        ConfigError: If the rule is not known.
    """
    check_word('gather', rule, GATHERS)
    if rule == 'official' and world_size() > 1:
        x = x.detach()
    return gather_rows(x)


@full_precision
def pair_contrast(rgb: Tensor, sar: Tensor, all_rgb: Tensor, all_sar: Tensor,
                  temperature: float = 0.07, offset: int = 0) -> Tensor:
    """Symmetric InfoNCE of pairs, a scalar.

    ``(CE(rgb all_sar^T / t, own row) + CE(sar all_rgb^T / t, own row)) / 2``

    Args:
        rgb: (B, D), unit length.
        sar: Likewise; row i shows what row i of ``rgb`` shows.
        all_rgb: (W B, D), of every process.
        all_sar: Likewise.
        temperature: t.
        offset: Where this process's rows begin in the joint ones.
    """
    own = torch.arange(len(rgb), device=rgb.device) + offset
    return 0.5 * (
        F.cross_entropy(rgb @ all_sar.T / temperature, own)
        + F.cross_entropy(sar @ all_rgb.T / temperature, own))


class CrossAttention(BaseModule):
    """What one sensor's tokens find in the other's, added to them.

    ``x + attention(q=norm(x), k, v=norm(context))``

    Args:
        dim: D.
        num_heads: Attention heads.
        norm_eps: Epsilon of both norms; PyTorch's own in the released code,
            unlike everywhere else.

    Raises:
        ConfigError: If the sizes do not divide.
    """

    def __init__(self, dim: int = 512, num_heads: int = 16,
                 norm_eps: float = 1e-5) -> None:
        super().__init__()
        if dim % num_heads:
            raise ConfigError(
                f'contrast.dim={dim} is not a multiple of '
                f'num_heads={num_heads}. Choose a divisor.')
        self.num_heads = num_heads
        self.n_q = nn.LayerNorm(dim, eps=norm_eps)
        self.n_kv = nn.LayerNorm(dim, eps=norm_eps)
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """(B, N, D) twice to (B, N, D)."""
        b, n, d = x.shape
        heads = (self.num_heads, d // self.num_heads)
        q = self.q(self.n_q(x)).unflatten(-1, heads).transpose(1, 2)
        kv = self.kv(self.n_kv(context)).unflatten(-1, (2, *heads))
        k, v = kv.permute(2, 0, 3, 1, 4).unbind(0)
        # See Attention of the plain ViT.
        slow = q.device.type == 'cpu' and q.dtype == torch.bfloat16
        attend = plain_attention if slow else F.scaled_dot_product_attention
        return x + self.proj(attend(q, k, v).transpose(1, 2).reshape(b, n, d))


@MODELS.register_module()
class PairContrast(BaseModule):
    """Pull the two images of a pair together against other pairs.

    Conditioned (published): each sensor's tokens first take up, through
    cross attention, what the other's can tell, and only that sum is
    compared; the tokens themselves need not agree. Without, the means of
    the tokens are compared directly: the vanilla baseline.

    Args:
        dim: D.
        num_heads: Heads of the cross attention.
        conditioned: Whether there is one.
        temperature: Fixed.
        gather: Gradient rule of the negatives, see :func:`gather_keys`.

    Raises:
        ConfigError: If a number is out of range or the rule not known.
    """

    def __init__(self,
                 dim: int = 512,
                 num_heads: int = 16,
                 conditioned: bool = True,
                 temperature: float = 0.07,
                 gather: str = 'official') -> None:
        super().__init__()
        require_range(1, 2**16, dim=dim, num_heads=num_heads)
        require_range(0, 1e6, without=(0, ), temperature=temperature)
        check_word('gather', gather, GATHERS)
        self.gather = gather
        self.temperature = temperature
        self.conditioned = conditioned
        if conditioned:
            self.attn_rgb = CrossAttention(dim, num_heads)
            self.attn_sar = CrossAttention(dim, num_heads)

    def init_weights(self) -> None:
        """Draw the official initialisation."""
        init_parts(self)
        super().init_weights()

    def describe(self, rgb: Tensor, sar: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, D) of both sensors to unit vectors (B, D)."""
        if self.conditioned:
            rgb, sar = self.attn_rgb(rgb, sar), self.attn_sar(sar, rgb)
        return _direction(rgb), _direction(sar)

    def forward(self, rgb: Tensor, sar: Tensor) -> Tensor:
        """Loss of this process's pairs, a scalar.

        Every process must call it in every step, also with an unpaired
        batch, because the negatives are gathered.

        Args:
            rgb: (B, N, D), embedded visible tokens.
            sar: Likewise.
        """
        z_rgb, z_sar = self.describe(rgb, sar)
        offset = dist.get_rank() * len(rgb) if world_size() > 1 else 0
        return pair_contrast(
            z_rgb, z_sar, gather_keys(z_rgb, self.gather),
            gather_keys(z_sar, self.gather), self.temperature, offset)


@full_precision
def _direction(tokens: Tensor) -> Tensor:
    return F.normalize(tokens.mean(dim=1), dim=-1)
