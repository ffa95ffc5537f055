"""Where on Earth a TIFF lies: read, and given on to what is made from it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import TiffImagePlugin

from ..compat import require
from .errors import CorruptImageError, DataFormatError
from .integrity import TIFF_MAGIC

# GeoTIFF 1.1, section 7: pixel scale, tie points, transformation, keys.
_TAGS = (33550, 33922, 34264, 34735)


@dataclass(frozen=True)
class GeoReference:
    """What a GeoTIFF says of its place.

    Attributes:
        crs: Coordinate reference system, of the package rasterio.
        transform: Affine transformation from pixels, of its package.
        gcps: Ground control points, where they stand instead of it.
        gcps_crs: Their reference system.
        size: (H, W) of the image in pixels.
    """

    crs: Any
    transform: Any
    gcps: tuple[Any, ...]
    gcps_crs: Any
    size: tuple[int, int]


def has_georeference(path: str | Path) -> bool:
    """Whether a file is a TIFF with tags of GeoTIFF; needs no extra.

    A file that cannot be read has none: its reader says what is wrong.
    """
    try:
        with open(path, 'rb') as file:
            header = file.read(16)
            if header[:4] not in TIFF_MAGIC:
                return False
            tags = TiffImagePlugin.ImageFileDirectory_v2(
                header[:16 if header[2] == 0x2b else 8])
            file.seek(tags.next)
            tags.load(file)
    except (OSError, SyntaxError, ValueError, struct.error):
        return False
    return any(tag in tags for tag in _TAGS)


def read_georeference(path: str | Path) -> GeoReference:
    """Read the place of a GeoTIFF.

    Raises:
        CorruptImageError: If GDAL cannot open it.
        MissingDependencyError: If rasterio is not installed.
    """
    rasterio = require('rasterio', 'geo')
    try:
        with rasterio.open(path) as file:
            gcps, gcps_crs = file.gcps
            return GeoReference(
                file.crs, file.transform, tuple(gcps), gcps_crs, file.shape)
    except rasterio.errors.RasterioError as error:
        raise CorruptImageError(
            f'{path}: its georeference cannot be read ({error}). Copy or '
            'download the file again.') from error


def encode_geotiff(image: np.ndarray, place: GeoReference,
                   tags: Mapping[str, str]) -> bytes:
    """A one-band image as the content of a GeoTIFF.

    Args:
        image: (H, W) uint8, on the pixels of the image that ``place`` is of.
        place: Where it lies.
        tags: Further metadata, strings by name.

    Raises:
        DataFormatError: If the size is another one.
        MissingDependencyError: If rasterio is not installed.
    """
    if image.shape != place.size:
        raise DataFormatError(
            f'An image of {image.shape} pixels cannot take the georeference '
            f'of one of {place.size}: resize it first.')
    rasterio = require('rasterio', 'geo')
    memory = require('rasterio.io', 'geo').MemoryFile()
    profile: dict[str, Any] = dict(
        driver='GTiff', dtype='uint8', count=1, height=image.shape[0],
        width=image.shape[1], compress='deflate', bigtiff='if_safer')
    if place.gcps:
        profile.update(gcps=place.gcps, crs=place.gcps_crs)
    else:
        profile.update(crs=place.crs, transform=place.transform)
    with rasterio.Env(), memory:
        with memory.open(**profile) as file:
            file.write(image, 1)
            file.update_tags(**tags)
        return bytes(memory.read())


def read_tags(path: str | Path) -> dict[str, str]:
    """Metadata that :func:`encode_geotiff` was given; empty if unreadable."""
    rasterio = require('rasterio', 'geo')
    try:
        with rasterio.open(path) as file:
            return dict(file.tags())
    except rasterio.errors.RasterioError:
        return {}
