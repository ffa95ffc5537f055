"""Global-Local Affine-Flow Matcher of SOMA, put right.

The idea of the paper without what is wrong in the release (see
:mod:`.glam_released`, which has that)::

    features by stride, of fixed and of moving
    coarse  correlation of all cells of stride 16 -> positions
            -> robust least squares: affine A
            -> regressed update, as in the paper
            or tiles of finer cells, each sought in a window (.tiles)
            -> positions -> the same least squares
    8, 4    moving features brought onto fixed by A and the local flow;
            compared, also with their neighbours (local correlation);
            update D of the affine, A <- A D, and of the local flow
    2, 1    the same without an affine: the flow is refined
    -> A, flow of A + local flow, certainty

All is in the conventions of :mod:`osar_plugin.utils.geometry`. Before
training the updates are 0, so that the result is that of the correlation.

Letters: B batch, C channels, H W height and width in pixels of the image,
h w those of a stage, s its stride; A, D affines (B, 2, 3) in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...registry import MODELS
from ...utils.config_values import require_range
from ...utils.errors import ConfigError
from ...utils.geometry import (
    Size,
    compose,
    from_theta,
    matrix_to_flow,
    rescale,
    resize_flow,
    warp,
)
from ..backbones.trunk import check_word
from ..precision import full_precision
from .correlation import (
    cell_centres,
    local_correlation,
    match_cells,
    soft_positions,
)
from .fitting import fit_affine_robust
from .glam_blocks import (
    WIDTHS,
    ChannelReducer,
    GLAMOutput,
    Regressor,
    Stage,
    StageEncoder,
    flow_head,
    resize,
    zero_start,
)
from .tiles import TileMatch, TileStage, tile_positions

# Pixels of a stage by which its flow is divided before it is embedded.
FLOW_UNIT = 16.
EMBEDDING = 16


@dataclass(frozen=True)
class StageSettings:
    """One scale of the matcher.

    Attributes:
        stride: Of its features.
        affine: It updates the affine, too.
        channels: That the features are projected to; 0 takes them as they
            are.
        widths: Of its three blocks.
        radius: Of the local correlation; 0 for none.
        deformable: Deformable convolutions; else plain ones.
        iterations: Rounds with the same weights.
    """

    stride: int
    affine: bool = False
    channels: int = 0
    widths: Sequence[int] = WIDTHS
    radius: int = 0
    deformable: bool = False
    iterations: int = 1

    def __post_init__(self) -> None:
        require_range(1, 32, stride=self.stride)
        require_range(0, 2**12, channels=self.channels)
        require_range(2, 2**12, widths=list(self.widths))
        require_range(0, 16, radius=self.radius)
        require_range(1, 64, iterations=self.iterations)
        if len(self.widths) != 3:
            raise ConfigError(
                f'widths={tuple(self.widths)} of stride {self.stride}: a '
                'stage has three blocks.')


# The paper's widths where there are few pixels. At strides 2 and 1, where
# nearly all of the time goes, narrower and without deformation.
STAGES = (
    dict(stride=8, affine=True, channels=128, radius=4, deformable=True),
    dict(stride=4, affine=True, channels=64, radius=4, deformable=True),
    dict(stride=2, channels=32, widths=(64, 64, 32), radius=2),
    dict(stride=1, widths=(32, 32, 16)))


class MatchStage(nn.Module):
    """Layers of one scale.

    Args:
        settings: See :class:`StageSettings`.
        in_channels: Of the features.
    """

    def __init__(self, settings: StageSettings, in_channels: int) -> None:
        super().__init__()
        self.settings = settings
        own = settings.channels or in_channels
        self.project = nn.Conv2d(in_channels, own, 1) \
            if settings.channels else nn.Identity()
        self.disp_emb = nn.Conv2d(2, EMBEDDING, 1)
        neighbours = (2 * settings.radius + 1)**2 if settings.radius else 0
        self.encoder = StageEncoder(
            2 * own + EMBEDDING + 1 + neighbours, settings.widths,
            settings.deformable)
        self.out_conv = flow_head(settings.widths[-1], 3, zero=True)
        self.theta_decoder = None
        if settings.affine:
            last = nn.Linear(settings.widths[-1], 6)
            zero_start(last)
            self.theta_decoder = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)

    def forward(self, fixed: Tensor, moving: Tensor, flow: Tensor,
                logit: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """Compare, given a flow.

        Args:
            fixed: (B, C, h, w), projected.
            moving: The same of the other image.
            flow: (B, 2, h, w), pixels of the stage.
            logit: (B, 1, h, w), certainty so far.

        Returns:
            Update (B, 2, 3) of the theta, beyond the identity, or None;
            local flow (B, 2, h, w) in pixels of the stage; logit
            (B, 1, h, w) to be added.
        """
        warped = warp(moving.float(), flow)
        parts = [fixed, warped, self.disp_emb(flow / FLOW_UNIT), logit]
        if self.settings.radius:
            parts.append(local_correlation(
                fixed.float(), warped, self.settings.radius))
        x = self.encoder(torch.cat(parts, dim=1))
        out = self.out_conv(x).float()
        theta = None if self.theta_decoder is None else \
            self.theta_decoder(x).float().unflatten(1, (2, 3))
        return theta, out[:, :2], out[:, 2:]


@dataclass
class State:
    """What is known between stages.

    Attributes:
        affine: A.
        local: (B, 2, h, w), local flow in pixels of the last stage.
        logit: (B, 1, h, w), certainty.
    """

    affine: Tensor
    local: Tensor
    logit: Tensor


@MODELS.register_module()
class GLAM(BaseModule):
    """Global-Local Affine-Flow Matcher; see the module.

    Args:
        channels: Of the features by stride; :class:`~.soma.SOMA` fills them
            in from its encoder.
        coarse: ``'correlation'``; ``'regress'`` as the paper's global
            head, which has no correspondence inside; or ``'tiles'``, see
            :mod:`.tiles`, without the regressed update.
        coarse_strides: Features that are compared there, on the grid of the
            first.
        coarse_channels: That each is reduced to.
        temperature: Of the correlation's softmax.
        window: See :func:`~.correlation.soft_positions`.
        irls: Arguments of :func:`~.fitting.fit_affine_robust`.
        tiles: Arguments of :class:`~.tiles.TileStage`, whose strides are
            ``coarse_strides``.
        stages: Arguments of :class:`StageSettings`, coarse to fine.
        with_affine: False: flow only, an ablation.
        with_flow: False: affine only, an ablation; stages without an affine
            are left out.
        propagate_local_flow: The local flow of a stage with an affine is
            kept, not only supervised (paper: False).
        detach: No gradient through the places that are sampled.
        init_cfg: See :class:`mmengine.model.BaseModule`.

    Attributes:
        strides: Of the features that it needs.

    Raises:
        ConfigError: If an argument cannot be used.
    """

    def __init__(self,
                 channels: Mapping[int, int] | None = None,
                 coarse: str = 'correlation',
                 coarse_strides: Sequence[int] = (16, 32),
                 coarse_channels: int = 256,
                 temperature: float = 0.05,
                 window: int = 2,
                 irls: dict[str, Any] | None = None,
                 tiles: dict[str, Any] | None = None,
                 stages: Sequence[dict[str, Any]] = STAGES,
                 with_affine: bool = True,
                 with_flow: bool = True,
                 propagate_local_flow: bool = True,
                 detach: bool = True,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        check_word('coarse', coarse, ('correlation', 'regress', 'tiles'))
        require_range(1, 2**12, coarse_channels=coarse_channels)
        require_range(0, 1e3, without=(0, ), temperature=temperature)
        require_range(1, 64, window=window)
        if not (with_affine or with_flow):
            raise ConfigError(
                'with_affine=False and with_flow=False leave nothing to '
                'estimate.')
        if coarse == 'tiles' and not with_affine:
            raise ConfigError(
                "coarse='tiles' with with_affine=False: what tiles find is "
                "an affine. Set coarse='correlation' for flow alone.")
        self.with_affine, self.with_flow = with_affine, with_flow
        self.propagate, self.detach = propagate_local_flow, detach
        self.temperature, self.window = temperature, window
        self.irls = dict(irls or {})
        self.settings = _settings(stages, with_affine, with_flow)
        self.coarse_strides = tuple(coarse_strides)
        self.strides = tuple(sorted({
            *coarse_strides, *(one.stride for one in self.settings)}))
        sizes = _sizes(channels, self.strides)
        self.correlate = coarse == 'correlation'
        self.tiles: TileStage | None = None
        self.coarse_matcher: Regressor | None = None
        if coarse == 'tiles':
            self.tiles = TileStage(
                dict(channels or {}), coarse_strides, **(tiles or {}))
        else:
            self._build_coarse(sizes, coarse_channels)
        self.stages = nn.ModuleList(
            MatchStage(one, sizes[one.stride]) for one in self.settings)

    def _build_coarse(self, sizes: Mapping[int, int], width: int) -> None:
        """What compares cells, or regresses."""
        self.reducers = nn.ModuleDict({
            str(s): ChannelReducer(sizes[s], width)
            for s in self.coarse_strides})
        if self.with_affine:
            self.coarse_matcher = Regressor(
                2 * width * len(self.coarse_strides), zero=True)

    def forward(self, fixed: Mapping[int, Tensor],
                moving: Mapping[int, Tensor],
                valid: Sequence[Tensor | None] = (None, None),
                radius: int | None = None) -> GLAMOutput:
        """Match two pyramids of features.

        Args:
            fixed: (B, C, H / s, W / s) by stride s.
            moving: The same of the other image, of the same size.
            valid: Of both, (B, 1, H, W) bool, where there is data.
            radius: Within which tiles are sought, in pixels, where the
                coarse stage is one of tiles; default: the stage's.
        """
        first = self.coarse_strides[0]
        cells = fixed[first].shape[-2:]
        size = (cells[0] * first, cells[1] * first)
        found: TileMatch | None = None
        joint: Tensor | None = None
        if self.tiles is not None:
            state, found, stages = self._of_tiles(
                fixed, moving, valid, radius)
        else:
            f, m = (self._reduce(maps) for maps in (fixed, moving))
            state, joint, stages = self._coarse(f, m, size, valid)
        stage: Any
        for stage in self.stages:
            a, b = (stage.project(maps[stage.settings.stride])
                    for maps in (fixed, moving))
            for _ in range(stage.settings.iterations):
                stages.append(self._step(stage, a, b, state, size))
        flow = matrix_to_flow(state.affine, size) + resize_flow(
            state.local, size)
        return GLAMOutput(state.affine, flow, resize(state.logit, size),
                          stages, joint, (cells[0], cells[1]), found)

    def _reduce(self, maps: Mapping[int, Tensor]) -> Tensor:
        parts = [self.reducers[str(s)](maps[s]) for s in self.coarse_strides]
        return torch.cat([resize(part, parts[0].shape[-2:])
                          for part in parts], dim=1).float()

    def _coarse(self, fixed: Tensor, moving: Tensor, size: Size,
                valid: Sequence[Tensor | None]
                ) -> tuple[State, Tensor | None, list[Stage]]:
        """The first affine, or flow, of reduced features (B, C, h, w)."""
        grid = (fixed.shape[-2], fixed.shape[-1])
        stride = size[0] // grid[0]
        known = [None if v is None else resize(v.float(), grid) > 0.5
                 for v in valid]
        eye = torch.eye(2, 3, device=fixed.device)
        state = State(eye.expand(len(fixed), 2, 3),
                      fixed.new_zeros(len(fixed), 2, *grid),
                      fixed.new_zeros(len(fixed), 1, *grid))
        start = state.local * stride
        joint = None
        if self.correlate:
            joint = match_cells(fixed, moving, self.temperature, known[1])
            positions, sure = soft_positions(
                joint, grid, stride, self.window)
            centres = cell_centres(grid, stride, fixed)
            if self.with_affine:
                if known[0] is not None:
                    sure = sure * known[0].flatten(1)
                state.affine = robust_affine(
                    centres, positions, sure, self.irls)
            else:
                found = (positions - centres).mT.unflatten(2, grid)
                state.local = found / stride
        if self.coarse_matcher is not None:
            flow = _at_stride(state.affine, stride, grid)
            delta = self.coarse_matcher(fixed, warp(
                moving, flow.detach() if self.detach else flow))
            state.affine = updated(state.affine, delta.float(), size)
        flow = _at_stride(state.affine, stride, grid) + state.local
        return state, joint, [Stage(stride, start, flow * stride)]

    def _of_tiles(self, fixed: Mapping[int, Tensor],
                  moving: Mapping[int, Tensor],
                  valid: Sequence[Tensor | None], radius: int | None
                  ) -> tuple[State, TileMatch, list[Stage]]:
        """The first affine of tiles that were found."""
        tiles: Any = self.tiles
        a, b = (tiles.describe(maps, mask) for maps, mask in zip(
            (fixed, moving), valid, strict=True))
        found = tiles(a, b, radius)
        positions, sure = tile_positions(
            found.log_prob, found.centres, found.stride, self.window)
        affine = robust_affine(found.centres, positions, sure, self.irls)
        grid = (a[0].shape[-2], a[0].shape[-1])
        state = State(affine, a[0].new_zeros(len(affine), 2, *grid),
                      a[0].new_zeros(len(affine), 1, *grid))
        flow = _at_stride(affine, tiles.stride, grid) * tiles.stride
        return state, found, [
            Stage(tiles.stride, torch.zeros_like(flow), flow)]

    def _step(self, stage: Any, fixed: Tensor, moving: Tensor, state: State,
              size: Size) -> Stage:
        """One round of a stage; changes the state."""
        grid = (fixed.shape[-2], fixed.shape[-1])
        stride = stage.settings.stride
        local = resize_flow(state.local, grid)
        logit = resize(state.logit, grid)
        own = _at_stride(state.affine, stride, grid)
        flow = own + local
        theta, step, more = stage(
            fixed, moving, flow.detach() if self.detach else flow,
            logit.detach() if self.detach else logit)
        state.logit = logit + more
        if theta is None:
            state.local = local + step
            return Stage(stride, flow * stride, step * stride)
        state.affine = updated(state.affine, theta, size)
        delta = (_at_stride(state.affine, stride, grid) - own) * stride
        before = flow * stride
        state.local = local
        if not self.with_flow:
            return Stage(stride, before, delta)
        if self.propagate:
            state.local = local + step
        return Stage(stride, before, delta, delta, delta + step * stride)


def _settings(stages: Sequence[dict[str, Any]], with_affine: bool,
              with_flow: bool) -> list[StageSettings]:
    found = [StageSettings(**one) for one in stages]
    strides = [one.stride for one in found]
    if not found or strides != sorted(strides, reverse=True) or len(
            set(strides)) < len(strides):
        raise ConfigError(
            f'stages have the strides {strides}: expected at least one, '
            'each once, from large to small.')
    if not with_affine:
        return [StageSettings(**{**asdict(one), 'affine': False})
                for one in found]
    return found if with_flow else [one for one in found if one.affine]


def _sizes(channels: Mapping[int, int] | None,
           strides: Sequence[int]) -> dict[int, int]:
    sizes = {int(s): c for s, c in (channels or {}).items()}
    missing = [s for s in strides if s not in sizes]
    if missing:
        raise ConfigError(
            f'GLAM needs features of the strides {missing}, the encoder has '
            f'{sorted(sizes)}. Change its last, or the strides of GLAM.')
    return sizes


def _at_stride(affine: Tensor, stride: int, grid: Size) -> Tensor:
    """Flow of an affine of the whole image, in pixels of a stage."""
    return matrix_to_flow(rescale(affine, 1 / stride, 1 / stride), grid)


def updated(affine: Tensor, delta: Tensor, size: Size) -> Tensor:
    """A D, with D the identity and an update in normalised coordinates.

    The update was seen on the moving image as A brings it onto the fixed
    one, fixed(x) = moving(A D x): it stands behind the affine.

    Args:
        affine: A.
        delta: (B, 2, 3), beyond the identity of theta.
        size: (H, W).
    """
    eye = torch.eye(2, 3, dtype=delta.dtype, device=delta.device)
    return compose(affine, from_theta(eye + delta, size))


@full_precision
def robust_affine(points: Tensor, positions: Tensor, weight: Tensor,
                  settings: Mapping[str, Any]) -> Tensor:
    """The affine of positions that are not all right.

    Args:
        points: (n, 2), of the fixed image.
        positions: (B, n, 2), where they lie in the moving one.
        weight: (B, n), not negative; where none is above 0, all count the
            same.
        settings: Of :func:`~.fitting.fit_affine_robust`.

    Returns:
        (B, 2, 3).
    """
    mean = weight.mean(1, keepdim=True)
    # A share of the mean for each keeps the equations solvable.
    weight = (weight + 1e-3 * mean) / (mean + 1e-12) + 1e-6
    fixed = points.expand(len(positions), -1, -1)
    out: Tensor = fit_affine_robust(fixed, positions, weight, **settings)
    return out
