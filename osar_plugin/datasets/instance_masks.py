"""Boxes from pictures in which every object has a colour of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from osar_plugin.io import read_optical
from osar_plugin.utils.errors import DataFormatError

#: Behind the name of an image in HRSID.
HRSID_SUFFIX = '_instance_id_RGB.png'
# More colours than this are a picture, not a map of objects.
_MOST = 2048


def mask_boxes(mask: np.ndarray) -> np.ndarray:
    """Upright boxes around the colours of a map; black is background.

    Args:
        mask: (H, W, 3) uint8.

    Returns:
        (n, 4) float64: left, top, right, bottom in pixels, right and bottom
        outside, in the order of the colours' numbers.

    Raises:
        DataFormatError: If it is no such map.
    """
    if mask.ndim != 3 or mask.shape[2] != 3 or mask.dtype != np.uint8:
        raise DataFormatError(
            f'A map of instances is (H, W, 3) uint8, got {mask.shape} '
            f'{mask.dtype}.')
    colours = mask.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    rows, cols = np.nonzero(colours)
    known, which = np.unique(colours[rows, cols], return_inverse=True)
    if len(known) > _MOST:
        raise DataFormatError(
            f'{len(known)} colours; a map of instances has one for each '
            'object. Was it saved as JPEG, or resized? Take the original.')
    boxes = np.empty((len(known), 4))
    boxes[:, :2], boxes[:, 2:] = np.inf, -np.inf
    for axis, place in enumerate((cols, rows)):
        np.minimum.at(boxes[:, axis], which, place)
        np.maximum.at(boxes[:, axis + 2], which, place + 1)
    return boxes


def read_hrsid(folder: str | Path) -> list[tuple[str, int, int, np.ndarray]]:
    """Images of HRSID and the boxes of their ships.

    Args:
        folder: Holds ``<name>.png`` or ``.jpg`` and
            ``<name>_instance_id_RGB.png``.

    Returns:
        File name, width, height and (n, 4) boxes of each image, sorted.

    Raises:
        DataFormatError: If a map has no image or another size, or there is
            none.
    """
    folder = Path(folder)
    found = []
    for path in sorted(folder.glob(f'*{HRSID_SUFFIX}')):
        stem = path.name.removesuffix(HRSID_SUFFIX)
        images = [folder / f'{stem}{s}' for s in ('.png', '.jpg')]
        image = next((p for p in images if p.is_file()), None)
        if image is None:
            raise DataFormatError(
                f'{path}: there is no image {stem}.png or .jpg beside it.')
        mask = read_optical(path)
        height, width = read_optical(image).shape[:2]
        if mask.shape[:2] != (height, width):
            raise DataFormatError(
                f'{path}: {mask.shape[1]} x {mask.shape[0]} pixels, its '
                f'image {width} x {height}; the same size is expected.')
        found.append((image.name, width, height, mask_boxes(mask)))
    if not found:
        raise DataFormatError(
            f'{folder}: no <name>{HRSID_SUFFIX}. Give the folder of '
            "HRSID's images and maps of instances.")
    return found
