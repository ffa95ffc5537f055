"""What a registration is written as: rasters, control points, reports.

A raster is written block by block into a folder of its own beside the
output and takes its name when it is complete. All pixel coordinates that
leave the package here are GDAL's, with corners at integers.

Legend: x a pixel of the output grid, M the map from pixel centres of a grid
to those of the file that is brought onto it.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..compat import require
from ..io import atomic_write
from ..utils.errors import ConfigError, OSARError
from ..utils.geometry import Size, apply, compose, invert
from .registration_raster import (
    Box,
    FileRaster,
    Place,
    Raster,
    environment,
    resample,
    without_warnings,
)
from .registration_scene import (
    Points,
    from_corner,
    inside,
    lattice,
    positions,
    to_geotransform,
)

BLOCK = 512
"""Side of what is resampled at once, pixels."""

_TAG = 'OSAR_PLUGIN_REGISTRATION'
# Of the old pixels, or said by the georeference.
_STALE = ('STATISTICS_', 'AREA_OR_POINT')
_LOSSLESS = ('deflate', 'lzw', 'zstd', 'packbits')


@dataclass(frozen=True)
class Grid:
    """Where output pixels lie.

    Attributes:
        size: (H, W).
        place: On Earth; None without a georeference.
        factor: Pixels of the fixed image per pixel, (x, y).
    """

    size: Size
    place: Place | None
    factor: tuple[float, float] = (1., 1.)

    def to_fixed(self, points: np.ndarray) -> np.ndarray:
        """Pixels of this grid to those of the fixed image, (N, 2)."""
        return (points + 0.5) * np.array(self.factor) - 0.5


def finer(grid: Grid, factor: tuple[float, float]) -> Grid:
    """The same ground in pixels of another size.

    Args:
        grid: Of the fixed image.
        factor: Pixels of the fixed image per new pixel, (x, y). Rounded so
            that whole pixels fill the ground.
    """
    height, width = grid.size
    size = (max(1, round(height / factor[1])),
            max(1, round(width / factor[0])))
    exact = (width / size[1], height / size[0])
    place = grid.place
    if place is not None and place.transform is not None:
        place = Place(place.crs, compose(place.transform, np.array(
            [[exact[0], 0, 0], [0, exact[1], 0]])))
    return Grid(size, place, exact)


# ------------------------------------------------------- files as a whole


def require_writable(path: Path, inputs: Sequence[Path] = ()) -> None:
    """Make sure, before hours of work, that an output can be written.

    Raises:
        ConfigError: If it cannot, or is one of the inputs.
    """
    for other in inputs:
        if path.resolve() == other.resolve():
            raise ConfigError(
                f'The output {path} is also an input: give another name.')
    if path.is_dir():
        raise ConfigError(f'The output {path} is a folder: name a file.')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f'{path} cannot be written ({error}). Choose another place, or see '
        'to its permissions and free space.')


@contextmanager
def whole_raster(path: Path) -> Iterator[Path]:
    """A path to write a raster to that is renamed once it is complete.

    If the body raises, nothing is left behind and an earlier file stays.

    Raises:
        ConfigError: If it cannot be written.
    """
    rasterio = require('rasterio', 'geo')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(
            dir=path.parent, prefix=f'.{path.name}.', suffix='.tmp'))
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        # Of the same name, as GDAL chooses formats of sidecars by it.
        target = folder / path.name
        with environment():
            yield target
        with open(target, 'rb+') as file:
            os.fsync(file.fileno())
        os.replace(target, path)
    except (rasterio.errors.RasterioError, OSError) as error:
        if isinstance(error, OSARError):
            raise  # of an input
        raise _unwritable(path, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all.

    Raises:
        ConfigError: If it cannot be written.
    """
    try:
        with atomic_write(path) as file:
            file.write(text)
    except OSError as error:
        raise _unwritable(path, error) from error


# ------------------------------------------------------------- resampled


