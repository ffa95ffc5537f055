"""Windows over images of any size, in bounded memory.

:func:`sliding_strips` reads a window after the other, blends what a model
says of them, and hands out each strip of rows as soon as no further window
reaches it. It knows no file, no model and no framework beyond tensors; what
it holds at a time is one row of windows.

Letters: C classes, H W height and width in pixels, n windows of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...utils.config_values import require_range
from ...utils.errors import ConfigError

MODES = ('whole', 'slide')
BLENDS = ('mean', 'ramp')
# What the encoders divide sides by, with the pooled map of stride 32.
DIVISOR = 32


class Tile(NamedTuple):
    """A window; may reach past the border of an image smaller than it."""

    y: int
    x: int
    height: int
    width: int


@dataclass(frozen=True)
class SlideSettings:
    """How an image is gone through.

    Attributes:
        mode: ``'whole'``: at once (official BRIGHT); ``'slide'``: window by
            window (CoDe-MAE).
        window: Side of a window in pixels, a multiple of 32.
        stride: Pixels from one window to the next.
        batch_size: Windows that go through the model at once.
        blend: Where windows overlap: ``'mean'`` of the logits (official
            code), or ``'ramp'``: weighed by the distance from the window's
            border, which leaves no steps there.
        trim: Pixels at the borders of a window that do not count unless
            they are the border of the image, too. A model that looks no
            further than that gives what it would give of the whole image;
            one with global attention never does, whatever is trimmed.

    Raises:
        ConfigError: If a value is out of range.
    """

    mode: str = 'whole'
    window: int = 512
    stride: int = 256
    batch_size: int = 4
    blend: str = 'mean'
    trim: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (
                ('mode', self.mode, MODES), ('blend', self.blend, BLENDS)):
            if value not in known:
                raise ConfigError(
                    f'{name}={value!r} is none of '
                    f'{", ".join(map(repr, known))}.')
        require_range(DIVISOR, 2**14, window=self.window)
        require_range(1, self.window, stride=self.stride)
        require_range(1, 2**16, batch_size=self.batch_size)
        require_range(0, self.window, trim=self.trim)
        if self.window % DIVISOR:
            raise ConfigError(
                f'window={self.window} is no multiple of {DIVISOR}. Choose '
                'one.')
        if self.window - self.stride < 2 * self.trim:
            raise ConfigError(
                f'window={self.window}, stride={self.stride}, trim='
                f'{self.trim}: windows overlap by '
                f'{self.window - self.stride} pixels and lose '
                f'{2 * self.trim}, so that some pixels have none. Use a '
                'smaller stride or trim.')


class Side(NamedTuple):
    """Windows along one side of an image.

    Attributes:
        starts: First pixel of each.
        size: Of a window; more than the image where that is small.
        weights: For each window (size,), which add up to 1 at every pixel.
    """

    starts: list[int]
    size: int
    weights: list[Tensor]


def window_side(length: int, settings: SlideSettings) -> Side:
    """Place windows along a side; the last one ends where the image does.

    Args:
        length: Of the side in pixels.
        settings: Window, stride, blend and trim.
    """
    size = min(settings.window, -(-length // DIVISOR) * DIVISOR)
    room = max(length - size, 0)
    starts = [min(i * settings.stride, room)
              for i in range(math.ceil(room / settings.stride) + 1)]
    place = torch.arange(size)
    base = torch.ones(size)
    if settings.blend == 'ramp':
        base = torch.minimum(place + 1, size - place).float()
    total = torch.zeros(length)
    parts = []
    for start in starts:
        weight = base.clone()
        weight[length - start:] = 0
        if start > 0:
            weight[:settings.trim] = 0
        if start + size < length:
            weight[size - settings.trim:] = 0
        parts.append(weight)
        end = min(start + size, length)
        total[start:end] += weight[:end - start]
    for start, weight in zip(starts, parts, strict=True):
        end = min(start + size, length)
        weight[:end - start] /= total[start:end]
    return Side(starts, size, parts)


Read = Callable[[Tile], Any]
Predict = Callable[[list[Any]], Tensor]


def sliding_strips(size: tuple[int, int], channels: int, read: Read,
                   predict: Predict, settings: SlideSettings,
                   device: torch.device | str = 'cpu'
                   ) -> Iterator[tuple[int, Tensor]]:
    """Blend windows of an image of any size.

    Args:
        size: (H, W).
        channels: C of the logits.
        read: Gives what the model takes of a window; None where there is
            nothing to look at, and the logits are 0. Tiles reach past the
            image only where it is smaller than a window.
        predict: From n of these to logits (n, C, h, w).
        settings: See :class:`SlideSettings`; the mode is not looked at.
        device: Where the logits are blended.

    Yields:
        The first row of a strip and its logits (C, rows, W), from top to
        bottom, each row once.
    """
    rows, columns = (window_side(side, settings) for side in size)
    # Rows that are not yet complete.
    held = torch.zeros(channels, rows.size, size[1], device=device)
    for i, y in enumerate(rows.starts):
        tiles = [Tile(y, x, rows.size, columns.size)
                 for x in columns.starts]
        for numbers, logits in _predicted(tiles, read, predict,
                                          settings.batch_size):
            for number, own in zip(numbers, logits, strict=True):
                x = columns.starts[number]
                width = min(columns.size, size[1] - x)
                weight = rows.weights[i][:, None] * columns.weights[number]
                held[:, :, x:x + width] += (
                    own.to(held) * weight.to(held))[:, :, :width]
        last = i + 1 == len(rows.starts)
        ready = size[0] - y if last else rows.starts[i + 1] - y
        yield y, held[:, :ready]
        if not last:
            held = F.pad(held[:, ready:], (0, 0, 0, ready))


def _predicted(tiles: list[Tile], read: Read, predict: Predict,
               batch_size: int) -> Iterator[tuple[list[int], Tensor]]:
    """Logits of the windows that show something, batch by batch."""
    waiting: list[tuple[int, Any]] = []
    for number, tile in enumerate(tiles):
        content = read(tile)
        if content is not None:
            waiting.append((number, content))
        if waiting and (len(waiting) == batch_size
                        or number + 1 == len(tiles)):
            numbers, contents = zip(*waiting, strict=True)
            yield list(numbers), predict(list(contents))
            waiting = []


def pad_to(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Continue images (..., H, W) at the bottom and right by their rim."""
    height, width = images.shape[-2:]
    room = (0, max(size[1] - width, 0), 0, max(size[0] - height, 0))
    return F.pad(images, room, 'replicate') if any(room) else images


def divisible(size: tuple[int, int]) -> tuple[int, int]:
    """The next larger (H, W) that encoders can take."""
    height, width = (-(-side // DIVISOR) * DIVISOR for side in size)
    return height, width
