"""Plain ViT for dense tasks: weights of MAE or DINO, a simple pyramid.

The names are timm's, so that plain ViTs load as they are. The pyramid is
that of ViTDet (Li et al., 2022): every level is made from the last map::

    tokens (B, L, D) --> map of stride 16 (B, D, Hp, Wp)
    4: up twice   8: up once   16: as it is   32: pooled
    each: 1 x 1 convolution, norm, 3 x 3 convolution, norm --> F channels

``fpn_dim=None`` leaves the convolutions out, for a neck that has its own:
every level keeps the D channels.

Letters: B batch, L patches, N tokens with the class token, D channels, F
channels of the pyramid, H W height and width in pixels, Hp Wp the same in
patches (H/16, W/16).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...registry import MODELS
from ...utils.checkpoint import LoadReport, adapt_on_load, compare
from ...utils.config_values import require_range
from ...utils.errors import (
    CheckpointMismatchError,
    ConfigError,
    DataFormatError,
)
from .hierarchical import UNIT, AttentionBlock, resize_positions
from .pretrained import (
    PretrainedBackbone,
    bare_weights,
    require_fit,
)
from .trunk import MODALITIES, check_shared, check_word, resolve_arch

ARCHS: dict[str, dict[str, Any]] = {
    'small': dict(embed_dim=384, depth=12, num_heads=6),
    'base': dict(embed_dim=768, depth=12, num_heads=12),
    'large': dict(embed_dim=1024, depth=24, num_heads=16),
}
# Of pre-training and of classifiers; no part of a backbone.
FOREIGN = ('decoder', 'mask_token', 'head.', 'fc_norm.', 'pre_logits')
FRESH = ('pyramid.', )


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of maps (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def pyramid_level(factor: float, dim: int, out_dim: int | None,
                  norm_eps: float) -> nn.Sequential:
    """One level of the pyramid.

    Args:
        factor: Side of the level over that of the backbone's map: 4, 2, 1
            or 0.5.
        dim: Channels D of the map.
        out_dim: Channels F; None to keep D, without convolutions behind.
        norm_eps: Epsilon of the norms.
    """
    # Where a convolution widens the level again, it is narrowed on the way.
    share = 1 if out_dim is None else 2
    layers: list[nn.Module] = []
    if factor == 4:
        layers += [nn.ConvTranspose2d(dim, dim // share, 2, stride=2),
                   ChannelNorm(dim // share, eps=norm_eps), nn.GELU()]
        dim //= share
    if factor in (2, 4):
        layers.append(nn.ConvTranspose2d(dim, dim // share, 2, stride=2))
        dim //= share
    elif factor == 0.5:
        layers.append(nn.MaxPool2d(2))
    if out_dim is not None:
        layers += [
            nn.Conv2d(dim, out_dim, 1, bias=False),
            ChannelNorm(out_dim, eps=norm_eps),
            nn.Conv2d(out_dim, out_dim, 3, padding=1, bias=False),
            ChannelNorm(out_dim, eps=norm_eps)]
    return nn.Sequential(*layers)


class PatchProjection(nn.Module):
    """Pixels to patches, timm's names."""

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, UNIT, stride=UNIT)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, L, D)."""
        return self.proj(images).flatten(2).transpose(1, 2)


@MODELS.register_module()
class DenseViT(PretrainedBackbone):
    """Plain ViT with maps of several strides.

    Args:
        arch: ``'small'``, ``'base'``, ``'large'``, or a dict with
            ``embed_dim``, ``depth`` and ``num_heads``.
        out: ``'maps'``: those of the pyramid; ``'map'``: a tuple with the
            map (B, D, Hp, Wp); ``'tokens'``: (B, L, D) of the patches.
        num_outs: Maps of the pyramid: 4 (strides 4 to 32) or 5 (to 64).
        fpn_dim: Channels F of the pyramid; None for the D channels of the
            backbone and no convolutions, which leaves them to a neck.
        img_size: Side of the square images that the position table is made
            for, in pixels.
        in_channels: Channels of an image.
        class_token: Keep the class token among the tokens.
        final_norm: LayerNorm behind the last block.
        window_size: Side of the attention windows in patches, 0 for global
            attention; needs ``class_token=False``.
        global_blocks: Blocks without windows; None: the last of each
            quarter (ViTDet).
        mlp_ratio: Hidden channels of the MLP over D.
        drop_path_rate: Stochastic depth of the last block; the others
            follow linearly from 0.
        norm_eps: Epsilon of every norm.
        with_cp: Recompute the blocks in the backward pass to save memory.
        frozen_stages: -1: nothing is frozen; n: embeddings and the first n
            blocks.
        attention: ``'auto'``, ``'fused'`` or ``'plain'``.
        init_cfg: See :class:`PretrainedBackbone`; files of plain ViTs with
            timm's names (MAE, DINO, DeiT) and ours.

    Raises:
        ConfigError: If an argument is unknown or out of range.
    """

    def __init__(self,
                 arch: str | dict[str, Any] = 'base',
                 out: str = 'maps',
                 num_outs: int = 4,
                 fpn_dim: int | None = 256,
                 img_size: int = 224,
                 in_channels: int = 3,
                 class_token: bool = True,
                 final_norm: bool = True,
                 window_size: int = 0,
                 global_blocks: Sequence[int] | None = None,
                 mlp_ratio: float = 4.,
                 drop_path_rate: float = 0.,
                 norm_eps: float = 1e-6,
                 with_cp: bool = False,
                 frozen_stages: int = -1,
                 attention: str = 'auto',
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        sizes = resolve_arch(arch, ARCHS)
        dim, depth, heads = (
            sizes[k] for k in ('embed_dim', 'depth', 'num_heads'))
        check_word('out', out, ('maps', 'map', 'tokens'))
        check_word('num_outs', num_outs, (4, 5))
        _check_numbers(dim, depth, heads, img_size)
        check_shared(mlp_ratio, in_channels, drop_path_rate, norm_eps,
                     attention)
        require_range(1, 2**16, fpn_dim=fpn_dim)
        require_range(-1, depth, frozen_stages=frozen_stages)
        self.embed_dim, self.depth = dim, depth
        self.out, self.num_outs, self.with_cp = out, num_outs, with_cp
        self.frozen_stages = frozen_stages
        self.side = img_size // UNIT
        self.patch_embed = PatchProjection(in_channels, dim)
        self.cls_token = nn.Parameter(
            torch.zeros(1, 1, dim)) if class_token else None
        self.pos_embed = nn.Parameter(
            torch.zeros(1, int(class_token) + self.side**2, dim))
        windows = _windows(window_size, global_blocks, depth, class_token)
        self.blocks = nn.ModuleList(
            AttentionBlock(dim, heads, mlp_ratio,
                           drop_path_rate * i / max(depth - 1, 1), norm_eps,
                           attention, 0, window)
            for i, window in enumerate(windows))
        self.norm = nn.LayerNorm(
            dim, eps=norm_eps) if final_norm else nn.Identity()
        width = dim if fpn_dim is None else fpn_dim
        self.out_channels = [width] * num_outs if out == 'maps' else [dim]
        self.pyramid = nn.ModuleList(
            pyramid_level(factor, dim, fpn_dim, norm_eps)
            for factor in (4, 2, 1, 0.5)) if out == 'maps' else None
        adapt_on_load(self, adapt)
        self.freeze()

    def draw_weights(self) -> None:
        """Normal of 0.02 that is cut off for linear layers and positions."""
        super().draw_weights()
        for parameter in (self.cls_token, self.pos_embed):
            if parameter is not None:
                nn.init.trunc_normal_(parameter, std=0.02)

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """(1, N, D) for a grid (Hp, Wp): bicubic but for the class token."""
        table: Tensor = self.pos_embed
        if tuple(grid) == (self.side, self.side):
            return table
        first = table.shape[1] - self.side**2
        return torch.cat([
            table[:, :first],
            resize_positions(table[:, first:], grid, 'size')], dim=1)

    def encode(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to the tokens (B, L, D) of the patches.

        Raises:
            DataFormatError: If the images have other channels, or sides
                that are no multiples of 16.
        """
        channels = self.patch_embed.proj.in_channels
        if images.ndim != 4 or images.shape[1] != channels or (
                0 in images.shape) or any(s % UNIT for s in images.shape[2:]):
            raise DataFormatError(
                f'The backbone takes images (B, {channels}, H, W) with sides '
                f'that are multiples of {UNIT} and got '
                f'{tuple(images.shape)}. Set '
                f'data_preprocessor.pad_size_divisor={2 * UNIT} or resize '
                'in the pipeline.')
        grid = (images.shape[2] // UNIT, images.shape[3] // UNIT)
        x = self.patch_embed(images)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = x + self.positions(grid)
        recompute = self.with_cp and self.training and torch.is_grad_enabled()
        for block in self.blocks:
            if recompute:
                x = checkpoint(block, x, grid, use_reentrant=False)
            else:
                x = block(x, grid)
        return self.norm(x[:, self.cls_token is not None:])

    def forward(self,
                images: Tensor,
                modality: str | None = None) -> Tensor | tuple[Tensor, ...]:
        """Encode images.

        Args:
            images: (B, C, H, W), normalised; H and W multiples of 16.
            modality: As other backbones take it; there is one patch
                embedding for both sensors.

        Returns:
            See ``out``: maps of strides 4, 8, 16, 32 (and 64), the map of
            stride 16, or tokens.

        Raises:
            DataFormatError: See :meth:`encode`.
            ConfigError: If there is no such modality.
        """
        check_word('modality', modality, (None, *MODALITIES))
        tokens = self.encode(images)
        if self.out == 'tokens':
            return tokens
        grid = (images.shape[2] // UNIT, images.shape[3] // UNIT)
        x = tokens.transpose(1, 2).unflatten(2, grid).contiguous()
        if self.pyramid is None:
            return (x, )
        maps = [level(x) for level in self.pyramid]
        if self.num_outs == 5:
            maps.append(F.max_pool2d(maps[-1], 1, 2))
        return tuple(maps)

    def layer_id(self, name: str, rule: str = 'vit') -> int | None:
        """Depth of a parameter for layer-wise learning rates.

        0 for embeddings and positions, 1 + i for ``blocks.i``.

        Args:
            name: Of a parameter, without the name of the backbone.
            rule: ``'vit'`` (BEiT, MAE), or ``'codemae'``, which gives the
                last block the last id.

        Returns:
            None for what is behind the blocks and has the last id.

        Raises:
            ConfigError: For another rule.
        """
        check_word('rule', rule, ('vit', 'codemae'))
        if name.startswith(('patch_embed', 'cls_token', 'pos_embed')):
            return 0
        parts = name.split('.')
        return int(parts[1]) + 1 if parts[0] == 'blocks' else None

    def num_layers(self, rule: str = 'vit') -> int:
        """How many depths :meth:`layer_id` tells apart."""
        check_word('rule', rule, ('vit', 'codemae'))
        return self.depth + (2 if rule == 'vit' else 1)

    def freeze(self) -> None:
        """Stop the gradients of the frozen blocks."""
        if self.frozen_stages < 0:
            return
        for parameter in (self.cls_token, self.pos_embed):
            if parameter is not None:
                parameter.requires_grad = False
        for part in (self.patch_embed, *self.blocks[:self.frozen_stages]):
            part.eval()
            for parameter in part.parameters():
                parameter.requires_grad = False

    def train(self, mode: bool = True) -> DenseViT:
        """Switch the mode; frozen blocks stay in evaluation."""
        super().train(mode)
        self.freeze()
        return self


def _check_numbers(dim: int, depth: int, heads: int, img_size: int) -> None:
    require_range(1, 2**16, embed_dim=dim, num_heads=heads,
                  img_size=img_size)
    require_range(1, 2**12, depth=depth)
    if dim % heads or dim % 4 or img_size % UNIT:
        raise ConfigError(
            f'embed_dim={dim} must be a multiple of num_heads={heads} and of '
            f'4, img_size={img_size} of {UNIT}. Choose others.')


def _windows(size: int, global_blocks: Sequence[int] | None, depth: int,
             class_token: bool) -> list[int]:
    require_range(0, 2**10, window_size=size)
    if size and class_token:
        raise ConfigError(
            f'window_size={size}: a class token is in no window. Set '
            'class_token=False.')
    if global_blocks is None:
        global_blocks = [max(k * depth // 4 - 1, 0) for k in range(1, 5)]
    require_range(0, depth - 1, global_blocks=global_blocks)
    return [0 if i in global_blocks else size for i in range(depth)]


def fit_positions(table: Tensor, class_token: bool, side: int) -> Tensor:
    """Fit the position table of a plain ViT to another one.

    Args:
        table: (1, 0 to 2 class tokens + a square grid, D).
        class_token: Whether a row for a class token is wanted.
        side: Of the wanted grid in patches.

    Returns:
        (1, N, D).

    Raises:
        CheckpointMismatchError: If the rows are no such grid.
    """
    rows = table.shape[1]
    classes = next((n for n in range(3)
                    if rows > n and math.isqrt(rows - n)**2 == rows - n), -1)
    if classes < 0 or classes < class_token:
        raise CheckpointMismatchError(
            f'pos_embed has {rows} rows: expected a square grid and '
            f'{"one or two class tokens" if class_token else "0 to 2"}. Use '
            'a checkpoint of a plain ViT trained on square images.')
    first, rest = table[:, :int(class_token)], table[:, classes:]
    if rest.shape[1] != side**2:
        rest = resize_positions(rest, (side, side), 'size')
    return torch.cat([first, rest], dim=1)


def adapt(content: Mapping[str, Any],
          model: Any) -> tuple[dict[str, Tensor], LoadReport]:
    """Bring a checkpoint of a plain ViT to the keys of a backbone.

    Args:
        content: Of a file.
        model: A :class:`DenseViT`; not changed.

    Returns:
        The weights that fit, and the report.

    Raises:
        CheckpointMismatchError: If shapes differ, blocks are left over, or
            less than 90 % of the backbone's keys are filled.
    """
    source = {
        key: value for key, value in bare_weights(content).items()
        if not key.startswith(FOREIGN)}
    notes: dict[str, str] = {}
    table = source.get('pos_embed')
    if table is not None and table.ndim == 3:
        fitted = fit_positions(
            table, model.cls_token is not None, model.side)
        if fitted.shape != table.shape:
            notes['pos_embed'] = (
                f'from {table.shape[1]} to {fitted.shape[1]} rows')
        source['pos_embed'] = fitted
    if model.cls_token is None:
        source.pop('cls_token', None)
    report = compare(source, model)
    report.resized = notes
    left = [k for k in report.unexpected if k.startswith('blocks.')]
    require_fit(report, model, FRESH, left)
    return {key: source[key] for key in report.loaded}, report