def write_resampled(path: Path, source: Raster, grid: Grid, points: Points,
                    resampling: str = 'cubic', note: str = '') -> None:
    """A file brought onto a grid.

    Data type, nodata value, band names, units, colours, tags, overviews and
    lossless compression stay. Where the source has no data, or does not
    reach, stands its nodata value; of a source without one, a mask (in PNG,
    alpha) says so.

    Args:
        path: ``.tif``, or ``.png`` for 1 or 3 bands of 8 bit.
        source: What is resampled.
        grid: Of the output.
        points: M.
        resampling: Kernel, see :data:`.registration_raster.RESAMPLING`.
        note: Kept in the tags.

    Raises:
        ConfigError: If the file cannot hold this, or cannot be written.
    """
    if _is_palette(source) and resampling != 'nearest':
        raise ConfigError(
            f'{source.name}: its pixels are indices of a colour table, of '
            "which no means can be taken: use resampling='nearest'.")
    if path.suffix.lower() == '.png':
        _write_png(path, source, grid, points, resampling)
        return
    rasterio = require('rasterio', 'geo')
    with whole_raster(path) as target:
        with without_warnings(), rasterio.open(
                target, 'w', **_profile(source, grid)) as file:
            _describe(source, file, note)
            for box in blocks(grid.size):
                _write_block(file, source, box, points, resampling)
        _add_overviews(source, target, resampling)


def blocks(size: Size, side: int = BLOCK) -> Iterator[Box]:
    """Windows that cover an image."""
    for y in range(0, size[0], side):
        for x in range(0, size[1], side):
            yield Box(x, y, min(side, size[1] - x), min(side, size[0] - y))


def _write_block(file: Any, source: Raster, box: Box, points: Points,
                 resampling: str) -> None:
    values, valid = resample(source, positions(box, 1, points), resampling)
    window = require('rasterio.windows', 'geo').Window(*box)
    file.write(as_type(values, valid, source.dtype, source.nodata),
               window=window)
    if source.nodata is None:
        file.write_mask(valid.astype(np.uint8) * 255, window=window)


def as_type(values: np.ndarray, valid: np.ndarray, dtype: np.dtype,
            nodata: float | None) -> np.ndarray:
    """Numbers in the type of the source.

    Args:
        values: (C, H, W) float.
        valid: (H, W) bool.
        dtype: Of the result; integers are rounded and kept in range.
        nodata: Written where there is no data. Data that happens to equal
            it is moved by the smallest step.
    """
    if dtype.kind in 'ui':
        limits = np.iinfo(dtype)
        # The largest 64-bit integers are no floats.
        high = np.nextafter(float(limits.max), 0) if float(
            limits.max) > limits.max else float(limits.max)
        out = np.clip(np.rint(values), limits.min, high).astype(dtype)
    else:
        out = values.astype(dtype)
    if nodata is None:
        return out
    value = dtype.type(nodata)
    if dtype.kind in 'ui':
        step = value - dtype.type(1) if value == limits.max else (
            value + dtype.type(1))
    else:
        step = np.nextafter(value, dtype.type(np.inf))
    out[(out == value) & valid] = step
    out[:, ~valid] = value
    return out


def _profile(source: Raster, grid: Grid) -> dict[str, Any]:
    profile = dict(
        driver='GTiff', dtype=source.dtype.name, count=source.count,
        height=grid.size[0], width=grid.size[1], nodata=source.nodata,
        compress='deflate', bigtiff='if_safer')
    if min(grid.size) >= BLOCK:
        profile.update(tiled=True, blockxsize=BLOCK, blockysize=BLOCK)
    if grid.place is not None and grid.place.transform is not None:
        profile.update(crs=grid.place.crs,
                       transform=_affine(grid.place.transform))
    if isinstance(source, FileRaster):
        stated = (source.file.compression or '')
        name = getattr(stated, 'name', str(stated)).lower()
        if name in _LOSSLESS:
            profile['compress'] = name
    if _is_rgb(source):
        profile['photometric'] = 'RGB'
    return profile


def _affine(transform: np.ndarray) -> Any:
    kind = require('rasterio.transform', 'geo').Affine
    return kind(*np.asarray(transform, float).ravel().tolist())


def _colours(source: Raster) -> list[str]:
    if isinstance(source, FileRaster):
        return [source.file.colorinterp[i - 1].name for i in source.bands]
    return ['red', 'green', 'blue'] if source.count == 3 else ['gray']


def _is_rgb(source: Raster) -> bool:
    return (_colours(source)[:3] == ['red', 'green', 'blue']
            and source.dtype in (np.uint8, np.uint16))


def _is_palette(source: Raster) -> bool:
    return _colours(source)[0] == 'palette'


