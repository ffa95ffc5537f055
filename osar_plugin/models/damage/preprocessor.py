"""From a collated batch of pairs to normalised tensors on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from ...registry import MODELS
from ...utils.config_values import require_range
from ...utils.errors import ConfigError, DataFormatError

SIDES = ('pre', 'post')
# Of BRIGHT's training images, 0..255 (official code of CoDe-MAE).
PRE_MEAN, PRE_STD = (88.76, 85.20, 76.74), (67.49, 58.56, 54.09)
POST_MEAN, POST_STD = (56.29, ), (45.01, )
CURE = 'End the pipeline in osar_plugin.PackDamageInputs.'


@MODELS.register_module()
class DamagePreprocessor(BaseDataPreprocessor):
    """Stack, normalise, and give the SAR image three channels.

    Args:
        pre_mean: Of the optical image, 0..255; three numbers.
        pre_std: The same, divided by.
        post_mean: Of the SAR image, 0..255; one number, or three where its
            equal channels are normalised differently (official BRIGHT).
        post_std: The same.
        non_blocking: Copy to the device without waiting.

    Raises:
        ConfigError: If an argument cannot be used.
    """

    def __init__(self,
                 pre_mean: Sequence[float] = PRE_MEAN,
                 pre_std: Sequence[float] = PRE_STD,
                 post_mean: Sequence[float] = POST_MEAN,
                 post_std: Sequence[float] = POST_STD,
                 non_blocking: bool = True) -> None:
        super().__init__(non_blocking)
        require_range(0, 1e6, pre_mean=list(pre_mean),
                      post_mean=list(post_mean))
        require_range(0, 1e6, without=(0, ), pre_std=list(pre_std),
                      post_std=list(post_std))
        for name, values, counts in (
                ('pre_mean', pre_mean, (3, )), ('pre_std', pre_std, (3, )),
                ('post_mean', post_mean, (1, 3)),
                ('post_std', post_std, (1, 3))):
            if len(values) not in counts:
                raise ConfigError(
                    f'{name}={tuple(values)}: expected '
                    f'{" or ".join(map(str, counts))} numbers.')
            self.register_buffer(
                name, torch.tensor(list(values), dtype=torch.float32)[
                    :, None, None], persistent=False)

    def forward(self, data: dict[str, Any],
                training: bool = False) -> dict[str, Any]:
        """Prepare one batch.

        Args:
            data: ``inputs``: ``pre``, (B, 3, H, W) or a list of (3, H, W),
                and ``post``, the same with 1 channel, uint8.
                ``data_samples``: B samples.
            training: Not used; the pipeline has augmented already.

        Returns:
            ``inputs``: ``pre`` and ``post`` (B, 3, H, W) float32;
            ``data_samples`` as they were.

        Raises:
            DataFormatError: If the batch was not packed, or its images are
                of different sizes.
        """
        inputs = data.get('inputs') if isinstance(data, Mapping) else None
        if not isinstance(inputs, Mapping) or set(inputs) != set(SIDES):
            found = sorted(inputs) if isinstance(inputs, Mapping) else ''
            raise DataFormatError(
                f'A batch without pre and post images '
                f'({type(inputs).__name__} {found}). {CURE}')
        images = {
            side: self._stack(inputs[side], side, channels)
            for side, channels in (('pre', 3), ('post', 1))}
        if images['pre'].shape[::2] != images['post'].shape[::2] or (
                images['pre'].shape[3] != images['post'].shape[3]):
            raise DataFormatError(
                f'pre images of {tuple(images["pre"].shape)} and post images '
                f'of {tuple(images["post"].shape)}: they must show the same '
                f'pixels. {CURE}')
        out = {
            side: ((image.float() - getattr(self, f'{side}_mean'))
                   / getattr(self, f'{side}_std')).expand(-1, 3, -1, -1)
            for side, image in images.items()}
        return dict(inputs=out, data_samples=data.get('data_samples'))

    def _stack(self, images: Any, side: str, channels: int) -> Tensor:
        shapes = {tuple(image.shape) for image in images}
        first = next(iter(shapes), ())
        if len(shapes) != 1 or len(first) != 3 or first[0] != channels or (
                0 in first):
            raise DataFormatError(
                f'{side} images of {sorted(shapes)}: expected one size '
                f'({channels}, H, W) for a batch. Crop them, or evaluate '
                f'with batch_size=1. {CURE}')
        if any(image.dtype != torch.uint8 for image in images):
            raise DataFormatError(
                f'{side} images of '
                f'{sorted({str(x.dtype) for x in images})}: expected '
                f'uint8. {CURE}')
        stacked = images if isinstance(images, Tensor) else torch.stack(
            list(images))
        return stacked.to(self.device, non_blocking=self._non_blocking)
