"""Pairs before and after an event: loading, augmentation, packing.

The order of the official training pipelines (CoDe-MAE's, and BRIGHT's
without the scaling and the jitter)::

    LoadDamagePair      pre (H, W, 3), post (H, W), gt_damage (H, W), uint8
    DamageRandomScale   all three by one factor
    DamageRandomCrop    all three to (S, S), padded where they are smaller
    DamageRandomFlip    all three, left-right and top-bottom
    DamageRotate90      all three by a quarter, a half or three quarters
    DamageColorJitter   pre and post, each by itself
    PackDamageInputs    tensors (3, S, S), (1, S, S), a DamageDataSample

Normalisation follows on the device, in ``DamagePreprocessor``. Chance comes
from NumPy's global generator, which is seeded for each sample.

Legend: H W height and width in pixels, S side of a crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.structures import PixelData
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from osar_plugin.io import decode, read_bands, read_indices, tiff_samples
from osar_plugin.registry import TRANSFORMS
from osar_plugin.structures import DamageDataSample
from osar_plugin.utils.config_values import require_range
from osar_plugin.utils.errors import (
    ConfigError,
    CorruptImageError,
    DataFormatError,
)

from .augmentation import ColorJitter, jitter
from .loading import require_key
from .packing import to_tensor

IGNORED = 255
CLASSES = 4
KEYS = ('pre', 'post', 'gt_damage')
META_KEYS = (
    'image_id', 'event', 'disaster', 'optical_path', 'sar_path',
    'seg_map_path', 'ori_shape', 'img_shape', 'sample_idx')


def present(results: dict[str, Any], who: object) -> list[str]:
    """The images of a sample, labels only where there are some.

    Raises:
        DataFormatError: If an image is missing.
    """
    for key in KEYS[:2]:
        require_key(results, key, who)
    return [key for key in KEYS if key in results]


def read_pre(path: str | Path) -> np.ndarray:
    """Read an optical image: the first three bands, (H, W, 3) uint8.

    Raises:
        DatasetNotFoundError: If there is no such file.
        CorruptImageError: If it cannot be decoded whole.
        DataFormatError: If it has one band or two, or is not 8-bit.
        MissingDependencyError: If it takes the package rasterio to read it;
            see :func:`osar_plugin.io.read_bands`.
    """
    try:
        image = _read(path)
    except (DataFormatError, CorruptImageError) as error:
        found = tiff_samples(path)
        damaged = isinstance(error, CorruptImageError)
        # What Pillow has a mode for it calls damaged when it is.
        if found is None or found.bands == 1 or damaged and (
                found.colours and found.bands <= 4):
            raise
        if found.bands < 3 or (found.bits, found.kind) != (8, 1):
            raise DataFormatError(
                f'{path}: has {found.bands} bands of {found.bits} bits; an '
                'optical image of 3 or more bands of 8 bits is expected '
                'before the event, whose first 3 are used. Scale deeper ones '
                'alike for all files, and keep these: gdal_translate -b 1 '
                '-b 2 -b 3 -ot Byte -scale LOW HIGH 0 255 in.tif out.tif'
            ) from error
        image = _without_fourth(path)
    if image.ndim != 3:
        raise DataFormatError(
            f'{path}: has 1 band; an optical image of 3 is expected before '
            'the event. Is it the SAR image?')
    return image


def read_post(path: str | Path) -> np.ndarray:
    """Read a SAR image of one band, or of equal ones: (H, W) uint8.

    Raises:
        DatasetNotFoundError: If there is no such file.
        CorruptImageError: If it cannot be decoded whole.
        DataFormatError: If its bands differ or it is not 8-bit.
    """
    image = _read(path)
    if image.ndim == 2:
        return image
    first = np.ascontiguousarray(image[:, :, 0])
    if not (image == first[:, :, None]).all():
        raise DataFormatError(
            f'{path}: has 3 bands that differ; SAR of 1 band is expected '
            'after the event. Is it the optical image?')
    return first


def read_labels(path: str | Path) -> np.ndarray:
    """Read a map of damage: (H, W) uint8 of 0..3 and 255.

    Files with a colour table give its indices, such as the maps that
    ``tools/assess_damage.py`` writes; whole numbers of any depth will do.

    Raises:
        DatasetNotFoundError: If there is no such file.
        CorruptImageError: If it cannot be decoded whole.
        DataFormatError: If it has several bands, or other values.
    """
    try:
        labels = read_indices(path)
    except CorruptImageError:
        found = tiff_samples(path)
        if found is None or (found.bands, found.bits) != (1, 64) or (
                found.kind > 2):
            raise
        labels = read_bands(path, 1)[..., 0]  # only GDAL knows these
    if labels.ndim != 2:
        raise DataFormatError(
            f'{path}: has 3 bands; a map of damage has 1. Is it a picture '
            'of the map?')
    if labels.dtype.kind not in 'ui':
        raise DataFormatError(
            f'{path}: holds {labels.dtype} values; a map of damage holds '
            'whole numbers: 0 (background), 1 (intact), 2 (damaged), 3 '
            '(destroyed) and 255 (not known). Write them as bytes: '
            'gdal_translate -ot Byte in.tif out.tif')
    wrong = labels[~np.isin(labels, (*range(CLASSES), IGNORED))]
    if wrong.size:
        raise DataFormatError(
            f'{path}: holds the values {np.unique(wrong)[:5].tolist()}; '
            'expected 0 (background), 1 (intact), 2 (damaged), 3 (destroyed) '
            'and 255 (not known). Map them to these.')
    return labels.astype(np.uint8, copy=False)


def _without_fourth(path: str | Path) -> np.ndarray:
    """The first three bands of a TIFF that is not simply red, green, blue.

    Pillow reads colours with a fourth band of unstated meaning; GDAL the
    rest.
    """
    try:
        with Image.open(path) as image:
            tags = getattr(image, 'tag_v2', {})
            if image.mode in ('RGB', 'RGBX') and (
                    tags.get(TiffImagePlugin.SAMPLESPERPIXEL) == 4) and (
                    tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 1):
                return np.array(image.convert('RGB'))
    except UnidentifiedImageError:
        pass  # a mode that Pillow has not got
    except OSError as error:
        raise CorruptImageError(
            f'{path}: cannot be decoded ({error}). The file is truncated or '
            'damaged; copy or download it again.') from error
    return read_bands(path, 3)


def _read(path: str | Path) -> np.ndarray:
    image = decode(path)
    if image.dtype != np.uint8:
        raise DataFormatError(
            f'{path}: has {image.dtype} pixels; 8 bit are expected, as '
            'BRIGHT is published. Convert it with one scale for all files.')
    return image


@TRANSFORMS.register_module()
class LoadDamagePair(BaseTransform):
    """Read both images of a tile, and its labels.

    Required keys: ``optical_path``, ``sar_path``. Used where present:
    ``seg_map_path``.

    Set keys:
        pre: (H, W, 3) uint8, optical.
        post: (H, W) uint8, SAR; one of its equal channels.
        gt_damage: (H, W) uint8, where there are labels.
        ori_shape, img_shape: (H, W).

    Raises:
        DataFormatError: If sizes differ; see also :func:`read_pre`,
            :func:`read_post` and :func:`read_labels`.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Read the files."""
        paths = {'pre': require_key(results, 'optical_path', self),
                 'post': require_key(results, 'sar_path', self)}
        results['pre'] = read_pre(paths['pre'])
        results['post'] = read_post(paths['post'])
        if 'seg_map_path' in results:
            paths['gt_damage'] = results['seg_map_path']
            results['gt_damage'] = read_labels(paths['gt_damage'])
        size = results['pre'].shape[:2]
        for key, path in paths.items():
            if results[key].shape[:2] != size:
                raise DataFormatError(
                    f'{path}: has {results[key].shape[:2]} pixels (rows, '
                    f'columns) and {paths["pre"]} has {size}; they must be '
                    'alike. Resample one of them.')
        results['img_shape'] = results['ori_shape'] = size
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


@TRANSFORMS.register_module()
class DamageRandomScale(BaseTransform):
    """Scale both images and the labels by one factor.

    Required and changed keys: ``pre``, ``post``, ``gt_damage`` (where
    present), ``img_shape``. Images are interpolated bilinearly, labels take
    the nearest one.

    Args:
        scale: Smallest and largest factor, drawn evenly.
    """

    def __init__(self, scale: Sequence[float] = (0.5, 2.0)) -> None:
        require_range(0, 100, without=(0, ), scale=list(scale))
        if len(scale) != 2 or scale[0] > scale[1]:
            raise ConfigError(
                f'scale={tuple(scale)}: expected the smallest and the '
                'largest factor, in this order.')
        self.scale = (float(scale[0]), float(scale[1]))

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Scale the sample."""
        keys = present(results, self)
        factor = np.random.uniform(*self.scale)
        height, width = results['pre'].shape[:2]
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        for key in keys:
            results[key] = cv2.resize(
                results[key], size, interpolation=cv2.INTER_NEAREST
                if key == 'gt_damage' else cv2.INTER_LINEAR)
        results['img_shape'] = size[::-1]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(scale={self.scale})'


