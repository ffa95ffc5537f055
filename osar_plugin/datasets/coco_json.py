"""COCO's json of boxes, read without pycocotools.

    images       [{id, file_name, width, height}, ...]
    categories   [{id, name}, ...]
    annotations  [{image_id, category_id, bbox: [x, y, width, height],
                   iscrowd}, ...]

Numbers of images and categories are names of no meaning: they need not begin
anywhere nor be in order.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from osar_plugin.io import atomic_write
from osar_plugin.utils.config_values import shown
from osar_plugin.utils.errors import (
    ConfigError,
    DataFormatError,
    DatasetNotFoundError,
)

from .box_table import BoxTable, ImageRow, check_images
from .layout import shorten

PARTS = ('images', 'categories', 'annotations')


def read_coco(path: str | Path) -> BoxTable:
    """Read the annotations of a split.

    Args:
        path: The json file.

    Raises:
        DatasetNotFoundError: If there is no such file.
        DataFormatError: If it is no such json, is empty, or its parts
            contradict each other.
    """
    path = Path(path)
    content = _load(path)
    images = _images(content['images'], path)
    categories = _categories(content['categories'], path)
    rows = content['annotations']
    owners = {image.img_id: row for row, image in enumerate(images)}
    numbers = {number: row for row, number in enumerate(categories)}
    boxes = _boxes(rows, path)
    boxes[:, 2:] += boxes[:, :2]
    return BoxTable(
        str(path), images, list(categories.values()), True,
        _resolve(rows, 'image_id', owners, 'image', path),
        _resolve(rows, 'category_id', numbers, 'category', path),
        boxes, np.array([bool(row.get('iscrowd', 0)) for row in rows]))


def _load(path: Path) -> dict[str, Any]:
    """The json, with its three lists of dicts, none of them empty."""
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except FileNotFoundError as error:
        raise DatasetNotFoundError(
            f'{path}: no such file. Check data_root, split and '
            'ann_file.') from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataFormatError(
            f'{path}: cannot be read as json ({error}). The file is '
            'truncated, damaged or of another kind; copy or download it '
            'again.') from error
    for part in PARTS:
        rows = content.get(part) if isinstance(content, dict) else None
        if not isinstance(rows, list) or not all(
                isinstance(row, dict) for row in rows):
            raise DataFormatError(
                f'{path}: has no list of {part!r}; a json of COCO boxes '
                f'is expected, a dict with {", ".join(PARTS)}.')
        if not rows:
            raise DataFormatError(
                f'{path}: the list of {part!r} is empty. Give the '
                'annotations of a split that has some.')
    return content


def _images(rows: Sequence[Mapping[str, Any]],
            path: Path) -> list[ImageRow]:
    try:
        images = [
            ImageRow(row['file_name'], row['id'], row['width'],
                     row['height']) for row in rows]
        hash(tuple(image.img_id for image in images))
    except (KeyError, TypeError) as error:
        raise DataFormatError(
            f'{path}: an image has no usable id, file_name, width or height '
            f'({error}). Each needs all four.') from error
    check_images(images, str(path))
    return images


def _categories(rows: Sequence[Mapping[str, Any]],
                path: Path) -> dict[Any, str]:
    """Name of each number."""
    try:
        pairs = [(row['id'], row['name']) for row in rows]
        numbers, names = {n for n, _ in pairs}, {n for _, n in pairs}
    except (KeyError, TypeError) as error:
        raise DataFormatError(
            f'{path}: a category has no usable id or name ({error}). Each '
            'needs both.') from error
    if min(len(numbers), len(names)) < len(pairs) or not all(
            isinstance(name, str) for name in names):
        raise DataFormatError(
            f'{path}: categories {shown(pairs)}: each needs an id and a '
            'name of its own.')
    return dict(pairs)


def _boxes(rows: Sequence[Mapping[str, Any]], path: Path) -> np.ndarray:
    """(N, 4) float64: x, y, width, height."""
    values = [row.get('bbox') for row in rows]
    try:
        boxes = np.array(values)
    except ValueError:  # of different lengths
        boxes = np.array(None)
    if boxes.shape == (len(rows), 4) and boxes.dtype.kind in 'iuf':
        boxes = boxes.astype(np.float64)
        if np.isfinite(boxes).all():
            return boxes
    number, value = next(
        (i, value) for i, value in enumerate(values) if not _is_box(value))
    raise DataFormatError(
        f'{path}: annotation {rows[number].get("id", number)}: '
        f'bbox={shown(value)}; [x, y, width, height] in pixels is expected, '
        'four finite numbers.')


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(
        type(v) in (int, float) and abs(v) < 1e15 for v in value)


def _resolve(rows: Sequence[Mapping[str, Any]], key: str,
             known: Mapping[Any, int], what: str,
             path: Path) -> np.ndarray:
    """(N,) rows that the annotations' numbers stand for."""
    def strange() -> Iterable[str]:
        for row in rows:
            value = row.get(key)
            try:
                if value not in known:
                    yield repr(value)
            except TypeError:  # a list, a dict
                yield repr(value)

    try:
        return np.array([known[row[key]] for row in rows], np.int64)
    except (KeyError, TypeError) as error:
        bad = list(strange())
        raise DataFormatError(
            f'{path}: {len(bad)} annotations have a {key} that is no '
            f'{what} of the file ({shorten(set(bad))}). The file is not '
            'whole, or was put together from others.') from error


def to_coco(rows: Sequence[Mapping[str, Any]],
            classes: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """A json of boxes from rows of a data set.

    Args:
        rows: With ``width``, ``height`` and ``instances``, as
            :class:`~.detection.DetectionDataset` has them.
        classes: Names of the labels; they are numbered from 1.
        names: Name of each image in the json.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (row, name) in enumerate(
            zip(rows, names, strict=True), 1):
        images.append(dict(
            id=number, file_name=name, width=row['width'],
            height=row['height']))
        for instance in row['instances']:
            left, top, right, bottom = instance['bbox']
            width, height = right - left, bottom - top
            annotations.append(dict(
                id=len(annotations) + 1, image_id=number,
                category_id=instance['bbox_label'] + 1,
                bbox=[left, top, width, height], area=width * height,
                iscrowd=int(instance['ignore_flag'])))
    return dict(
        images=images, annotations=annotations, categories=[
            dict(id=number, name=name, supercategory='')
            for number, name in enumerate(classes, 1)])


def without_images(path: str | Path,
                   names: Collection[str]) -> dict[str, Any]:
    """A json without some of its images and their annotations.

    Args:
        path: One that :func:`read_coco` takes.
        names: File names of the images to leave out.

    Raises:
        DataFormatError: If no annotation is left.
    """
    content = _load(Path(path))
    names = set(names)
    gone = {row['id'] for row in content['images']
            if row['file_name'] in names}
    left = [row for row in content['annotations']
            if row['image_id'] not in gone]
    if not left:
        raise DataFormatError(
            f'{path}: without {len(gone)} of its images no annotation is '
            'left. Restore the images.')
    return dict(
        content, annotations=left, images=[
            row for row in content['images'] if row['id'] not in gone])


def write_coco(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write a json of boxes, whole or not at all.

    Raises:
        ConfigError: If it cannot be written there.
    """
    try:
        with atomic_write(path) as file:
            json.dump(content, file, separators=(',', ':'))
            file.write('\n')
    except OSError as error:
        raise ConfigError(
            f'{path}: cannot be written ({error}). Choose a folder that can '
            'be, with room for it.') from error
