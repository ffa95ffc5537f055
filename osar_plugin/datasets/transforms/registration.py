"""Pairs for registration: loading, perturbation, SAR appearance, packing.

::

    LoadRegistrationPair  fixed, moving and where they have data
    [RandomPairView, RandomTone: :mod:`.registration_views`]
    SARAppearance         speckle, contrast, blur: the SAR image only
    RandomPairWarp        moving perturbed; truth as flow (and matrix)
    PackRegistrationInputs

or, for the pairs of a protocol, ``LoadProtocolPair`` in place of the first
three. Conventions in :mod:`osar_plugin.utils.geometry`: the flow is defined
on the grid of the fixed image, moving(x + f(x)) = fixed(x).

Legend: H W height and width in pixels, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import BaseDataElement

from osar_plugin.io import read_optical, read_sar
from osar_plugin.registry import TRANSFORMS
from osar_plugin.utils.config_values import require_range
from osar_plugin.utils.errors import ConfigError, DataFormatError
from osar_plugin.utils.geometry import inside

from ..perturbation import draw, warp_range
from ..registration_protocol import render, resize
from .loading import OPTICAL, SAR, require_key
from .packing import to_tensor

SIDES = ('fixed', 'moving')
META_KEYS = ('pair_name', 'fixed_path', 'moving_path', 'fixed_modality',
             'moving_modality', 'perturbation', 'sample_idx')


@TRANSFORMS.register_module()
class LoadRegistrationPair(BaseTransform):
    """Read both images of a registered pair.

    Required keys: ``fixed_path``, ``moving_path``, ``fixed_modality``,
    ``moving_modality`` (0 optical, 1 SAR).

    Set keys: ``fixed`` and ``moving``, optical (H, W, 3) uint8, SAR (H, W)
    float32, of one size; ``fixed_valid`` and ``moving_valid``, (H, W) bool.

    Args:
        size: (H, W) that both are brought to; default: that of the fixed
            image, which the moving one must have, too.
        nodata: Value that stands for no data; None if there is none. A
            pixel is without data where all its channels have it.
        nonfinite: NaN and infinity in SAR: ``'raise'`` or ``'zero'``.
    """

    def __init__(self, size: Sequence[int] | None = None,
                 nodata: float | None = None,
                 nonfinite: str = 'raise') -> None:
        if size is not None:
            if len(size) != 2:
                raise ConfigError(f'size={size!r} must be (height, width).')
            require_range(16, height=size[0], width=size[1])
        if nonfinite not in ('raise', 'zero'):
            raise ConfigError(
                f'nonfinite={nonfinite!r} is not known: use "raise" or '
                '"zero".')
        self.size = None if size is None else (int(size[0]), int(size[1]))
        self.nodata, self.nonfinite = nodata, nonfinite

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Read the files."""
        images = {}
        for side in SIDES:
            path = require_key(results, f'{side}_path', self)
            modality = require_key(results, f'{side}_modality', self)
            if modality not in (OPTICAL, SAR):
                raise DataFormatError(
                    f'{path}: modality {modality!r} is neither 0 (optical) '
                    'nor 1 (SAR).')
            images[side] = read_sar(path, self.nonfinite) \
                if modality == SAR else read_optical(path)
        size = self.size or images['fixed'].shape[:2]
        if self.size is None and images['moving'].shape[:2] != size:
            raise DataFormatError(
                f'{results["moving_path"]} has '
                f'{images["moving"].shape[:2]} pixels, '
                f'{results["fixed_path"]} {size}: registered pairs have '
                'one size. Set size in LoadRegistrationPair to resize both.')
        for side, image in images.items():
            valid = np.ones(image.shape[:2], bool)
            if self.nodata is not None:
                same = image == self.nodata
                valid = ~(same.all(2) if same.ndim == 3 else same)
            results[side] = resize(image, size)
            results[f'{side}_valid'] = resize(
                valid.astype(np.float32), size) > 0.999
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(size={self.size}, '
                f'nodata={self.nodata}, nonfinite={self.nonfinite!r})')


