"""Pairs of rasters before and after an event, checked and read in windows.

Legend: H W height and width in pixels, h w those of a window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..compat import require
from ..models.damage.inference import Tile, pad_to
from ..utils.errors import ConfigError, DataFormatError
from ..utils.geometry import Size, apply, compose, invert
from .registration_raster import Box, Place, Raster, open_raster

TOLERANCE = 0.1
"""Pixels by which the georeferences of a pair may differ."""

_ALIGN = ('Bring one onto the other first: tools/register.py PRE POST -o '
          'POST_ON_PRE.tif')
# WGS 84: half the longer axis in metres, eccentricity squared.
_AXIS, _ECCENTRICITY = 6378137.0, 0.00669437999014


@dataclass(frozen=True)
class DamageScene:
    """A pair that can be assessed; see :func:`open_scene`.

    Attributes:
        pre: Optical, 3 or more bands, of which the first 3 are used.
        post: SAR.
        post_band: Of it, from 0; None where it has 3 equal ones.
        pre_range: Values that become 0 and 255; None for 8-bit images.
        post_range: The same.
    """

    pre: Raster
    post: Raster
    post_band: int | None = 0
    pre_range: tuple[float, float] | None = None
    post_range: tuple[float, float] | None = None

    @property
    def size(self) -> Size:
        """(H, W)."""
        return self.pre.size

    @property
    def place(self) -> Place | None:
        """Where the scene lies; None without a georeference."""
        return self.pre.place or self.post.place

    def read(self, box: Box, k: int = 1
             ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A window of both images.

        Args:
            box: Within the images.
            k: Means of k x k pixels.

        Returns:
            (3, h, w) and (1, h, w) uint8, 0 without data; and where both
            have data, (h, w) bool.

        Raises:
            DataFormatError: If the bands of the SAR image differ.
            CorruptImageError: If a file is damaged.
        """
        pre, known = self.pre.read(box, k, (0, 1, 2))
        bands = (0, 1, 2) if self.post_band is None else (self.post_band, )
        post, seen = self.post.read(box, k, bands)
        if self.post_band is None and not (post == post[:1]).all():
            raise DataFormatError(
                f'{self.post.name}: has 3 bands that differ; SAR of 1 band '
                'is expected after the event. Are the images swapped? If '
                'not, choose a band with post_band (--post-band).')
        valid = known & seen
        return (to_bytes(pre, self.pre_range, valid),
                to_bytes(post[:1], self.post_range, valid), valid)

    def tile(self, tile: Tile) -> tuple[Tensor, Tensor] | None:
        """What the model looks at: (3, h, w) and (1, h, w) uint8.

        Tiles that reach past the image are continued by their rim. None
        where no pixel has data.
        """
        height, width = self.size
        box = Box(tile.x, tile.y, min(tile.width, width - tile.x),
                  min(tile.height, height - tile.y))
        pre, post, valid = self.read(box)
        if not valid.any():
            return None
        size = (tile.height, tile.width)
        first, second = (torch.from_numpy(x) for x in (pre, post))
        if valid.shape != size:
            # Replicated as floats: torch cannot pad bytes so.
            first, second = (pad_to(x.float(), size).byte()
                             for x in (first, second))
        return first, second

    def valid(self, row: int, rows: int) -> np.ndarray:
        """Where both images have data, of some rows, (rows, W) bool."""
        box = Box(0, row, self.size[1], rows)
        _, known = self.pre.read(box, 1, (0, 1, 2))
        _, seen = self.post.read(box, 1, (self.post_band or 0, ))
        both: np.ndarray = known & seen
        return both

    def pixel_area(self) -> float | None:
        """Square metres of a pixel in the middle of the scene.

        None without a reference system, or with control points alone. On
        the ellipsoid of WGS 84, whatever the system does to areas; of a
        local system, in its own plane.

        Raises:
            DataFormatError: If the scene does not lie where its system is
                defined.
        """
        place = self.place
        if place is None or place.transform is None or place.crs is None:
            return None
        (a, b, _), (d, e, _) = place.transform
        if not (place.crs.is_geographic or place.crs.is_projected):
            factor = float(place.crs.linear_units_factor[1])
            return float(abs(a * e - b * d)) * factor**2
        corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) + (
            np.array(self.size[::-1]) - 1) / 2
        area = ground_area(apply(place.transform, corners), place.crs)
        if not math.isfinite(area):
            raise DataFormatError(
                f'{self.pre.name}: by its georeference it lies outside of '
                f'what {place.crs} describes, so that no area is known. '
                'Correct it with gdal_edit.py -a_ullr or -a_srs.')
        return area


def ground_area(corners: np.ndarray, crs: Any) -> float:
    """Square metres of a small quadrilateral on the ellipsoid.

    Half the cross product of its diagonals in geocentric coordinates, which
    knows neither poles nor a date line.

    Args:
        corners: (4, 2), in turn, in coordinates of the system.
        crs: Reference system of rasterio.

    Returns:
        NaN or infinity where the system is not defined.
    """
    warp = require('rasterio.warp', 'geo')
    # PROJ's refusals come as they are, not as one of rasterio.errors.
    refused = require('rasterio._err', 'geo').CPLE_BaseError
    try:
        found = warp.transform(crs, 'EPSG:4326', *corners.T.tolist())
    except refused:
        return math.nan
    longitude, latitude = np.radians(found[0]), np.radians(found[1])
    normal = _AXIS / np.sqrt(1 - _ECCENTRICITY * np.sin(latitude)**2)
    points = normal[:, None] * np.stack([
        np.cos(latitude) * np.cos(longitude),
        np.cos(latitude) * np.sin(longitude),
        (1 - _ECCENTRICITY) * np.sin(latitude)], 1)
    across = np.cross(points[2] - points[0], points[3] - points[1])
    return float(np.linalg.norm(across)) / 2


