"""Images of registration, read in windows: files of any size, and arrays.

A :class:`Raster` is asked for its pixels at any positions
(:func:`resample`), reads no more than the window that these lie in, and
averages where it is asked for fewer pixels than it has. All positions are
pixel centres at integers, as in :mod:`osar_plugin.utils.geometry`; GDAL's
corners appear only where a geotransform is used.

Legend: C bands, H W height and width in pixels, k factor of decimation.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.logging import print_log

from ..compat import require
from ..io import decode
from ..utils.errors import (
    ConfigError,
    CorruptImageError,
    DataFormatError,
    DatasetNotFoundError,
)
from ..utils.geometry import Size

SMALLEST = 16
"""Shortest side of an image that can be registered, pixels."""

CACHE_MIB = 128
"""GDAL's cache of blocks; by itself it takes a twentieth of the memory."""

PATCH, PICTURE_SHARE = 64, 0.1
"""Side in pixels of the samples of an alpha band, and the share of them
above which it is a picture."""

RESAMPLING = ('nearest', 'bilinear', 'cubic')

_PLAIN = {'.png': '.pgw', '.jpg': '.jgw', '.jpeg': '.jgw', '.bmp': '.bpw'}
"""Formats that Pillow checks to the last byte, and their world files."""


class Box(NamedTuple):
    """A window, upper left corner and size in pixels."""

    x: int
    y: int
    width: int
    height: int


class Place(NamedTuple):
    """Where an image lies on Earth.

    Attributes:
        crs: Reference system of the package rasterio; None for local
            coordinates.
        transform: (2, 3) float64, pixel corners to coordinates; None where
            there are control points instead.
        gcps: Control points of rasterio, where the image has them only.
    """

    crs: Any
    transform: np.ndarray | None
    gcps: tuple[Any, ...] = ()


