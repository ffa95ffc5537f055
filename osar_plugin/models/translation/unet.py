"""The network that predicts the target from a point on the bridge.

Letters: N items, C channels, H W height and width, t time step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...compat import require
from ...registry import MODELS
from ...utils.errors import ConfigError

GROUPS = 32


def unet_config(in_channels: int,
                out_channels: int,
                model_channels: int = 128,
                channel_mult: Sequence[int] = (1, 4, 8),
                num_res_blocks: int = 2,
                attention_factors: Sequence[int] = (32, 16, 8),
                head_channels: int = 64,
                dropout: float = 0.) -> dict[str, Any]:
    """Arguments of ``diffusers.UNet2DModel`` for the official topology.

    The released code takes the UNet of guided diffusion: residual blocks
    with a scale and a shift from the time, residual blocks that halve and
    double the size, group norm of 32 groups, attention behind the residual
    blocks of some levels and always in the middle.

    Args:
        in_channels: Of x_t, and of the condition where it is concatenated.
        out_channels: Of the prediction.
        model_channels: Channels of the first level.
        channel_mult: Factor of each level on that.
        num_res_blocks: Residual blocks of each level on the way down; one
            more on the way up.
        attention_factors: Levels with attention, named by how many times
            smaller they are than the input: 1, 2, 4, ... The published list
            (32, 16, 8) names none of the three levels, so attention is in
            the middle only.
        head_channels: Channels of an attention head.
        dropout: Rate in front of the second convolution of a block.

    Raises:
        ConfigError: If channels do not divide into groups or heads.
    """
    channels = [model_channels * factor for factor in channel_mult]
    attends = [2**level in attention_factors
               for level in range(len(channels))]
    wrong = [c for c in channels if c <= 0 or c % GROUPS]
    if not channels or wrong:
        raise ConfigError(
            f'model_channels={model_channels} times channel_mult='
            f'{tuple(channel_mult)}: every level needs a multiple of '
            f'{GROUPS} channels (the groups of its norms), got {channels}.')
    # The middle has the channels of the last level.
    for width in {c for c, a in zip(channels, attends, strict=True)
                  if a} | {channels[-1]}:
        if width % head_channels:
            raise ConfigError(
                f'head_channels={head_channels} does not divide the {width} '
                'channels of a level with attention (the middle has the '
                f"last level's). Use a divisor of {width}.")
    return dict(
        in_channels=in_channels,
        out_channels=out_channels,
        block_out_channels=tuple(channels),
        layers_per_block=num_res_blocks,
        down_block_types=tuple(
            'AttnDownBlock2D' if a else 'ResnetDownsampleBlock2D'
            for a in attends),
        up_block_types=tuple(
            'AttnUpBlock2D' if a else 'ResnetUpsampleBlock2D'
            for a in reversed(attends)),
        downsample_type='resnet',
        upsample_type='resnet',
        resnet_time_scale_shift='scale_shift',
        # The time embedding has its cosines first.
        flip_sin_to_cos=True,
        freq_shift=0,
        attention_head_dim=head_channels,
        norm_num_groups=GROUPS,
        attn_norm_num_groups=GROUPS,
        norm_eps=1e-5,
        dropout=dropout)


@torch.no_grad()
def init_official_(unet: nn.Module) -> None:
    """Initialise as the released code does.

    Convolutions and linear layers get weights from N(0, 0.02), also those
    that guided diffusion starts at zero. Attention, whose layers the
    released code does not touch, keeps its default projections and starts
    as the identity.
    """
    for name, module in unet.named_modules():
        if '.attentions.' in name:
            if name.endswith('.to_out.0'):
                nn.init.zeros_(module.weight)  # type: ignore[arg-type]
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(module.weight, 0., 0.02)


@MODELS.register_module()
class BridgeUNet(nn.Module):
    """UNet of guided diffusion, as BBDM uses it (``diffusers`` inside).

    Args:
        in_channels: Channels of x_t.
        out_channels: Channels of the prediction; those of x_t by default.
        context_channels: Channels of the condition, which is concatenated
            behind x_t; 0 for none.
        model_channels: See :func:`unet_config`, as the following.
        channel_mult: See there.
        num_res_blocks: See there.
        attention_factors: See there.
        head_channels: See there.
        dropout: See there.
        channels_last: Keep weights and activations in NHWC order, which
            convolutions of GPUs and of CPUs with bfloat16 prefer.

    Raises:
        ConfigError: See :func:`unet_config`.
        MissingDependencyError: If diffusers is not installed.
    """

    def __init__(self,
                 in_channels: int = 3,
                 out_channels: int | None = None,
                 context_channels: int = 0,
                 model_channels: int = 128,
                 channel_mult: Sequence[int] = (1, 4, 8),
                 num_res_blocks: int = 2,
                 attention_factors: Sequence[int] = (32, 16, 8),
                 head_channels: int = 64,
                 dropout: float = 0.,
                 channels_last: bool = False) -> None:
        super().__init__()
        config = unet_config(
            in_channels + context_channels, out_channels or in_channels,
            model_channels, channel_mult, num_res_blocks, attention_factors,
            head_channels, dropout)
        diffusers = require('diffusers.models.unets.unet_2d', 'translation')
        self.unet: Any = diffusers.UNet2DModel(**config)
        self.in_channels = in_channels
        self.context_channels = context_channels
        self.channels_last = channels_last
        if channels_last:
            self.to(  # type: ignore[call-overload]
                memory_format=torch.channels_last)

    @property
    def factor(self) -> int:
        """How many times smaller the deepest level is than the input."""
        return 2**(len(self.unet.config.block_out_channels) - 1)

    def init_weights(self) -> None:
        """Initialise as the released code does."""
        init_official_(self.unet)

    def forward(self, x: Tensor, t: Tensor,
                context: Tensor | None = None) -> Tensor:
        """Predict.

        Args:
            x: (N, C, H, W), H and W divisible by :attr:`factor`.
            t: (N,) long.
            context: (N, context_channels, H, W), where the network has one.

        Returns:
            (N, C, H, W).

        Raises:
            ConfigError: If the condition is missing or not expected, or the
                size is not divisible.
        """
        given = 0 if context is None else context.shape[1]
        if given != self.context_channels:
            raise ConfigError(
                f'The network was built for a condition of '
                f'{self.context_channels} channels and got {given}: '
                "context_channels is 0 for condition='none', else that of "
                'the condition.')
        if x.shape[-2] % self.factor or x.shape[-1] % self.factor:
            raise ConfigError(
                f'An input of {x.shape[-2]} x {x.shape[-1]} cannot be halved '
                f'to the deepest level: both must be divisible by '
                f'{self.factor}.')
        if context is not None:
            x = torch.cat([x, context.to(x.dtype)], dim=1)
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        return self.unet(x, t, return_dict=False)[0]
