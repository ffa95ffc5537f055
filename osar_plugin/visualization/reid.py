"""Ranked lists and CMC curves as pictures: arrays in, arrays out.

:func:`draw_ranked_list` gives one row per query: the query, then its nearest
gallery chips with rank and distance. A frame and a mark say whether a hit
shows the same ship: bluish green with a tick for yes, vermilion with a cross
for no, grey with a question mark where an identity is unknown. The colours
are those of Okabe and Ito, which people with colour-blindness tell apart;
the marks say the same without colour.

:class:`ChipReader` shows a chip as the network gets it, SAR through the 8-bit
conversion of the pipeline.

Legend: Q queries, H W height and width in pixels. Boxes are (left, top,
right, bottom) in pixels, right and bottom exclusive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..datasets.transforms import LoadOpticalOrSAR, SARToUint8
from ..io import atomic_write
from ..utils.errors import ConfigError, DataFormatError

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]

RIGHT: Colour = (0, 158, 115)
WRONG: Colour = (213, 94, 0)
UNKNOWN: Colour = (140, 140, 140)
QUERY: Colour = (38, 50, 64)
MODALITY_NAMES = ('OPT', 'SAR')

_MODALITY_COLOURS: tuple[Colour, Colour] = ((0, 92, 150), (92, 48, 120))
_INK: Colour = (24, 28, 33)
_FAINT: Colour = (98, 104, 112)
_PAPER: Colour = (255, 255, 255)
_STRIP: Colour = (238, 241, 244)
_LEGEND = (
    (True, 'same ship'), (False, 'another ship'), (None, 'not known'))

_HIGHEST, _WIDEST, _NARROWEST = 190, 230, 116
"""Largest chip and narrowest cell at scale 1, in pixels."""
_FRAME, _GAP, _MARGIN = 5, 10, 18
_STRIP_HEIGHT, _CAPTION = 26, 54
_NARROWEST_PICTURE = 640


@dataclass(frozen=True)
class Chip:
    """A chip to show.

    Attributes:
        image: (H, W, 3) uint8 RGB; see :class:`ChipReader`.
        modality: 0 optical, 1 SAR.
        title: Usually the name of the file.
        pid: Identity, ``None`` where it is unknown.
    """

    image: np.ndarray
    modality: int
    title: str = ''
    pid: int | None = None


@dataclass(frozen=True)
class Hit(Chip):
    """A chip that was found.

    Attributes:
        distance: From the query.
        correct: Whether it shows the ship of the query; ``None`` where that
            is unknown.
    """

    distance: float = float('nan')
    correct: bool | None = None


@dataclass(frozen=True)
class RankedRow:
    """A query and what was found, nearest first.

    Attributes:
        query: The query.
        hits: Its hits.
        note: Shown at the right of the row's head, e.g. its average
            precision.
    """

    query: Chip
    hits: Sequence[Hit]
    note: str = ''


@dataclass(frozen=True)
class Layout:
    """Where things stand in the picture.

    Attributes:
        size: (width, height) of the picture.
        strips: Q boxes, the head of each row.
        frames: For each row the box of the query's frame and of each hit's.
        cells: The same for the cells around them.
    """

    size: tuple[int, int]
    strips: list[Box]
    frames: list[list[Box]]
    cells: list[list[Box]]


class ChipReader:
    """Read chips for showing, as the network gets them up to resizing.

    Args:
        transforms: Transforms of a pipeline; those that read and that bring
            SAR to 8 bit are used. Without any, the defaults of
            ``LoadOpticalOrSAR`` and ``SARToUint8``.
    """

    def __init__(self, transforms: Sequence[Any] = ()) -> None:
        kinds = (LoadOpticalOrSAR, SARToUint8)
        self.transforms = [
            next((t for t in transforms if isinstance(t, kind)), kind())
            for kind in kinds]

    def __call__(self, path: str | Path, modality: int) -> np.ndarray:
        """The chip as (H, W, 3) uint8 RGB.

        Args:
            path: The file.
            modality: 0 optical, 1 SAR.

        Raises:
            OSARError: If the file cannot be read or converted.
        """
        results: dict[str, Any] = dict(
            img_path=str(path), modality=modality)
        for transform in self.transforms:
            results = transform.transform(results)
        return results['img']


def frame_colour(correct: bool | None) -> Colour:
    """Colour of a hit's frame."""
    return UNKNOWN if correct is None else RIGHT if correct else WRONG


