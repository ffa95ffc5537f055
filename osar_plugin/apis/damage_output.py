"""What an assessment of damage is written as: maps, tables, views.

Legend: H W height and width in pixels, h w those of a view.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..compat import require
from ..datasets.bright import CLASSES, PALETTE
from ..io import atomic_write
from ..utils.errors import ConfigError
from ..visualization.damage import Entry
from .damage_counts import NODATA, DamageCounts
from .damage_scene import DamageScene
from .registration_output import require_writable, whole_raster
from .registration_raster import without_warnings

TIFFS, PNGS, TABLES = ('.tif', '.tiff'), ('.png', ), ('.csv', '.json')
BLOCK = 256
"""Side of the blocks of written GeoTIFFs, pixels."""

PICTURE = 1024
"""Longest side of a panel of the picture, pixels."""

EMPTY = (64, 88, 150)
"""Colour of pixels without data in the picture, a blue that nothing else
has."""


def check_outputs(out: str | Path, building: str | Path | None,
                  picture: str | Path | None, table: str | Path | None,
                  inputs: Sequence[Path]) -> dict[str, Path]:
    """The paths of the outputs that are wanted, by what they are.

    Raises:
        ConfigError: If one has another suffix, cannot be written, is
            written twice or is an input.
    """
    wanted = dict(out=(out, TIFFS + PNGS), building=(building, TIFFS + PNGS),
                  picture=(picture, PNGS), table=(table, TABLES))
    paths: dict[str, Path] = {}
    for name, (path, suffixes) in wanted.items():
        if path is None:
            continue
        path = Path(path)
        if path.suffix.lower() not in suffixes:
            raise ConfigError(
                f'{name}={str(path)!r} must end in '
                f'{" or ".join(suffixes)}.')
        if path.resolve() in [other.resolve() for other in paths.values()]:
            raise ConfigError(
                f'{path} would be written twice: give each output a name of '
                'its own.')
        require_writable(path, inputs)
        paths[name] = path
    return paths


class MapWriter:
    """A map of classes, written strip by strip, whole or not at all.

    Args:
        path: ``.tif`` or ``.png``. A PNG is held in memory until the end.
        scene: What the map is of.
        names: Of the classes, kept in the tags.
        palette: Red, green and blue of each.
        tags: Further metadata.
    """

    def __init__(self, path: Path, scene: DamageScene,
                 names: Sequence[str], palette: Sequence[Sequence[int]],
                 tags: dict[str, str]) -> None:
        self.path, self.scene = path, scene
        self.palette = palette
        self.tags = dict(tags, OSAR_PLUGIN_CLASSES=', '.join(
            f'{i} {name}' for i, name in enumerate(names)))
        self._stack = ExitStack()
        self._file: Any = None
        self._pixels: np.ndarray | None = None

    def __enter__(self) -> MapWriter:
        if self.path.suffix.lower() in PNGS:
            self._pixels = np.empty(self.scene.size, np.uint8)
            return self
        rasterio = require('rasterio', 'geo')
        target = self._stack.enter_context(whole_raster(self.path))
        try:
            self._stack.enter_context(without_warnings())
            self._file = self._stack.enter_context(
                rasterio.open(target, 'w', **self._profile()))
            self._file.write_colormap(1, {
                i: (*colour, 255) for i, colour in enumerate(self.palette)})
            self._file.update_tags(**self.tags)
        except BaseException:
            self._stack.__exit__(*sys.exc_info())
            raise
        return self

    def write(self, row: int, pixels: np.ndarray) -> None:
        """Write rows of the map.

        Args:
            row: The first one.
            pixels: (rows, W) uint8.
        """
        if self._pixels is not None:
            self._pixels[row:row + len(pixels)] = pixels
            return
        window = require('rasterio.windows', 'geo').Window(
            0, row, pixels.shape[1], len(pixels))
        self._file.write(pixels, 1, window=window)

    def __exit__(self, *error: Any) -> None:
        if self._pixels is None:
            self._stack.__exit__(*error)
        elif error[0] is None:
            image = Image.fromarray(self._pixels, 'P')
            image.putpalette(np.array(self.palette, np.uint8).tobytes())
            data = io.BytesIO()
            image.save(data, 'PNG', transparency=NODATA)
            with atomic_write(self.path, 'wb') as file:
                file.write(data.getvalue())

    def _profile(self) -> dict[str, Any]:
        height, width = self.scene.size
        profile: dict[str, Any] = dict(
            driver='GTiff', dtype='uint8', count=1, height=height,
            width=width, nodata=NODATA, compress='deflate', tiled=True,
            blockxsize=BLOCK, blockysize=BLOCK, photometric='palette',
            bigtiff='if_safer')
        place = self.scene.place
        if place is not None and place.transform is not None:
            affine = require('rasterio.transform', 'geo').Affine
            profile.update(crs=place.crs, transform=affine(
                *place.transform.ravel().tolist()))
        elif place is not None:
            profile.update(crs=place.crs, gcps=list(place.gcps))
        return profile


class ClassView:
    """A small view of a map: of each block of pixels the worst state.

    Args:
        size: (H, W) of the map.
        longest: Longest side of the view.
    """

    def __init__(self, size: tuple[int, int], longest: int = PICTURE) -> None:
        self.k = max(1, -(-max(size) // longest))
        self._rows = 0
        shape = [-(-side // self.k) for side in size]
        # One more than the state; 0: no pixel of the block has data.
        self._view = np.zeros(shape, np.uint8)

    @property
    def states(self) -> np.ndarray:
        """(h, w) uint8, the worst of each block; 255 without data."""
        return np.where(self._view == 0, NODATA, self._view - 1).astype(
            np.uint8)

    def add(self, damage: np.ndarray) -> None:
        """Look at the next strip, (rows, W) uint8."""
        states = np.where(damage == NODATA, 0, damage + 1)
        columns = np.arange(0, states.shape[1], self.k)
        rows = (self._rows + np.arange(len(states))) // self.k
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        worst = np.maximum.reduceat(
            np.maximum.reduceat(states, starts, 0), columns, 1)
        place = rows[starts]
        self._view[place] = np.maximum(self._view[place], worst)
        self._rows += len(states)

    def picture(self, background: np.ndarray) -> np.ndarray:
        """States in their colours over a darkened image.

        Background is the image, and what has no data has :data:`EMPTY`.

        Args:
            background: (h, w) uint8, of the view's size.

        Returns:
            (h, w, 3) uint8.
        """
        out = np.repeat((background // 3)[..., None], 3, 2)
        states = self.states
        shown = (states > 0) & (states != NODATA)
        out[shown] = np.array(PALETTE, np.uint8)[states[shown]]
        out[states == NODATA] = EMPTY
        return out


def legend_of(counts: DamageCounts, pixels: int) -> list[Entry]:
    """What the colours of a picture mean, and how much there is of each.

    Buildings are counted whole, with the state of most of their pixels;
    the colours show the state of each pixel. So there are two areas.

    Args:
        counts: Of the scene.
        pixels: Of the scene, with and without data.
    """
    entries: list[Entry] = []
    for row in counts.rows():
        name, colour = row['state'], None
        buildings = (
            f'{row["buildings"]:,} buildings covering '
            f'{area_text(row["building_area"], counts.unit)}')
        if name in CLASSES:
            colour = PALETTE[CLASSES.index(name)]
            buildings += (
                '; coloured '
                f'{area_text(row["map_area"], counts.unit)}')
        elif not row['buildings']:
            continue
        entries.append((name, colour, buildings))
    empty = pixels - counts.assessed_pixels
    if empty:
        entries.append(
            ('no data', EMPTY, area_text(counts.area(empty), counts.unit)))
    return entries


def area_text(area: float, unit: str) -> str:
    """An area for people."""
    if unit == 'pixels':
        return f'{area:,.0f} pixels'
    return f'{area:,.0f} m²' if area < 1e6 else f'{area / 1e6:,.2f} km²'


def table_text(counts: DamageCounts, scene: DamageScene,
               suffix: str) -> str:
    """Counts as CSV or JSON.

    Args:
        counts: Of the scene.
        scene: The pair.
        suffix: ``'.csv'`` or ``'.json'``.
    """
    rows = counts.rows()
    if suffix == '.csv':
        text = io.StringIO()
        writer = csv.DictWriter(text, rows[0])
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()
    return json.dumps(dict(
        pre=scene.pre.name, post=scene.post.name, size=scene.size,
        unit=counts.unit, pixel_area=counts.pixel_area,
        assessed_area=round(counts.area(counts.assessed_pixels), 2),
        states=rows), indent=2) + '\n'
