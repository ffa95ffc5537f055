"""Resizing and augmentation of the re-identification recipes.

The recipes were written with torchvision on Pillow images; these transforms
compute the same pixels from (H, W, 3) uint8 arrays, with NumPy's global
generator as the only source of chance.

Legend: H W height and width in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform, RandomFlip
from PIL import Image, ImageEnhance

from osar_plugin.registry import TRANSFORMS
from osar_plugin.utils.config_values import require_range
from osar_plugin.utils.errors import ConfigError, DataFormatError

from .loading import require_key

# The same class under our scope: `mmcv.RandomFlip` is found only where
# something else has imported mmcv's transforms before.
TRANSFORMS.register_module(name='RandomFlip', module=RandomFlip)


def _uint8_image(results: dict[str, Any], who: object) -> np.ndarray:
    """The image as (H, W, 3) uint8, or an error."""
    image = require_key(results, 'img', who)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataFormatError(
            f'{results.get("img_path", "sample")}: {type(who).__name__} '
            f'needs (H, W, 3) uint8, got {image.shape} {image.dtype}. Put '
            'osar_plugin.SARToUint8 before it.')
    return image


@TRANSFORMS.register_module()
class PillowResize(BaseTransform):
    """Resize to a fixed size with Pillow's filters.

    Pillow widens the filter when it shrinks an image, OpenCV does not, so
    the two differ visibly; published weights were trained with Pillow.

    Required key: ``img``, (H, W, 3) uint8. Changed: ``img``, ``img_shape``.

    Args:
        size: (H, W) of the result.
        interpolation: ``'bicubic'`` (official training), ``'bilinear'``
            (official test), ``'nearest'``, ``'box'``, ``'hamming'`` or
            ``'lanczos'``.
    """

    def __init__(
            self,
            size: tuple[int, int] = (256, 128),
            interpolation: str = 'bilinear') -> None:
        known = (
            'nearest', 'bilinear', 'bicubic', 'box', 'hamming', 'lanczos')
        if interpolation not in known:
            raise ConfigError(
                f'interpolation={interpolation!r} is not known: use one of '
                f'{", ".join(known)}.')
        require_range(1, 2**16, size=size)
        self.size = (int(size[0]), int(size[1]))
        self.interpolation = interpolation

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize ``img``."""
        results['img'] = mmcv.imresize(
            _uint8_image(results, self), self.size[::-1],
            interpolation=self.interpolation, backend='pillow')
        results['img_shape'] = self.size
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size={self.size}, '
            f'interpolation={self.interpolation!r})')


@TRANSFORMS.register_module()
class ColorJitter(BaseTransform):
    """Change brightness, contrast, saturation and hue, in a random order.

    torchvision's ``ColorJitter`` on Pillow images: a factor for each drawn
    from ``[max(0, 1 - x), 1 + x]`` (hue: a shift from ``[-x, x]`` turns),
    applied one after the other in an order that is drawn too.

    Required and changed key: ``img``, (H, W, 3) uint8.

    Args:
        brightness: Half width of the factor's range.
        contrast: Half width of the factor's range.
        saturation: Half width of the factor's range.
        hue: Half width of the shift, 0..0.5.
    """

    def __init__(
            self,
            brightness: float = 0.2,
            contrast: float = 0.2,
            saturation: float = 0.2,
            hue: float = 0.0) -> None:
        require_range(
            0, 100, brightness=brightness, contrast=contrast,
            saturation=saturation)
        require_range(0, 0.5, hue=hue)
        self.ranges = (brightness, contrast, saturation, hue)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Jitter ``img``."""
        image = Image.fromarray(_uint8_image(results, self))
        order, factors = self.draw()
        results['img'] = np.array(jitter(image, order, factors))
        return results

    def draw(self) -> tuple[list[int], list[float | None]]:
        """Draw the order of the four operations and their factors."""
        order = np.random.permutation(4).tolist()
        factors: list[float | None] = [
            np.random.uniform(max(0.0, 1 - x), 1 + x) if x else None
            for x in self.ranges[:3]]
        hue = self.ranges[3]
        factors.append(np.random.uniform(-hue, hue) if hue else None)
        return order, factors

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(brightness={self.ranges[0]}, contrast='
            f'{self.ranges[1]}, saturation={self.ranges[2]}, hue='
            f'{self.ranges[3]})')


_ENHANCERS = (
    ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


def jitter(
        image: Image.Image, order: Sequence[int],
        factors: Sequence[float | None]) -> Image.Image:
    """Apply the operations of :class:`ColorJitter`.

    Args:
        image: RGB image.
        order: Permutation of 0 brightness, 1 contrast, 2 saturation, 3 hue.
        factors: One per operation, in this numbering; None leaves it out.

    Returns:
        RGB image.
    """
    for index in order:
        factor = factors[index]
        if factor is None:
            continue
        if index < 3:
            image = _ENHANCERS[index](image).enhance(factor)
        else:
            hue, saturation, value = image.convert('HSV').split()
            # Hue is a circle of 256 steps: wrapping around is the meaning.
            turned = (
                np.array(hue, np.int16) + int(factor * 255)).astype(np.uint8)
            image = Image.merge(
                'HSV', (Image.fromarray(turned), saturation, value)) \
                .convert('RGB')
    return image


@TRANSFORMS.register_module()
class PadRandomCrop(BaseTransform):
    """Pad all sides with a constant and cut a random window.

    torchvision's ``Pad`` and ``RandomCrop``. Required key: ``img``,
    (H, W, C). Changed: ``img``, ``img_shape``.

    Args:
        size: (H, W) of the window.
        padding: Pixels on each side.
        fill: Value of the border; black before normalisation officially.
    """

    def __init__(
            self,
            size: tuple[int, int] = (256, 128),
            padding: int = 10,
            fill: int = 0) -> None:
        require_range(1, 2**16, size=size)
        require_range(0, 2**16, padding=padding)
        require_range(0, 255, fill=fill)
        self.size = (int(size[0]), int(size[1]))
        self.padding = padding
        self.fill = fill

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pad and cut ``img``."""
        image = require_key(results, 'img', self)
        room = [
            have + 2 * self.padding - want
            for have, want in zip(
                image.shape[:2], self.size, strict=True)]
        if min(room) < 0:
            raise DataFormatError(
                f'{results.get("img_path", "sample")}: {image.shape[:2]} '
                f'padded by {self.padding} is smaller than the crop '
                f'{self.size}. Resize first, with osar_plugin.PillowResize.')
        top, left = (np.random.randint(space + 1) for space in room)
        results['img'] = pad_crop(
            image, self.size, self.padding, self.fill, top, left)
        results['img_shape'] = self.size
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(size={self.size}, padding='
            f'{self.padding}, fill={self.fill})')


