"""The trunk of HiViT and iTPN: embedding, masking, stages, freezing.

Letters and data flow: see :mod:`.hierarchical`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...utils.checkpoint import adapt_on_load
from ...utils.config_values import require_range
from ...utils.errors import ConfigError, DataFormatError
from .hierarchical import (
    UNIT,
    AttentionBlock,
    MLPBlock,
    PatchEmbed,
    PatchMerge,
    gather_relative,
    gather_units,
    relative_index,
    resize_positions,
    sincos_table,
    square_side,
)
from .official_hierarchical import adapt
from .pretrained import PretrainedBackbone

MODALITIES = ('rgb', 'sar')


class TrunkOutput(NamedTuple):
    """What the trunk returns.

    Attributes:
        cells4: (B, N, 4, 4, D/4), just before the first PatchMerge.
        cells8: (B, N, 2, 2, D/2), just before the second PatchMerge.
        tokens: (B, N, D), after the last block; there is no final norm.
        taps: Outputs of the asked modules by their index in ``blocks``:
            (B, N, D) for attention blocks, (B, N, h, w, C) for the modules
            before them.
    """

    cells4: Tensor
    cells8: Tensor
    tokens: Tensor
    taps: dict[int, Tensor]


class HierarchicalTrunk(PretrainedBackbone):
    """Two MLP stages inside the units, then attention between them.

    Not registered: :class:`HiViT` and :class:`ITPN` are.

    Args:
        embed_dim: Channels D of the attention stage.
        stem_depths: MLP blocks at strides 4 and 8.
        depth: Attention blocks.
        num_heads: Attention heads.
        stem_mlp_ratio: Hidden over outer channels in the MLP blocks.
        mlp_ratio: The same in the attention blocks.
        img_size: Side of the square images that the position tables are
            made for, in pixels.
        in_channels: Channels of an image.
        modality: ``'rgb'`` or ``'sar'`` for one patch embedding that is
            named after the sensor, ``'both'`` for the two, None for one
            without a name.
        default_modality: Sensor of the images where a call names none;
            needed with ``'both'`` inside frameworks that pass the image
            alone.
        rpe: Relative positions.
        windows: Side of the window of each attention block in units, 0 for
            global attention; None for global attention everywhere.
        drop_path_rate: Stochastic depth of the last block; the others
            follow linearly from 0, PatchMerge has none.
        norm_eps: Epsilon of every LayerNorm.
        position: Rule for grids of another size, see
            :func:`resize_positions`.
        masked_position: Positions of masked images: ``'raw'``: the table
            where the grid is its own; ``'zoomed'``: always resized, which
            at the table's own size is a zoom of 0.7 %; ``'official'``: what
            the published code of this backbone does.
        with_cp: Recompute the blocks in the backward pass to save memory.
        frozen_stages: -1: nothing is frozen; 0: patch embeddings and
            positions; 1 to 3: also the stages of stride 4, 8 and 16.
        attention: ``'auto'``, ``'fused'`` or ``'plain'``.
        init_cfg: See :class:`PretrainedBackbone`; any file of
            :mod:`.official_hierarchical`.

    Raises:
        ConfigError: If a number is out of range, sizes do not divide, or a
            word is unknown.
    """

    masked_zoom = False  # what the official code does

    def __init__(self,
                 embed_dim: int,
                 stem_depths: Sequence[int],
                 depth: int,
                 num_heads: int,
                 stem_mlp_ratio: float = 3.,
                 mlp_ratio: float = 4.,
                 img_size: int = 224,
                 in_channels: int = 3,
                 modality: str | None = None,
                 default_modality: str | None = None,
                 rpe: bool = False,
                 windows: Sequence[int] | None = None,
                 drop_path_rate: float = 0.,
                 norm_eps: float = 1e-6,
                 position: str = 'official',
                 masked_position: str = 'official',
                 with_cp: bool = False,
                 frozen_stages: int = -1,
                 attention: str = 'auto',
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        _check_numbers(embed_dim, stem_depths, depth, num_heads, img_size)
        check_shared(mlp_ratio, in_channels, drop_path_rate, norm_eps,
                     attention)
        require_range(0, 2**10, without=(0, ), stem_mlp_ratio=stem_mlp_ratio)
        _check_words(position, masked_position, modality, default_modality)
        require_range(-1, 3, frozen_stages=frozen_stages)
        self.embed_dim = embed_dim
        self.stem_depths = tuple(stem_depths)
        self.depth = depth
        self.modality = modality
        self.default_modality = default_modality
        self.position = position
        self.zoom_masked = masked_position == 'zoomed' or (
            masked_position == 'official' and self.masked_zoom)
        self.with_cp = with_cp
        self.frozen_stages = frozen_stages
        for name in self.embed_names:
            setattr(self, name,
                    PatchEmbed(in_channels, embed_dim // 4, norm_eps))
        side = img_size // UNIT
        self.absolute_pos_embed = nn.Parameter(
            torch.zeros(1, side**2, embed_dim))
        # Not in the state dict: it follows from the size.
        self.register_buffer(
            'relative_position_index',
            relative_index(side) if rpe else None, persistent=False)
        count = sum(stem_depths) + depth
        rates = [drop_path_rate * i / (count - 1) for i in range(count)]
        stem = _build_stem(self.stem_depths, embed_dim, stem_mlp_ratio,
                           rates[:-depth], norm_eps)
        main = [
            AttentionBlock(embed_dim, num_heads, mlp_ratio, rate, norm_eps,
                           attention, side if rpe else 0, window)
            for rate, window in zip(
                rates[-depth:], windows or [0] * depth, strict=True)]
        self.blocks = nn.ModuleList([*stem, *main])
        adapt_on_load(self, adapt)

    @property
    def embed_names(self) -> list[str]:
        """Names of the patch embeddings."""
        if self.modality is None:
            return ['patch_embed']
        sensors = (MODALITIES if self.modality == 'both' else
                   (self.modality, ))
        return [f'patch_embed_{sensor}' for sensor in sensors]

    @property
    def first_main(self) -> int:
        """Index in ``blocks`` of the first attention block."""
        return sum(self.stem_depths) + 2

    @property
    def merges(self) -> tuple[int, int]:
        """Indices in ``blocks`` of the two PatchMerge modules."""
        return self.stem_depths[0], self.first_main - 1

    def draw_weights(self) -> None:
        """The official initialisation.

        Linear layers from a normal of 0.02 that is cut off, biases 0, sine
        and cosine positions; relative positions start at 0.
        """
        super().draw_weights()
        with torch.no_grad():
            self.absolute_pos_embed.copy_(
                sincos_table(self.embed_dim, self.side))

    @property
    def side(self) -> int:
        """S, side of the position table in units."""
        return square_side(self.absolute_pos_embed)

    def embed(self, images: Tensor, modality: str | None = None) -> Tensor:
        """Pixels to units.

        Args:
            images: (B, C, H, W), normalised; H and W multiples of 16.
            modality: ``'rgb'`` or ``'sar'``: which patch embedding;
                ``default_modality`` if None.

        Returns:
            (B, L, 4, 4, D/4), L = (H / 16)(W / 16), row by row.

        Raises:
            DataFormatError: See :class:`PatchEmbed`.
            ConfigError: If the backbone has no such patch embedding.
        """
        return getattr(self, self._embed_name(modality))(images)

    def _embed_name(self, modality: str | None) -> str:
        names = self.embed_names
        wanted = self.default_modality if modality is None else modality
        if self.modality is None or (wanted is None and len(names) == 1):
            check_word('modality', wanted, (None, *MODALITIES))
            return names[0]
        if f'patch_embed_{wanted}' in names:
            return f'patch_embed_{wanted}'
        raise ConfigError(
            f'modality={wanted!r}: the backbone was built with modality='
            f'{self.modality!r} and has {", ".join(names)}. Pass one of '
            "these ('rgb' or 'sar') or set backbone.default_modality.")

    def grid_of(self, images: Tensor) -> tuple[int, int]:
        """(Hp, Wp) of a batch of images (B, C, H, W)."""
        return images.shape[-2] // UNIT, images.shape[-1] // UNIT

    def trunk(self,
              units: Tensor,
              grid: tuple[int, int],
              keep: Tensor | None = None,
              taps: Sequence[int] = ()) -> TrunkOutput:
        """Encode units, all of them or the kept ones alone.

        Args:
            units: (B, L, 4, 4, D/4), of :meth:`embed`.
            grid: (Hp, Wp).
            keep: (B, N) long, the units to encode; None for all. The others
                are dropped before the first block.
            taps: Indices in ``blocks`` of the modules whose output is
                wanted as well.

        Raises:
            DataFormatError: If units, grid and keep do not fit together.
            ConfigError: If the backbone cannot encode such a grid.
        """
        self._check_units(units, grid, keep)
        if keep is not None:
            units = gather_units(units, keep)
        kept: dict[int, Tensor] = {}
        before = []
        x = units
        for index in range(self.first_main):
            if index in self.merges:
                before.append(x)
            x = self._run(self.blocks[index], x)
            if index in taps:
                kept[index] = x
        x = x.flatten(2)
        x = x + self.positions(grid, keep)
        relative = self.relative_position_index
        if relative is not None and keep is not None:
            relative = gather_relative(relative, keep)
        for index in range(self.first_main, len(self.blocks)):
            x = self._run(self.blocks[index], x, grid, relative)
            if index in taps:
                kept[index] = x
        return TrunkOutput(before[0], before[1], x, kept)

    def positions(self, grid: tuple[int, int],
                  keep: Tensor | None = None) -> Tensor:
        """What is added to the tokens before the attention stage.

        Args:
            grid: (Hp, Wp).
            keep: (B, N) long, or None for all units.

        Returns:
            (1, L, D), or (B, N, D) with ``keep``.
        """
        table: Tensor = self.absolute_pos_embed
        own = tuple(grid) == (self.side, self.side)
        if not own or (keep is not None and self.zoom_masked):
            table = resize_positions(table, grid, self.position)
        return table if keep is None else table[0][keep]

    def _run(self, block: Callable[..., Tensor], *args: Any) -> Tensor:
        if self.with_cp and self.training and torch.is_grad_enabled():
            return checkpoint(block, *args, use_reentrant=False)
        return block(*args)

    def _check_units(self, units: Tensor, grid: tuple[int, int],
                     keep: Tensor | None) -> None:
        shape = (grid[0] * grid[1], 4, 4, self.embed_dim // 4)
        if units.ndim != 5 or tuple(units.shape[1:]) != shape:
            raise DataFormatError(
                f'The trunk takes units (B, {", ".join(map(str, shape))}) '
                f'for a grid of {tuple(grid)} and got {tuple(units.shape)}.')
        if keep is not None:
            self._check_keep(keep, len(units), shape[0])
        if self.relative_position_index is not None and tuple(grid) != (
                self.side, self.side):
            raise ConfigError(
                f'Relative positions are made for {self.side} x {self.side} '
                f'units and the image has {grid[0]} x {grid[1]}. Set '
                'backbone.img_size to the side of the images (tables of '
                'checkpoints are resized), or rpe=False.')

    def _check_keep(self, keep: Tensor, count: int, length: int) -> None:
        if (keep.ndim != 2 or keep.shape[0] != count
                or keep.dtype != torch.int64 or not keep.shape[1]):
            raise DataFormatError(
                f'keep must be ({count}, N) int64 with N of at '
                f'least 1, got {tuple(keep.shape)} {keep.dtype}.')
        # On a GPU, looking at the values would wait for the device.
        outside = keep.device.type == 'cpu' and (
            not torch.compiler.is_compiling()) and bool(
                ((keep < 0) | (keep >= length)).any())
        if outside:
            raise DataFormatError(
                f'keep has units from {int(keep.min())} to '
                f'{int(keep.max())}, expected 0 to {length - 1}.')
        if any(getattr(block, 'window', 0) for block in self.blocks):
            raise ConfigError(
                'Masked encoding needs global attention, but the '
                'backbone has windows. Build it with window_size=0.')

    def layer_id(self, name: str, rule: str = 'codemae') -> int | None:
        """Depth of a parameter for layer-wise learning rates.

        ``'codemae'`` (official code): 0 for patch embeddings and positions,
        1 + i for ``blocks.i`` with PatchMerge counted; the last block has
        the last id. ``'hivit'`` (official code): only attention blocks
        count, what comes before them is 0, and the last id is behind the
        last block. ``'itpn'`` (iTPN's classifiers): as ``'codemae'``, but a
        PatchMerge has the id of the block before it, and the last id is
        behind the last block.

        Args:
            name: Of a parameter, without the name of the backbone.
            rule: ``'codemae'``, ``'hivit'`` or ``'itpn'``.

        Returns:
            None for what is behind the blocks and has the last id.

        Raises:
            ConfigError: For another rule.
        """
        check_word('rule', rule, ('codemae', 'hivit', 'itpn'))
        if name.startswith(('patch_embed', 'absolute_pos_embed')):
            return 0
        parts = name.split('.')
        if parts[0] != 'blocks':
            return None
        index = int(parts[1])
        if rule == 'codemae':
            return index + 1
        if rule == 'itpn':
            return index + 1 - sum(merge <= index for merge in self.merges)
        return max(index - self.first_main + 1, 0)

    def num_layers(self, rule: str = 'codemae') -> int:
        """How many depths :meth:`layer_id` tells apart."""
        check_word('rule', rule, ('codemae', 'hivit', 'itpn'))
        if rule == 'codemae':
            return len(self.blocks) + 1
        if rule == 'itpn':
            return len(self.blocks) - len(self.merges) + 2
        return self.depth + 2

    def _frozen_parts(self) -> list[nn.Module]:
        parts = [getattr(self, name) for name in self.embed_names]
        ends = (0, self.merges[0] + 1, self.merges[1] + 1, len(self.blocks))
        return parts + list(self.blocks[:ends[self.frozen_stages]])

    def freeze(self) -> None:
        """Stop the gradients of the frozen stages."""
        if self.frozen_stages < 0:
            return
        self.absolute_pos_embed.requires_grad = False
        for part in self._frozen_parts():
            part.eval()
            for parameter in part.parameters():
                parameter.requires_grad = False

    def train(self, mode: bool = True) -> HierarchicalTrunk:
        """Switch the mode; frozen stages stay in evaluation."""
        super().train(mode)
        self.freeze()
        return self


def _build_stem(depths: Sequence[int], dim: int, mlp_ratio: float,
                rates: Sequence[float], norm_eps: float) -> list[nn.Module]:
    """MLP blocks and PatchMerge of the strides 4 and 8."""
    first = depths[0]
    parts = ((rates[:first], dim // 4), (rates[first:], dim // 2))
    blocks: list[nn.Module] = []
    for part, channels in parts:
        blocks += [
            MLPBlock(channels, mlp_ratio, rate, norm_eps) for rate in part]
        blocks.append(PatchMerge(channels, norm_eps))
    return blocks


def _check_numbers(embed_dim: int, stem_depths: Sequence[int], depth: int,
                   num_heads: int, img_size: int) -> None:
    require_range(1, 2**16, embed_dim=embed_dim, num_heads=num_heads,
                  img_size=img_size)
    require_range(1, 2**10, stem_depths=stem_depths, depth=depth)
    if len(stem_depths) != 2:
        raise ConfigError(
            f'{len(stem_depths)} stem depths: {tuple(stem_depths)}, expected '
            'two, for the strides 4 and 8.')
    if embed_dim % num_heads or embed_dim % 4:
        raise ConfigError(
            f'embed_dim={embed_dim} must be a multiple of num_heads='
            f'{num_heads} and of 4. Choose another.')
    if img_size % UNIT:
        raise ConfigError(
            f'img_size={img_size} is no multiple of {UNIT}. Choose one.')


def check_word(name: str, value: Any, known: Sequence[Any]) -> None:
    """Refuse a word that an argument does not know.

    Raises:
        ConfigError: Naming argument, value and choices.
    """
    if value not in known:
        raise ConfigError(
            f'{name}={value!r} is none of {", ".join(map(repr, known))}.')


def _check_words(position: str, masked_position: str, modality: str | None,
                 default_modality: str | None) -> None:
    check_word('position', position, ('official', 'size'))
    check_word('masked_position', masked_position,
               ('official', 'raw', 'zoomed'))
    check_word('modality', modality, (None, 'both', *MODALITIES))
    check_word('default_modality', default_modality, (None, *MODALITIES))


def check_shared(mlp_ratio: float, in_channels: int, drop_path_rate: float,
                 norm_eps: float, attention: str) -> None:
    """Check what every backbone of this folder takes.

    Raises:
        ConfigError: Naming the argument, its value and what is allowed.
    """
    require_range(0, 2**10, without=(0, ), mlp_ratio=mlp_ratio)
    require_range(1, 2**10, in_channels=in_channels)
    require_range(0, 1, without=(1, ), drop_path_rate=drop_path_rate)
    require_range(0, 1, without=(0, ), norm_eps=norm_eps)
    check_word('attention', attention, ('auto', 'fused', 'plain'))


def resolve_arch(arch: str | dict[str, Any],
                 presets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The sizes behind the name of an architecture.

    Args:
        arch: A name, or a dict with the same keys as the presets.
        presets: Sizes by name.

    Raises:
        ConfigError: If the name is unknown, or keys are missing or too
            many.
    """
    if isinstance(arch, str):
        check_word('arch', arch, tuple(presets))
        return presets[arch]
    needed = set(next(iter(presets.values())))
    if set(arch) != needed:
        raise ConfigError(
            f'arch={dict(arch)!r} needs exactly {", ".join(sorted(needed))}; '
            f'or name one of {", ".join(presets)}.')
    return dict(arch)
