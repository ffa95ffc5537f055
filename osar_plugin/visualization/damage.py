"""A scene before and after an event with its map of damage, as a picture.

Legend: H W height and width in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..utils.errors import ConfigError, DataFormatError
from .reid import _FAINT, _INK, _PAPER, _Pen

Colour = tuple[int, int, int]
Entry = tuple[str, Colour | None, str]

_MARGIN, _GAP, _HEAD, _LABEL, _LINE, _BOX = 18, 10, 52, 24, 26, 14
_NARROWEST = 240


class Panel(NamedTuple):
    """A picture with its title.

    Attributes:
        title: Above it.
        image: (H, W, 3) uint8.
    """

    title: str
    image: np.ndarray


def draw_assessment(panels: Sequence[Panel], legend: Sequence[Entry],
                    title: str, scale: float = 1.0) -> np.ndarray:
    """Pictures of one size beside each other, with a legend below.

    Scenes that are wider than high stand one below the other.

    Args:
        panels: One or more.
        legend: Name, colour (None for what has none) and a note of each.
        title: Head of the picture.
        scale: Magnification of text and margins.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ConfigError: If there is no panel or ``scale`` is not above 0.
        DataFormatError: If the pictures differ in size or kind.
    """
    if not panels or not scale > 0:
        raise ConfigError(
            f'{len(panels)} panels and scale={scale}: expected one or more, '
            'and a scale above 0.')
    shape = _check_panels(panels)

    def px(value: float) -> int:
        return round(value * scale)

    # Small scenes are enlarged so that their titles fit.
    factor = max(1, -(-px(_NARROWEST) // max(shape[:2])))
    height, width = shape[0] * factor, shape[1] * factor
    cell = max(width, px(_NARROWEST))
    across = 1 if shape[1] >= 2 * shape[0] else len(panels)
    down = -(-len(panels) // across)
    size = (2 * px(_MARGIN) + across * cell + (across - 1) * px(_GAP),
            px(_HEAD) + down * (height + px(_LABEL) + px(_GAP))
            + px(_LINE) * len(legend) + px(_MARGIN))
    canvas = Image.new('RGB', size, _PAPER)
    pen = _Pen(canvas, scale)
    room = size[0] - 2 * px(_MARGIN)
    pen.text((px(_MARGIN), px(26)), title, 16, bold=True, room=room)
    for i, panel in enumerate(panels):
        left = px(_MARGIN) + i % across * (cell + px(_GAP))
        top = px(_HEAD) + i // across * (height + px(_LABEL) + px(_GAP))
        pen.text((left, top + px(_LABEL) // 2), panel.title, 12, _INK,
                 room=cell)
        canvas.paste(
            Image.fromarray(panel.image).resize(
                (width, height), Image.Resampling.NEAREST),
            (left, top + px(_LABEL)))
    top = px(_HEAD) + down * (height + px(_LABEL) + px(_GAP))
    _draw_legend(pen, legend, top, room)
    return np.array(canvas)


def _check_panels(panels: Sequence[Panel]) -> tuple[int, ...]:
    """The shape that all pictures have."""
    shape = panels[0].image.shape
    for panel in panels:
        if panel.image.shape != shape or panel.image.dtype != np.uint8 or (
                len(shape) != 3 or shape[2] != 3 or 0 in shape):
            raise DataFormatError(
                f'{panel.title}: {panel.image.shape} {panel.image.dtype}; '
                f'expected (H, W, 3) uint8 of one size, here {shape}.')
    return shape


def _draw_legend(pen: _Pen, legend: Sequence[Entry], top: int,
                 room: int) -> None:
    left = pen.px(_MARGIN)
    for i, (name, colour, note) in enumerate(legend):
        middle = top + i * pen.px(_LINE) + pen.px(_LINE) // 2
        half = pen.px(_BOX) // 2
        if colour is not None:
            pen.draw.rectangle(
                (left, middle - half, left + 2 * half, middle + half),
                tuple(colour), _FAINT)
        text = left + 2 * half + pen.px(10)
        used = pen.text((text, middle), name, 12, bold=True, room=room)
        used += pen.px(10)
        pen.text((text + used, middle), note, 12, _FAINT,
                 room=max(1, room - used - 2 * half - pen.px(10)))
