"""Transforms of optical-SAR pairs for pre-training.

The order of the published recipe::

    LoadPair                 rgb (H, W, 3), sar (H, W), both uint8
    PairRandomResizedCrop    (S, S, 3) and (S, S), bicubic
    PairHorizontalFlip       left-right, 0.5
    PackPretrainInputs       (3, S, S) and (1, S, S) uint8 tensors

Chance falls once for a pair, which shows the same ground, and for each image
of an unpaired sample anew. SAR stays at one channel up to the device, where
the preprocessor expands it: a third of the memory and of the transfer.
Scaling by 255 and normalisation happen there, too.

Legend: H W height and width of a file, S of what the model takes, in pixels;
L patches and D channels of a teacher.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import BaseDataElement
from PIL import Image, ImageEnhance

from osar_plugin.io import decode_bytes
from osar_plugin.registry import TRANSFORMS
from osar_plugin.utils.config_values import require_range
from osar_plugin.utils.errors import (
    ConfigError,
    CorruptImageError,
    DataFormatError,
    DatasetNotFoundError,
)
from osar_plugin.utils.integrity import (
    JPEG_MAGIC,
    PNG_MAGIC,
    DamageError,
    check_whole,
)

from ..pair_statistics import SourceStatistics
from ..teacher_features import read_features
from .loading import require_key
from .packing import to_tensor

SIDES = ('rgb', 'sar')
_TRIES = 10
_TO_RGB = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}


def decode_8bit(data: bytes, path: str | Path) -> np.ndarray:
    """Decode the content of an 8-bit image file.

    PNG and JPEG go through OpenCV, which is the faster decoder
    (``tools/benchmark/pair_loading.py``), once the checksums that it would
    pass over are checked.

    Args:
        data: The whole file.
        path: Its name, for the errors.

    Returns:
        (H, W) or (H, W, 3) uint8, red first, without alpha.

    Raises:
        CorruptImageError: If it cannot be decoded whole.
        DataFormatError: If it is not 8-bit or no picture.
    """
    image = None
    if data.startswith((PNG_MAGIC, JPEG_MAGIC)):
        try:
            check_whole(data)
            image = cv2.imdecode(
                np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except DamageError as error:
            raise CorruptImageError(
                f'{path}: cannot be decoded ({error}). The file '
                f'({len(data)} bytes) is truncated or damaged; copy or '
                'download it again.') from error
        except cv2.error:
            pass  # the other decoder reads it, or says what is wrong
    if image is None:
        image = decode_bytes(data, path)
    elif image.ndim == 3:
        image = cv2.cvtColor(image, _TO_RGB[image.shape[2]])
    if image.dtype != np.uint8:
        raise DataFormatError(
            f'{path}: has {image.dtype} pixels; 8 bit are expected, since '
            'mean and deviation of the source are of 8-bit images. Convert '
            'the whole source with one scale.')
    return image


def as_optical(image: np.ndarray) -> np.ndarray:
    """(H, W, 3): a grey image gets three equal channels."""
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    return image


def as_sar(image: np.ndarray, path: str | Path) -> np.ndarray:
    """(H, W): the one channel of a SAR image.

    Raises:
        DataFormatError: If it has three that differ.
    """
    if image.ndim == 2:
        return image
    first = np.ascontiguousarray(image[:, :, 0])
    if not (image == first[:, :, None]).all():
        raise DataFormatError(
            f'{path}: the three channels of this SAR image differ; one '
            'channel, or equal ones, are expected. Is it an optical image? '
            'Otherwise keep one polarisation.')
    return first


@TRANSFORMS.register_module()
class LoadPair(BaseTransform):
    """Read both images of a sample, and the teacher's features.

    Required keys: ``rgb_path``, ``sar_path``. Used where present:
    ``teacher_path``.

    Set keys:
        rgb: (H, W, 3) uint8; grey files get three equal channels, as in
            the official code.
        sar: (H, W) uint8; three equal channels become one.
        teacher: (L, D) float16, checked to be of this optical image.
        teacher_grid: Rows and columns of patches.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Read the files."""
        rgb_path = require_key(results, 'rgb_path', self)
        sar_path = require_key(results, 'sar_path', self)
        data = _read(rgb_path, 'optical')
        results['rgb'] = as_optical(decode_8bit(data, rgb_path))
        results['sar'] = as_sar(
            decode_8bit(_read(sar_path, 'SAR'), sar_path), sar_path)
        if 'teacher_path' in results:
            results['teacher'], results['teacher_grid'] = read_features(
                results['teacher_path'], data)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


def _read(path: str, side: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise DatasetNotFoundError(
            f'{path}: the {side} image of this pair is not there. Restore '
            'it, or take the pair off its list.') from error
    except OSError as error:
        raise CorruptImageError(
            f'{path}: cannot be read ({error}).') from error


class Box(NamedTuple):
    """A part of an image in pixels."""

    top: int
    left: int
    height: int
    width: int


def draw_box(
        height: int, width: int, scale: Sequence[float],
        ratio: Sequence[float]) -> Box:
    """Draw a box of random area and shape, from NumPy's generator.

    The area is uniform in ``scale`` of the image, the logarithm of width by
    height uniform in that of ``ratio``; up to ten draws, then the largest
    box in the middle with a ratio that is allowed (torchvision and
    albumentations).

    Args:
        height: H.
        width: W.
        scale: Smallest and largest share of the area.
        ratio: Smallest and largest width by height.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(_TRIES):
        area = height * width * np.random.uniform(scale[0], scale[1])
        shape = math.exp(np.random.uniform(low, high))
        w = round(math.sqrt(area * shape))
        h = round(math.sqrt(area / shape))
        if 0 < w <= width and 0 < h <= height:
            return Box(
                np.random.randint(height - h + 1),
                np.random.randint(width - w + 1), h, w)
    shape = min(max(width / height, ratio[0]), ratio[1])
    w = min(width, max(1, round(height * shape)))
    h = min(height, max(1, round(width / shape)))
    return Box((height - h) // 2, (width - w) // 2, h, w)


def crop_resized(
        image: np.ndarray, box: Box, size: tuple[int, int],
        antialias: bool) -> np.ndarray:
    """Cut out a box and scale it with bicubic interpolation.

    Args:
        image: (H, W) or (H, W, 3) uint8.
        box: The part to show.
        size: (rows, columns) of the result.
        antialias: Pillow's filter, whose support grows with the reduction,
            instead of OpenCV's four by four pixels.

    Returns:
        (rows, columns) or (rows, columns, 3) uint8.
    """
    part = image[box.top:box.top + box.height,
                 box.left:box.left + box.width]
    if part.shape[:2] == size:
        return np.ascontiguousarray(part)
    if antialias:
        return np.asarray(Image.fromarray(part).resize(
            size[::-1], Image.Resampling.BICUBIC))
    return cv2.resize(part, size[::-1], interpolation=cv2.INTER_CUBIC)


@TRANSFORMS.register_module()
class PairRandomResizedCrop(BaseTransform):
    """Show a random part of each image at the size of the model.

    One box for both images of a pair, one for each of an unpaired sample.
    Boxes smaller than ``size`` are magnified, so images below it can be
    used, though nothing is gained but blur;
    ``tools/prepare_data/check_pairs.py`` counts them.

    Required keys: ``rgb``, ``sar``, ``paired``. Changed: both images.

    Args:
        size: Side or (rows, columns) in pixels.
        scale: Smallest and largest share of the area.
        ratio: Smallest and largest width by height.
        antialias: False: OpenCV's bicubic interpolation, which the
            published weights were trained with (albumentations). True:
            Pillow's, which does not alias where images are reduced.

    Raises:
        ConfigError: If an argument cannot be used, or the sample carries
            features of a teacher, which are of the whole image.
        DataFormatError: If the images of a pair differ in size.
    """

    def __init__(
            self,
            size: int | Sequence[int] = 224,
            scale: Sequence[float] = (0.2, 1.0),
            ratio: Sequence[float] = (3 / 4, 4 / 3),
            antialias: bool = False) -> None:
        self.size = _check_size(size)
        require_range(0, 1, without=(0, ), scale=scale)
        require_range(0, 1000, without=(0, ), ratio=ratio)
        for name, pair in (('scale', scale), ('ratio', ratio)):
            if len(pair) != 2 or pair[0] > pair[1]:
                raise ConfigError(
                    f'{name}={pair}: expected the smallest and the largest '
                    'value, in this order.')
        self.scale = tuple(scale)
        self.ratio = tuple(ratio)
        self.antialias = antialias

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop both images."""
        refuse_teacher(results, self)
        joint = _joint(results, self)
        box = None
        for side in SIDES:
            image = results[side]
            if box is None or not joint:
                height, width = image.shape[:2]
                box = draw_box(height, width, self.scale, self.ratio)
            results[side] = crop_resized(
                image, box, self.size, self.antialias)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size={self.size}, scale={self.scale}, '
            f'ratio={self.ratio}, antialias={self.antialias})')


@TRANSFORMS.register_module()
class PairResize(BaseTransform):
    """Scale both whole images to the size of the model.

    For features of a teacher that were computed beforehand, and for
    pictures. The ratio of the sides is not kept.

    Required keys: ``rgb``, ``sar``. Changed: both.

    Args:
        size: Side or (rows, columns) in pixels.
        antialias: See :class:`PairRandomResizedCrop`.
    """

    def __init__(
            self, size: int | Sequence[int] = 224,
            antialias: bool = False) -> None:
        self.size = _check_size(size)
        self.antialias = antialias

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Scale both images."""
        for side in SIDES:
            image = require_key(results, side, self)
            results[side] = crop_resized(
                image, Box(0, 0, *image.shape[:2]), self.size,
                self.antialias)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size={self.size}, '
            f'antialias={self.antialias})')


