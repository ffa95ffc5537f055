"""From a file to an image of known modality, and its ship-size vector.

Legend: H W height and width in pixels of the file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from osar_plugin.io import read_optical, read_sar
from osar_plugin.registry import TRANSFORMS
from osar_plugin.utils.config_values import require_range
from osar_plugin.utils.errors import ConfigError, DataFormatError

OPTICAL, SAR = 0, 1


def require_key(results: dict[str, Any], key: str, who: object) -> Any:
    """Take an entry of the results, or say which transform lacks it.

    Raises:
        DataFormatError: If it is not there.
    """
    if key not in results:
        raise DataFormatError(
            f'{type(who).__name__} needs the key {key!r}, but the sample has '
            f'only {sorted(results)}. Put the transform (or the data set) '
            'that sets it earlier in the pipeline.')
    return results[key]


def modality_of(results: dict[str, Any], who: object) -> int:
    """The modality of a sample: 0 optical, 1 SAR.

    Raises:
        DataFormatError: If it is missing or neither.
    """
    modality = require_key(results, 'modality', who)
    if modality not in (OPTICAL, SAR):
        raise DataFormatError(
            f'{results.get("img_path", "sample")}: modality {modality!r} is '
            'neither 0 (optical) nor 1 (SAR).')
    return int(modality)


@TRANSFORMS.register_module()
class LoadOpticalOrSAR(BaseTransform):
    """Read the image with the reader of its modality.

    Required keys: ``img_path``, ``modality`` (0 optical, 1 SAR).

    Set keys:
        img: Optical (H, W, 3) uint8 RGB; SAR float32 (H, W), or (H, W, 3)
            if its channels differ, in the range of the file.
        img_shape, ori_shape: (H, W).

    Args:
        nonfinite: NaN and infinity in SAR: ``'raise'`` or ``'zero'``, see
            :func:`osar_plugin.io.read_sar`.
    """

    def __init__(self, nonfinite: str = 'raise') -> None:
        if nonfinite not in ('raise', 'zero'):
            raise ConfigError(
                f'nonfinite={nonfinite!r} is not known: use "raise" or '
                '"zero".')
        self.nonfinite = nonfinite

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Read the file."""
        path = require_key(results, 'img_path', self)
        if modality_of(results, self) == SAR:
            image = read_sar(path, nonfinite=self.nonfinite)
        else:
            image = read_optical(path)
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(nonfinite={self.nonfinite!r})'


def ship_size(
        width: float,
        height: float,
        gsd: float = 1.0,
        limits: tuple[float, float] = (93.0, 427.0),
        means: tuple[float, float] = (0.434, 0.461),
        scales: tuple[float, float] = (0.031, 0.031)) -> np.ndarray:
    """The ship-size vector of a chip that is cut tightly around its ship.

    ``[(w / 93 - 0.434) / 0.031, (h / 427 - 0.461) / 0.031, h / w]`` with w
    and h in metres (the released TransOSS). The divisor
    0.031 is a variance where a standard deviation would be expected;
    published weights were trained with it.

    Args:
        width: Pixels across.
        height: Pixels down.
        gsd: Metres per pixel.
        limits: Largest width and height in metres of the training set.
        means: Means of the two quotients.
        scales: Divisors of the two centred quotients.

    Returns:
        (3,) float32.
    """
    width, height = width * gsd, height * gsd
    return np.array([
        (width / limits[0] - means[0]) / scales[0],
        (height / limits[1] - means[1]) / scales[1],
        height / width,
    ], dtype=np.float32)


@TRANSFORMS.register_module()
class ShipSize(BaseTransform):
    """Set the ship-size vector from the pixel size of the file.

    Required keys: ``ori_shape``, ``modality``. Set key: ``size``, (3,)
    float32, see :func:`ship_size`.

    Args:
        gsd: Metres per pixel of the optical and of the SAR images.
        limits: See :func:`ship_size`.
        means: See :func:`ship_size`.
        scales: See :func:`ship_size`.
    """

    def __init__(
            self,
            gsd: tuple[float, float] = (0.75, 1.0),
            limits: tuple[float, float] = (93.0, 427.0),
            means: tuple[float, float] = (0.434, 0.461),
            scales: tuple[float, float] = (0.031, 0.031)) -> None:
        require_range(
            0, 1e6, without=(0, ), gsd=gsd, limits=limits, scales=scales)
        require_range(-1e6, 1e6, means=means)
        self.gsd = gsd
        self.constants = dict(limits=limits, means=means, scales=scales)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Set ``size``."""
        height, width = require_key(results, 'ori_shape', self)
        results['size'] = ship_size(
            width, height, self.gsd[modality_of(results, self)],
            **self.constants)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(gsd={self.gsd})'
