"""Many views of few registered pairs, and many looks of one SAR image.

A matcher that has seen one renderer learns its tones. These transforms,
between ``LoadRegistrationPair`` and ``RandomPairWarp``, take them away:
geometry that both images share is drawn by ``RandomPairView``, tones of
either image by ``RandomTone``.

Legend: H W height and width in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from osar_plugin.registry import TRANSFORMS
from osar_plugin.utils.config_values import require_range
from osar_plugin.utils.errors import ConfigError, DataFormatError

from ..registration_protocol import resize
from .loading import OPTICAL, SAR, require_key

SIDES = ('fixed', 'moving')


@TRANSFORMS.register_module()
class RandomPairView(BaseTransform):
    """The same random cut, zoomed, turned and mirrored, of both images.

    Required and changed keys: ``fixed``, ``moving``, ``fixed_valid``,
    ``moving_valid``.

    Args:
        size: (H, W) of the result.
        zoom: Range of the pixels of the result for one of the image, drawn
            evenly in its logarithm. Cuts are never larger than the image.
    """

    def __init__(self, size: Sequence[int],
                 zoom: Sequence[float] = (0.6, 1.5)) -> None:
        if len(size) != 2:
            raise ConfigError(f'size={size!r} must be (height, width).')
        require_range(16, height=size[0], width=size[1])
        self.size, self.zoom = (int(size[0]), int(size[1])), _span(
            'zoom', zoom)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Draw once, cut both."""
        shape = require_key(results, 'fixed', self).shape[:2]
        if require_key(results, 'moving', self).shape[:2] != shape:
            raise DataFormatError(
                f'The fixed image has {shape} pixels, the moving one '
                f'{results["moving"].shape[:2]}: a pair has one size.')
        zoom = _log_uniform(self.zoom)
        # One factor for both axes, and no larger than the image.
        zoom = max(zoom, *(new / old for new, old in zip(
            self.size, shape, strict=True)))
        cut = [min(old, round(new / zoom)) for new, old in zip(
            self.size, shape, strict=True)]
        top, left = (np.random.randint(old - new + 1)
                     for old, new in zip(shape, cut, strict=True))
        turns = np.random.randint(4) if len(set(self.size)) == 1 else 0
        mirrored = np.random.random() < 0.5
        for side in SIDES:
            for key in (side, f'{side}_valid'):
                image = require_key(results, key, self)[
                    top:top + cut[0], left:left + cut[1]]
                valid = image.dtype == bool
                image = resize(image.astype(np.float32) if valid else image,
                               self.size)
                image = np.rot90(image, turns)
                image = image[:, ::-1] if mirrored else image
                results[key] = np.ascontiguousarray(
                    image > 0.999 if valid else image)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size}, zoom={self.zoom})'


@TRANSFORMS.register_module()
class RandomTone(BaseTransform):
    """Other tones for either image, where things lie untouched.

    In this order, each with its probability: the SAR image is replaced by
    the optical one, grey (``imitate``: its edges, no radar's), before what
    follows makes it look like none; a curve through random knots, which may
    turn contrasts round; a gain that varies slowly over the image; the
    optical image gets a curve and a blur of its own.

    Changed keys: ``fixed`` and ``moving``, SAR (H, W) float32 of at least 0,
    optical (H, W, 3) uint8.

    Args:
        imitate: Probability of the first.
        prob: Of each of the others.
        knots: Of a curve.
        field: Standard deviation of the logarithm of the gain.
        blur: Largest sigma of the optical image in pixels.
    """

    def __init__(self, imitate: float = 0.2, prob: float = 0.5,
                 knots: int = 5, field: float = 0.4,
                 blur: float = 1.2) -> None:
        require_range(0, 1, imitate=imitate, prob=prob)
        require_range(2, 64, knots=knots)
        require_range(0, 4, field=field)
        require_range(0, 16, blur=blur)
        self.imitate, self.prob, self.knots = imitate, prob, knots
        self.field, self.blur = field, blur

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change both sides."""
        modality = {side: require_key(results, f'{side}_modality', self)
                    for side in SIDES}
        optical = [s for s in SIDES if modality[s] == OPTICAL]
        for side in SIDES:
            image = require_key(results, side, self)
            if modality[side] != SAR:
                continue
            if optical and np.random.random() < self.imitate:
                image = results[optical[0]].mean(2)
            results[side] = self._vary(image.astype(np.float32))
        for side in optical:
            image = results[side].astype(np.float32)
            if np.random.random() < self.prob:
                image = self._curve(image / 255) * 255
            if self.blur and np.random.random() < self.prob:
                image = cv2.GaussianBlur(
                    image, (0, 0), np.random.uniform(0.1, self.blur + 0.1))
            results[side] = np.clip(image, 0, 255).round().astype(np.uint8)
        return results

    def _vary(self, image: np.ndarray) -> np.ndarray:
        high = float(image.max())
        if high <= 0:
            return image
        image = image / high
        if np.random.random() < self.prob:
            image = self._curve(image)
        if np.random.random() < self.prob:
            gain = np.exp(np.random.normal(0, self.field, (4, 4))).astype(
                np.float32)
            image = image * cv2.resize(
                gain, image.shape[::-1], interpolation=cv2.INTER_CUBIC)
        return np.clip(image, 0, 1).astype(np.float32) * np.float32(high)

    def _curve(self, image: np.ndarray) -> np.ndarray:
        """Values 0..1 through a line of random knots."""
        # Knots lie where the values are: half of a radar image is dark.
        place = np.quantile(image[::4, ::4], np.linspace(0, 1, self.knots))
        made: np.ndarray = np.interp(
            image, np.maximum.accumulate(place),
            np.random.random(self.knots)).astype(np.float32)
        return made

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(imitate={self.imitate}, '
                f'prob={self.prob}, knots={self.knots}, '
                f'field={self.field}, blur={self.blur})')


def _span(name: str, value: Sequence[float]) -> tuple[float, float]:
    if len(value) != 2 or not 0 < value[0] <= value[1] < math.inf:
        raise ConfigError(
            f'{name}={value!r} must be (low, high) with 0 < low <= high.')
    return float(value[0]), float(value[1])


def _log_uniform(span: tuple[float, float]) -> float:
    return math.exp(np.random.uniform(math.log(span[0]), math.log(span[1])))
