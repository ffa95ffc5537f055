r"""Draw lists of a classification set, where the published ones are missing.

    # 20 % of each class to train on: train_labels_20.txt, val_labels_20.txt
    python tools/prepare_data/few_shot_lists.py data/AID --dataset AID \
        --share 0.2

    # 10 and 40 images of each class, five seeds:
    # split_fewshot/shot_10-seed_0.txt, ...
    python tools/prepare_data/few_shot_lists.py data/MSTAR \
        --dataset MSTAR --folder TRAIN --shots 10 40 --seeds 0 1 2 3 4

    # the images that were not drawn as a list of their own (SAR-ACD)
    python tools/prepare_data/few_shot_lists.py data/SAR-ACD \
        --dataset SARACD --shots 10 40 --seeds 0 1 2 3 4 --rest

Images lie in a folder for each class. The same arguments give the same
lists; they are not the lists that the authors drew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from osar_plugin.datasets import list_classification
from osar_plugin.datasets.list_classification import (
    ListClassification,
    scan_classes,
    stratified,
)
from osar_plugin.datasets.scene_list import draw_shots
from osar_plugin.io import atomic_write
from osar_plugin.utils import launch
from osar_plugin.utils.config_values import require_range
from osar_plugin.utils.errors import ConfigError, DataFormatError

DATASETS = {
    name: getattr(list_classification, name)
    for name in ('AID', 'FUSARShip', 'MSTAR', 'RESISC45', 'SARACD')}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('data_root', type=Path, help='folder of the data set')
    add('--dataset', required=True, choices=DATASETS,
        help='whose classes, in which order')
    add('--folder', default='.',
        help='folder of the classes in it (default: itself)')
    add('--share', type=float, nargs='+', default=[], metavar='S',
        help='shares of each class to train on, in (0, 1)')
    add('--shots', type=int, nargs='+', default=[], metavar='K',
        help='images of each class to train on')
    add('--seeds', type=int, nargs='+', default=[0])
    add('--rest', action='store_true',
        help='with --shots: also list the images that were not drawn, as '
        '..._test.txt beside ..._train.txt')
    add('--force', action='store_true', help='replace lists that are there')
    return parser.parse_args(argv)


class Lister:
    """Writes lists of the images of a data set.

    Args:
        args: The command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        kind: type[ListClassification] = DATASETS[args.dataset]
        self.root: Path = args.data_root
        self.force: bool = args.force
        self.count = len(kind.METAINFO['classes'])
        self.images = scan_classes(
            self.root, args.folder, kind.METAINFO['classes'])
        self.labels = np.array([label for _, label in self.images])
        spaced = [path for path, _ in self.images if len(
            path.name.split()) != 1]
        if spaced:
            raise DataFormatError(
                f'{spaced[0]}: lists cannot name files with spaces in their '
                f'own name. Rename {len(spaced)} of them.')

    def write(self, name: str, rows: Iterable[int]) -> None:
        """Write the list of some rows."""
        path = self.root / name
        if path.exists() and not self.force:
            raise ConfigError(
                f'{path} is there already. Give --force to replace it.')
        lines = [
            f'{image.name} {image.parent.as_posix()} {label}\n'
            for image, label in (self.images[row] for row in rows)]
        with atomic_write(path) as file:
            file.writelines(lines)
        sys.stdout.write(f'{path}: {len(lines)} images\n')

    def shares(self, share: float, seed: int, several: bool) -> None:
        """Lists of a share of each class, and of the rest."""
        chosen = stratified(self.labels, self.count, share, seed)
        end = f'{share * 100:g}' + (f'_seed_{seed}' if several else '')
        self.write(f'train_labels_{end}.txt', chosen.nonzero()[0].tolist())
        self.write(f'val_labels_{end}.txt', (~chosen).nonzero()[0].tolist())

    def shots(self, shots: int, seed: int, rest: bool) -> None:
        """Lists of some images of each class, and of the rest."""
        rows = draw_shots(self.labels, self.count, shots, seed, True)
        name = f'split_fewshot/shot_{shots}-seed_{seed}'
        self.write(f'{name}{"_train" if rest else ""}.txt', rows.tolist())
        if rest:
            others = np.setdiff1d(np.arange(len(self.labels)), rows)
            self.write(f'{name}_test.txt', others.tolist())


def main() -> None:
    """Draw and write."""
    args = parse_args()
    require_range(0, 2**31, seeds=args.seeds)
    require_range(1, shots=args.shots)
    if not args.share and not args.shots:
        raise ConfigError('Nothing to draw: give --share or --shots.')
    lister = Lister(args)
    for seed in args.seeds:
        for share in args.share:
            lister.shares(share, seed, len(args.seeds) > 1)
        for shots in args.shots:
            lister.shots(shots, seed, args.rest)


if __name__ == '__main__':
    launch.run(main)
