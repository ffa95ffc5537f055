"""Vision transformer with one tokenizer per sensor.

The backbone of TransOSS (ICCV 2025), which SDF-Net and MOS build on. Each
image goes through the patch embedding of its own sensor, then through
shared blocks::

    image (B, 3, H, W) -- patch_embeds[modality] --> (B, h*w, D)
    [class, (modality token,) patches] + pos_embed + coef * modality_embed
    [..., ship-size token]                 appended last, without positions
    -- blocks --> taps (raw residual stream) -- norm --> tokens (B, N, D)

Letters: B batch, N tokens, D channels, H W height and width in pixels,
h w the same in patches, M modalities (0 optical, 1 SAR).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...registry import MODELS
from ...utils.config_values import require_range
from ...utils.errors import ConfigError, DataFormatError
from ..precision import full_precision


class ViTOutput(NamedTuple):
    """What the backbone returns.

    Attributes:
        tokens: (B, N, D), after the last LayerNorm.
        taps: Output of the asked blocks, keyed by their 1-based number:
            (B, N, D), the raw residual stream without LayerNorm.
    """

    tokens: Tensor
    taps: dict[int, Tensor]


class DropPath(nn.Module):
    """Stochastic depth: drop a residual branch per sample.

    Args:
        drop_prob: Probability with which a sample loses the branch.
    """

    def __init__(self, drop_prob: float = 0.) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """Scale the kept samples of ``x`` (B, ...) by 1 / keep."""
        if self.drop_prob == 0. or not self.training:
            return x
        keep = 1. - self.drop_prob
        shape = (x.shape[0], ) + (1, ) * (x.ndim - 1)
        # floor(keep + U) with a float32 draw: the official random sequence.
        mask = torch.rand(shape, device=x.device).add_(keep).floor_()
        return x * (mask / keep).to(x.dtype)

    def extra_repr(self) -> str:
        return f'drop_prob={self.drop_prob}'


def plain_attention(q: Tensor, k: Tensor, v: Tensor,
                    bias: Tensor | None = None) -> Tensor:
    """Softmax attention written out, in the precision of its inputs.

    Args:
        q: (B, heads, N, channels of a head), like ``k`` and ``v``.
        bias: Added to the logits; spreads to (B, heads, N, N).
    """
    # Autocast would widen the softmax to float32 and narrow it again; the
    # kernel accumulates in float32 in any case.
    with torch.autocast(q.device.type, enabled=False):
        weights = (q * q.shape[-1]**-0.5) @ k.transpose(-2, -1)
        if bias is not None:
            weights = weights + bias
        return weights.softmax(dim=-1) @ v


class Attention(nn.Module):
    """Multi-head self-attention.

    Args:
        dim: Channels D.
        num_heads: Heads; D must be a multiple of it.
        qkv_bias: Whether the joint projection has a bias.
        kind: ``'fused'`` for PyTorch's kernel, ``'plain'`` for the same
            numbers with an (N, N) matrix in memory, ``'auto'`` for the
            faster of the two.
    """

    def __init__(self,
                 dim: int,
                 num_heads: int,
                 qkv_bias: bool = True,
                 kind: str = 'auto') -> None:
        super().__init__()
        self.num_heads = num_heads
        self.kind = kind
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(B, N, D) to (B, N, D); ``bias`` (., heads, N, N) for the logits."""
        b, n, d = x.shape
        qkv = self.qkv(x).view(b, n, 3, self.num_heads, d // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        # PyTorch's CPU kernel is slower than the plain form in bfloat16 at
        # these lengths; tools/benchmark/reid.py shows both.
        slow = q.device.type == 'cpu' and q.dtype == torch.bfloat16
        if bias is not None:
            bias = bias.to(q.dtype)
        if self.kind == 'fused' or (self.kind == 'auto' and not slow):
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        else:
            out = plain_attention(q, k, v, bias)
        return self.proj(out.transpose(1, 2).reshape(b, n, d))


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self,
                 dim: int,
                 num_heads: int,
                 mlp_ratio: float = 4.,
                 qkv_bias: bool = True,
                 drop_path: float = 0.,
                 norm_eps: float = 1e-6,
                 attention: str = 'auto') -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads, qkv_bias, attention)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = MLP(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


@MODELS.register_module()
class VisionTransformer(BaseModule):
    """ViT with a dual-head tokenizer, modality and ship-size embeddings.

    The defaults are those of the published TransOSS (ViT-B/16 at 256 x 128).

    Args:
        img_size: (H, W) in pixels, multiples of ``patch_size``.
        patch_size: Side of a patch in pixels.
        in_channels: Channels of either sensor's image.
        embed_dim: Channels D.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden channels of the MLP over D.
        qkv_bias: Bias in the joint q, k, v projection.
        drop_path_rate: Stochastic depth of the last block; the others
            follow linearly from 0.
        norm_eps: Epsilon of every LayerNorm.
        num_modalities: M, sensors with a tokenizer of their own.
        modality_coef: Factor of the modality embedding, which is added to
            all tokens (official ``MIE_COE``); 0 leaves it out.
        modality_token: Put a second class token, chosen by modality, behind
            the first: the modality-specific branch of the released SDF-Net.
        size_token: Append a token made from the ship-size vector.
        attention: ``'auto'``, ``'fused'`` or ``'plain'``; see
            :class:`Attention`.
        with_cp: Recompute the blocks in the backward pass to save memory.
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Raises:
        ConfigError: If a number is out of range or sizes do not divide.
    """

    def __init__(self,
                 img_size: Sequence[int] = (256, 128),
                 patch_size: int = 16,
                 in_channels: int = 3,
                 embed_dim: int = 768,
                 depth: int = 12,
                 num_heads: int = 12,
                 mlp_ratio: float = 4.,
                 qkv_bias: bool = True,
                 drop_path_rate: float = 0.1,
                 norm_eps: float = 1e-6,
                 num_modalities: int = 2,
                 modality_coef: float = 3.0,
                 modality_token: bool = False,
                 size_token: bool = True,
                 attention: str = 'auto',
                 with_cp: bool = False,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        # The upper ends are beyond any machine, and named before it stalls.
        require_range(
            1, 2**16, img_size=img_size, patch_size=patch_size,
            in_channels=in_channels, embed_dim=embed_dim,
            num_heads=num_heads, num_modalities=num_modalities)
        require_range(1, 2**12, depth=depth)
        require_range(0, 2**10, without=(0, ), mlp_ratio=mlp_ratio)
        require_range(0, 1, without=(1, ), drop_path_rate=drop_path_rate)
        require_range(0, 1, without=(0, ), norm_eps=norm_eps)
        require_range(0, 1e6, modality_coef=modality_coef)
        if any(side % patch_size for side in img_size):
            raise ConfigError(
                f'img_size={tuple(img_size)} is not a multiple of '
                f'patch_size={patch_size}. Choose sides that are.')
        if attention not in ('auto', 'fused', 'plain'):
            raise ConfigError(
                f"attention={attention!r} is none of 'auto', 'fused', "
                "'plain'.")
        if embed_dim % num_heads:
            raise ConfigError(
                f'embed_dim={embed_dim} is not a multiple of '
                f'num_heads={num_heads}. Choose a divisor.')
        self.img_size = (int(img_size[0]), int(img_size[1]))
        self.patch_size = patch_size
        self.grid_size = (img_size[0] // patch_size,
                          img_size[1] // patch_size)
        self.embed_dim = embed_dim
        self.depth = depth
        self.num_modalities = num_modalities
        self.modality_coef = modality_coef
        self.with_cp = with_cp
        self.num_class_tokens = 2 if modality_token else 1
        num_patches = self.grid_size[0] * self.grid_size[1]

        self.patch_embeds = nn.ModuleList(
            nn.Conv2d(in_channels, embed_dim, patch_size, stride=patch_size)
            for _ in range(num_modalities))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(
            torch.zeros(1, self.num_class_tokens + num_patches, embed_dim))
        self.modality_tokens = nn.Parameter(
            torch.zeros(num_modalities, 1,
                        embed_dim)) if modality_token else None
        self.modality_embed = nn.Parameter(
            torch.zeros(num_modalities, 1,
                        embed_dim)) if modality_coef else None
        self.size_embed = nn.Linear(3, embed_dim) if size_token else None
        rates = torch.linspace(0, drop_path_rate, depth).tolist()
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, mlp_ratio, qkv_bias, rate, norm_eps,
                  attention) for rate in rates)
        self.norm = nn.LayerNorm(embed_dim, eps=norm_eps)

    def init_weights(self) -> None:
        """Draw the official initialisation, then load ``init_cfg`` if any."""
        for parameter in (self.cls_token, self.pos_embed,
                          self.modality_tokens, self.modality_embed):
            if parameter is not None:
                nn.init.trunc_normal_(parameter, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                fan_out = self.patch_size**2 * self.embed_dim
                nn.init.normal_(module.weight, 0, math.sqrt(2. / fan_out))
        super().init_weights()

    @property
    def patch_slice(self) -> slice:
        """Where the patch tokens stand among the N tokens."""
        first = self.num_class_tokens
        return slice(first, first + self.grid_size[0] * self.grid_size[1])

    def tokenize(self, x: Tensor, modality: Tensor) -> Tensor:
        """Embed each image with the tokenizer of its own sensor.

        Every tokenizer sees the whole batch and the right result is picked:
        0.7 % more arithmetic for ViT-B, but no data-dependent shapes, hence
        no device synchronisation, and each parameter is in every graph, so
        that DDP needs no search for unused ones.

        Args:
            x: (B, C, H, W), normalised.
            modality: (B,) long.

        Returns:
            (B, h * w, D).
        """
        tokens = [
            embed(x).flatten(2).transpose(1, 2) for embed in self.patch_embeds
        ]
        out = tokens[0]
        for index in range(1, len(tokens)):
            out = torch.where((modality == index)[:, None, None],
                              tokens[index], out)
        return out

    def embed(self, x: Tensor, modality: Tensor,
              size: Tensor | None) -> Tensor:
        """Build the input sequence (B, N, D) of the first block."""
        b = x.shape[0]
        parts = [self.cls_token.expand(b, -1, -1)]
        if self.modality_tokens is not None:
            parts.append(self.modality_tokens[modality])
        tokens = torch.cat([*parts, self.tokenize(x, modality)], dim=1)
        tokens = tokens + self.pos_embed
        if self.modality_embed is not None:
            tokens = tokens + (
                self.modality_coef * self.modality_embed[modality])
        if self.size_embed is not None:
            # Appended after positions and modality were added: as trained.
            # Not in half precision: it would round a ship's length.
            size_token = full_precision(self.size_embed)(size).unsqueeze(1)
            tokens = torch.cat([tokens, size_token.to(tokens.dtype)], dim=1)
        return tokens

    def forward(self,
                x: Tensor,
                modality: Tensor,
                size: Tensor | None = None,
                taps: Sequence[int] = ()) -> ViTOutput:
        """Encode a batch of chips of any mix of sensors.

        Args:
            x: (B, C, H, W), normalised.
            modality: (B,) long, 0 optical, 1 SAR.
            size: (B, 3) ship-size vectors; needed with ``size_token``.
            taps: 1-based numbers of the blocks whose output is wanted.

        Raises:
            DataFormatError: If the image has another size than the model,
                or the ship sizes are missing.
        """
        self._check(x, size)
        tokens = self.embed(x, modality, size)
        kept: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks, start=1):
            if self.with_cp and self.training:
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
            if number in taps:
                kept[number] = tokens
        return ViTOutput(self.norm(tokens), kept)

    def patch_map(self, tokens: Tensor) -> Tensor:
        """Cut the patch tokens out: (B, N, D) to (B, h, w, D)."""
        patches = tokens[:, self.patch_slice]
        return patches.unflatten(1, self.grid_size)

    def _check(self, x: Tensor, size: Tensor | None) -> None:
        if tuple(x.shape[-2:]) != self.img_size:
            raise DataFormatError(
                f'The backbone was built for images of {self.img_size} '
                f'(H, W) and got {tuple(x.shape[-2:])}. Resize in the '
                'pipeline or set backbone.img_size.')
        if self.size_embed is not None and size is None:
            raise DataFormatError(
                'size_token=True needs the ship-size vectors (B, 3) and got '
                'none. Add osar_plugin.ShipSize to the pipeline or build the '
                'backbone with size_token=False.')