def _describe(source: Raster, file: Any, note: str) -> None:
    """Everything that a file says of its bands, for another."""
    if note:
        file.update_tags(**{_TAG: note})
    if not isinstance(source, FileRaster):
        return
    old = source.file
    file.update_tags(**_tags(old.tags()))
    chosen = [i - 1 for i in source.bands]
    file.scales = [old.scales[i] for i in chosen]
    file.offsets = [old.offsets[i] for i in chosen]
    for new, i in enumerate(source.bands, 1):
        if old.descriptions[i - 1]:
            file.set_band_description(new, old.descriptions[i - 1])
        if old.units[i - 1]:
            file.set_band_unit(new, old.units[i - 1])
        file.update_tags(new, **_tags(old.tags(i)))
    kinds = require('rasterio.enums', 'geo').ColorInterp
    # An alpha among the bands is one that holds a picture.
    file.colorinterp = [
        kinds.undefined if old.colorinterp[i] == kinds.alpha
        else old.colorinterp[i] for i in chosen]
    if _is_palette(source):
        file.write_colormap(1, old.colormap(source.bands[0]))


def _tags(tags: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items()
            if not key.startswith(_STALE)}


def _add_overviews(source: Raster, path: Path, resampling: str) -> None:
    if not isinstance(source, FileRaster):
        return
    levels = source.file.overviews(source.bands[0])
    if not levels:
        return
    rasterio = require('rasterio', 'geo')
    kinds = require('rasterio.enums', 'geo').Resampling
    with without_warnings(), rasterio.open(path, 'r+') as file:
        file.build_overviews(levels, kinds.nearest if resampling == 'nearest'
                             else kinds.average)


def _write_png(path: Path, source: Raster, grid: Grid, points: Points,
               resampling: str) -> None:
    if source.dtype != np.uint8 or source.count not in (1, 3):
        raise ConfigError(
            f'{source.name}: {source.count} bands of {source.dtype} do not '
            f'go into {path.name}: name the output .tif.')
    canvas = np.zeros((*grid.size, source.count + 1), np.uint8)
    for box in blocks(grid.size):
        values, valid = resample(
            source, positions(box, 1, points), resampling)
        part = canvas[box.y:box.y + box.height, box.x:box.x + box.width]
        part[..., :-1] = as_type(
            values, valid, source.dtype, None).transpose(1, 2, 0)
        part[..., -1] = valid * np.uint8(255)
    data = io.BytesIO()
    Image.fromarray(canvas).save(data, 'PNG')
    try:
        with atomic_write(path, 'wb') as file:
            file.write(data.getvalue())
    except OSError as error:
        raise _unwritable(path, error) from error


# --------------------------------------------------- pixels as they are


def fit_to_source(grid: Grid, source: Raster, points: Points
                  ) -> tuple[np.ndarray, float]:
    """The affine of M, and the most that M departs from it.

    Returns:
        (2, 3), grid to source, pixel centres; pixels of the source.
    """
    from ..models.registration.fitting import fit_affine

    at = shared_lattice(grid, source, points, 33)
    there = points(at)
    matrix = fit_affine(at, there)
    return matrix, float(np.linalg.norm(
        apply(matrix, at) - there, axis=1).max())


def write_geotransform(path: Path, source: Raster, grid: Grid,
                       points: Points, tolerance: float = 0.5,
                       note: str = '') -> None:
    """A file with a new geotransform, its pixels untouched.

    The geotransform of the fixed image times the inverse affine of M, both
    for pixel corners.

    Args:
        path: ``.tif``.
        source: The file.
        grid: Of the fixed image, with a georeference.
        points: M.
        tolerance: Pixels by which M may depart from an affine.
        note: Kept in the tags.

    Raises:
        ConfigError: If the grid has no georeference, M is no affine, or the
            file cannot be written.
    """
    place = _require_place(grid)
    matrix, off = fit_to_source(grid, source, points)
    if off > tolerance:
        raise ConfigError(
            f'{source.name}: a geotransform would be {off:.1f} px off, as '
            'the map to its pixels is no affine (another reference system, '
            'control points, or a transform that bends). Write it '
            'resampled, or with control points.')
    transform = to_geotransform(compose(
        from_corner(place.transform), invert(matrix)))
    with _untouched(path, source, note) as file:
        # Clears control points, where there are some.
        file.transform = _affine(transform)
        if place.crs is not None:
            file.crs = place.crs


def _require_place(grid: Grid) -> Any:
    place = grid.place
    if place is None or place.transform is None:
        raise ConfigError(
            'FIXED has no georeference, so none can be given on. Write the '
            'result resampled, or as CSV in pixels.')
    return place


