"""Contact sheets of translated images: arrays in, an array out.

:func:`draw_contact_sheet` gives one row per image: the optical image, its
views, their mean, their spread on a scale that all rows share, and the real
SAR image where there is one.

Legend: K views, H W height and width in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from ..utils.errors import ConfigError, DataFormatError
from .reid import _FAINT, _INK, _PAPER, _STRIP, Box, _fit, _inside, _Pen

_HIGHEST, _WIDEST, _NARROWEST = 200, 170, 86
"""Largest picture and narrowest column at scale 1, in pixels."""
_NARROWEST_SHEET = 640
_GAP, _MARGIN, _STRIP_HEIGHT, _HEAD, _LABEL = 8, 18, 24, 74, 20


@dataclass(frozen=True)
class TranslatedRow:
    """An image and what became of it.

    Attributes:
        title: Usually the name of the file.
        optical: (H, W, 3) uint8 RGB.
        views: (K, H, W) uint8.
        real: Real SAR of the same ship or ground, (H, W) or (H, W, 3)
            uint8 of any size, or ``None``.
        note: Shown at the right of the row's head.
    """

    title: str
    optical: np.ndarray
    views: np.ndarray
    real: np.ndarray | None = None
    note: str = ''


def draw_contact_sheet(
        rows: Sequence[TranslatedRow],
        title: str = 'Optical to SAR', subtitle: str = '',
        scale: float = 1.0) -> np.ndarray:
    """Draw images, their views, mean and spread, and real SAR.

    Args:
        rows: One for each image, all with K views.
        title: Head of the sheet.
        subtitle: Below it.
        scale: Magnification of everything, text included.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ConfigError: If there are no rows or ``scale`` is not above 0.
        DataFormatError: If an image has a wrong kind, or the numbers of
            views differ.
    """
    if not rows or not scale > 0:
        raise ConfigError(
            f'{len(rows)} rows and scale={scale} were given; at least one '
            'row and a scale above 0 are expected.')
    for row in rows:
        _check(row, len(rows[0].views))
    top = max(float(row.views.std(0).max()) for row in rows)
    labels = _labels(rows, top)
    cells = [_pictures(row, top, len(labels)) for row in rows]
    width, height, frames, strips = _lay_out(cells, scale)
    canvas = Image.new('RGB', (width, height), _PAPER)
    pen = _Pen(canvas, scale)
    left, room = pen.px(_MARGIN), width - 2 * pen.px(_MARGIN)
    pen.text((left, pen.px(24)), title, 18, bold=True, room=room)
    pen.text((left, pen.px(50)), subtitle, 11.5, _FAINT, room=room)
    for row, line, boxes, strip in zip(
            rows, cells, frames, strips, strict=True):
        _draw_strip(pen, strip, row)
        for picture, label, (column, box) in zip(
                line, labels, boxes, strict=True):
            middle = (column[0] + column[2]) // 2
            pen.text((middle, column[1] + pen.px(_LABEL) // 2), label, 11,
                     _INK, anchor='mm', room=column[2] - column[0])
            if picture is None:
                pen.text((middle, (column[1] + column[3]) // 2), 'none', 11,
                         _FAINT, anchor='mm')
                continue
            size = box[2] - box[0], box[3] - box[1]
            # Speckle must stay speckle: no smoothing where it is enlarged.
            canvas.paste(Image.fromarray(picture).resize(
                size, Image.Resampling.BOX if size[0] < picture.shape[1]
                else Image.Resampling.NEAREST), box[:2])
    return np.array(canvas)


def _check(row: TranslatedRow, count: int) -> None:
    views, optical = row.views, row.optical
    fits = (
        views.ndim == 3 and len(views) == count and views.dtype == np.uint8
        and optical.ndim == 3 and optical.shape[2] == 3
        and optical.dtype == np.uint8 and views.size and optical.size)
    if fits and row.real is not None:
        fits = row.real.dtype == np.uint8 and row.real.ndim in (2, 3)
    if not fits:
        raise DataFormatError(
            f'{row.title or "A row"}: expected an optical image (H, W, 3), '
            f'{count} views (K, H, W) as in the first row, and real SAR '
            f'(H, W), all uint8; got {optical.shape} {optical.dtype} and '
            f'{views.shape} {views.dtype}.')


def _labels(rows: Sequence[TranslatedRow], top: float) -> list[str]:
    views = [f'view {k + 1}' for k in range(len(rows[0].views))]
    labels = ['optical', *views, 'mean', f'spread 0–{top:.0f}']
    if any(row.real is not None for row in rows):
        labels.append('real SAR')
    return labels


def _pictures(row: TranslatedRow, top: float,
              count: int) -> list[np.ndarray | None]:
    """(H, W, 3) uint8 of each column; None where there is none."""
    spread = row.views.std(0) / max(top, 1e-6) * 255
    pictures: list[np.ndarray | None] = [
        row.optical, *map(_rgb, row.views),
        _rgb(np.rint(row.views.mean(0)).astype(np.uint8)),
        _colours()[np.rint(spread).clip(0, 255).astype(np.uint8)]]
    if len(pictures) < count:
        pictures.append(None if row.real is None else _rgb(row.real))
    return pictures


def _rgb(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 3 else np.repeat(
        image[:, :, None], 3, axis=2)


@cache
def _colours() -> np.ndarray:
    """(256, 3) uint8: black, violet, orange, white, as magma."""
    from matplotlib import colormaps

    table = colormaps['magma'](np.arange(256))[:, :3]
    return np.rint(table * 255).astype(np.uint8)


def _lay_out(cells: list[list[np.ndarray | None]], scale: float
             ) -> tuple[int, int, list[list[tuple[Box, Box]]], list[Box]]:
    """Width and height of the sheet; columns with pictures; strips."""

    def px(value: float) -> int:
        return round(value * scale)

    sizes = [[(0, 0) if p is None else _fit(p, px(_WIDEST), px(_HIGHEST))
              for p in line] for line in cells]
    widest = max(px(_NARROWEST), *(w for line in sizes for w, _ in line))
    count = len(cells[0])
    width = max(2 * px(_MARGIN) + count * widest + (count - 1) * px(_GAP),
                px(_NARROWEST_SHEET))
    top = px(_HEAD)
    frames, strips = [], []
    for line in sizes:
        strips.append((px(_MARGIN), top, width - px(_MARGIN),
                       top + px(_STRIP_HEIGHT)))
        top += px(_STRIP_HEIGHT)
        highest = max(h for _, h in line)
        bottom = top + px(_LABEL) + highest
        boxes = []
        for i, (w, h) in enumerate(line):
            left = px(_MARGIN) + i * (widest + px(_GAP))
            x = left + (widest - w) // 2
            y = top + px(_LABEL) + (highest - h) // 2
            boxes.append(((left, top, left + widest, bottom),
                          (x, y, x + w, y + h)))
        frames.append(boxes)
        top = bottom + px(_GAP)
    return width, top + px(_MARGIN) // 2, frames, strips


def _draw_strip(pen: _Pen, box: Box, row: TranslatedRow) -> None:
    pen.draw.rectangle(_inside(box), _STRIP)
    y, pad = (box[1] + box[3]) // 2, pen.px(8)
    room = box[2] - box[0] - 2 * pad
    if row.note:
        room -= pad + pen.text(
            (box[2] - pad, y), row.note, 11, _FAINT, anchor='rm',
            room=room // 2)
    pen.text((box[0] + pad, y), row.title, 11.5, room=room)
