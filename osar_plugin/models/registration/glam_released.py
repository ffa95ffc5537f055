"""GLAM exactly as the release computes it, with what is wrong in it.

For parity with weights of the release. What differs from the conventions of
this package and from :class:`~.glam.GLAM`:

1. A theta becomes a flow by two grids that do not agree: the identity gives
   +0.5 px at the first pixel and -0.5 px at the last.
2. The refiners stack a grid as (y, x) where (x, y) is meant: at no flow they
   sample the transpose of the moving features.
3. The flow of stride 2 is in pixels of its own grid, but enlarged and
   compared with the truth as if it were in pixels of the image.
4. So are the updates of strides 8 and 4.
5. An update is composed before the affine, not behind it.
6. An update passes a leaky ReLU and has to learn the identity.
7. Flows are normalised by (W - 1) / 2, and sampled by W / 2.

Letters: B batch, C channels, H W height and width in pixels; theta as of
``F.affine_grid(..., align_corners=False)``, fixed to moving.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...registry import MODELS
from ...utils.config_values import require_range
from ...utils.errors import ConfigError
from ...utils.geometry import Size, from_theta, homogeneous
from .glam_blocks import (
    SLOPE,
    ChannelReducer,
    GLAMOutput,
    Regressor,
    Stage,
    StageEncoder,
    flow_head,
    resize,
)

EMBEDDING = 16
CHANNELS = {1: 3, 2: 64, 4: 256, 8: 512, 16: 1024, 32: 2048}


def released_flow(theta: Tensor, size: Size) -> Tensor:
    """(B, 2, 3) to a flow (B, 2, H, W) of the grid's pixels, defect 1."""
    height, width = size
    grid = F.affine_grid(
        theta, [len(theta), 1, height, width], align_corners=False)
    like: dict[str, Any] = dict(dtype=theta.dtype, device=theta.device)
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height, **like),
        torch.linspace(-1, 1, width, **like), indexing='ij')
    return torch.stack([(grid[..., 0] - x) * ((width - 1) / 2),
                        (grid[..., 1] - y) * ((height - 1) / 2)], dim=1)


def released_compose(theta: Tensor, delta: Tensor) -> Tensor:
    """The product delta theta, defect 5: (B, 2, 3) twice to (B, 2, 3)."""
    return (homogeneous(delta) @ homogeneous(theta))[:, :2]


def released_sample(moving: Tensor, flow: Tensor) -> Tensor:
    """Moving features at a flow, defects 2 and 7.

    Args:
        moving: (B, C, H, W).
        flow: (B, 2, H, W).
    """
    height, width = flow.shape[-2:]
    like: dict[str, Any] = dict(dtype=flow.dtype, device=flow.device)
    axes = [torch.linspace(1 / n - 1, 1 - 1 / n, n, **like)
            for n in (height, width)]
    first, second = torch.meshgrid(*axes, indexing='ij')  # y, x
    grid = torch.stack([flow[:, 0] / ((width - 1) / 2) + first,
                        flow[:, 1] / ((height - 1) / 2) + second], dim=-1)
    return F.grid_sample(moving, grid, align_corners=False)