@dataclass
class Raster:
    """An image in memory, and the interface of all images.

    Attributes:
        name: For messages.
        pixels: (C, H, W) in the depth of the file.
        place: On Earth; None without a georeference.
    """

    name: str
    pixels: np.ndarray | None = None
    place: Place | None = None

    @property
    def size(self) -> Size:
        """(H, W)."""
        return self._array().shape[1], self._array().shape[2]

    @property
    def count(self) -> int:
        """Bands that are no alpha."""
        return len(self._array())

    @property
    def dtype(self) -> np.dtype:
        """Of the pixels."""
        return self._array().dtype

    @property
    def nodata(self) -> float | None:
        """Value that stands for no data."""
        return None

    def read(self, box: Box, k: int = 1, bands: Sequence[int] | None = None,
             average: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of a window within the image.

        Args:
            box: Sides that are no multiples of k are rounded up.
            k: Means (or the middle one, without ``average``) of k x k
                pixels.
            bands: From 0; default: all.
            average: See k.

        Returns:
            (C, h, w), and where there is data, (h, w) bool.
        """
        part = self._array()[list(bands) if bands is not None else slice(
            None), box.y:box.y + box.height, box.x:box.x + box.width]
        return _decimate(part, _finite(part), k, average)

    def _array(self) -> np.ndarray:
        if self.pixels is None:
            raise DataFormatError(f'{self.name} holds no pixels.')
        return self.pixels


def _finite(pixels: np.ndarray) -> np.ndarray:
    """Where all bands are finite, (H, W) bool."""
    if pixels.dtype.kind != 'f':
        return np.ones(pixels.shape[1:], bool)
    valid: np.ndarray = np.isfinite(pixels).all(0)
    return valid


def _decimate(pixels: np.ndarray, valid: np.ndarray, k: int,
              average: bool) -> tuple[np.ndarray, np.ndarray]:
    """One pixel for k x k; means are of those with data."""
    if k == 1:
        return pixels, valid
    if not average:
        # Blocks at the border may be smaller than half of one.
        rows, columns = (
            np.minimum(np.arange(0, side, k) + k // 2, side - 1)
            for side in valid.shape)
        return pixels[:, rows][:, :, columns], valid[rows][:, columns]
    weight = _block_sums(valid.astype(np.float64), k)
    filled = np.where(valid, pixels, 0)
    sums = np.stack([_block_sums(band.astype(np.float64), k)
                     for band in filled])
    means = sums / np.maximum(weight, 1)
    if pixels.dtype.kind != 'f':
        means = np.rint(means)
    return means.astype(pixels.dtype), weight > 0


def _block_sums(image: np.ndarray, k: int) -> np.ndarray:
    rows, columns = (np.arange(0, side, k) for side in image.shape)
    sums: np.ndarray = np.add.reduceat(
        np.add.reduceat(image, rows, 0), columns, 1)
    return sums


class FileRaster(Raster):
    """A file that GDAL reads, window by window.

    A pixel has data where one of the bands that are read has. A band that is
    called alpha says so for all, unless it holds a picture, as that of a
    near infrared band that GDAL takes for alpha: then it is one more band,
    and a warning says it.

    Args:
        path: Of the file.
        crs: Reference system where the file names none, e.g.
            ``'EPSG:32632'``.

    Raises:
        CorruptImageError: If it cannot be opened.
        DataFormatError: If its samples are complex.
    """

    def __init__(self, path: Path, crs: str | None = None) -> None:
        rasterio = require('rasterio', 'geo')
        super().__init__(str(path))
        self.path = path
        try:
            with without_warnings():
                self.file = rasterio.open(path)
        except rasterio.errors.RasterioError as error:
            raise CorruptImageError(
                f'{path}: cannot be opened ({error}). It is damaged or no '
                'image; copy or download it again.') from error
        self.bands = _data_bands(self.file, path)
        self._alpha = self._alpha_of_data()
        self.place = _place_of(self.file, crs)

    @property
    def size(self) -> Size:
        return self.file.height, self.file.width

    @property
    def count(self) -> int:
        return len(self.bands)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.file.dtypes[self.bands[0] - 1])

    @property
    def nodata(self) -> float | None:
        value: float | None = self.file.nodata
        return value

    def read(self, box: Box, k: int = 1, bands: Sequence[int] | None = None,
             average: bool = True) -> tuple[np.ndarray, np.ndarray]:
        rasterio = require('rasterio', 'geo')
        chosen = self.bands if bands is None else [
            self.bands[i] for i in bands]
        windows = require('rasterio.windows', 'geo')
        window = windows.Window(box.x, box.y, box.width, box.height)
        # Past the border of the image by less than one decimated pixel:
        # the window is stretched, or the last pixel would be shifted.
        shape = (-(-box.height // k), -(-box.width // k))
        if shape[0] * k != box.height or shape[1] * k != box.width:
            return self._read_ragged(box, k, chosen, average)
        kinds = require('rasterio.enums', 'geo').Resampling
        options: dict[str, Any] = dict(window=window, out_shape=shape)
        try:
            with environment():
                pixels = self.file.read(
                    chosen, resampling=kinds.average if average and k > 1
                    else kinds.nearest, **{
                        **options, 'out_shape': (len(chosen), *shape)})
                valid = self._mask(chosen, options)
        except rasterio.errors.RasterioError as error:
            raise self._damaged(error) from error
        return pixels, valid & _finite(pixels)

    def _mask(self, chosen: Sequence[int],
              options: dict[str, Any]) -> np.ndarray:
        """Where any of some bands has data, (h, w) bool."""
        flags = require('rasterio.enums', 'geo').MaskFlags
        known: np.ndarray = np.zeros(options['out_shape'], bool)
        for band in chosen:
            kinds = self.file.mask_flag_enums[band - 1]
            if flags.all_valid in kinds or (
                    flags.alpha in kinds and self._alpha is None):
                return np.ones(options['out_shape'], bool)
            known |= self.file.read_masks(band, **options) > 0
            if flags.per_dataset in kinds:
                break  # all bands have the same
        return known

    def _alpha_of_data(self) -> int | None:
        """The band that says where there is data.

        A band that is called alpha and holds more than two values in many
        places is a picture, near infrared as a rule: it joins the others,
        with a warning.
        """
        kind = require('rasterio.enums', 'geo').ColorInterp.alpha
        error = require('rasterio.errors', 'geo').RasterioError
        found = [i for i, own in enumerate(self.file.colorinterp, 1)
                 if own == kind]
        try:
            if not found or not _is_picture(self.file, found[-1]):
                return found[-1] if found else None
        except error as reason:
            raise self._damaged(reason) from reason
        print_log(
            f'{self.path}: band {found[-1]} is called alpha and holds more '
            'than transparent and opaque pixels, so it is taken for data and '
            'hides nothing. Say what it is: gdal_edit.py -colorinterp_'
            f'{found[-1]} undefined FILE, or write a real mask.',
            'current', logging.WARNING)
        if self.file.dtypes[found[-1] - 1] == str(self.dtype):
            self.bands = [*self.bands, found[-1]]
        return None

    def _read_ragged(self, box: Box, k: int, chosen: Sequence[int],
                     average: bool) -> tuple[np.ndarray, np.ndarray]:
        """Whole blocks by GDAL, the rest at the far borders by hand."""
        bands = [self.bands.index(band) for band in chosen]
        whole = Box(box.x, box.y, box.width // k * k, box.height // k * k)
        shape = (-(-box.height // k), -(-box.width // k))
        pixels = np.zeros((len(chosen), *shape), self.dtype)
        valid = np.zeros(shape, bool)
        right = Box(box.x + whole.width, box.y, box.width - whole.width,
                    box.height)
        below = Box(box.x, box.y + whole.height, whole.width,
                    box.height - whole.height)
        for part in (whole, right, below):
            if not part.width or not part.height:
                continue
            exact = part is whole
            values, mask = self.read(part, k if exact else 1, bands, average)
            if not exact:
                values, mask = _decimate(values, mask, k, average)
            y, x = (part.y - box.y) // k, (part.x - box.x) // k
            area = (slice(y, y + len(mask)), slice(x, x + mask.shape[1]))
            pixels[(slice(None), *area)], valid[area] = values, mask
        return pixels, valid

    def _damaged(self, error: Exception) -> CorruptImageError:
        return CorruptImageError(
            f'{self.path}: cannot be read ({error}). The file is truncated '
            'or damaged; copy or download it again.')


@contextmanager
def environment() -> Iterator[None]:
    """GDAL with a bounded cache, and masks inside of TIFFs."""
    rasterio = require('rasterio', 'geo')
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MIB, GDAL_TIFF_INTERNAL_MASK=True):
        yield


@contextmanager
def without_warnings() -> Iterator[None]:
    """A file without georeference is nothing to warn of here."""
    kind = require('rasterio.errors', 'geo').NotGeoreferencedWarning
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', kind)
        yield


def _data_bands(file: Any, path: Path) -> list[int]:
    """Numbers from 1 of the bands that are no alpha."""
    alpha = require('rasterio.enums', 'geo').ColorInterp.alpha
    bands = [i for i, kind in enumerate(file.colorinterp, 1)
             if kind != alpha]
    kinds = {file.dtypes[i - 1] for i in bands}
    if not bands or any('complex' in kind for kind in kinds):
        raise DataFormatError(
            f'{path}: has the band types {sorted(kinds)}; real numbers are '
            'expected. Write the amplitude of complex samples to a file '
            'first.')
    if len(kinds) > 1:
        raise DataFormatError(
            f'{path}: its bands have different types, {sorted(kinds)}; one '
            'is expected. Split them with gdal_translate -b.')
    return bands


def _is_picture(file: Any, band: int) -> bool:
    """Whether a band is more than transparent and opaque.

    Of 3 x 3 patches over the file, more than a tenth of the pixels lie
    between nothing and the largest value; soft edges are fewer.
    """
    window = require('rasterio.windows', 'geo').Window
    parts = []
    for i in range(9):
        y, x = (max(0, side * (2 * step + 1) // 6 - PATCH // 2)
                for side, step in zip(file.shape, divmod(i, 3), strict=True))
        parts.append(file.read(band, window=window(
            x, y, min(PATCH, file.width - x),
            min(PATCH, file.height - y))).ravel())
    values = np.concatenate(parts)
    between = (values > 0) & (values < values.max())
    return bool(between.mean() > PICTURE_SHARE)


def _place_of(file: Any, crs: str | None) -> Place | None:
    gcps, gcps_crs = file.gcps
    if file.transform.is_identity:
        return Place(gcps_crs or _named(crs), None, tuple(gcps)) if gcps \
            else None
    t = file.transform
    return Place(file.crs or _named(crs), np.array(
        [[t.a, t.b, t.c], [t.d, t.e, t.f]]))


def _named(crs: str | None) -> Any:
    if crs is None:
        return None
    module = require('rasterio.crs', 'geo')
    try:
        return module.CRS.from_user_input(crs)
    except (ValueError, require('rasterio.errors', 'geo').CRSError) as error:
        raise ConfigError(
            f'crs={crs!r} names no reference system ({error}): write e.g. '
            'EPSG:32632.') from error


def open_raster(source: Any, crs: str | None = None,
                name: str = 'image') -> Raster:
    """An image of a path or an array.

    Args:
        source: A file; an array (H, W) or (H, W, C); or a Raster.
        crs: Reference system where the file names none.
        name: Of arrays, for messages.

    Raises:
        DatasetNotFoundError: If there is no such file.
        CorruptImageError: If it cannot be read.
        DataFormatError: If it is no image, or too small.
    """
    if isinstance(source, Raster):
        raster = source
    elif isinstance(source, np.ndarray):
        raster = _from_array(source, name)
    elif isinstance(source, (str, Path)):
        raster = _open_file(Path(source), crs)
    else:
        raise ConfigError(
            f'{name} is a {type(source).__name__}; expected a path or an '
            'array (H, W) or (H, W, C).')
    if min(raster.size) < SMALLEST:
        raise DataFormatError(
            f'{raster.name}: has {raster.size[0]} x {raster.size[1]} pixels '
            f'(rows x columns); at least {SMALLEST} x {SMALLEST} are '
            'needed.')
    return raster


def _open_file(path: Path, crs: str | None) -> Raster:
    if not path.is_file():
        raise DatasetNotFoundError(f'{path}: no such file. Check the path.')
    world = _PLAIN.get(path.suffix.lower())
    if world and not path.with_suffix(world).exists() and not Path(
            f'{path}.aux.xml').exists():
        return _from_array(decode(path), str(path))
    return FileRaster(path, crs)


def _from_array(image: np.ndarray, name: str) -> Raster:
    if image.ndim not in (2, 3) or image.dtype.kind not in 'uif' or (
            not image.size):
        raise DataFormatError(
            f'{name} has shape {image.shape} and type {image.dtype}; '
            'expected (H, W) or (H, W, C) of real numbers.')
    bands = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    return Raster(name, np.ascontiguousarray(bands))


# --------------------------------------------------------------- resampling


def resample(raster: Raster, positions: np.ndarray, kernel: str = 'bilinear',
             bands: Sequence[int] | None = None
             ) -> tuple[np.ndarray, np.ndarray]:
    """Pixels at positions; where those lie far apart, means.

    Args:
        raster: Read in one window around the positions.
        positions: (2, H, W) float64, (x, y); may lie outside or be NaN.
        kernel: One of :data:`RESAMPLING`.
        bands: From 0; default: all.

    Returns:
        (C, H, W) float32, of deep types float64, 0 without data; and where
        there is data, (H, W) bool.
    """
    height, width = raster.size
    count = raster.count if bands is None else len(bands)
    deep = raster.dtype.itemsize > 2 and raster.dtype != np.float32
    kind = np.float64 if deep else np.float32
    x, y = positions
    with np.errstate(invalid='ignore'):
        inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (
            y <= height - 0.5)
    if not inside.any():
        return (np.zeros((count, *x.shape), kind),
                np.zeros(x.shape, bool))
    k = spacing(positions)
    box = _window((x[inside], y[inside]), raster.size, k)
    pixels, valid = raster.read(box, k, bands, kernel != 'nearest')
    local_x = (np.where(inside, x, box.x) - box.x + 0.5) / k - 0.5
    local_y = (np.where(inside, y, box.y) - box.y + 0.5) / k - 0.5
    values, weight = interpolate(
        pixels.astype(kind, copy=False), valid, local_x, local_y, kernel)
    found = inside & weight
    values *= found
    return values, found


def spacing(positions: np.ndarray) -> int:
    """Whole number of source pixels between neighbours, at least 1."""
    steps = []
    for axis in (1, 2):
        if positions.shape[axis] > 1:
            # Every sixteenth line across is enough for a median.
            lines = positions[:, :, ::16] if axis == 1 else positions[
                :, ::16]
            step = np.linalg.norm(np.diff(lines, axis=axis), axis=0)
            step = step[np.isfinite(step)]
            if step.size:
                steps.append(float(np.median(step)))
    return max(1, math.floor(min(steps, default=1.) + 1e-3))


def _window(points: tuple[np.ndarray, np.ndarray], size: Size,
            k: int) -> Box:
    """Where positions and two (decimated) neighbours of each lie."""
    spans = []
    for values, side in zip(points, (size[1], size[0]), strict=True):
        low = max(math.floor(float(values.min())) - 2 * k, 0) // k * k
        high = min(math.ceil(float(values.max())) + 2 * k + 1, side)
        high = min(-(-high // k) * k, side)
        spans.append((low, high - low))
    return Box(spans[0][0], spans[1][0], spans[0][1], spans[1][1])


def interpolate(pixels: np.ndarray, valid: np.ndarray, x: np.ndarray,
                y: np.ndarray, kernel: str = 'bilinear'
                ) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means of neighbours that have data.

    ``cubic`` is Keys' kernel with a = -0.5, as GDAL's (OpenCV and torch
    have -0.75); next to pixels without data it is bilinear, as its negative
    weights do not sum to anything there.

    Args:
        pixels: (C, h, w) float.
        valid: (h, w) bool.
        x: (H, W), within -0.5 and w - 0.5.
        y: (H, W).
        kernel: One of :data:`RESAMPLING`.

    Returns:
        (C, H, W), and (H, W) bool: the nearest pixel has data.
    """
    near = valid[_clipped(np.floor(y + 0.5), valid.shape[0]),
                 _clipped(np.floor(x + 0.5), valid.shape[1])]
    if kernel == 'nearest':
        values = pixels[:, _clipped(np.floor(y + 0.5), valid.shape[0]),
                        _clipped(np.floor(x + 0.5), valid.shape[1])]
        return np.where(near, values, 0), near
    filled = pixels if valid.all() else np.where(valid, pixels, 0)
    values, weight = _taps(filled, valid, x, y, _linear)
    if kernel == 'cubic':
        sharp, seen = _taps(filled, valid, x, y, _keys)
        # Kernels sum to 1 where every pixel they touch has data.
        values = np.where(seen >= 16, sharp, values)
    elif kernel != 'bilinear':
        raise ConfigError(
            f'resampling {kernel!r} is not known: use one of '
            f'{", ".join(RESAMPLING)}.')
    return values, near & (weight > 0)


def _linear(t: np.ndarray) -> list[tuple[int, np.ndarray]]:
    return [(0, 1 - t), (1, t)]


def _keys(t: np.ndarray) -> list[tuple[int, np.ndarray]]:
    return [(-1, ((-0.5 * t + 1) * t - 0.5) * t),
            (0, (1.5 * t - 2.5) * t * t + 1),
            (1, ((-1.5 * t + 2) * t + 0.5) * t),
            (2, (0.5 * t - 0.5) * t * t)]


def _taps(pixels: np.ndarray, valid: np.ndarray, x: np.ndarray,
          y: np.ndarray, kernel: Any) -> tuple[np.ndarray, np.ndarray]:
    """Means over the taps with data; weights, or with Keys the number."""
    count, height, width = pixels.shape
    x0, y0 = np.floor(x), np.floor(y)
    flat = pixels.reshape(count, -1)
    whole = bool(valid.all())
    mask = valid.ravel()
    kind = pixels.dtype
    columns = [(_clipped(x0 + i, width), w.astype(kind))
               for i, w in kernel(x - x0)]
    total = np.zeros((count, *x.shape), kind)
    weights = np.zeros(x.shape, kind)
    taps = np.zeros(x.shape, np.int64)
    for j, across in kernel(y - y0):
        row = _clipped(y0 + j, height) * width
        for column, along in columns:
            index = row + column
            weight = across.astype(kind) * along
            if not whole:
                seen = mask[index]
                taps += seen
                weight = weight * seen
            total += flat[:, index] * weight
            weights += weight
    if whole:
        taps += len(columns)**2
        return total, taps
    positive = weights > 1e-6
    total /= np.where(positive, weights, 1)
    return total, taps if len(columns) == 4 else positive


def _clipped(values: np.ndarray, side: int) -> np.ndarray:
    return np.clip(values, 0, side - 1).astype(np.int64)
