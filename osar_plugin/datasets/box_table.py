"""Boxes of a data set as they are read from its files, one to a row.

    COCO json (:mod:`.coco_json`), VOC XML (:mod:`.voc_xml`)
        --> :class:`BoxTable` --> labels by name, boxes inside their images

Letters: M images, N boxes, C categories of the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from osar_plugin.utils.errors import ConfigError, DataFormatError
from osar_plugin.utils.names import did_you_mean, nearest

from .layout import shorten

#: Label of boxes that ``class_aliases`` leaves out.
LEFT_OUT = -1
# Sides below it hold nothing, in pixels; as in mmdet.
_LEAST_SIDE = 1.


class ImageRow(NamedTuple):
    """An image as the annotations know it.

    Attributes:
        file_name: Relative to the folder of the images.
        img_id: Of the file, or its number.
        width: In pixels.
        height: In pixels.
    """

    file_name: str
    img_id: int
    width: int
    height: int


class BoxTable(NamedTuple):
    """The annotations of a split.

    Attributes:
        source: The file or folder, for messages.
        images: M images.
        names: C names of categories, as the files spell them.
        closed: Whether ``names`` are all that there are (a json lists
            them), or only those that were met (XML files).
        owner: (N,) int64, row of the image.
        category: (N,) int64, row of the name.
        boxes: (N, 4) float64: left, top, right, bottom in pixels.
        ignore: (N,) bool: crowds and difficult objects.
    """

    source: str
    images: list[ImageRow]
    names: list[str]
    closed: bool
    owner: np.ndarray
    category: np.ndarray
    boxes: np.ndarray
    ignore: np.ndarray


def check_classes(classes: Any) -> tuple[str, ...]:
    """The names of the classes that a config gives.

    Raises:
        ConfigError: If they are no list of different names.
    """
    if isinstance(classes, str) or not isinstance(
            classes, Sequence) or not classes or not all(
                isinstance(name, str) for name in classes):
        raise ConfigError(
            f'metainfo.classes={classes!r}: expected a list of names, e.g. '
            "('ship', ); one name needs its comma.")
    if len(set(classes)) < len(classes):
        raise ConfigError(
            f'metainfo.classes={tuple(classes)!r} has a name twice.')
    return tuple(classes)


def check_aliases(aliases: Any, classes: Sequence[str]) -> dict[
        str, str | None]:
    """The spellings that a config maps to its classes.

    Raises:
        ConfigError: If they are no mapping of names to classes or None.
    """
    aliases = {} if aliases is None else aliases
    if not isinstance(aliases, Mapping):
        raise ConfigError(
            f'class_aliases={aliases!r}: expected a dict of a name in the '
            'files to a name of metainfo.classes, or to None to leave its '
            'boxes out.')
    for name, target in aliases.items():
        if target is not None and target not in classes:
            raise ConfigError(
                f'class_aliases[{name!r}]={target!r} is none of the classes '
                f'{", ".join(classes)}.'
                f'{did_you_mean(nearest(str(target), classes, 1))}')
    return dict(aliases)


def match_names(
        table: BoxTable, classes: Sequence[str],
        aliases: Mapping[str, str | None],
        known: Mapping[str, str] | None = None) -> np.ndarray:
    """Label of each category, by its name alone.

    Args:
        table: Annotations.
        classes: Names in the order of the labels.
        aliases: Name in the files to a class, or to None to leave its boxes
            out; goes before everything else.
        known: Spellings that are known to be in use; they count where a
            name is no class itself.

    Returns:
        (C,) int64, :data:`LEFT_OUT` where boxes are left out.

    Raises:
        DataFormatError: If a name is no class, or a class is none of the
            names of a closed table.
    """
    known = known or {}
    places: dict[str | None, int] = {
        name: number for number, name in enumerate(classes)}
    labels, strange = [], []
    for name in table.names:
        target = aliases[name] if name in aliases else (
            name if name in classes else known.get(name))
        labels.append(places.get(target, LEFT_OUT))
        if target not in places and not (target is None and name in aliases):
            strange.append(name)
    missing = [
        name for number, name in enumerate(classes) if number not in labels
    ] if table.closed else []
    if strange or missing:
        faults = []
        if strange:
            faults.append(f'{", ".join(map(repr, strange))} of the '
                          'annotations is no class')
        if missing:
            faults.append(f'the class {", ".join(map(repr, missing))} is '
                          'not in the annotations')
        raise DataFormatError(
            f'{table.source}: {"; ".join(faults)}. Annotations: '
            f'{", ".join(table.names) or "none"}. Classes: '
            f'{", ".join(classes)}. Map names with class_aliases={{name in '
            'the file: class}, or to None to leave its boxes out; or set '
            'metainfo.classes.')
    return np.array(labels, np.int64)


def clip_boxes(table: BoxTable) -> tuple[np.ndarray, np.ndarray]:
    """Boxes inside their images.

    Returns:
        (N, 4) clipped boxes, and (N,) bool: which have at least a pixel
        left on either side.
    """
    sides = np.array(
        [(image.width, image.height) for image in table.images],
        np.float64).reshape(-1, 2)
    limits = np.tile(sides, 2)[table.owner]
    boxes = np.clip(table.boxes, 0, limits)
    spans = boxes[:, 2:] - boxes[:, :2]
    return boxes, (spans >= _LEAST_SIDE).all(axis=1)


def check_images(images: Sequence[ImageRow], source: str) -> None:
    """Refuse lists of images that no data set can have.

    Raises:
        DataFormatError: If a name leaves the folder, a size is no size, or
            two rows have the same name or number.
    """
    for image in images:
        name = image.file_name
        parts = str(name).replace('\\', '/').split('/')
        if not isinstance(name, str) or not name or '\0' in name or (
                parts[0] in ('', '~') or '..' in parts or ':' in parts[0]):
            raise DataFormatError(
                f'{source}: {name!r} is no name of an image inside the data '
                'set. Names are relative to the folder of the images.')
        if not _is_count(image.width) or not _is_count(image.height):
            raise DataFormatError(
                f'{source}: {name}: width {image.width!r} and height '
                f'{image.height!r}; whole numbers of pixels above 0 are '
                'expected.')
    for field in ('file_name', 'img_id'):
        values = [getattr(image, field) for image in images]
        if len(set(values)) < len(values):
            twice = [v for v, n in Counter(values).items() if n > 1]
            raise DataFormatError(
                f'{source}: {len(twice)} values of {field} stand for more '
                f'than one image ({shorten(map(str, twice))}). Remove the '
                'copies.')


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and (
        0 < value < 1 << 24)
