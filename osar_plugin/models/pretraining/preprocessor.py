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
from ..backbones.trunk import MODALITIES, check_word

# Metainfo of a sample, and the channels behind it.
MEANS = (('rgb_mean', 3), ('sar_mean', 1))
STDS = (('rgb_std', 3), ('sar_std', 1))
CURE = 'End the pipeline in osar_plugin.PackPretrainInputs.'


@MODELS.register_module()
class PairPretrainPreprocessor(BaseDataPreprocessor):
    """Scale pairs to 0..1 and normalise each with its source's statistics.

    Bytes travel, SAR as one channel. On the device, optical and SAR images
    become float32; normalised SAR has three equal channels without taking
    their memory.

    Args:
        statistics: ``'sample'``: of the source, as each sample has them
            (CoDe-MAE); ``'fixed'``: the numbers below for all; ``'none'``:
            the images stay on the scale 0..1 (SARATR-X).
        mean: Red, green, blue, SAR, for ``'fixed'``; on the scale 0..1.
        std: Likewise.
        non_blocking: Copy to the device without waiting.

    Raises:
        ConfigError: If the arguments cannot be used.
    """

    def __init__(self,
                 statistics: str = 'sample',
                 mean: Sequence[float] | None = None,
                 std: Sequence[float] | None = None,
                 non_blocking: bool = True) -> None:
        super().__init__(non_blocking)
        check_word('statistics', statistics, ('sample', 'fixed', 'none'))
        self.statistics = statistics
        given = mean is not None and std is not None
        if (statistics == 'fixed') != given:
            raise ConfigError(
                f'statistics={statistics!r} with mean={mean} and std={std}: '
                "both belong to 'fixed', and to nothing else.")
        if mean is not None and std is not None:
            require_range(-1e6, 1e6, mean=mean)
            require_range(0, 1e6, without=(0, ), std=std)
            if len(mean) != 4 or len(std) != 4:
                raise ConfigError(
                    f'mean={tuple(mean)} and std={tuple(std)} need four '
                    'numbers each: red, green, blue, SAR.')
            self.register_buffer(
                'fixed', torch.tensor([*mean, *std]).view(1, 8),
                persistent=False)

    def forward(self, data: dict[str, Any],
                training: bool = False) -> dict[str, Any]:
        """Prepare one batch.

        Args:
            data: ``inputs``: ``rgb`` (B, 3, H, W) and ``sar`` (B, 1 or 3, H,
                W) uint8, or lists of such images; ``teacher`` (B, L, D)
                where there is one. ``data_samples``: B samples.
            training: Not used; the pipeline has augmented already.

        Returns:
            ``inputs``: ``rgb`` and ``sar`` (B, 3, H, W) float32 normalised,
            ``rgb01`` and ``sar01`` the same on the scale 0..1 (SAR with its
            own channels), and the rest as it was; ``data_samples``.

        Raises:
            DataFormatError: If the batch was not packed, or statistics are
                missing.
        """
        inputs = data.get('inputs') if isinstance(data, Mapping) else None
        if not isinstance(inputs, Mapping) or not set(MODALITIES) <= set(
                inputs):
            found = sorted(inputs) if isinstance(inputs, Mapping) else inputs
            raise DataFormatError(
                f'A batch without rgb and sar images ({type(found).__name__} '
                f'{found if isinstance(found, list) else ""}). {CURE}')
        samples = data.get('data_samples')
        out: dict[str, Any] = {
            key: self._to_device(value, key) for key, value in inputs.items()}
        mean, std = self._numbers(samples, len(out['rgb']))
        for name, rows in (('rgb', slice(0, 3)), ('sar', slice(3, 4))):
            raw = _unit_scale(out[name], name)
            image = raw
            if mean is not None and std is not None:
                # Official order: (x / 255 - mean) / std.
                image = (raw - mean[:, rows]).div_(std[:, rows])
            out[f'{name}01'] = raw
            out[name] = image.expand(-1, 3, -1, -1)
        return dict(inputs=out, data_samples=samples)

    def _to_device(self, value: Any, key: str) -> Tensor:
        if not isinstance(value, Tensor):
            shapes = {tuple(image.shape) for image in value}
            if len(shapes) != 1:
                raise DataFormatError(
                    f'The {key} images of a batch have different shapes: '
                    f'{sorted(shapes)}. Crop them to one size in the '
                    'pipeline (osar_plugin.PairRandomResizedCrop).')
            value = torch.stack(list(value))
        return value.to(self.device, non_blocking=self._non_blocking)

    def _numbers(self, samples: Any,
                 batch: int) -> tuple[Tensor | None, Tensor | None]:
        """Mean and deviation (B or 1, 4, 1, 1), or nothing."""
        if self.statistics == 'none':
            return None, None
        if self.statistics == 'fixed':
            table: Tensor = self.fixed  # type: ignore[assignment]
        else:
            rows = [_of_sample(sample) for sample in samples or ()]
            if len(rows) != batch:
                raise DataFormatError(
                    f'{batch} images and {len(rows)} data samples: each '
                    f'image needs the statistics of its source. {CURE}')
            # One small copy for the whole batch.
            table = torch.tensor(rows).to(
                self.device, non_blocking=self._non_blocking)
        mean, std = table[..., None, None].chunk(2, dim=1)
        return mean, std


def _of_sample(sample: Any) -> list[float]:
    """Mean and deviation of red, green, blue, SAR: 8 numbers."""
    numbers: list[float] = []
    for key, count in (*MEANS, *STDS):
        values = getattr(sample, key, None)
        if values is None or len(values) != count:
            raise DataFormatError(
                f'A data sample has {key}={values!r}, expected {count} '
                f'number(s) on the scale 0..1. {CURE}')
        numbers += values
    if not all(value > 0 for value in numbers[4:]):
        raise DataFormatError(
            f'A data sample has the deviations {numbers[4:]}: all must be '
            'above 0. Compute the statistics of its source again '
            '(tools/prepare_data/check_pairs.py).')
    return numbers


def _unit_scale(images: Tensor, name: str) -> Tensor:
    """Bytes (B, C, H, W) to float32 on the scale 0..1."""
    channels = (3, ) if name == 'rgb' else (1, 3)
    if (images.ndim != 4 or images.shape[1] not in channels
            or images.dtype != torch.uint8):
        raise DataFormatError(
            f'inputs.{name} is {tuple(images.shape)} {images.dtype}, '
            f'expected (B, {" or ".join(map(str, channels))}, H, W) uint8. '
            f'{CURE}')
    return images.float().div_(255)