def to_bytes(values: np.ndarray, limits: tuple[float, float] | None,
             valid: np.ndarray) -> np.ndarray:
    """Pixels as bytes, 0 where there is no data.

    Args:
        values: (C, h, w).
        limits: What becomes 0 and 255; None for what is bytes already.
        valid: (h, w) bool.
    """
    if limits is None:
        return np.where(valid, values, 0).astype(np.uint8)
    low, high = limits
    scaled = (np.where(valid, values, low) - low) * (255 / (high - low))
    return np.where(valid, np.clip(np.rint(scaled), 0, 255), 0).astype(
        np.uint8)


def open_scene(pre: Any, post: Any,
               pre_range: Sequence[float] | None = None,
               post_range: Sequence[float] | None = None,
               post_band: int | None = None,
               assume_aligned: bool = False) -> DamageScene:
    """Open a pair and make sure that it is one.

    Args:
        pre: The optical image before: a file, an array (H, W, 3) or more
            bands, or a Raster.
        post: The SAR image after: a file, an array (H, W) or (H, W, 1), or
            a Raster.
        pre_range: Values that become 0 and 255, where it is not 8-bit.
        post_range: The same.
        post_band: Number from 1 of the band to use, where there are
            several.
        assume_aligned: Trust that pixels show the same ground, whatever the
            georeferences say.

    Raises:
        DataFormatError: If bands, types, sizes or places do not fit.
        ConfigError: If a range cannot be used.
        OSARError: If a file cannot be read.
    """
    limits = (check_range('pre_range', pre_range),
              check_range('post_range', post_range))
    first, second = open_raster(pre, name='pre'), open_raster(
        post, name='post')
    band = check_bands(first, second, post_band)
    for raster, limit, name in (
            (first, limits[0], 'pre'), (second, limits[1], 'post')):
        if raster.dtype != np.uint8 and limit is None:
            raise DataFormatError(
                f'{raster.name}: has {raster.dtype} pixels; 8 bit are '
                'expected, as the model was trained on. Say which values '
                f'are black and white with {name}_range (--{name}-range LOW '
                'HIGH), or convert the file.')
    if first.size != second.size:
        raise DataFormatError(
            f'{first.name} has {first.size} pixels (rows, columns), '
            f'{second.name} has {second.size}; they must be alike. {_ALIGN}')
    if not assume_aligned:
        check_places(first, second)
    return DamageScene(first, second, band, *limits)


def check_range(name: str, limits: Sequence[float] | None
                ) -> tuple[float, float] | None:
    """Two finite numbers, the smaller first.

    Raises:
        ConfigError: If they are not.
    """
    if limits is None:
        return None
    if len(limits) != 2 or not all(map(math.isfinite, limits)) or (
            not limits[0] < limits[1]):
        raise ConfigError(
            f'{name}={tuple(limits)}: expected two numbers, the smaller one '
            'first.')
    return float(limits[0]), float(limits[1])


def check_bands(pre: Raster, post: Raster,
                post_band: int | None) -> int | None:
    """The band of the SAR image to use, from 0; None of 3 equal ones.

    Raises:
        DataFormatError: If the images have other numbers of bands.
    """
    if pre.count < 3:
        hint = ' The images look swapped: give the optical one first.' if (
            post.count >= 3) else ''
        raise DataFormatError(
            f'{pre.name}: has {pre.count} band(s); an optical image of at '
            f'least 3 is expected before the event.{hint}')
    if post_band is not None:
        if not 1 <= post_band <= post.count:
            raise DataFormatError(
                f'post_band={post_band}: {post.name} has the bands 1 to '
                f'{post.count}.')
        return post_band - 1
    if post.count not in (1, 3):
        raise DataFormatError(
            f'{post.name}: has {post.count} bands; SAR of 1 band is expected '
            'after the event. Choose one with post_band (--post-band).')
    return 0 if post.count == 1 else None


def check_places(pre: Raster, post: Raster) -> None:
    """Refuse a pair whose georeferences say that it shows other ground.

    Raises:
        DataFormatError: Naming both, and the cure.
    """
    one, other = pre.place, post.place
    if one is None and other is None:
        return
    trust = (' If their pixels show the same ground nonetheless, say '
             'assume_aligned=True (--assume-aligned).')
    if one is None or other is None:
        bare = pre if one is None else post
        raise DataFormatError(
            f'{bare.name} has no georeference and the other image has one. '
            f'{_ALIGN}.{trust}')
    if one.crs != other.crs:
        raise DataFormatError(
            f'{pre.name} is in {one.crs} and {post.name} in {other.crs}. '
            f'{_ALIGN}.{trust}')
    if one.transform is None or other.transform is None:
        raise DataFormatError(
            f'{pre.name} and {post.name} are placed by control points, which '
            f'cannot be compared. {_ALIGN}.{trust}')
    height, width = pre.size
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]],
                       float)
    to_pre = compose(invert(one.transform), other.transform)
    apart = float(np.abs(apply(to_pre, corners) - corners).max())
    if not apart <= TOLERANCE:
        raise DataFormatError(
            f'By their georeferences {pre.name} and {post.name} lie '
            f'{apart:.1f} pixels apart. {_ALIGN}.{trust}')
