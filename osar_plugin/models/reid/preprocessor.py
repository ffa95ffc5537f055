"""From a collated batch to normalised tensors on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from ...registry import MODELS
from ...utils.config_values import require_range
from ...utils.errors import ConfigError, DataFormatError


@MODELS.register_module()
class ReIDDataPreprocessor(BaseDataPreprocessor):
    """Stack chips, move them to the device and normalise them there.

    Bytes travel, not floats. The arithmetic is torchvision's,
    ``(x / 255 - mean) / std``, in this order, to the last bit. The data
    samples stay on the host: the model moves what it needs in one piece.

    Args:
        mean: Per channel, on the scale 0..1.
        std: Per channel, on the scale 0..1.
        non_blocking: Copy to the device without waiting.

    Raises:
        ConfigError: If the numbers cannot be used.
    """

    def __init__(self,
                 mean: Sequence[float] = (0.485, 0.456, 0.406),
                 std: Sequence[float] = (0.229, 0.224, 0.225),
                 non_blocking: bool = True) -> None:
        super().__init__(non_blocking)
        require_range(0, 1e6, without=(0, ), std=std)
        require_range(-1e6, 1e6, mean=mean)
        if len(mean) != len(std) or not mean:
            raise ConfigError(
                f'mean={tuple(mean)} and std={tuple(std)} need a number for '
                'each channel.')
        self.register_buffer(
            'mean', torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer(
            'std', torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, data: dict[str, Any],
                training: bool = False) -> dict[str, Any]:
        """Prepare one batch.

        Args:
            data: ``inputs``: list of (C, H, W) or a (B, C, H, W) tensor,
                uint8 or float on the scale 0..255, or a dict of such;
                ``data_samples``: list of samples.
            training: Not used; the pipeline has augmented already.

        Returns:
            The same dict, inputs (B, C, H, W) float32.

        Raises:
            DataFormatError: If the batch was not packed.
        """
        if not isinstance(data, Mapping) or 'inputs' not in data:
            found = sorted(data) if isinstance(data, Mapping) else type(data)
            raise DataFormatError(
                f"A batch has no 'inputs', only {found}: the pipeline of its "
                'data set does not end in osar_plugin.PackReIDInputs or '
                'PackPairInputs. Add it.')
        inputs = data['inputs']
        if isinstance(inputs, dict):
            prepared: Any = {k: self._prepare(v) for k, v in inputs.items()}
        else:
            prepared = self._prepare(inputs)
        return dict(inputs=prepared, data_samples=data.get('data_samples'))

    def _prepare(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        if not isinstance(images, Tensor):
            shapes = {tuple(image.shape) for image in images}
            if len(shapes) != 1:
                raise DataFormatError(
                    f'A batch holds images of different shapes: '
                    f'{sorted(shapes)}. Resize them in the pipeline '
                    '(osar_plugin.PillowResize).')
            # A list may mix uint8 and the float32 of erased images.
            if len({image.dtype for image in images}) > 1:
                images = [image.float() for image in images]
            images = torch.stack(list(images))
        images = images.to(self.device, non_blocking=self._non_blocking)
        # The first operation makes a copy: the caller's tensor stays.
        return images.float().div(255).sub_(self.mean).div_(self.std)