@TRANSFORMS.register_module()
class DamageRandomCrop(BaseTransform):
    """Cut a square in which no class has almost everything.

    Up to ten squares are drawn until the largest class has less than
    ``max_share`` of the labelled pixels; the last one is kept (official
    code). Smaller images are first laid somewhere on a square of 0, with
    255 in the labels. Without labels the first square is taken.

    Required and changed keys: ``pre``, ``post``, ``gt_damage`` (where
    present), ``img_shape``.

    Args:
        size: Side S of the square.
        max_share: See above; 1 takes the first square.
        tries: Squares that are drawn at most.
    """

    def __init__(self, size: int = 512, max_share: float = 0.75,
                 tries: int = 10) -> None:
        require_range(1, 2**15, size=size)
        require_range(0, 1, without=(0, ), max_share=max_share)
        require_range(1, 2**10, tries=tries)
        self.size = size
        self.max_share = max_share
        self.tries = tries

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Cut the sample."""
        keys = present(results, self)
        self._pad(results, keys)
        height, width = results['pre'].shape[:2]
        for _ in range(self.tries):
            top = np.random.randint(height - self.size + 1)
            left = np.random.randint(width - self.size + 1)
            part = (slice(top, top + self.size),
                    slice(left, left + self.size))
            if 'gt_damage' not in results or self.max_share == 1 or (
                    largest_share(results['gt_damage'][part])
                    < self.max_share):
                break
        for key in keys:
            results[key] = np.ascontiguousarray(results[key][part])
        results['img_shape'] = (self.size, self.size)
        return results

    def _pad(self, results: dict[str, Any], keys: Sequence[str]) -> None:
        """Lay a sample that is too small on a larger one."""
        height, width = results['pre'].shape[:2]
        room = [max(0, self.size - side) for side in (height, width)]
        if not any(room):
            return
        before = [np.random.randint(space + 1) for space in room]
        sides = [(first, space - first)
                 for first, space in zip(before, room, strict=True)]
        for key in keys:
            image = results[key]
            results[key] = np.pad(
                image, (*sides, (0, 0))[:image.ndim],
                constant_values=IGNORED if key == 'gt_damage' else 0)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size={self.size}, '
            f'max_share={self.max_share}, tries={self.tries})')


def largest_share(labels: np.ndarray) -> float:
    """Share that the largest class has of the labelled pixels; 1 of none."""
    counts = np.bincount(labels.ravel(), minlength=256)[:IGNORED]
    total = counts.sum()
    return float(counts.max() / total) if total else 1.0


@TRANSFORMS.register_module()
class DamageRandomFlip(BaseTransform):
    """Mirror both images and the labels, in either direction.

    Required and changed keys: ``pre``, ``post``, ``gt_damage`` (where
    present).

    Args:
        horizontal: Probability of swapping left and right.
        vertical: Probability of swapping top and bottom, drawn apart.
    """

    def __init__(self, horizontal: float = 0.5,
                 vertical: float = 0.5) -> None:
        require_range(0, 1, horizontal=horizontal, vertical=vertical)
        self.probabilities = (vertical, horizontal)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mirror the sample, or not."""
        keys = present(results, self)
        drawn = np.random.random(2) < self.probabilities
        axes = tuple(np.flatnonzero(drawn).tolist())
        if axes:
            for key in keys:
                results[key] = np.ascontiguousarray(
                    np.flip(results[key], axes))
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(horizontal={self.probabilities[1]}, '
            f'vertical={self.probabilities[0]})')


