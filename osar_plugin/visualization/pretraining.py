"""Figures of what a pre-trained encoder has learned: numbers in, arrays out.

Every function gives a picture (H, W, 3) uint8 RGB for
:func:`~.reid.write_png`. They are drawn without a display.

Legend: K pairs, N images, H W height and width in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..utils.errors import DataFormatError

# Okabe and Ito's, which people with colour-blindness tell apart.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00')
OPTICAL_COLOUR, SAR_COLOUR = COLOURS[:2]
_DPI = 130
_GREY = 128  # of what an encoder does not see
# More points than this make a cloud no clearer.
_MOST_POINTS = 4000


def draw_spectrum(spectra: Mapping[str, np.ndarray],
                  ranks: Mapping[str, float]) -> np.ndarray:
    """Singular values, each curve relative to its first.

    Args:
        spectra: By name, values in falling order.
        ranks: Effective rank of each, for the legend.
    """
    def paint(axes: Any) -> None:
        for i, (name, values) in enumerate(spectra.items()):
            values = np.asarray(values, float)
            shown = values / max(values[0], 1e-300)
            axes.plot(
                np.arange(1, len(shown) + 1), np.maximum(shown, 1e-12),
                color=COLOURS[i % len(COLOURS)],
                linestyle=('-', '--', '-.', ':')[i % 4],
                label=f'{name}  (effective rank {ranks[name]:.1f})')
        axes.set(title='Singular value spectrum of the features',
                 xlabel='direction', ylabel='value over the first',
                 yscale='log')
        axes.legend(frameon=False)

    return _picture(paint)


def draw_alignment(ssim: np.ndarray, cosine: np.ndarray,
                   bins: Sequence[tuple[float, float, float, int]],
                   correlation: float) -> np.ndarray:
    """Agreement of patch tokens against that of the patches' pixels.

    Args:
        ssim: (n,) of each patch.
        cosine: (n,) of its two tokens.
        bins: Mean SSIM, mean cosine, deviation and count of each bin.
        correlation: Of both.
    """
    def paint(axes: Any) -> None:
        step = max(1, -(-len(ssim) // _MOST_POINTS))
        axes.scatter(ssim[::step], cosine[::step], s=4, alpha=0.25,
                     color=COLOURS[4], linewidths=0)
        x, y, spread, _ = (np.array(column) for column in zip(
            *bins, strict=True))
        axes.errorbar(x, y, spread, fmt='o-', color=COLOURS[1], capsize=2,
                      label='mean and deviation of equal parts')
        axes.set(title=f'Patch alignment (correlation {correlation:+.2f})',
                 xlabel='SSIM of the patch, optical grey and SAR',
                 ylabel='cosine of its optical and SAR token')
        axes.legend(frameon=False)

    return _picture(paint)


def draw_scales(curves: Mapping[str, Sequence[tuple[float, float, float]]],
                unit: str) -> np.ndarray:
    """SSIM of optical and SAR against the size of a pixel.

    Args:
        curves: By source: pixel size, mean and deviation of each level.
        unit: Of the pixel size.
    """
    def paint(axes: Any) -> None:
        for i, (name, rows) in enumerate(curves.items()):
            x, y, spread = (np.array(column) for column in zip(
                *rows, strict=True))
            colour = COLOURS[i % len(COLOURS)]
            axes.plot(x, y, 'osD^vP'[i % 6] + '-', color=colour, label=name)
            axes.fill_between(x, y - spread, y + spread, color=colour,
                              alpha=0.12, linewidth=0)
        axes.set(title='Likeness of optical and SAR images',
                 xlabel=f'pixel size, {unit}', ylabel='SSIM', xscale='log')
        axes.legend(frameon=False)

    return _picture(paint)


def draw_gap(rgb: np.ndarray, sar: np.ndarray, title: str,
             labels: tuple[str, str] = ('', '')) -> np.ndarray:
    """A map of features of both sensors; lines join pairs.

    Args:
        rgb: (K, 2).
        sar: (K, 2), of the same pairs.
        title: Above the map.
        labels: Of the axes.
    """
    def paint(axes: Any) -> None:
        from matplotlib.collections import LineCollection

        axes.add_collection(LineCollection(
            list(np.stack([rgb, sar], 1)), colors='#888888', linewidths=0.4,
            alpha=0.4))
        for points, colour, mark, name in (
                (rgb, OPTICAL_COLOUR, 'o', 'optical'),
                (sar, SAR_COLOUR, '^', 'SAR')):
            axes.scatter(*points.T, s=10, marker=mark, color=colour,
                         label=name, linewidths=0)
        axes.set(title=title, xlabel=labels[0], ylabel=labels[1])
        axes.legend(frameon=False)

    return _picture(paint)


def draw_panels(rows: Sequence[Sequence[np.ndarray]],
                titles: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Images in rows and columns.

    Args:
        rows: Images (H, W, 3) uint8 of each row, as many as titles.
        titles: Above the columns.
        names: Beside the rows.

    Raises:
        DataFormatError: If there is nothing to show, or a row has another
            number of images.
    """
    if not rows or len(rows) != len(names) or any(
            len(row) != len(titles) for row in rows):
        raise DataFormatError(
            f'{len(rows)} rows of {[len(row) for row in rows]} images for '
            f'{len(names)} names and {len(titles)} titles.')
    figure, canvas = _figure((2.1 * len(titles), 2.2 * len(rows) + 0.4))
    grid = figure.subplots(len(rows), len(titles), squeeze=False)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            axes = grid[i, j]
            axes.imshow(image, interpolation='nearest')
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            if i == 0:
                axes.set_title(titles[j], fontsize=8)
            if j == 0:
                axes.set_ylabel(names[i], fontsize=6)
    return _pixels(canvas)


def hide_patches(image: np.ndarray, hidden: np.ndarray,
                 size: int = 16) -> np.ndarray:
    """An image whose hidden patches are grey.

    Args:
        image: (H, W, 3) uint8.
        hidden: (H / size, W / size) bool.
        size: Of a patch.
    """
    mask = hidden.repeat(size, 0).repeat(size, 1)[..., None]
    return np.where(mask, np.uint8(_GREY), image)


def stretch(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """(H, W) or (H, W, 3) of any range to (H, W, 3) uint8.

    Args:
        image: Float.
        low: What becomes black.
        high: What becomes white.
    """
    scaled = (image - low) / max(high - low, 1e-12)
    scaled = (scaled.clip(0, 1) * 255).round().astype(np.uint8)
    return scaled if scaled.ndim == 3 else scaled[..., None].repeat(3, 2)


def _figure(size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=_DPI, layout='constrained')
    return figure, FigureCanvasAgg(figure)


def _picture(paint: Callable[[Any], None]) -> np.ndarray:
    """One set of axes in the style of the package."""
    figure, canvas = _figure((7.2, 4.8))
    axes = figure.add_subplot()
    paint(axes)
    axes.grid(alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
    return _pixels(canvas)


def _pixels(canvas: Any) -> np.ndarray:
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
