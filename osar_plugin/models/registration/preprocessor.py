"""From a collated batch of pairs to normalised tensors on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from ...registry import MODELS
from ...utils.config_values import require_range
from ...utils.errors import ConfigError, DataFormatError
from .pyramid import MODALITIES

SIDES = ('fixed', 'moving')
SMALLEST = 64
# Values that percentiles are taken of.
SAMPLED = 2**16
CURE = 'End the pipeline in osar_plugin.PackRegistrationInputs.'


@MODELS.register_module()
class RegistrationPreprocessor(BaseDataPreprocessor):
    """Bring both images to 0..1, fill what has no data, pad to one size.

    Bytes are divided by 255. Floats, such as SAR in its own range, are
    divided by ``value_range``, or stretched between percentiles of each
    image. Where there is no data an image gets the mean of what has some,
    so that the border is no edge. Images are padded at the bottom and the
    right, which changes no coordinate.

    Args:
        value_range: What floats are divided by; None stretches each image
            between ``percentiles``.
        percentiles: That become 0 and 1.
        optical_mean: Taken off optical images on 0..1; 3 numbers.
        optical_std: Then divided by.
        sar_mean: The same of SAR images.
        sar_std: The same.
        divisor: Sides are padded to multiples of it.
        fixed: Modality of fixed images whose sample does not say it:
            ``'optical'`` or ``'sar'``; moving ones are taken for the other.
        non_blocking: Copy to the device without waiting.

    Raises:
        ConfigError: If an argument cannot be used.
    """

    def __init__(self,
                 value_range: float | None = None,
                 percentiles: Sequence[float] = (0.5, 99.5),
                 optical_mean: Sequence[float] = (0., 0., 0.),
                 optical_std: Sequence[float] = (1., 1., 1.),
                 sar_mean: float = 0.,
                 sar_std: float = 1.,
                 divisor: int = 32,
                 fixed: str = 'optical',
                 non_blocking: bool = True) -> None:
        super().__init__(non_blocking)
        require_range(0, without=(0, ), value_range=value_range)
        require_range(0, 100, percentiles=list(percentiles))
        require_range(0, 1e6, without=(0, ), sar_std=sar_std,
                      optical_std=list(optical_std))
        require_range(1, 2**12, divisor=divisor)
        if len(percentiles) != 2 or percentiles[0] >= percentiles[1] or (
                len(optical_mean) != 3 or len(optical_std) != 3):
            raise ConfigError(
                f'percentiles={tuple(percentiles)}, optical_mean='
                f'{tuple(optical_mean)}, optical_std={tuple(optical_std)}: '
                'expected (low, high), and three numbers twice.')
        if fixed not in MODALITIES:
            raise ConfigError(
                f"fixed={fixed!r} is neither 'optical' nor 'sar'.")
        self.value_range = value_range
        self.percentiles = [value / 100 for value in percentiles]
        self.divisor = divisor
        first = MODALITIES.index(fixed)
        self.default = dict(fixed=first, moving=1 - first)
        for name, mean, std in (
                ('optical', optical_mean, optical_std),
                ('sar', [sar_mean] * 3, [sar_std] * 3)):
            self.register_buffer(
                f'{name}_numbers', torch.tensor([list(mean), list(std)])[
                    :, :, None, None], persistent=False)

    def forward(self, data: dict[str, Any],
                training: bool = False) -> dict[str, Any]:
        """Prepare one batch.

        Args:
            data: ``inputs``: ``fixed`` and ``moving``, each (B, C, H, W) or
                a list of (C, H, W), uint8 or floats, C 1 or 3.
                ``data_samples``: B samples, with ``fixed_valid`` and
                ``moving_valid`` (H, W) where they are known, and the
                modalities as meta information.
            training: Not used; the pipeline has augmented already.

        Returns:
            ``inputs``: ``fixed``, ``moving`` (B, 3, H, W) float32;
            ``fixed_valid``, ``moving_valid`` (B, 1, H, W) bool;
            ``modalities``, those of fixed and of moving; ``sizes``, (H, W)
            of each fixed image; ``data_samples``.

        Raises:
            DataFormatError: If the batch was not packed, holds NaN, or
                mixes modalities on a side.
        """
        inputs = data.get('inputs') if isinstance(data, Mapping) else None
        if not isinstance(inputs, Mapping) or not set(SIDES) <= set(inputs):
            found = sorted(inputs) if isinstance(inputs, Mapping) else ''
            raise DataFormatError(
                f'A batch without fixed and moving images '
                f'({type(inputs).__name__} {found}). {CURE}')
        samples = data.get('data_samples')
        images = {side: list(inputs[side]) for side in SIDES}
        count = {len(v) for v in images.values()}
        if samples is not None:
            count.add(len(samples))
        if len(count) != 1 or count == {0}:
            raise DataFormatError(
                f'A batch of {len(images["fixed"])} fixed and '
                f'{len(images["moving"])} moving images and '
                f'{"no" if samples is None else len(samples)} samples: '
                f'expected as many of each. {CURE}')
        modalities = tuple(self._modality(samples, side) for side in SIDES)
        sizes = [tuple(x.shape[-2:]) for x in images['fixed']]
        shape = self._shape([x for v in images.values() for x in v])
        out: dict[str, Any] = dict(modalities=modalities, sizes=sizes)
        for side, modality in zip(SIDES, modalities, strict=True):
            made = [self._prepare(image, _mask(samples, i, side), shape,
                                  modality, side)
                    for i, image in enumerate(images[side])]
            out[side] = torch.stack([image for image, _ in made])
            out[f'{side}_valid'] = torch.stack([mask for _, mask in made])
        return dict(inputs=out, data_samples=samples)

    def _modality(self, samples: Any, side: str) -> int:
        found = {sample.get(f'{side}_modality', self.default[side])
                 for sample in samples or ()} or {self.default[side]}
        if len(found) != 1 or not found <= {0, 1}:
            raise DataFormatError(
                f'The {side} images of a batch have the modalities '
                f'{sorted(map(str, found))}: expected one for all, 0 '
                '(optical) or 1 (SAR). Sort the data set by it.')
        return int(found.pop())

    def _shape(self, images: Sequence[Tensor]) -> tuple[int, int]:
        """One size for all, a multiple of the divisor."""
        for image in images:
            if image.ndim != 3 or image.shape[0] not in (1, 3) or (
                    0 in image.shape):
                raise DataFormatError(
                    f'An image of {tuple(image.shape)}; expected (1 or 3, '
                    f'H, W). {CURE}')
        height, width = (
            -(-max(SMALLEST, *(image.shape[axis] for image in images))
              // self.divisor) * self.divisor for axis in (1, 2))
        return height, width

    def _prepare(self, image: Tensor, mask: Tensor | None,
                 shape: tuple[int, int], modality: int,
                 side: str) -> tuple[Tensor, Tensor]:
        """(3, H, W) normalised and (1, H, W) bool."""
        x = image.to(self.device, non_blocking=self._non_blocking)
        size = x.shape[-2:]
        valid = torch.ones(size, dtype=torch.bool, device=x.device)
        if mask is not None:
            if mask.shape != size:
                raise DataFormatError(
                    f'{side}_valid has {tuple(mask.shape)}, its image '
                    f'{tuple(size)}: they must be alike.')
            valid = mask.to(x.device).bool()
        x = self._unit_scale(x, valid, side)
        mean, std = getattr(self, f'{MODALITIES[modality]}_numbers')
        x = (x - mean) / std  # one channel becomes three
        share = valid.sum().clamp(min=1)
        fill = torch.where(valid, x, 0).sum((1, 2)) / share
        x = torch.where(valid, x, fill[:, None, None])
        room = (0, shape[1] - size[1], 0, shape[0] - size[0])
        valid = F.pad(valid, room)
        padded = F.pad(x, room)
        return torch.where(
            _inside(size, shape, x.device), padded,
            fill[:, None, None]), valid[None]

    def _unit_scale(self, x: Tensor, valid: Tensor, side: str) -> Tensor:
        if x.dtype == torch.uint8:
            return x.float() / 255
        if not x.is_floating_point():
            raise DataFormatError(
                f'The {side} image is {x.dtype}: expected uint8 or floats.')
        x = x.float()
        known = x[:, valid]
        if not bool(known.isfinite().all()):
            raise DataFormatError(
                f'The {side} image holds NaN or infinity: fill them, or '
                f'leave them out with {side}_valid.')
        x = torch.where(valid, x, 0)
        if self.value_range is not None:
            return x / self.value_range
        if not known.numel():
            return x
        some = known.flatten()[::max(1, known.numel() // SAMPLED)]
        low, high = some.quantile(some.new_tensor(self.percentiles))
        # Of a flat image nothing can be stretched.
        return ((x - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)


def _inside(size: Any, shape: tuple[int, int],
            device: torch.device) -> Tensor:
    return F.pad(torch.ones(tuple(size), dtype=torch.bool, device=device),
                 (0, shape[1] - size[1], 0, shape[0] - size[0]))


def _mask(samples: Any, index: int, side: str) -> Tensor | None:
    if samples is None:
        return None
    found: Tensor | None = samples[index].get(f'{side}_valid', None)
    return found