def same_ship(query: int | None, other: int | None) -> bool | None:
    """Whether two identities are equal; ``None`` if one is unknown."""
    return None if query is None or other is None else query == other


def spread(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` of ``count`` rows, evenly spread and ascending."""
    if count <= wanted:
        return list(range(count))
    places = np.linspace(0, count - 1, wanted)
    return [int(place) for place in np.round(places)]


def draw_ranked_list(
        rows: Sequence[RankedRow], title: str = 'Ranked list',
        subtitle: str = '', scale: float = 1.0) -> np.ndarray:
    """Draw queries and what was found for each.

    Args:
        rows: One per query; their numbers of hits may differ.
        title: Head of the picture, e.g. model and protocol.
        subtitle: Below it, e.g. the metric.
        scale: Magnification of everything, text included.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ConfigError: If there are no rows or ``scale`` is not above 0.
        DataFormatError: If an image is not (H, W, 3) uint8.
    """
    if not rows or not scale > 0:
        raise ConfigError(
            f'{len(rows)} rows and scale={scale} were given; at least one '
            'row and a scale above 0 are expected.')
    for row in rows:
        for chip in (row.query, *row.hits):
            _check_image(chip)
    plan = lay_out(rows, scale)
    canvas = Image.new('RGB', plan.size, _PAPER)
    pen = _Pen(canvas, scale)
    _draw_head(pen, title, subtitle)
    for number, row in enumerate(rows):
        _draw_strip(pen, plan.strips[number], number + 1, row)
        chips = (row.query, *row.hits)
        for rank, chip in enumerate(chips):
            _draw_chip(pen, chip, rank, plan.frames[number][rank],
                       plan.cells[number][rank])
    return np.array(canvas)


def lay_out(rows: Sequence[RankedRow], scale: float = 1.0) -> Layout:
    """Place the chips: each in its own proportions, all cells alike.

    Args:
        rows: See :func:`draw_ranked_list`.
        scale: See :func:`draw_ranked_list`.
    """
    def px(value: float) -> int:
        return round(value * scale)

    sizes = [[_fit(chip.image, px(_WIDEST), px(_HIGHEST))
              for chip in (row.query, *row.hits)] for row in rows]
    frame, gap, margin = px(_FRAME), px(_GAP), px(_MARGIN)
    widest = max(w for line in sizes for w, _ in line)
    highest = max(h for line in sizes for _, h in line)
    cell_width = max(widest + 2 * frame, px(_NARROWEST))
    cell_height = highest + 2 * frame + px(_CAPTION)
    columns = max(map(len, sizes))
    # A wider gap sets the query apart from its hits.
    width = 2 * margin + columns * cell_width + (columns + 2) * gap
    width = max(width, px(_NARROWEST_PICTURE))
    top = px(_head_height())
    strips, frames, cells = [], [], []
    for line in sizes:
        strips.append((margin, top, width - margin, top + px(_STRIP_HEIGHT)))
        top += px(_STRIP_HEIGHT) + gap
        row_frames, row_cells = [], []
        for column, (w, h) in enumerate(line):
            left = margin + gap + column * (cell_width + gap)
            left += gap * (column > 0)
            row_cells.append((left, top, left + cell_width, top + cell_height))
            x = left + (cell_width - w) // 2 - frame
            y = top + (highest - h) // 2
            row_frames.append((x, y, x + w + 2 * frame, y + h + 2 * frame))
        frames.append(row_frames)
        cells.append(row_cells)
        top += cell_height + gap
    return Layout((width, top + margin // 2), strips, frames, cells)


def draw_curves(
        curves: Mapping[str, Sequence[float]],
        title: str = 'Cumulative match', max_rank: int = 20) -> np.ndarray:
    """Draw CMC curves.

    Args:
        curves: By name, percent of the queries with a hit within rank 1, 2,
            and so on.
        title: Above the picture.
        max_rank: Ranks to show.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.6), dpi=130, layout='constrained')
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    colours = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9',
               '#E69F00')
    for i, (name, values) in enumerate(curves.items()):
        shown = np.asarray(values, float)[:max_rank]
        axes.plot(
            np.arange(1, len(shown) + 1), shown, 'osD^vP'[i % 6],
            linestyle=('-', '--', '-.', ':')[i % 4], markersize=4.5,
            color=colours[i % 6], label=f'{name}  (rank 1: {shown[0]:.1f} %)')
    axes.set(
        title=title, xlabel='rank k', xlim=(0.5, max_rank + 0.5),
        ylabel='queries with a hit within rank k, %', ylim=(0, 102))
    axes.set_xticks([1, *range(5, max_rank + 1, 5)])
    axes.grid(alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
    if curves:
        axes.legend(loc='lower right', frameon=False)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def write_png(picture: np.ndarray, path: str | Path) -> None:
    """Write a picture (H, W, 3) uint8 whole or not at all."""
    data = BytesIO()
    Image.fromarray(picture).save(data, 'PNG')
    with atomic_write(path, 'wb') as file:
        file.write(data.getvalue())


# -------------------------------------------------------------------- pieces


class _Pen:
    """A canvas with sizes and fonts at one scale."""

    def __init__(self, canvas: Image.Image, scale: float) -> None:
        self.canvas = canvas
        self.draw = ImageDraw.Draw(canvas)
        self.scale = scale

    def px(self, value: float) -> int:
        return round(value * self.scale)

    def font(self, size: float, bold: bool = False) -> Any:
        return _font(self.px(size), bold)

    def text(self, xy: tuple[int, int], text: str, size: float = 12,
             colour: Colour = _INK, bold: bool = False,
             anchor: str = 'lm', room: int | None = None) -> int:
        """Write, shortened to ``room`` pixels; returns the width."""
        font = self.font(size, bold)
        if room is not None:
            text = _shorten(text, font, room)
        self.draw.text(xy, text, colour, font, anchor)
        return round(font.getlength(text))


@cache
def _font(size: int, bold: bool) -> Any:
    """DejaVu Sans, which matplotlib brings along."""
    import matplotlib

    name = 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf'
    path = Path(matplotlib.get_data_path(), 'fonts', 'ttf', name)
    return ImageFont.truetype(str(path), max(size, 1))


def _head_height() -> int:
    return 74


def _check_image(chip: Chip) -> None:
    image = chip.image
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or (
            image.ndim != 3 or image.shape[2] != 3 or not image.size):
        what = f'{image.shape} {image.dtype}' if isinstance(
            image, np.ndarray) else type(image).__name__
        raise DataFormatError(
            f'{chip.title or "A chip"}: {what} cannot be drawn, (H, W, 3) '
            'uint8 is expected. ChipReader reads files so.')


def _fit(image: np.ndarray, width: int, height: int) -> tuple[int, int]:
    """The largest (w, h) of the image's proportions within a box."""
    h, w = image.shape[:2]
    factor = min(width / w, height / h)
    return max(round(w * factor), 1), max(round(h * factor), 1)


def _shorten(text: str, font: Any, room: int) -> str:
    """Cut the middle of a text that is too long; both ends matter."""
    if font.getlength(text) <= room:
        return text
    for keep in range(len(text) - 1, 0, -1):
        head, tail = text[:(keep + 1) // 2], text[len(text) - keep // 2:]
        if font.getlength(f'{head}…{tail}') <= room:
            return f'{head}…{tail}'
    return '…'


def _draw_head(pen: _Pen, title: str, subtitle: str) -> None:
    """Title, subtitle and, at the right, the legend."""
    left, right = pen.px(_MARGIN), pen.canvas.width - pen.px(_MARGIN)
    y = pen.px(54)
    x = right
    for correct, label in reversed(_LEGEND):
        x -= round(pen.font(11.5).getlength(label))
        pen.text((x, y), label, 11.5)
        x -= pen.px(23)
        _draw_mark(pen, correct, x + pen.px(9), y, 8)
        x -= pen.px(16)
    pen.text((left, pen.px(27)), title, 18, bold=True, room=right - left)
    pen.text((left, y), subtitle, 11.5, _FAINT, room=x - left)


def _draw_strip(pen: _Pen, box: Box, number: int, row: RankedRow) -> None:
    """The head of a row: which query, and the note on it."""
    pen.draw.rectangle(_inside(box), _STRIP)
    y, pad = (box[1] + box[3]) // 2, pen.px(8)
    room = box[2] - box[0] - 2 * pad
    used = 0
    if row.note:
        used = pen.text((box[2] - pad, y), row.note, 11.5, _FAINT,
                        anchor='rm', room=room * 2 // 3) + pad
    name = f'Query {number}'
    used += pen.text((box[0] + pad, y), name, 12, bold=True) + pad
    start = box[0] + 2 * pad + round(pen.font(12, True).getlength(name))
    pen.text((start, y), row.query.title, 12, room=room - used)


def _draw_chip(pen: _Pen, chip: Chip, rank: int, frame: Box,
               cell: Box) -> None:
    """A chip with its frame, badges and caption."""
    edge = pen.px(_FRAME)
    hit = chip if isinstance(chip, Hit) else None
    colour = frame_colour(hit.correct) if hit else QUERY
    pen.draw.rectangle(_inside(frame), colour)
    size = frame[2] - frame[0] - 2 * edge, frame[3] - frame[1] - 2 * edge
    picture = Image.fromarray(chip.image).resize(
        size, Image.Resampling.BICUBIC)
    pen.canvas.paste(picture, (frame[0] + edge, frame[1] + edge))
    if hit:
        _draw_mark(pen, hit.correct, frame[2] - pen.px(3),
                   frame[1] + pen.px(3), 9)
    middle = (cell[0] + cell[2]) // 2
    y = cell[3] - pen.px(_CAPTION) + pen.px(13)
    _draw_line(pen, middle, y, chip.modality,
               f'#{rank}' if hit else 'query')
    room = cell[2] - cell[0]
    known = 'id ?' if chip.pid is None else f'id {chip.pid:04d}'
    if hit:
        known = f'd {_number(hit.distance)}   {known}'
    pen.text((middle, y + pen.px(17)), known, 11, anchor='mm', room=room)
    pen.text((middle, y + pen.px(33)), chip.title, 10, _FAINT, anchor='mm',
             room=room)


def _draw_line(pen: _Pen, middle: int, y: int, modality: int,
               text: str) -> None:
    """Rank, and the modality in a box."""
    tag = MODALITY_NAMES[modality]
    font, tag_font = pen.font(13, True), pen.font(10, True)
    tag_width = round(tag_font.getlength(tag)) + pen.px(10)
    width = round(font.getlength(text)) + pen.px(7) + tag_width
    left = middle - width // 2
    pen.text((left, y), text, 13, bold=True)
    left += width - tag_width
    half = pen.px(8)
    pen.draw.rounded_rectangle(
        (left, y - half, left + tag_width - 1, y + half - 1), pen.px(4),
        _MODALITY_COLOURS[modality])
    pen.text((left + tag_width // 2, y), tag, 10, _PAPER, True, 'mm')


def _draw_mark(pen: _Pen, correct: bool | None, x: int, y: int,
               radius: float) -> None:
    """A disc with a tick, a cross or a question mark, centred on (x, y)."""
    r = pen.px(radius)
    # Pillow's lines have no anti-aliasing: draw large, then shrink.
    big, side = 4, 2 * (r + 2)
    mask = Image.new('L', (side * big, side * big))
    mark = Image.new('L', mask.size)
    rim, disc, shape = (
        ImageDraw.Draw(mask), ImageDraw.Draw(mask), ImageDraw.Draw(mark))
    centre, unit = side * big / 2, r * big

    def at(*points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(centre + unit * a, centre + unit * b) for a, b in points]

    outer = unit + 1.5 * big
    rim.ellipse([centre - outer, centre - outer, centre + outer,
                 centre + outer], 255)
    width = max(round(unit * 0.24), 1)
    if correct is None:
        font = _font(round(unit * 1.5), True)
        shape.text((centre, centre), '?', 255, font, 'mm')
    elif correct:
        shape.line(at((-0.5, 0.05), (-0.13, 0.42), (0.52, -0.36)), 255,
                   width, 'curve')
    else:
        for a, b in (((-0.4, -0.4), (0.4, 0.4)), ((-0.4, 0.4), (0.4, -0.4))):
            shape.line(at(a, b), 255, width)
    where = (x - side // 2, y - side // 2)
    small = (side, side)
    pen.canvas.paste(_PAPER, where, mask.resize(small))
    mask.paste(0, (0, 0, *mask.size))
    disc.ellipse([centre - unit, centre - unit, centre + unit,
                  centre + unit], 255)
    pen.canvas.paste(frame_colour(correct), where, mask.resize(small))
    pen.canvas.paste(_PAPER, where, mark.resize(small))


def _inside(box: Box) -> Box:
    """Pillow's rectangles include their last row and column."""
    return box[0], box[1], box[2] - 1, box[3] - 1


def _number(value: float) -> str:
    return '–' if np.isnan(value) else f'{value:.3f}'
