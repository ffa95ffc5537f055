"""HiViT: the hierarchical trunk with the outputs of its published users.

The backbone of SARATR-X and of HiViT-MAE: tokens for classification and
pre-training, four maps for detection and segmentation.

Letters: see :mod:`.hierarchical`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ...registry import MODELS
from ...utils.config_values import require_range
from ...utils.errors import ConfigError
from .hierarchical import to_map
from .trunk import HierarchicalTrunk, TrunkOutput, check_word, resolve_arch

# Every stage but the last has two MLP blocks for one of `depths`.
ARCHS: dict[str, dict[str, Any]] = {
    'tiny': dict(embed_dim=384, depths=(1, 1, 10), num_heads=6),
    'small': dict(embed_dim=384, depths=(2, 2, 20), num_heads=6),
    'base': dict(embed_dim=512, depths=(2, 2, 20), num_heads=8),
}
WINDOW = 14  # of the published detectors, in units


@MODELS.register_module()
class HiViT(HierarchicalTrunk):
    """HiViT, the backbone of SARATR-X.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'base'``, or a dict with
            ``embed_dim``, ``depths`` and ``num_heads``.
        out: ``'tokens'`` (B, N, D); ``'map'``: a tuple with the map
            (B, D, Hp, Wp), as necks of frameworks take it; ``'maps'``: the
            four maps of strides 4, 8, 16, 32, each behind a LayerNorm of
            its own, for detection and segmentation.
        out_indices: With ``'maps'``: ``'H'`` and ``'M'`` for the stages of
            strides 4 and 8, then the attention blocks whose outputs give
            strides 16 and 32, negative from the end.
        taps: Where ``'H'`` and ``'M'`` are taken: ``'official'``: after MLP
            block ``depths[0]`` and after module ``depths[0] + depths[1]``
            of ``blocks``, which is the middle of the first stage and the
            first PatchMerge, since the stages have twice as many blocks as
            that code counts; the published detectors were trained so.
            ``'stage_end'``: at the ends of the stages.
        window_size: Side of the attention windows in units, 0 for global
            attention everywhere; None: 14 with ``'maps'`` and without
            relative positions (official code), else 0.
        global_blocks: Attention blocks without windows; None: the last of
            each quarter (4, 9, 14, 19 of 20, official code).
        rpe: Relative positions: True in supervised and fine-tuned
            classifiers, False in pre-training and detection.
        img_size: See :class:`HierarchicalTrunk`.
        in_channels: See there.
        modality: See there; the published HiViT and SARATR-X have one patch
            embedding without a name.
        default_modality: See there.
        stem_mlp_ratio: See there.
        mlp_ratio: See there.
        drop_path_rate: See there.
        norm_eps: See there.
        position: See there.
        masked_position: See there; officially ``'raw'``.
        with_cp: See there.
        frozen_stages: See there.
        attention: See there.
        init_cfg: See there.

    Raises:
        ConfigError: If an argument is unknown or out of range.
    """

    def __init__(self,
                 arch: str | dict[str, Any] = 'base',
                 out: str = 'tokens',
                 out_indices: Sequence[str | int] = ('H', 'M', -1, -1),
                 taps: str = 'official',
                 window_size: int | None = None,
                 global_blocks: Sequence[int] | None = None,
                 rpe: bool = False,
                 img_size: int = 224,
                 in_channels: int = 3,
                 modality: str | None = None,
                 default_modality: str | None = None,
                 stem_mlp_ratio: float = 3.,
                 mlp_ratio: float = 4.,
                 drop_path_rate: float = 0.,
                 norm_eps: float = 1e-6,
                 position: str = 'official',
                 masked_position: str = 'official',
                 with_cp: bool = False,
                 frozen_stages: int = -1,
                 attention: str = 'auto',
                 init_cfg: dict | None = None) -> None:
        sizes = resolve_arch(arch, ARCHS)
        check_word('out', out, ('tokens', 'map', 'maps'))
        check_word('taps', taps, ('official', 'stage_end'))
        depths = _check_depths(sizes['depths'])
        depth = depths[2]
        if window_size is None:
            window_size = WINDOW if out == 'maps' and not rpe else 0
        windows = _windows(window_size, global_blocks, depth, rpe)
        super().__init__(
            sizes['embed_dim'], (2 * depths[0], 2 * depths[1]), depth,
            sizes['num_heads'], stem_mlp_ratio, mlp_ratio, img_size,
            in_channels, modality, default_modality, rpe, windows,
            drop_path_rate, norm_eps, position, masked_position, with_cp,
            frozen_stages, attention, init_cfg)
        self.out = out
        dim = self.embed_dim
        self.out_channels = [dim]
        if out == 'maps':
            self.out_channels = [dim // 4, dim // 2, dim, dim]
            self.stem_taps = _stem_taps(depths) if taps == 'official' else ()
            self.main_taps = self._main_taps(out_indices)
            self.fpn1 = nn.LayerNorm(dim // 4, eps=norm_eps)
            self.fpn2 = nn.LayerNorm(dim // 2, eps=norm_eps)
            self.fpn3 = nn.LayerNorm(dim, eps=norm_eps)
            self.fpn4 = nn.ModuleList([  # the official key is fpn4.1
                nn.MaxPool2d(2), nn.LayerNorm(dim, eps=norm_eps)])
        self.freeze()

    def _main_taps(self, out_indices: Sequence[str | int]) -> list[int]:
        names, numbers = list(out_indices[:2]), list(out_indices[2:])
        fits = len(numbers) == 2 and all(
            isinstance(n, int) and -self.depth <= n < self.depth
            for n in numbers)
        if names != ['H', 'M'] or not fits:
            raise ConfigError(
                f"out_indices={tuple(out_indices)}: expected 'H', 'M' and "
                f'two attention blocks of {self.depth}, as in '
                "('H', 'M', -1, -1).")
        return [self.first_main + int(n) % self.depth for n in numbers]

    def forward(self,
                images: Tensor,
                modality: str | None = None) -> Tensor | tuple[Tensor, ...]:
        """Encode images.

        Args:
            images: (B, C, H, W), normalised; H and W multiples of 16.
            modality: See :meth:`embed`; None where there is one patch
                embedding.

        Returns:
            See ``out``: tokens, or a tuple of maps.

        Raises:
            DataFormatError: See :meth:`embed`.
            ConfigError: See :meth:`embed` and :meth:`trunk`.
        """
        grid = self.grid_of(images)
        units = self.embed(images, modality)
        if self.out == 'maps':
            output = self.trunk(
                units, grid, taps=(*self.stem_taps, *self.main_taps))
            return self.maps(output, grid)
        tokens = self.trunk(units, grid).tokens
        if self.out == 'tokens':
            return tokens
        return (to_map(tokens[:, :, None, None], grid), )

    def maps(self, output: TrunkOutput,
             grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The maps of strides 4, 8, 16 and 32.

        Args:
            output: Of the trunk, with the taps of this backbone.
            grid: (Hp, Wp).
        """
        s4, s8 = output.cells4, output.cells8
        if self.stem_taps:
            s4, s8 = (output.taps[index] for index in self.stem_taps)
        s16, s32 = (output.taps[index] for index in self.main_taps)
        pool, norm = self.fpn4
        last = pool(to_map(s32[:, :, None, None], grid))
        return (to_map(self.fpn1(s4), grid), to_map(self.fpn2(s8), grid),
                to_map(self.fpn3(s16)[:, :, None, None], grid),
                norm(last.movedim(1, -1)).movedim(-1, 1).contiguous())