class ReleasedAffineFlow(nn.Module):
    """The matcher of strides 8 and 4.

    Args:
        channels: C of one image.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.encoder = StageEncoder(2 * channels, zero_offsets=False)
        self.theta_decoder = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 6),
            nn.LeakyReLU(SLOPE, inplace=True))
        self.flow_decoder = flow_head(64, 2)

    def forward(self, fixed: Tensor, moving: Tensor,
                theta: Tensor) -> tuple[Tensor, Tensor]:
        """Two (B, C, H, W) and (B, 2, 3) to an update and a flow."""
        grid = F.affine_grid(
            theta, list(moving.shape), align_corners=False)
        warped = F.grid_sample(moving, grid, align_corners=False)
        x = self.encoder(torch.cat([fixed, warped], dim=1))
        return self.theta_decoder(x).unflatten(1, (2, 3)), \
            self.flow_decoder(x)


class ReleasedRefiner(nn.Module):
    """The matcher of strides 2 and 1.

    Args:
        channels: C of one image.
        with_logit: It sees the certainty so far.
    """

    def __init__(self, channels: int, with_logit: bool) -> None:
        super().__init__()
        self.disp_emb = nn.Conv2d(2, EMBEDDING, 1)
        self.encoder = StageEncoder(
            2 * channels + EMBEDDING + with_logit, zero_offsets=False)
        self.out_conv = flow_head(64, 3)

    def forward(self, fixed: Tensor, moving: Tensor, flow: Tensor,
                logit: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """An update (B, 2, H, W) of the flow and a logit (B, 1, H, W)."""
        parts = [fixed, released_sample(moving, flow), self.disp_emb(flow)]
        if logit is not None:
            parts.append(logit)
        out = self.out_conv(self.encoder(torch.cat(parts, dim=1)))
        return out[:, :2], out[:, 2:]


@MODELS.register_module()
class ReleasedGLAM(BaseModule):
    """The Global-Local Affine-Flow Matcher of the release.

    The fixed image is the release's image 1 (its SAR), the moving one its
    image 2. The release is made for 512 x 512 pixels; any multiple of 32
    works the same way.

    Args:
        reduce_channels: Of the coarse features of one source.
        channels: Of the features by stride, as the encoder gives them; by
            default those of the release.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    strides = (1, 2, 4, 8, 16, 32)

    def __init__(self, reduce_channels: int = 512,
                 channels: Mapping[int, int] | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        require_range(1, 2**16, reduce_channels=reduce_channels)
        sizes = dict(channels or CHANNELS)
        if set(sizes) != set(CHANNELS):
            raise ConfigError(
                f'channels={sizes}: ReleasedGLAM compares features of the '
                f'strides {", ".join(map(str, CHANNELS))}.')
        for side in (1, 2):
            for stride in (16, 32):
                self.add_module(
                    f'reducer_{stride}_{side}',
                    ChannelReducer(sizes[stride], reduce_channels))
        self.coarse_matcher = Regressor(4 * reduce_channels)
        self.fine_matcher_8 = ReleasedAffineFlow(sizes[8])
        self.fine_matcher_4 = ReleasedAffineFlow(sizes[4])
        self.fine_matcher_2 = ReleasedRefiner(sizes[2], False)
        self.fine_matcher_1 = ReleasedRefiner(sizes[1], True)

    def coarse(self, fixed: Mapping[int, Tensor],
               moving: Mapping[int, Tensor]) -> Tensor:
        """The first theta (B, 2, 3)."""
        parts = []
        for side, features in ((1, fixed), (2, moving)):
            first, second = (
                getattr(self, f'reducer_{stride}_{side}')(features[stride])
                for stride in (16, 32))
            parts.append(torch.cat(
                [first, resize(second, first.shape[2:])], dim=1))
        theta: Tensor = self.coarse_matcher(*parts)
        return theta

    def forward(self, fixed: Mapping[int, Tensor],
                moving: Mapping[int, Tensor],
                valid: Sequence[Tensor | None] = ()) -> GLAMOutput:
        """Match two pyramids of features.

        Args:
            fixed: (B, C, H / s, W / s) by stride s.
            moving: The same of the other image, of the same size.
            valid: Not looked at; :class:`~.glam.GLAM` does.

        Returns:
            The flow as the release computes it, and the affine by its
            theta, in the conventions of this package.
        """
        size = _size(fixed[1])
        theta = self.coarse(fixed, moving)
        stages = []
        for stride, stage in ((8, self.fine_matcher_8),
                              (4, self.fine_matcher_4)):
            before = released_flow(theta, size)
            delta, local = stage(fixed[stride], moving[stride], theta)
            own = released_flow(delta, _size(local))
            stages.append(Stage(stride, before, resize(own, size), own,
                                local))
            theta = released_compose(theta, delta)
        flow = released_flow(theta, _size(fixed[2]))
        delta, logit = self.fine_matcher_2(fixed[2], moving[2], flow)
        stages.append(Stage(2, resize(flow, size), resize(delta, size)))
        flow = resize(flow + delta, size)
        logit = resize(logit, size)
        delta, more = self.fine_matcher_1(fixed[1], moving[1], flow, logit)
        stages.append(Stage(1, flow, delta))
        return GLAMOutput(
            from_theta(theta.float(), size), flow + delta, logit + more,
            stages)


def _size(maps: Tensor) -> Size:
    return maps.shape[-2], maps.shape[-1]
