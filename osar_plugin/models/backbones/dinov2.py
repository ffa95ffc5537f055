"""DINOv2: a plain ViT of patches of 14 pixels, with or without registers.

Oquab et al., "DINOv2" (TMLR 2024), and Darcet et al., "Vision Transformers
Need Registers" (ICLR 2024). Module and parameter names are the official
ones, so that the authors' files load as they are::

    image (B, 3, H, W) -- patch_embed --> patches (B, L, D)
    [class, patches] + positions, interpolated to the grid
    [class, registers, patches]      registers have no position
    -- blocks with layer scale --> norm --> class, registers, patches

Letters: B batch, L patches, N tokens, R registers, D channels, H W height
and width in pixels, h w the same in patches (H/14, W/14).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...registry import MODELS
from ...utils.checkpoint import (
    LoadReport,
    adapt_on_load,
    compare,
    load_checkpoint,
    unwrap_state_dict,
)
from ...utils.config_values import require_range
from ...utils.errors import (
    CheckpointMismatchError,
    ConfigError,
    DataFormatError,
)
from .hierarchical import square_side
from .pretrained import (
    PretrainedBackbone,
    bare_weights,
    below,
    require_fit,
)
from .trunk import check_shared, check_word, resolve_arch
from .vit import Block

ARCHS: dict[str, dict[str, Any]] = {
    'small': dict(embed_dim=384, depth=12, num_heads=6),
    'base': dict(embed_dim=768, depth=12, num_heads=12),
    'large': dict(embed_dim=1024, depth=24, num_heads=16)}
RULES = ('auto', 'offset', 'antialias')
# What other packages call the same tensors; patterns from the start of a key.
MMPRETRAIN = (
    (r'patch_embed\.projection\.', 'patch_embed.proj.'),
    (r'ln1\.', 'norm.'),
    (r'layers\.(\d+)\.ln1\.', r'blocks.\1.norm1.'),
    (r'layers\.(\d+)\.ln2\.', r'blocks.\1.norm2.'),
    (r'layers\.(\d+)\.attn\.gamma1\.weight', r'blocks.\1.ls1.gamma'),
    (r'layers\.(\d+)\.ffn\.gamma2\.weight', r'blocks.\1.ls2.gamma'),
    (r'layers\.(\d+)\.ffn\.layers\.0\.0\.', r'blocks.\1.mlp.fc1.'),
    (r'layers\.(\d+)\.ffn\.layers\.1\.', r'blocks.\1.mlp.fc2.'),
    (r'layers\.(\d+)\.', r'blocks.\1.'))
TRANSFORMERS = (
    (r'embeddings\.position_embeddings', 'pos_embed'),
    (r'embeddings\.patch_embeddings\.projection\.', 'patch_embed.proj.'),
    (r'embeddings\.', ''),
    (r'layernorm\.', 'norm.'),
    (r'encoder\.layer\.(\d+)\.attention\.output\.dense\.',
     r'blocks.\1.attn.proj.'),
    (r'encoder\.layer\.(\d+)\.attention\.attention\.', r'blocks.\1.attn.'),
    (r'encoder\.layer\.(\d+)\.layer_scale(\d)\.lambda1',
     r'blocks.\1.ls\2.gamma'),
    (r'encoder\.layer\.(\d+)\.', r'blocks.\1.'))


class DINOTokens(NamedTuple):
    """Tokens behind the last LayerNorm.

    Attributes:
        cls: (B, D).
        registers: (B, R, D).
        patches: (B, L, D), row by row.
    """

    cls: Tensor
    registers: Tensor
    patches: Tensor


class LayerScale(nn.Module):
    """A learned factor for each channel of a residual branch."""

    def __init__(self, dim: int, start: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim, ), start))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to the same."""
        return x * self.gamma


class ScaledBlock(Block):
    """Pre-norm transformer block with layer scale on both branches."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float,
                 drop_path: float, norm_eps: float, attention: str,
                 layer_scale: float) -> None:
        super().__init__(dim, num_heads, mlp_ratio, True, drop_path,
                         norm_eps, attention)
        self.ls1 = LayerScale(dim, layer_scale)
        self.ls2 = LayerScale(dim, layer_scale)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x))))
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))


class Patches(nn.Module):
    """Pixels to patches."""

    def __init__(self, in_channels: int, dim: int, side: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, side, stride=side)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, L, D)."""
        return self.proj(images).flatten(2).transpose(1, 2)


