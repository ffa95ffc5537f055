"""Codecs between images and the latent space of the bridge.

Letters: N items, C latent channels, K codes, F factor between the sizes of
image and latent, H W height and width of the latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from ...compat import require
from ...registry import MODELS
from ...utils.checkpoint import LoadReport, adapt_on_load
from ...utils.config_values import require_range
from ...utils.errors import ConfigError
from ..precision import full_precision
from .official import adapt_codec, load_codec, pretrained_file

GROUPS = 32
# Distances to all codes are held for this many positions at a time.
ROWS = 4096


@full_precision
def nearest_codes(z: Tensor, codes: Tensor) -> Tensor:
    """Index of the nearest code of each position.

    Args:
        z: (N, C, H, W).
        codes: (K, C).

    Returns:
        (N, H, W) long.
    """
    # |z - e|^2 less |z|^2, which is the same for all codes.
    offset = codes.square().sum(dim=1)
    index = torch.cat([
        torch.addmm(offset, rows, codes.T, alpha=-2).argmin(dim=1)
        for rows in z.permute(0, 2, 3, 1).flatten(0, 2).split(ROWS)])
    return index.view(z.shape[0], *z.shape[2:])


def check_divisible(images: Tensor, factor: int) -> None:
    """Refuse images (N, C, H, W) whose sides ``factor`` does not divide."""
    if images.shape[-2] % factor or images.shape[-1] % factor:
        raise ConfigError(
            f'Images of {images.shape[-2]} x {images.shape[-1]} cannot be '
            f'encoded: both sides must be divisible by {factor}.')


@MODELS.register_module()
class VQCodec(BaseModule):
    """VQ autoencoder of latent diffusion (``diffusers`` inside).

    Published variants, all with 128 channels and 2 residual blocks:

    ======= ============ =============== ====== =======
    variant channel_mult latent_channels codes  attends
    ======= ============ =============== ====== =======
    f4      1 2 4        3               8192
    f8      1 2 2 4      4               16384  8
    f16     1 1 2 2 4    8               16384  16
    ======= ============ =============== ====== =======

    The bridge lives between the encoder and the quantiser: encoding gives
    continuous latents, decoding quantises them first. The codec is not
    trained here: it stays in evaluation mode and takes no gradient.

    Args:
        channels: Channels of the first level.
        channel_mult: Factor of each level on that; F is 2 to the power of
            the number of levels less one.
        num_res_blocks: Residual blocks of a level.
        latent_channels: C.
        codes: K.
        attention_factors: Levels with attention beside the middle, named by
            how many times smaller they are than the image.
        before_quant_conv: Take latents in front of the 1 x 1 convolution
            that precedes the quantiser (official
            ``latent_before_quant_conv``).
        init_cfg: ``dict(type='Pretrained', checkpoint=FILE)`` reads a
            latent-diffusion file or one of ours; with ``optional=True`` a
            missing file is a warning.

    Raises:
        ConfigError: If channels do not divide into groups.
        MissingDependencyError: If diffusers is not installed.
    """

    load_report: LoadReport | None = None

    def __init__(self,
                 channels: int = 128,
                 channel_mult: Sequence[int] = (1, 2, 4),
                 num_res_blocks: int = 2,
                 latent_channels: int = 3,
                 codes: int = 8192,
                 attention_factors: Sequence[int] = (),
                 before_quant_conv: bool = False,
                 init_cfg: dict[str, Any] | None = None) -> None:
        super().__init__(init_cfg)
        widths = [channels * factor for factor in channel_mult]
        if not widths or any(w <= 0 or w % GROUPS for w in widths):
            raise ConfigError(
                f'channels={channels} times channel_mult='
                f'{tuple(channel_mult)}: every level needs a multiple of '
                f'{GROUPS} channels (the groups of its norms), got {widths}.')
        attends = [2**level in attention_factors
                   for level in range(len(widths))]
        diffusers = require(
            'diffusers.models.autoencoders.vq_model', 'translation')
        self.vq: Any = diffusers.VQModel(
            block_out_channels=tuple(widths),
            layers_per_block=num_res_blocks,
            latent_channels=latent_channels,
            vq_embed_dim=latent_channels,
            num_vq_embeddings=codes,
            down_block_types=tuple(
                'AttnDownEncoderBlock2D' if a else 'DownEncoderBlock2D'
                for a in attends),
            up_block_types=tuple(
                'AttnUpDecoderBlock2D' if a else 'UpDecoderBlock2D'
                for a in reversed(attends)))
        self.latent_channels = latent_channels
        self.before_quant_conv = before_quant_conv
        self.requires_grad_(False)
        super().train(False)
        adapt_on_load(self, adapt_codec)

    @property
    def factor(self) -> int:
        """F."""
        return 2**(len(self.vq.config.block_out_channels) - 1)

    def init_weights(self) -> None:
        """Read the file that ``init_cfg`` names."""
        path = pretrained_file(self.init_cfg, 'model.codec')
        if path is not None:
            load_codec(self, path)
        self._is_init = True

    def train(self, mode: bool = True) -> VQCodec:
        """Stay in evaluation mode, whatever the model around does."""
        return super().train(False)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """(N, 3, F H, F W) in -1..1 to latents (N, C, H, W).

        Raises:
            ConfigError: If the size is not divisible by F.
        """
        check_divisible(images, self.factor)
        if self.before_quant_conv:
            return self.vq.encoder(images)
        return self.vq.encode(images).latents

    @torch.no_grad()
    def quantize(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest code of each position and its index (N, H, W)."""
        codes = self.vq.quantize.embedding.weight
        index = nearest_codes(latents, codes)
        return codes[index].permute(0, 3, 1, 2), index

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (N, C, H, W) to images (N, 3, F H, F W), about -1..1."""
        if self.before_quant_conv:
            latents = self.vq.quant_conv(latents)
        quantized, _ = self.quantize(latents)
        return self.vq.decode(
            quantized.to(latents.dtype), force_not_quantize=True).sample


@MODELS.register_module()
class SpaceToDepthCodec(BaseModule):
    """Blocks of F x F pixels as channels: a lossless latent without weights.

    Not published for the bridge, whose mathematics it leaves alone: each
    value keeps its own noise. A network on a quarter of the positions with
    four times the channels costs a fraction of one on pixels, which is what
    a CPU needs; needs no pre-trained file.

    Args:
        factor: F.
        channels: Channels of the images.

    Raises:
        ConfigError: If an argument is below 1.
    """

    def __init__(self, factor: int = 2, channels: int = 3) -> None:
        super().__init__()
        require_range(1, factor=factor, channels=channels)
        self.factor = factor
        self.latent_channels = channels * factor**2

    def encode(self, images: Tensor) -> Tensor:
        """(N, c, F H, F W) to (N, c F^2, H, W).

        Raises:
            ConfigError: If the size is not divisible by F.
        """
        check_divisible(images, self.factor)
        return F.pixel_unshuffle(images, self.factor)

    def decode(self, latents: Tensor) -> Tensor:
        """(N, c F^2, H, W) to (N, c, F H, F W)."""
        return F.pixel_shuffle(latents, self.factor)