@TRANSFORMS.register_module()
class PairHorizontalFlip(BaseTransform):
    """Mirror left and right: a pair together, unpaired images each by itself.

    Required keys: ``rgb``, ``sar``, ``paired``. Changed: the images.

    Args:
        prob: Probability, 0..1.

    Raises:
        ConfigError: If ``prob`` is out of range, or the sample carries
            features of a teacher, which are not of the mirrored image.
    """

    def __init__(self, prob: float = 0.5) -> None:
        require_range(0, 1, prob=prob)
        self.prob = prob

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mirror the images, or not."""
        if self.prob:
            refuse_teacher(results, self)
        flips = np.random.random(2) < self.prob
        if _joint(results, self):
            flips[1] = flips[0]
        for side, flip in zip(SIDES, flips, strict=True):
            if flip:
                results[side] = cv2.flip(results[side], 1)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(prob={self.prob})'


@TRANSFORMS.register_module()
class SARContrast(BaseTransform):
    """Stretch or squeeze the SAR image about its mean by a drawn factor.

    The contrast jitter of SARATR-X's second stage: torchvision's
    ``ColorJitter(contrast=0.5)``, a factor from ``[1 - x, 1 + x]``.

    Required and changed key: ``sar``, (H, W) uint8.

    Args:
        contrast: Half width x of the factor's range, 0..1.

    Raises:
        ConfigError: If ``contrast`` is out of range.
    """

    def __init__(self, contrast: float = 0.5) -> None:
        require_range(0, 1, contrast=contrast)
        self.contrast = contrast

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change ``sar``."""
        image = Image.fromarray(require_key(results, 'sar', self))
        factor = np.random.uniform(1 - self.contrast, 1 + self.contrast)
        results['sar'] = np.array(
            ImageEnhance.Contrast(image).enhance(factor))
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(contrast={self.contrast})'


