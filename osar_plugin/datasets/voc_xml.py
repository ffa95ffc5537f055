"""Boxes from VOC's XML, one file to an image.

    <size><width/><height/></size>
    <object><name/><difficult/>
      <bndbox><xmin/><ymin/><xmax/><ymax/></bndbox>           upright, or
      <robndbox><x_left_top/><y_left_top/> ... </robndbox>    four corners
    </object>

Of turned boxes the upright one around their corners is taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from osar_plugin.utils.errors import DataFormatError, DatasetNotFoundError

from .box_table import BoxTable, ImageRow, check_images
from .layout import shorten

#: Of the images that XML files belong to.
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.tif')
_CORNERS = ('left_top', 'right_top', 'right_bottom', 'left_bottom')


class VOCObject(NamedTuple):
    """An object of a file.

    Attributes:
        name: Of its class.
        box: Left, top, right, bottom in pixels.
        ignore: Whether it is marked as difficult.
    """

    name: str
    box: tuple[float, float, float, float]
    ignore: bool


class VOCImage(NamedTuple):
    """What a file says of its image.

    Attributes:
        size: Width and height in pixels.
        objects: What is on it.
    """

    size: tuple[int, int]
    objects: list[VOCObject]


def read_voc(
        files: Mapping[str, Path], images: Mapping[str, str], origin: int,
        source: str) -> BoxTable:
    """Read the annotations of a split.

    Args:
        files: XML file of each name.
        images: File of each image by the same names.
        origin: Number of the first pixel: 0, or 1 as in VOC itself.
        source: For messages.

    Raises:
        DatasetNotFoundError: If XML files are missing.
        DataFormatError: If one cannot be used, or there is no object at
            all.
    """
    missing = [name for name, path in files.items() if not path.is_file()]
    if missing:
        raise DatasetNotFoundError(
            f'{source}: {len(missing)} of {len(files)} XML files are missing '
            f'({shorten(missing)}). Restore them, or take the names off the '
            'list.')
    rows: list[ImageRow] = []
    owner: list[int] = []
    found: list[VOCObject] = []
    for number, (name, path) in enumerate(files.items()):
        content = parse_voc(path)
        rows.append(ImageRow(images[name], number, *content.size))
        owner += [number] * len(content.objects)
        found += content.objects
    if not found:
        raise DataFormatError(
            f'{source}: {len(files)} XML files without any object. Give the '
            'folder of the annotations.')
    check_images(rows, source)
    names = sorted({thing.name for thing in found})
    place = {name: number for number, name in enumerate(names)}
    return BoxTable(
        source, rows, names, False, np.array(owner, np.int64),
        np.array([place[thing.name] for thing in found], np.int64),
        np.array([thing.box for thing in found], np.float64) - origin,
        np.array([thing.ignore for thing in found]))


def parse_voc(path: Path) -> VOCImage:
    """Read one file.

    Raises:
        DataFormatError: If it is no such XML, or declares entities, which
            annotations have no use for.
    """
    try:
        data = path.read_bytes()
        if b'<!ENTITY' in data or b'<!DOCTYPE' in data:
            raise ValueError('it declares a document type')
        root = ElementTree.fromstring(data)
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise DataFormatError(
            f'{path}: cannot be read as the XML of an image ({error}). The '
            'file is truncated, damaged or of another kind; copy or '
            'download it again.') from error
    size = (_number(root, 'size/width', path),
            _number(root, 'size/height', path))
    return VOCImage(
        (int(size[0]), int(size[1])),
        [_object(node, path) for node in root.iter('object')])


def _object(node: ElementTree.Element, path: Path) -> VOCObject:
    name = (node.findtext('name') or '').strip()
    if not name:
        raise DataFormatError(
            f'{path}: an object has no name. Every <object> needs a <name>.')
    ignore = (node.findtext('difficult') or '0').strip() not in ('', '0')
    return VOCObject(name, _box(node, path), ignore)


def _box(node: ElementTree.Element,
         path: Path) -> tuple[float, float, float, float]:
    upright, turned = node.find('bndbox'), node.find('robndbox')
    if upright is not None:
        left, top, right, bottom = (
            _number(upright, key, path)
            for key in ('xmin', 'ymin', 'xmax', 'ymax'))
        return left, top, right, bottom
    if turned is None:
        raise DataFormatError(
            f'{path}: an object has neither <bndbox> nor <robndbox>.')
    x, y = ([_number(turned, f'{axis}_{corner}', path)
             for corner in _CORNERS] for axis in 'xy')
    return min(x), min(y), max(x), max(y)


def _number(node: ElementTree.Element, key: str, path: Path) -> float:
    text = node.findtext(key)
    try:
        value = float(text or '')
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataFormatError(
            f'{path}: <{key.replace("/", "><")}> is {text!r}; a number of '
            'pixels is expected.')
    return value


def _stem(name: str) -> str:
    """A name without the suffix of an image."""
    stem, dot, suffix = name.rpartition('.')
    return stem if stem and dot + suffix.lower() in IMAGE_SUFFIXES else name


def read_names(paths: Sequence[Path]) -> list[str]:
    """Names of one or more list files, one to a line, in order.

    Names may end in a suffix of images, which is taken off.

    Raises:
        DataFormatError: If a file cannot be read, is empty, or a name is
            there twice or leaves its folder.
    """
    names: list[str] = []
    for path in paths:
        try:
            lines = path.read_text(encoding='utf-8').split()
        except (OSError, UnicodeDecodeError) as error:
            raise DataFormatError(
                f'{path}: cannot be read as a list of names ({error}). '
                'Write one name to a line.') from error
        if not lines:
            raise DataFormatError(
                f'{path}: names no image. Write one name to a line.')
        strange = [n for n in lines if '/' in n or '\\' in n or '\0' in n]
        if strange:
            raise DataFormatError(
                f'{path}: {strange[0]!r} is no name of an image. Write '
                'names without folders, one to a line.')
        names += [_stem(line) for line in lines]
    twice = len(names) - len(set(names))
    if twice:
        raise DataFormatError(
            f'{", ".join(map(str, paths))}: {twice} names are there twice. '
            'Take the copies off the lists.')
    return names