def interpolate_positions(table: Tensor, grid: tuple[int, int],
                          rule: str) -> Tensor:
    """Bicubic positions of the patches for a grid (official code).

    Args:
        table: (1, S * S, D).
        grid: (h, w).
        rule: ``'offset'``: scale factors (h + 0.1) / S and (w + 0.1) / S
            used as they are, without antialiasing (models without
            registers); ``'antialias'``: exactly from S x S to h x w, with
            antialiasing (models with registers).

    Returns:
        (1, h * w, D); the table itself for its own grid.

    Raises:
        ConfigError: If the rule is not known.
    """
    check_word('rule', rule, RULES[1:])
    side = square_side(table)
    if tuple(grid) == (side, side):
        return table
    maps = table.transpose(1, 2).unflatten(2, (side, side))
    with torch.autocast(table.device.type, enabled=False):
        if rule == 'offset':
            factors = [(g + 0.1) / side for g in grid]
            out = F.interpolate(
                maps.float(), scale_factor=factors, mode='bicubic')
        else:
            out = F.interpolate(
                maps.float(), size=grid, mode='bicubic', antialias=True)
    return out.flatten(2).transpose(1, 2).to(table.dtype)


@MODELS.register_module()
class DINOv2(PretrainedBackbone):
    """DINOv2 S, B or L.

    Args:
        arch: ``'small'``, ``'base'``, ``'large'``, or a dict with
            ``embed_dim``, ``depth`` and ``num_heads``.
        num_registers: R: 0 or, in the published files, 4.
        out: ``'map'``: a tuple with the map (B, D, h, w) of the last block;
            ``'maps'``: a tuple with the maps of ``taps``; ``'tokens'``:
            :class:`DINOTokens`.
        taps: 1-based numbers of the blocks for ``'maps'``; the last norm is
            applied to each (official ``get_intermediate_layers``).
        interpolation: Of positions, see :func:`interpolate_positions`;
            ``'auto'``: ``'antialias'`` with registers, ``'offset'`` without,
            as each was released.
        img_size: Side of the square images that the position table is made
            for, in pixels: 518 in the published files. Images may have any
            size.
        patch_size: Side of a patch in pixels.
        in_channels: Channels of an image.
        mlp_ratio: Hidden channels of the MLP over D.
        layer_scale: Start of the layer scale.
        drop_path_rate: Stochastic depth of every block (official).
        norm_eps: Epsilon of every LayerNorm.
        frozen: No gradients, always in evaluation mode.
        with_cp: Recompute the blocks in the backward pass to save memory.
        attention: ``'auto'``, ``'fused'`` or ``'plain'``.
        init_cfg: See :class:`PretrainedBackbone`; files of the authors
            (also chunked ones of their training), mmpretrain, timm,
            transformers and ours.

    Raises:
        ConfigError: If an argument is unknown or out of range.
    """

    def __init__(self,
                 arch: str | dict[str, Any] = 'base',
                 num_registers: int = 0,
                 out: str = 'map',
                 taps: Sequence[int] = (),
                 interpolation: str = 'auto',
                 img_size: int = 518,
                 patch_size: int = 14,
                 in_channels: int = 3,
                 mlp_ratio: float = 4.,
                 layer_scale: float = 1.,
                 drop_path_rate: float = 0.,
                 norm_eps: float = 1e-6,
                 frozen: bool = False,
                 with_cp: bool = False,
                 attention: str = 'auto',
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        sizes = resolve_arch(arch, ARCHS)
        dim, depth, heads = (
            sizes[k] for k in ('embed_dim', 'depth', 'num_heads'))
        check_word('out', out, ('map', 'maps', 'tokens'))
        check_word('interpolation', interpolation, RULES)
        _check_numbers(dim, depth, heads, num_registers, img_size,
                       patch_size)
        check_shared(mlp_ratio, in_channels, drop_path_rate, norm_eps,
                     attention)
        require_range(0, 1e3, layer_scale=layer_scale)
        _check_taps(taps, out, depth)
        self.embed_dim, self.depth, self.patch_size = dim, depth, patch_size
        self.num_registers, self.out = num_registers, out
        self.taps = tuple(taps)
        self.rule = interpolation
        if interpolation == 'auto':
            self.rule = 'antialias' if num_registers else 'offset'
        self.side = img_size // patch_size
        self.frozen, self.with_cp = frozen, with_cp
        self.out_channels = [dim] * (len(taps) if out == 'maps' else 1)

        self.patch_embed = Patches(in_channels, dim, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.side**2, dim))
        self.register_tokens = nn.Parameter(torch.zeros(
            1, num_registers, dim)) if num_registers else None
        # In every file, and used by pre-training alone.
        self.mask_token = nn.Parameter(
            torch.zeros(1, dim), requires_grad=False)
        self.blocks = nn.ModuleList(
            ScaledBlock(dim, heads, mlp_ratio, drop_path_rate, norm_eps,
                        attention, layer_scale) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=norm_eps)
        adapt_on_load(self, adapt)
        if frozen:
            self.requires_grad_(False)

    def init_weights(self) -> None:
        """Draw the official initialisation, then load ``init_cfg`` if any.

        Raises:
            ConfigError: If it names no file.
            CheckpointError: If the file cannot be used.
        """
        init_cfg = self.init_cfg
        whole = isinstance(init_cfg, dict) and not init_cfg.get('prefix') \
            and init_cfg.get('type') == 'Pretrained' and bool(
                init_cfg.get('checkpoint'))
        if whole:
            self.init_cfg = None
        super().init_weights()
        self.init_cfg = init_cfg
        if whole:
            # Names of other packages begin with what is a prefix elsewhere.
            load_checkpoint(self, init_cfg['checkpoint'])

    def draw_weights(self) -> None:
        """Normals of 0.02 that are cut off; class and registers near 0."""
        super().draw_weights()
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for token in (self.cls_token, self.register_tokens):
            if token is not None:
                nn.init.normal_(token, std=1e-6)

    def embed(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to the tokens (B, 1 + R + L, D) of the first block.

        Raises:
            DataFormatError: If the images have other channels, or sides
                that are no multiples of the patch.
        """
        channels = self.patch_embed.proj.in_channels
        side = self.patch_size
        if images.ndim != 4 or images.shape[1] != channels or (
                0 in images.shape or not images.is_floating_point()) or any(
                    s % side for s in images.shape[2:]):
            raise DataFormatError(
                f'DINOv2 takes floats (B, {channels}, H, W) with sides that '
                f'are multiples of {side} and got {tuple(images.shape)} '
                f'{images.dtype}. Resize them, e.g. to '
                f'{16 * side} x {16 * side}.')
        grid = (images.shape[2] // side, images.shape[3] // side)
        table: Tensor = self.pos_embed
        patches = self.patch_embed(images)
        patches = patches + interpolate_positions(
            table[:, 1:], grid, self.rule)
        parts = [self.cls_token + table[:, :1]]
        if self.register_tokens is not None:
            parts.append(self.register_tokens)
        first = torch.cat(parts, dim=1).to(patches.dtype)
        return torch.cat([first.expand(len(patches), -1, -1), patches], 1)

    def encode(self, images: Tensor, taps: Sequence[int] = ()
               ) -> tuple[DINOTokens, dict[int, Tensor]]:
        """All tokens, and the patches of single blocks.

        Args:
            images: (B, C, H, W), normalised.
            taps: 1-based numbers of blocks.

        Returns:
            The tokens behind the last block, and by number the patches
            (B, L, D) of the taps behind the last norm.

        Raises:
            DataFormatError: See :meth:`embed`.
        """
        x = self.embed(images)
        first = 1 + self.num_registers
        kept: dict[int, Tensor] = {}
        recompute = self.with_cp and self.training and torch.is_grad_enabled()
        for number, block in enumerate(self.blocks, start=1):
            x = checkpoint(block, x, use_reentrant=False) if recompute \
                else block(x)
            if number in taps:
                kept[number] = self.norm(x[:, first:])
        x = self.norm(x)
        return DINOTokens(x[:, 0], x[:, 1:first], x[:, first:]), kept

    def forward(self, images: Tensor) -> DINOTokens | tuple[Tensor, ...]:
        """Encode images (B, C, H, W); see ``out``.

        Raises:
            DataFormatError: See :meth:`embed`.
        """
        with torch.set_grad_enabled(
                torch.is_grad_enabled() and not self.frozen):
            tokens, kept = self.encode(
                images, self.taps if self.out == 'maps' else ())
        if self.out == 'tokens':
            return tokens
        grid = tuple(s // self.patch_size for s in images.shape[2:])
        chosen = [kept[number] for number in self.taps] \
            if self.out == 'maps' else [tokens.patches]
        return tuple(x.transpose(1, 2).unflatten(2, grid).contiguous()
                     for x in chosen)

    def train(self, mode: bool = True) -> DINOv2:
        """Switch the mode; a frozen backbone stays in evaluation."""
        super().train(mode and not self.frozen)
        return self


def _check_numbers(dim: int, depth: int, heads: int, registers: int,
                   img_size: int, patch_size: int) -> None:
    require_range(1, 2**16, embed_dim=dim, num_heads=heads,
                  img_size=img_size, patch_size=patch_size)
    require_range(1, 2**12, depth=depth)
    require_range(0, 2**10, num_registers=registers)
    if dim % heads or img_size % patch_size:
        raise ConfigError(
            f'embed_dim={dim} must be a multiple of num_heads={heads}, '
            f'img_size={img_size} of patch_size={patch_size}. Choose '
            'others.')


def _check_taps(taps: Sequence[int], out: str, depth: int) -> None:
    require_range(1, depth, taps=list(taps))
    if (out == 'maps') != bool(taps):
        raise ConfigError(
            f'out={out!r} with taps={tuple(taps)}: name blocks for '
            "out='maps', and only then.")


def rename(source: Mapping[str, Tensor],
           table: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """Apply to each key the first pattern that its start matches."""
    out = {}
    for key, value in source.items():
        for pattern, ours in table:
            new, count = re.subn(f'^{pattern}', ours, key, count=1)
            if count:
                key = new
                break
        out[key] = value
    return out


def join_qkv(source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stack query, key and value layers, as transformers has them."""
    out = dict(source)
    for key in source:
        if '.attn.query.' not in key:
            continue
        names = [key.replace('.query.', f'.{x}.')
                 for x in ('query', 'key', 'value')]
        if all(name in out for name in names):
            out[key.replace('.query.', '.qkv.')] = torch.cat(
                [out.pop(name) for name in names])
    return out


def official_names(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a DINOv2 file by their official names.

    Args:
        content: Of a file of the authors (flat, or chunked as training
            saves it, below ``teacher``), mmpretrain, timm, transformers, or
            ours.
    """
    if isinstance(content.get('teacher'), Mapping):
        content = content['teacher']
    source = {k: v for k, v in unwrap_state_dict(content).items()
              if isinstance(v, Tensor)}
    for prefix in ('teacher.backbone.', 'dinov2.'):
        source = below(source, prefix) or source
    if any(key.startswith('embeddings.') for key in source):
        return join_qkv(rename(source, TRANSFORMERS))
    source = bare_weights(source)
    if 'patch_embed.projection.weight' in source:
        return rename(source, MMPRETRAIN)
    # timm's models with registers: no position for the class, its own
    # already added.
    if 'reg_token' in source:
        source['register_tokens'] = source.pop('reg_token')
        table = source.get('pos_embed')
        if table is not None and square_side(table)**2 == table.shape[1]:
            source['pos_embed'] = F.pad(table, (0, 0, 1, 0))
    return rename(source, ((r'blocks\.\d+\.(\d+)\.', r'blocks.\1.'), ))


def adapt(content: Mapping[str, Any],
          model: Any) -> tuple[dict[str, Tensor], LoadReport]:
    """Bring a DINOv2 file of any accepted layout to a backbone's keys.

    Args:
        content: Of a file.
        model: A :class:`DINOv2`; not changed.

    Returns:
        The weights that fit, and the report.

    Raises:
        CheckpointMismatchError: If shapes differ, registers or blocks are
            left over, or less than 90 % of the keys are filled.
    """
    source = {k: v for k, v in official_names(content).items()
              if not k.startswith(('head.', 'classifier.'))}
    table = source.get('pos_embed')
    rows = model.pos_embed.shape[1]
    if table is not None and table.ndim == 3 and table.shape[1] != rows:
        side = round(max(table.shape[1] - 1, 0)**0.5)
        raise CheckpointMismatchError(
            f'pos_embed of the file has {table.shape[1]} rows, the '
            f'backbone {rows}. Build it with '
            f'img_size={side * model.patch_size}; it then takes images of '
            'any size.')
    report = compare(source, model)
    left = [k for k in report.unexpected
            if k.startswith(('blocks.', 'register_tokens'))]
    if model.register_tokens is not None and (
            'register_tokens' in report.missing):
        left.append('(no register_tokens: set num_registers=0)')
    require_fit(report, model, ('mask_token', ), left)
    return {key: source[key] for key in report.loaded}, report