@TRANSFORMS.register_module()
class PackPretrainInputs(BaseTransform):
    """Pack a sample of pre-training.

    Required keys: ``rgb``, ``sar``, ``paired``, ``stats``. Used where
    present: ``teacher``, ``source`` and the paths.

    Returns (as the whole sample):
        inputs: ``rgb`` (3, S, S) and ``sar`` (1, S, S) uint8; ``teacher``
            (L, D) float16 where the data set has them.
        data_samples: ``BaseDataElement`` with ``paired`` (int), and as meta
            information ``source``, ``rgb_mean``, ``rgb_std`` (3 numbers in
            [0, 1] each), ``sar_mean``, ``sar_std`` (1 each),
            ``rgb_img_path``, ``sar_img_path``, ``sample_idx``.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Return the packed sample."""
        stats: SourceStatistics = require_key(results, 'stats', self)
        # Plain numbers: a tensor of each sample would need a piece of
        # shared memory of its own on the way from a worker.
        sample = BaseDataElement(metainfo=dict(
            source=str(results.get('source', '')),
            rgb_img_path=results.get('rgb_path'),
            sar_img_path=results.get('sar_path'),
            sample_idx=results.get('sample_idx'),
            **stats._asdict()))
        sample.paired = int(require_key(results, 'paired', self))
        inputs = {
            side: to_tensor(require_key(results, side, self))
            for side in SIDES}
        if 'teacher' in results:
            inputs['teacher'] = torch.from_numpy(results['teacher'])
        return dict(inputs=inputs, data_samples=sample)

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'


def _joint(results: dict[str, Any], who: object) -> bool:
    """Whether both images show the same ground, pixel by pixel.

    Raises:
        DataFormatError: If they should and differ in size.
    """
    sizes = [require_key(results, side, who).shape[:2] for side in SIDES]
    if not require_key(results, 'paired', who):
        return False
    if sizes[0] != sizes[1]:
        rgb, sar = (f'{width} x {height}' for height, width in sizes)
        raise DataFormatError(
            f'{results.get("rgb_path", "sample")}: the optical image has '
            f'{rgb} pixels, its SAR image {sar}; a pair needs equal sizes. '
            'Resample one of them.')
    return True


def refuse_teacher(results: dict[str, Any], who: object) -> None:
    """Raise if features of the whole, upright image come with the sample."""
    if 'teacher' in results:
        raise ConfigError(
            f'{type(who).__name__} changes what the image shows, but the '
            'features of the teacher are of the whole image. Use '
            'osar_plugin.PairResize in place of it, or leave '
            'teacher_features out and let the teacher run in training.')


def _check_size(size: int | Sequence[int]) -> tuple[int, int]:
    """(rows, columns) from the argument of a transform."""
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or not all(isinstance(side, int) for side in pair):
        raise ConfigError(
            f'size={size}: expected a side or (rows, columns) in pixels.')
    require_range(1, 2**15, size=pair)
    return int(pair[0]), int(pair[1])