@TRANSFORMS.register_module()
class RandomPairWarp(BaseTransform):
    """Take the moving image off the fixed one by a drawn perturbation.

    Affine, homography and elastic, see :mod:`~osar_plugin.datasets.
    perturbation`. What comes from outside of the image is 0 and marked.

    Required keys: ``fixed``, ``moving``, ``fixed_valid``,
    ``moving_valid``. Changed: ``moving``, ``moving_valid``. Set:
    ``gt_flow`` (2, H, W) float32; ``gt_affine`` (2, 3) float64 if it is one;
    ``gt_valid`` (H, W) bool, pixels whose ground both images show;
    ``perturbation``, the drawn numbers.

    Args:
        ranges: Name of a preset or a dict, see
            :func:`~osar_plugin.datasets.perturbation.warp_range`.
        seed: Fixes the perturbation of each ``sample_idx`` for all epochs,
            as a validation set needs it; None draws anew every time.
    """

    def __init__(self, ranges: str | Mapping[str, Any] = 'soma_main',
                 seed: int | None = None) -> None:
        self.ranges = warp_range(ranges)
        if seed is not None:
            require_range(0, 2**32 - 1, seed=seed)
        self.seed = seed

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Draw and apply."""
        fixed = require_key(results, 'fixed', self)
        moving = require_key(results, 'moving', self)
        size = (moving.shape[0], moving.shape[1])
        if fixed.shape[:2] != size:
            raise DataFormatError(
                f'The fixed image has {fixed.shape[:2]} pixels, the moving '
                f'one {size}: before it is perturbed they must be alike.')
        rng: Any = np.random
        if self.seed is not None:
            index = int(require_key(results, 'sample_idx', self))
            rng = np.random.RandomState(np.random.SeedSequence(
                [self.seed, index]).generate_state(4))
        made = draw(size, self.ranges, rng)
        before = require_key(results, 'moving_valid', self)
        results['moving'] = made.apply(moving)
        results['moving_valid'] = made.apply(
            before.astype(np.float32)) > 0.999
        flow = made.flow()
        results['gt_flow'] = flow.astype(np.float32)
        if not made.control and not made.corners:
            results['gt_affine'] = made.matrix
        results['gt_valid'] = (
            require_key(results, 'fixed_valid', self) & before
            & inside(flow, size))
        results['perturbation'] = made.to_dict()
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(ranges={self.ranges}, '
                f'seed={self.seed})')


@TRANSFORMS.register_module()
class SARAppearance(BaseTransform):
    """Vary how the SAR image of a pair looks, not where anything lies.

    In this order, each with its probability: multiplied speckle (gamma
    distributed intensity of a number of looks; its root for amplitudes),
    a power and a factor on the grey values, Gaussian blur.

    Changed key: ``fixed`` or ``moving``, whichever is SAR, (H, W) float32
    within the range it had.

    Args:
        prob: Probability of each of the three.
        looks: Range of the number of looks.
        gamma: Range of the power; drawn evenly in its logarithm.
        gain: Range of the factor, the same.
        blur: Largest sigma in pixels.
    """

    def __init__(self, prob: float = 0.5,
                 looks: Sequence[float] = (1., 8.),
                 gamma: Sequence[float] = (0.6, 1.6),
                 gain: Sequence[float] = (0.7, 1.4),
                 blur: float = 1.2) -> None:
        require_range(0, 1, prob=prob)
        for name, pair in (('looks', looks), ('gamma', gamma),
                           ('gain', gain)):
            if len(pair) != 2 or not 0 < pair[0] <= pair[1]:
                raise ConfigError(
                    f'{name}={pair!r} must be (low, high) with '
                    '0 < low <= high.')
        require_range(0, blur=blur)
        self.prob, self.blur = prob, blur
        self.looks, self.gamma, self.gain = looks, gamma, gain

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change the SAR side, or sides."""
        for side in SIDES:
            if require_key(results, f'{side}_modality', self) == SAR:
                results[side] = self._vary(
                    require_key(results, side, self).astype(np.float32))
        return results

    def _vary(self, image: np.ndarray) -> np.ndarray:
        low, high = float(image.min()), float(image.max())
        if high <= low:
            return image
        if low < 0:
            raise DataFormatError(
                f'SARAppearance found values from {low:g} to {high:g}; '
                'amplitudes of at least 0 are expected. Convert decibels to '
                'amplitude first.')
        image = image / high
        if np.random.random() < self.prob:
            looks = np.random.uniform(self.looks[0], self.looks[1])
            image = image * np.sqrt(np.random.gamma(
                looks, 1 / looks, image.shape)).astype(np.float32)
        if np.random.random() < self.prob:
            power, gain = (
                math.exp(np.random.uniform(math.log(low), math.log(top)))
                for low, top in (self.gamma, self.gain))
            image = np.float32(gain) * image**np.float32(power)
        if self.blur and np.random.random() < self.prob:
            sigma = np.random.uniform(0.1, max(self.blur, 0.1))
            image = cv2.GaussianBlur(image, (0, 0), sigma)
        return np.clip(image, 0, 1) * np.float32(high)

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(prob={self.prob}, '
                f'looks={self.looks}, gamma={self.gamma}, '
                f'gain={self.gain}, blur={self.blur})')