@TRANSFORMS.register_module()
class DamageRotate90(BaseTransform):
    """Turn both images and the labels by quarters, counter-clockwise.

    Required and changed keys: ``pre``, ``post``, ``gt_damage`` (where
    present), ``img_shape``.

    Args:
        turns: Numbers of quarters to draw from. The official code never
            leaves a sample upright: (1, 2, 3). With a 0, it may.
    """

    def __init__(self, turns: Sequence[int] = (1, 2, 3)) -> None:
        require_range(0, 3, turns=list(turns))
        if not turns or not all(type(turn) is int for turn in turns):
            raise ConfigError(
                f'turns={turns!r}: expected whole numbers from 0 to 3.')
        self.turns = tuple(turns)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Turn the sample."""
        turn = self.turns[np.random.randint(len(self.turns))]
        for key in present(results, self):
            results[key] = np.ascontiguousarray(np.rot90(results[key], turn))
        results['img_shape'] = results['pre'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(turns={self.turns})'


@TRANSFORMS.register_module()
class DamageColorJitter(BaseTransform):
    """Change the colours of both images, each by a draw of its own.

    As ``ColorJitter`` does; of the SAR image, whose channels are equal,
    saturation and hue have nothing to change.

    Required and changed keys: ``pre``, ``post``.

    Args:
        brightness: See :class:`ColorJitter`, as the following.
        contrast: See there.
        saturation: See there.
        hue: See there.
        prob: That an image is changed.
    """

    def __init__(self, brightness: float = 0.2, contrast: float = 0.2,
                 saturation: float = 0.2, hue: float = 0.1,
                 prob: float = 0.8) -> None:
        require_range(0, 1, prob=prob)
        self.jitter = ColorJitter(brightness, contrast, saturation, hue)
        self.prob = prob

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change either image, or not."""
        present(results, self)
        for key in ('pre', 'post'):
            if np.random.random() >= self.prob:
                continue
            order, factors = self.jitter.draw()
            if key == 'post':
                factors = [*factors[:2], None, None]
            results[key] = np.array(jitter(
                Image.fromarray(results[key]), order, factors))
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}({self.jitter!r}, prob={self.prob})')


