r"""Show what SAR denoising does to real chips.

    python tools/analysis/show_denoising.py data/hoss/HOSS/query sheet.png

Each row is a chip: scaled by its maximum (TransOSS, SDF-Net), in the
percentile stretch of MOS's released code, and sorted, truncated and
renormalised as its paper writes; beside them the histograms of all three and
what the denoising takes away.
"""

from __future__ import annotations

import argparse
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from osar_plugin.datasets.layout import list_images
from osar_plugin.datasets.transforms import (
    scale_by_max,
    scale_by_percentiles,
    truncate_lowest,
)
from osar_plugin.io import atomic_write, read_sar
from osar_plugin.utils import launch
from osar_plugin.utils.errors import ConfigError, DatasetNotFoundError

SUFFIXES = ('.tif', '.tiff', '.png')
COLOURS = ('#666666', '#D55E00', '#0072B2')


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'source', help='SAR file, or a folder: its files named *SAR.*, or '
        'all where there is none')
    parser.add_argument('out', help='picture to write (.png)')
    parser.add_argument(
        '--alpha', type=float, default=5.,
        help='percent of pixels taken for noise (default: %(default)s)')
    parser.add_argument(
        '--rows', type=int, default=6, help='chips to show at most')
    return parser.parse_args()


def find_chips(source: Path) -> list[Path]:
    """The SAR files of a path.

    Raises:
        DatasetNotFoundError: If there are none.
    """
    if source.is_file():
        return [source]
    files = list_images(source, SUFFIXES) if source.is_dir() else []
    chips = [f for f in files if f.stem.upper().endswith('SAR')] or files
    if not chips:
        raise DatasetNotFoundError(
            f'{source}: no SAR image of suffix {", ".join(SUFFIXES)}. Give a '
            'file, or a folder such as HOSS/query.')
    return chips


def forms(image: np.ndarray, alpha: float) -> list[tuple[str, np.ndarray]]:
    """The three 8-bit versions of a chip, with their titles."""
    return [
        ('by maximum', scale_by_max(image)),
        (f'percentiles {alpha:g}..100\n(released code)',
         scale_by_percentiles(image, alpha)),
        (f'lowest {alpha:g} % truncated\n(paper)',
         truncate_lowest(image, alpha))]


def draw(chips: list[tuple[str, np.ndarray]], alpha: float) -> Any:
    """Draw the sheet.

    Args:
        chips: (name, (H, W) float) of each.
        alpha: Share in percent.

    Returns:
        A matplotlib figure with a canvas of its own.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Upright chips are shown lying: ships are long and sheets are wide.
    upright = sum(image.shape[0] > image.shape[1] for _, image in chips)
    turn = upright * 2 > len(chips)
    figure = Figure(figsize=(15, 1.9 * len(chips) + 0.6), dpi=100)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(chips), 5, width_ratios=(3, 3, 3, 3, 3), wspace=0.12,
        hspace=0.45, left=0.02, right=0.985, bottom=0.06,
        top=1 - 0.6 / (1.9 * len(chips) + 0.6))
    for row, (name, image) in enumerate(chips):
        versions = forms(image, alpha)
        for column, (title, version) in enumerate(versions):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(np.rot90(version) if turn else version, cmap='gray',
                        vmin=0, vmax=255, interpolation='nearest')
            axes.set_axis_off()
            label = f'{title}\n' if row == 0 else ''
            zero = 100 * float((version == 0).mean())
            axes.set_title(
                f'{label}{name}' if column == 0 else
                f'{label}{zero:.1f} % black', fontsize=8)
        _histogram(figure.add_subplot(grid[row, 3]), versions, row == 0)
        _removed(figure.add_subplot(grid[row, 4]), versions, turn)
    return figure


def _histogram(axes: Any, versions: list[tuple[str, np.ndarray]],
               first: bool) -> None:
    """Histograms of the three versions, in percent of the pixels."""
    bins = np.linspace(0, 256, 65)
    styles = ('-', '-', ':')
    for (title, version), colour, style in zip(
            versions, COLOURS, styles, strict=True):
        counts, _ = np.histogram(version, bins)
        axes.stairs(
            100 * counts / version.size, bins, color=colour,
            linestyle=style, linewidth=1.3, label=title.split('\n')[0])
    axes.set_xlim(0, 256)
    axes.tick_params(labelsize=7)
    axes.spines[['top', 'right']].set_visible(False)
    if first:
        axes.set_title('histogram, % of the pixels', fontsize=8)
        axes.legend(fontsize=6, frameon=False)


def _removed(axes: Any, versions: list[tuple[str, np.ndarray]],
             turn: bool) -> None:
    """What the denoising takes away, and how far its two forms differ."""
    plain, released, paper = (
        version.astype(int) for _, version in versions)
    removed = plain - released
    axes.imshow(
        np.rot90(removed) if turn else removed, cmap='magma', vmin=0,
        vmax=max(int(removed.max()), 1), interpolation='nearest')
    axes.set_axis_off()
    axes.set_title(
        f'taken away: up to {removed.max()} of 255; the two forms differ '
        f'by up to {np.abs(paper - released).max()}', fontsize=7)


def main() -> None:
    """Draw the sheet."""
    args = parse_args()
    if args.rows < 1:
        raise ConfigError(f'--rows {args.rows}: at least 1.')
    if Path(args.out).suffix.lower() != '.png':
        raise ConfigError(f'{args.out}: the picture is a .png.')
    chips = find_chips(Path(args.source))
    shown = []
    for path in chips[:args.rows]:
        image = read_sar(path)
        shown.append((path.name, image.mean(2) if image.ndim == 3
                      else image))
    data = BytesIO()
    draw(shown, args.alpha).savefig(data, format='png')
    with atomic_write(args.out, 'wb') as file:
        file.write(data.getvalue())
    print_log(f'{len(shown)} of {len(chips)} chips: {args.out}', 'current')


if __name__ == '__main__':
    launch.run(main)