def pad_crop(
        image: np.ndarray, size: tuple[int, int], padding: int, fill: int,
        top: int, left: int) -> np.ndarray:
    """Cut a window of the padded image.

    Args:
        image: (H, W, C).
        size: (H, W) of the window.
        padding: Pixels on each side.
        fill: Value of the border.
        top: First row of the window in the padded image.
        left: First column of the window in the padded image.

    Returns:
        Array of ``size``, contiguous, of the image's type.
    """
    width = ((padding, padding), (padding, padding), (0, 0))
    padded = np.pad(image, width, constant_values=fill)
    return np.ascontiguousarray(
        padded[top:top + size[0], left:left + size[1]])


@TRANSFORMS.register_module()
class RandomErasing(BaseTransform):
    """Replace one rectangle by noise.

    Officially (timm's erasing in its ``pixel`` mode) the noise is N(0, 1)
    for each pixel and channel of the normalised image. The
    normalisation happens on the device here, so the noise is
    ``255 * (mean + std * N(0, 1))``: the same after normalisation. It is
    not clipped, which is why the image becomes float32, erased or not.

    Required and changed key: ``img``, (H, W, 3), 0..255.

    Args:
        prob: Probability of erasing.
        area: Smallest and largest share of the image.
        aspect: Smallest and largest height to width ratio, drawn evenly on
            the logarithmic scale; the largest is 1 / smallest where None.
        mean: Per channel, of the range 0..1, as in the preprocessor.
        std: Per channel, of the range 0..1, as in the preprocessor.
        attempts: Rectangles tried before the image is left as it is.
    """

    def __init__(
            self,
            prob: float = 0.5,
            area: tuple[float, float] = (0.02, 1 / 3),
            aspect: tuple[float, float | None] = (0.3, None),
            mean: Sequence[float] = (0.485, 0.456, 0.406),
            std: Sequence[float] = (0.229, 0.224, 0.225),
            attempts: int = 10) -> None:
        require_range(0, 1, prob=prob)
        require_range(0, 1e6, without=(0, ), aspect=aspect)
        require_range(0, 1e6, std=std)
        require_range(-1e6, 1e6, mean=mean)
        require_range(1, 2**20, attempts=attempts)
        if not 0 < area[0] <= area[1] <= 1:
            raise ConfigError(
                f'area={area} must satisfy 0 < smallest <= largest <= 1.')
        self.prob = prob
        self.area = area
        self.log_aspect = (
            math.log(aspect[0]), math.log(aspect[1] or 1 / aspect[0]))
        self.mean = np.asarray(mean, np.float32)
        self.std = np.asarray(std, np.float32)
        self.attempts = attempts

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Erase with the set probability."""
        image = require_key(results, 'img', self).astype(np.float32)
        if np.random.uniform() < self.prob:
            box = self.draw(*image.shape[:2])
            if box is not None:
                top, left, height, width = box
                noise = np.random.standard_normal(
                    (height, width, image.shape[2])).astype(np.float32)
                image[top:top + height, left:left + width] = \
                    255 * (self.mean + self.std * noise)
        results['img'] = image
        return results

    def draw(
            self, height: int, width: int
    ) -> tuple[int, int, int, int] | None:
        """Draw (top, left, height, width); None where no try fits."""
        for _ in range(self.attempts):
            area = np.random.uniform(*self.area) * height * width
            aspect = math.exp(np.random.uniform(*self.log_aspect))
            rows = int(round(math.sqrt(area * aspect)))
            columns = int(round(math.sqrt(area / aspect)))
            if rows < height and columns < width:
                return (
                    np.random.randint(height - rows + 1),
                    np.random.randint(width - columns + 1), rows, columns)
        return None

    def __repr__(self) -> str:
        return f'{type(self).__name__}(prob={self.prob}, area={self.area})'
