r"""Fix registration test pairs in a file that every method reads.

    python tools/prepare_data/make_registration_protocol.py data/SOPatch \
        protocols/sopatch_main.json --split test --preset soma_main --size 512

    python tools/prepare_data/make_registration_protocol.py data/srif \
        protocols/srif_hard.json --layout srif --preset hard --size 256

The perturbation of each pair is drawn once and stored, and so are the
SHA-256 of its images. Layouts: folders and sen12, see
osar_plugin.RegistrationPairs, and srif: SRIF's Optical-SAR folder beside a
table pseudo_gt.csv with the columns pair, angle_deg, dx_px, dy_px and score,
because the transforms published with its images do not fit them. By that
table, image 1 resized to 256 x 256, turned by angle_deg about (128, 128)
and shifted by (dx_px, dy_px) lies on image 2.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

from osar_plugin.datasets import registration_protocol as protocols
from osar_plugin.datasets.perturbation import PRESETS
from osar_plugin.datasets.registration_pairs import RegistrationPairs
from osar_plugin.utils import launch
from osar_plugin.utils.errors import (
    ConfigError,
    DataFormatError,
    DatasetNotFoundError,
)
from osar_plugin.utils.geometry import apply, rescale, similarity

SRIF_SIDE = 256


def srif_rows(root: Path, min_score: float, size: int
              ) -> list[dict[str, Any]]:
    """Pairs of SRIF's Optical-SAR folder, aligned by the table.

    Args:
        root: The folder.
        min_score: Rows of the table need more than that.
        size: Side of the rendered images.

    Raises:
        DatasetNotFoundError: If the table is not there.
        DataFormatError: If it cannot be read.
    """
    path = root / 'pseudo_gt.csv'
    if not path.is_file():
        raise DatasetNotFoundError(
            f'{path}: not there; --layout srif needs it.')
    rows = []
    with open(path, encoding='utf-8', newline='') as file:
        for line in csv.DictReader(file):
            try:
                angle, dx, dy, score = (float(line[name]) for name in (
                    'angle_deg', 'dx_px', 'dy_px', 'score'))
            except (KeyError, TypeError, ValueError) as error:
                raise DataFormatError(
                    f'{path}: row {line} lacks a number in angle_deg, '
                    'dx_px, dy_px or score.') from error
            if score <= min_score:
                continue
            name = f'pair{line["pair"]}'
            turn = similarity(angle, centre=(128., 128.))
            factor = size / SRIF_SIDE
            # The SAR image has been turned in its frame by the same angle.
            frame = np.array([[-0.5, -0.5], [255.5, -0.5],
                              [255.5, 255.5], [-0.5, 255.5]])
            corners = (apply(turn, frame) + 0.5) * factor - 0.5
            turn[:, 2] += dx, dy
            rows.append(dict(
                name=name, fixed_path=str(root / f'{name}_1.jpg'),
                moving_path=str(root / f'{name}_2.jpg'),
                alignment=rescale(turn, factor, factor),
                moving_outline=corners))
    return rows


def folder_rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Pairs of a data set of registered pairs."""
    dataset = RegistrationPairs(
        args.data_root, layout=args.layout, split=args.split,
        fixed=args.fixed)
    names = ('optical', 'sar')
    rows = []
    for index in range(len(dataset)):
        row = dataset.get_data_info(index)
        rows.append(dict(
            name=row['pair_name'], fixed_path=row['fixed_path'],
            moving_path=row['moving_path'],
            fixed_modality=names[row['fixed_modality']],
            moving_modality=names[row['moving_modality']]))
    return rows


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('data_root', help='folder that paths in the protocol are relative to')
    add('out', help='the JSON file to write')
    add('--layout', choices=('folders', 'sen12', 'srif'), default='folders')
    add('--split', default='test')
    add('--fixed', choices=('optical', 'sar'), default='optical',
        help='which image is the reference')
    add('--preset', choices=sorted(PRESETS), default='soma_main')
    add('--size', type=int, default=512, help='side of the images, pixels')
    add('--seed', type=int, default=0)
    add('--limit', type=int, default=0, help='first so many pairs; 0: all')
    add('--min-score', type=float, default=0.25, help='srif only')
    return parser.parse_args()


def main() -> None:
    """Draw, hash, write."""
    args = parse_args()
    if not 16 <= args.size <= 16384 or args.limit < 0 or args.seed < 0:
        raise ConfigError(
            f'--size {args.size}, --limit {args.limit}, --seed {args.seed}: '
            '16 to 16384, and both at least 0.')
    # Whole: make_protocol takes other paths as relative to the root.
    args.data_root = root = Path(args.data_root).resolve()
    rows = srif_rows(root, args.min_score, args.size) \
        if args.layout == 'srif' else folder_rows(args)
    rows = rows[:args.limit or None]
    made = protocols.make_protocol(
        f'{root.name} {args.split} {args.preset}', root, rows,
        (args.size, args.size), args.preset, args.seed)
    protocols.write_protocol(made, args.out)
    sys.stdout.write(f'{args.out}: {len(made.pairs)} pairs of '
                     f'{args.size} x {args.size}, {args.preset}\n')


if __name__ == '__main__':
    launch.run(main)
