"""iTPN: the hierarchical trunk with a pyramid of transformers on top.

The backbone of CoDe-MAE. The pyramid is pre-trained with the trunk, so that
detectors and segmentors need no FPN neck::

    tokens (B, N, D)         --> p16 (B, N, 1, 1, F) --> map of stride 16
    split(tokens) + cells8   --> p8  (B, N, 2, 2, F) --> map of stride 8
    split(...)    + cells4   --> p4  (B, N, 4, 4, F) --> map of stride 4
    pooled map of stride 16  --> maps of strides 32 and 64

Letters: F channels of the pyramid; the others: see :mod:`.hierarchical`.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ...registry import MODELS
from ...utils.config_values import require_range
from ...utils.errors import ConfigError
from .hierarchical import MLPBlock, PatchSplit, to_map
from .trunk import HierarchicalTrunk, TrunkOutput, check_word, resolve_arch

ARCHS: dict[str, dict[str, Any]] = {
    'base': dict(embed_dim=512, mlp_depths=(3, 3), depth=24, num_heads=8),
    'large': dict(embed_dim=768, mlp_depths=(2, 2), depth=40, num_heads=12),
}
PYRAMID_MLP_RATIO = 4.


@MODELS.register_module()
class ITPN(HierarchicalTrunk):
    """iTPN, the backbone of CoDe-MAE.

    Args:
        arch: ``'base'``, ``'large'``, or a dict with ``embed_dim``,
            ``mlp_depths``, ``depth`` and ``num_heads``.
        modality: ``'both'``, ``'rgb'``, ``'sar'``, or None for the single
            unnamed patch embedding of the original iTPN.
        default_modality: See :class:`HierarchicalTrunk`.
        img_size: See there.
        in_channels: See there.
        fpn_dim: Channels F of the pyramid.
        fpn_depth: MLP blocks on each step of the pyramid: 1 in CoDe-MAE, 2
            in the original iTPN.
        num_outs: 1: the trunk alone, without a pyramid; 3, 4 or 5 maps of
            the strides 4, 8, 16, 32, 64.
        out: With ``num_outs=1``: ``'tokens'`` (B, N, D), or ``'map'``: a
            tuple with the map (B, D, Hp, Wp), as necks of frameworks take
            it.
        pool: ``'avg'`` (CoDe-MAE's detectors) or ``'max'`` (its
            segmentors) for the strides 32 and 64.
        stem_mlp_ratio: See :class:`HierarchicalTrunk`.
        mlp_ratio: See there.
        rpe: See there; the published iTPN and CoDe-MAE have none.
        drop_path_rate: See there; there is none in the pyramid.
        norm_eps: Epsilon of every LayerNorm: 1e-6 in pre-training,
            classification and damage mapping, 1e-5 in the published
            detectors and segmentors.
        position: See :class:`HierarchicalTrunk`.
        masked_position: See there; officially ``'zoomed'``.
        with_cp: See there.
        frozen_stages: See there; the pyramid is never frozen.
        attention: See there.
        init_cfg: See there.

    Raises:
        ConfigError: If an argument is unknown or out of range.
    """

    masked_zoom = True

    def __init__(self,
                 arch: str | dict[str, Any] = 'base',
                 modality: str | None = 'both',
                 default_modality: str | None = None,
                 img_size: int = 224,
                 in_channels: int = 3,
                 fpn_dim: int = 256,
                 fpn_depth: int = 1,
                 num_outs: int = 5,
                 out: str = 'tokens',
                 pool: str = 'avg',
                 stem_mlp_ratio: float = 3.,
                 mlp_ratio: float = 4.,
                 rpe: bool = False,
                 drop_path_rate: float = 0.,
                 norm_eps: float = 1e-6,
                 position: str = 'official',
                 masked_position: str = 'official',
                 with_cp: bool = False,
                 frozen_stages: int = -1,
                 attention: str = 'auto',
                 init_cfg: dict | None = None) -> None:
        sizes = resolve_arch(arch, ARCHS)
        super().__init__(
            sizes['embed_dim'], sizes['mlp_depths'], sizes['depth'],
            sizes['num_heads'], stem_mlp_ratio, mlp_ratio, img_size,
            in_channels, modality, default_modality, rpe, None,
            drop_path_rate, norm_eps, position, masked_position, with_cp,
            frozen_stages, attention, init_cfg)
        check_word('num_outs', num_outs, (1, 3, 4, 5))
        check_word('out', out, ('tokens', 'map'))
        check_word('pool', pool, ('avg', 'max'))
        self.num_outs = num_outs
        self.out = out
        self.pool = pool
        self.out_channels = [fpn_dim] * num_outs
        if num_outs == 1:
            self.out_channels = [self.embed_dim]
        else:
            self._build_pyramid(fpn_dim, fpn_depth, norm_eps)
        self.freeze()

    def _build_pyramid(self, dim: int, depth: int, norm_eps: float) -> None:
        require_range(1, 2**16, fpn_dim=dim)
        require_range(1, 2**10, fpn_depth=depth)
        trunk_dim = self.embed_dim

        def refine() -> MLPBlock:
            return MLPBlock(dim, PYRAMID_MLP_RATIO, 0., norm_eps)

        self.align_dim_16tofpn = nn.Linear(trunk_dim, dim)
        self.fpn_modules = nn.ModuleList(refine() for _ in range(3))
        self.align_dim_16to8 = nn.Linear(trunk_dim // 2, dim, bias=False)
        self.split_16to8 = PatchSplit(trunk_dim, dim, norm_eps)
        self.block_16to8 = nn.Sequential(*(refine() for _ in range(depth)))
        self.align_dim_8to4 = nn.Linear(trunk_dim // 4, dim, bias=False)
        self.split_8to4 = PatchSplit(dim, dim, norm_eps)
        self.block_8to4 = nn.Sequential(*(refine() for _ in range(depth)))

    def pyramid(self, output: TrunkOutput) -> tuple[Tensor, Tensor, Tensor]:
        """Climb from the tokens back to the cells (official code).

        Each level is refined once more on its way out; the next level goes
        on from the unrefined one.

        Args:
            output: Of :meth:`trunk`.

        Returns:
            p16 (B, N, 1, 1, F), p8 (B, N, 2, 2, F), p4 (B, N, 4, 4, F).

        Raises:
            ConfigError: If the backbone has no pyramid.
        """
        if self.num_outs == 1:
            raise ConfigError(
                'The backbone was built with num_outs=1, without a pyramid. '
                'Set num_outs to 3, 4 or 5.')
        x = output.tokens[:, :, None, None]
        y8 = self._run(self._climb_to_8, x, output.cells8)
        y4 = self._run(self._climb_to_4, y8, output.cells4)
        first, second, third = self.fpn_modules
        return (self._run(first, self.align_dim_16tofpn(x)),
                self._run(second, y8), self._run(third, y4))

    def _climb_to_8(self, x: Tensor, cells8: Tensor) -> Tensor:
        return self.block_16to8(
            self.split_16to8(x) + self.align_dim_16to8(cells8))

    def _climb_to_4(self, y8: Tensor, cells4: Tensor) -> Tensor:
        return self.block_8to4(
            self.split_8to4(y8) + self.align_dim_8to4(cells4))

    def forward(self,
                images: Tensor,
                modality: str | None = None) -> Tensor | tuple[Tensor, ...]:
        """Encode images of one sensor.

        Args:
            images: (B, C, H, W), normalised; H and W multiples of 16.
            modality: ``'rgb'`` or ``'sar'``; see :meth:`embed`.

        Returns:
            Maps (B, F, H/s, W/s) for s = 4, 8, 16, 32, 64, as many as
            ``num_outs`` says. With ``num_outs=1`` see ``out``.

        Raises:
            DataFormatError: See :meth:`embed`.
            ConfigError: See :meth:`embed`.
        """
        grid = self.grid_of(images)
        output = self.trunk(self.embed(images, modality), grid)
        if self.num_outs == 1:
            if self.out == 'tokens':
                return output.tokens
            return (to_map(output.tokens[:, :, None, None], grid), )
        return self.maps(output, grid)

    def maps(self, output: TrunkOutput,
             grid: tuple[int, int]) -> tuple[Tensor, ...]:
        """The maps of the pyramid from what the trunk returns.

        Args:
            output: Of :meth:`trunk`, without masking; the units may be of
                both sensors, one after the other along the batch.
            grid: (Hp, Wp).

        Returns:
            Maps (B, F, H/s, W/s), as many as ``num_outs`` says.

        Raises:
            ConfigError: See :meth:`pyramid`.
        """
        levels = self.pyramid(output)
        maps = [to_map(level, grid) for level in reversed(levels)]
        halve = F.avg_pool2d if self.pool == 'avg' else F.max_pool2d
        while len(maps) < self.num_outs:
            maps.append(halve(maps[-1], 2, 2))
        return tuple(maps)