@TRANSFORMS.register_module()
class PackDamageInputs(BaseTransform):
    """Pack a pair.

    Required keys: ``pre``, ``post``. Used where present: ``gt_damage`` and
    the meta keys.

    Returns (as the whole sample):
        inputs: ``pre`` (3, H, W) and ``post`` (1, H, W), uint8.
        data_samples: :class:`~osar_plugin.structures.DamageDataSample`,
            with ``gt_damage`` as ``gt_sem_seg``, too, and with ``img_path``
            (the optical image) and ``reduce_zero_label``, which metrics and
            hooks of MMSegmentation read.

    Args:
        meta_keys: Entries that become meta information of the sample.
    """

    def __init__(self, meta_keys: Sequence[str] = META_KEYS) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Return the packed sample."""
        keys = present(results, self)
        sample = DamageDataSample(metainfo={
            key: results[key] for key in self.meta_keys if key in results})
        sample.set_metainfo(dict(reduce_zero_label=False))
        if 'optical_path' in results:
            sample.set_metainfo(dict(img_path=results['optical_path']))
        if 'gt_damage' in keys:
            sample.gt_damage = PixelData(data=to_tensor(
                results['gt_damage']))
            sample.gt_sem_seg = sample.gt_damage
        return dict(
            inputs={key: to_tensor(results[key]) for key in ('pre', 'post')},
            data_samples=sample)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(meta_keys={self.meta_keys})'