def _check_depths(depths: Sequence[int]) -> tuple[int, int, int]:
    require_range(1, 2**10, depths=depths)
    if len(depths) != 3:
        raise ConfigError(
            f'depths={tuple(depths)}: expected three numbers, for the '
            'strides 4, 8 and 16.')
    return depths[0], depths[1], depths[2]


def _stem_taps(depths: tuple[int, int, int]) -> tuple[int, int]:
    """Modules of ``blocks`` that official code takes for 'H' and 'M'."""
    first, second, _ = depths
    if second < first:
        raise ConfigError(
            f"taps='official' takes no map of stride 8 with depths={depths}: "
            "the second must not be less than the first. Use 'stage_end'.")
    return first - 1, first + second


def _windows(size: int, global_blocks: Sequence[int] | None, depth: int,
             rpe: bool) -> list[int] | None:
    """Side of the window of each attention block; None without any."""
    require_range(0, 2**10, window_size=size)
    if not size:
        if global_blocks is not None:
            raise ConfigError(
                f'global_blocks={tuple(global_blocks)} has no meaning with '
                'window_size=0: all blocks are global. Leave it out.')
        return None
    if rpe:
        raise ConfigError(
            f'rpe=True with window_size={size}: relative positions are made '
            'for the whole image. Set one of the two to False or 0.')
    if global_blocks is None:
        global_blocks = [max(k * depth // 4 - 1, 0) for k in range(1, 5)]
    require_range(0, depth - 1, global_blocks=global_blocks)
    return [0 if i in global_blocks else size for i in range(depth)]
