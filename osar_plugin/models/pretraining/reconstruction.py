"""Self reconstruction: each image from its own visible units.

Letters: B pairs, C channels, H W height and width, L units, N visible, M
masked, D channels of the decoder, V = 256 C values of a unit.
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor

from ...registry import MODELS
from ...utils.config_values import Buildable
from ...utils.errors import ConfigError
from ..backbones.hierarchical import UNIT, gather_units
from ..backbones.trunk import MODALITIES
from ..precision import full_precision
from .decoder import decode_pair, decoder_set
from .targets import describe, normalize_patches, patchify, target_channels


@full_precision
def masked_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error, a scalar.

    All images have the same number of masked units, so that the mean over
    them is the official ``sum(mask * error) / sum(mask)``.

    Args:
        prediction: (B, M, V), of masked units only.
        target: Likewise.
    """
    return (prediction - target).square().mean()


@MODELS.register_module()
class SelfReconstruction(BaseModule):
    """Predict the masked units of the image that was seen (MAE).

    Args:
        decoder: Config of a :class:`~.decoder.MaskedDecoder`; CoDeMAE gives
            its own where there is none.
        target: ``'pixel'`` (published), ``'hog'`` or ``'mgf'``.
        reduction: See :func:`~.targets.reduce_image`; ``'none'`` as
            published.
        norm_target: Normalise each patch of the target.
        share: One decoder for both sensors (published), or one each;
            CoDeMAE gives its own where there is none.

    Raises:
        ConfigError: If there is no decoder, or a name is not known.
    """

    # Which image the prediction of each half is held against.
    swap = False

    def __init__(self,
                 decoder: Buildable | None = None,
                 target: str = 'pixel',
                 reduction: str = 'none',
                 norm_target: bool = True,
                 share: bool = True) -> None:
        super().__init__()
        if decoder is None:
            raise ConfigError(
                f'{type(self).__name__} needs a decoder: a config of '
                'osar_plugin.MaskedDecoder.')
        self.target = target
        self.reduction = reduction
        self.norm_target = norm_target
        channels = target_channels(target, reduction)
        self.decoders = decoder_set(decoder, channels * UNIT**2, share)

    def forward(self, visible: Tensor, keep: Tensor, masked: Tensor,
                images: dict[str, Tensor]) -> Tensor:
        """Loss of a batch of pairs, a scalar.

        Args:
            visible: (2 B, N, D), embedded tokens of ``[optical; SAR]``.
            keep: (2 B, N) int64, the units that they are.
            masked: (2 B, M) int64, the others.
            images: ``rgb`` and ``sar`` (B, 3, H, W), normalised; ``rgb01``
                and ``sar01`` on the scale 0..1 where the target needs them.
        """
        goal = self.targets(images, masked)
        prediction = self.predict(visible, keep, masked)
        return masked_error(prediction, goal)

    def predict(self, visible: Tensor, keep: Tensor,
                wanted: Tensor | None = None) -> Tensor:
        """Predicted units (2 B, M, V), all L of them by default."""
        return decode_pair(self.decoders, visible, keep, wanted)

    @torch.no_grad()
    def targets(self, images: dict[str, Tensor],
                wanted: Tensor | None = None) -> Tensor:
        """What :meth:`predict` is held against, of the same shape."""
        order = MODALITIES[::-1] if self.swap else MODALITIES
        patches = torch.cat([
            patchify(describe(self.target, self.reduction, images[name],
                              images.get(f'{name}01'), name))
            for name in order])
        if wanted is not None:
            patches = gather_units(patches, wanted)
        return normalize_patches(patches) if self.norm_target else patches

    def check(self, images: dict[str, Tensor]) -> None:
        """Refuse images that do not suit the decoders."""
        for decoder in self.decoders.values():
            part: Any = decoder
            for name in MODALITIES:
                part.check_images(images[name])