@TRANSFORMS.register_module()
class LoadProtocolPair(BaseTransform):
    """Render a pair of a protocol.

    Required keys: those of :class:`~osar_plugin.datasets.
    registration_protocol.RegistrationProtocol`. Set keys: as of
    ``LoadRegistrationPair`` and ``RandomPairWarp``, without ``gt_affine``
    unless the perturbation is one.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Read, align, perturb."""
        pair = require_key(results, 'pair', self)
        made = render(
            pair, require_key(results, 'size', self),
            require_key(results, 'data_root', self),
            results.get('check_hash', True))
        for side in SIDES:
            file = getattr(pair, side)
            results[side] = getattr(made, side)
            results[f'{side}_valid'] = getattr(made, f'{side}_valid')
            results[f'{side}_path'] = file.path
            results[f'{side}_modality'] = int(file.modality == 'sar')
        results['gt_flow'], results['gt_valid'] = made.flow, made.valid
        warp = pair.perturbation
        if not warp.control and not warp.corners:
            results['gt_affine'] = warp.matrix
        results['perturbation'] = warp.to_dict()
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


@TRANSFORMS.register_module()
class PackRegistrationInputs(BaseTransform):
    """Pack a pair.

    Required keys: ``fixed``, ``moving``.

    Returns (as the whole sample):
        inputs: ``{'fixed': (C, H, W), 'moving': (C, H, W)}`` tensors of the
            type of the images; the numbers of channels may differ.
        data_samples: A ``BaseDataElement`` with, where they are known,
            ``gt_flow`` (2, H, W) float32, ``gt_valid``, ``fixed_valid``,
            ``moving_valid`` (H, W) bool, ``gt_affine`` (2, 3) float64 and
            ``tie_points`` (n, 4); a model adds ``pred_flow``, ``pred_ok``
            and more.

    Args:
        meta_keys: Entries that become meta information of the sample.
    """

    def __init__(self, meta_keys: Sequence[str] = META_KEYS) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Return the packed sample."""
        inputs = {
            side: to_tensor(require_key(results, side, self))
            for side in SIDES}
        sample = BaseDataElement(metainfo={
            key: results[key] for key in self.meta_keys if key in results})
        for key in ('gt_flow', 'gt_valid', 'fixed_valid', 'moving_valid',
                    'gt_affine', 'tie_points'):
            if key in results:
                sample.set_data({key: torch.from_numpy(
                    np.ascontiguousarray(results[key]))})
        return dict(inputs=inputs, data_samples=sample)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(meta_keys={self.meta_keys})'