@contextmanager
def _untouched(path: Path, source: Raster, note: str) -> Iterator[Any]:
    """A copy of a source as GeoTIFF, open for its georeference."""
    if path.suffix.lower() not in ('.tif', '.tiff'):
        raise ConfigError(
            f'{path}: a georeference goes into a GeoTIFF; name it .tif.')
    rasterio = require('rasterio', 'geo')
    with whole_raster(path) as target:
        if isinstance(source, FileRaster) and source.file.driver == 'GTiff':
            # Byte by byte: nothing is decoded, nothing is lost.
            shutil.copyfile(source.path, target)
        else:
            plain = Grid(source.size, None)
            with without_warnings(), rasterio.open(
                    target, 'w', **_profile(source, plain)) as file:
                _describe(source, file, '')
                for box in blocks(source.size):
                    _copy_block(file, source, box)
        with without_warnings(), rasterio.open(
                target, 'r+', IGNORE_COG_LAYOUT_BREAK='YES') as file:
            if note:
                file.update_tags(**{_TAG: note})
            yield file


def _copy_block(file: Any, source: Raster, box: Box) -> None:
    pixels, valid = source.read(box)
    window = require('rasterio.windows', 'geo').Window(*box)
    file.write(pixels, window=window)
    if source.nodata is None and not valid.all():
        file.write_mask(valid.astype(np.uint8) * 255, window=window)


# -------------------------------------------------------- control points


def shared_lattice(grid: Grid, source: Raster, points: Points,
                   count: int) -> np.ndarray:
    """Points (N, 2) of a grid, evenly over where the source reaches.

    Args:
        grid: See :class:`Grid`.
        source: See there.
        points: M.
        count: Along a side.

    Raises:
        ConfigError: If the source reaches nowhere.
    """
    coarse = lattice(grid.size, 129)
    reached = coarse[inside(points(coarse), source.size)]
    if len(reached) < 3:
        raise ConfigError(
            f'{source.name} does not lie on the fixed image.')
    x, y = (np.linspace(reached[:, i].min(), reached[:, i].max(), count)
            for i in (0, 1))
    x, y = np.meshgrid(x, y)
    at = np.stack([x.ravel(), y.ravel()], 1)
    return at[inside(points(at), source.size)]


@dataclass(frozen=True)
class ControlPoints:
    """Control points of a file that stays as it is.

    Attributes:
        pixels: (N, 2), (x, y) in the file, corners at integers.
        world: (N, 2), in the reference system of the fixed image; without
            one its pixels, corners at integers.
        place: Of the fixed image.
    """

    pixels: np.ndarray
    world: np.ndarray
    place: Place | None


def control_points(grid: Grid, source: Raster, points: Points,
                   bends: bool) -> ControlPoints:
    """Control points of a registration: 5 x 5, or 32 x 32 if it bends."""
    at = shared_lattice(grid, source, points, 32 if bends else 5)
    pixels = points(at) + 0.5
    place = grid.place
    if place is None or place.transform is None:
        return ControlPoints(pixels, at + 0.5, None)
    return ControlPoints(pixels, apply(from_corner(place.transform), at),
                         place)


def write_gcps(path: Path, source: Raster, found: ControlPoints,
               note: str = '') -> None:
    """A copy with ground control points, its pixels untouched.

    Raises:
        ConfigError: If there is no georeference to give on, or the file
            cannot be written.
    """
    if found.place is None:
        _require_place(Grid((0, 0), None))
        return
    gcp = require('rasterio.control', 'geo').GroundControlPoint
    points = [
        gcp(row=row, col=col, x=x, y=y, id=str(i))
        for i, ((col, row), (x, y)) in enumerate(zip(
            found.pixels.tolist(), found.world.tolist(), strict=True), 1)]
    with _untouched(path, source, note) as file:
        file.gcps = (points, found.place.crs)


def points_text(found: ControlPoints, source: Raster) -> str:
    """Control points as QGIS's georeferencer reads them (``.points``).

    Sources are the coordinates of the layer: of a file without
    georeference column and minus row, pixel corners at integers.
    """
    local = found.pixels * np.array([1., -1.])
    if source.place is not None and source.place.transform is not None:
        local = apply(source.place.transform, found.pixels)
    lines = []
    if found.place is not None and found.place.crs is not None:
        lines.append(f'#CRS: {found.place.crs.to_wkt()}')
    lines.append('mapX,mapY,sourceX,sourceY,enable,dX,dY,residual')
    lines += [f'{x!r},{y!r},{u!r},{v!r},1,0,0,0' for (x, y), (u, v) in zip(
        found.world.tolist(), local.tolist(), strict=True)]
    return '\n'.join(lines) + '\n'


def csv_text(found: ControlPoints) -> str:
    """Control points as CSV: pixel, line, x, y."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator='\n')
    writer.writerow(['pixel', 'line', 'x', 'y'])
    for pixel, world in zip(
            found.pixels.tolist(), found.world.tolist(), strict=True):
        writer.writerow([*pixel, *world])
    return buffer.getvalue()
