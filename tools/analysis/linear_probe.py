r"""Probe a frozen encoder with a linear classifier.

    python tools/analysis/linear_probe.py configs/demo/codemae_ospretrain.py \
        work_dirs/codemae_ospretrain --data-root data/demo/SEN12 --out probe

    # 10 images a class, officially drawn, five seeds, and the same network
    # untrained beside it
    python tools/analysis/linear_probe.py CONFIG CHECKPOINT \
        --data-root data/scenes --shots 10 --seeds 0 1 2 3 4 --untrained

    # one of the published sets, with its classes, lists and constants
    python tools/analysis/linear_probe.py CONFIG CHECKPOINT \
        --data-root data/PIE --layout PIE --shots 10

Lists are those of osar_plugin.SceneList: a line names the optical image, the
SAR image and the class index (--columns for others). Features are computed
once for each sensor; each seed trains a new head, and with --shots also
draws other images. Both the last and the best evaluation are reported: the
published figures are the best ones, chosen on the test images themselves.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import DictAction
from rich.console import Console
from rich.table import Table
from torch import Tensor

from osar_plugin.apis.pretraining import (
    SENSORS,
    FrozenEncoder,
    describe_scenes,
)
from osar_plugin.datasets.pair_statistics import (
    OSPRETRAIN_STATISTICS,
    SourceStatistics,
    choose_statistics,
)
from osar_plugin.datasets.probe_layouts import LAYOUTS, ProbeSet
from osar_plugin.datasets.scene_list import SceneList, draw_shots
from osar_plugin.evaluation.linear_probe import (
    ProbeSettings,
    train_probe,
)
from osar_plugin.io import atomic_write
from osar_plugin.utils import launch
from osar_plugin.utils.config import load_config
from osar_plugin.utils.config_values import require_range
from osar_plugin.utils.errors import ConfigError, DataFormatError
from osar_plugin.utils.kept_runs import mean_and_spread
from osar_plugin.utils.work_dir import checkpoint_file

TRAINED, UNTRAINED = 'trained', 'untrained'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('config', help='config of the pre-training')
    add('checkpoint', nargs='?',
        help='its weights, or its work dir; without it, the untrained '
        'network is probed')
    add('--data-root', required=True, help='folder of images and lists')
    add('--layout', choices=LAYOUTS,
        help='one of the published sets, see '
        'osar_plugin/datasets/probe_layouts.py; the lists below are its own '
        'by default, classes and statistics always')
    add('--train-list', help='default: scenes_train.txt')
    add('--test-list', help='default: scenes_test.txt')
    add('--columns', nargs='+', default=['optical', 'sar', 'label'],
        help='words of a line, see osar_plugin.SceneList')
    add('--classes', default='classes.txt',
        help='file of class names, one to a line (default: %(default)s)')
    add('--sensors', nargs='+', choices=SENSORS, default=list(SENSORS))
    add('--statistics', default='statistics.json',
        help='mean and deviation: a JSON file of tools/prepare_data/'
        'check_pairs.py, or "published" (default: %(default)s)')
    add('--source', help='source in it; needed where there are several')
    add('--shots', type=int, metavar='K',
        help='train on K images for each class; default: all')
    add('--balanced', action='store_true',
        help='with --shots: K of each class; officially K x C of all')
    add('--seeds', type=int, nargs='+',
        help='default: 0 1 2; with --layout, as published, 0 1 2 3 4')
    add('--untrained', action='store_true',
        help='also probe the untrained network, another for each seed')
    defaults = ProbeSettings()
    add('--epochs', type=int, default=defaults.epochs)
    add('--lr', type=float, default=defaults.lr)
    add('--head-batch', type=int, default=defaults.batch_size, metavar='N',
        help='batch of the head (default: %(default)s)')
    add('--batch-size', type=int, default=64, help='images encoded at once')
    add('--workers', type=int, default=0, help='processes that read images')
    add('--amp', choices=('auto', 'off'), default='off',
        help='half precision of the encoder where the device has it')
    add('--device', help="default: MMEngine's choice")
    add('--out', metavar='DIR', help='folder for linear_probe.json')
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    args = parser.parse_args(argv)
    if args.seeds is None:
        args.seeds = list(range(5 if args.layout else 3))
    return args


class Scenes(NamedTuple):
    """A list of images of one sensor.

    Attributes:
        paths: N files.
        labels: (N,) int64, or (N, C) of 0 and 1.
    """

    paths: list[str]
    labels: Tensor


def read_classes(args: argparse.Namespace) -> list[str]:
    """Names of the classes.

    Raises:
        ConfigError: If there is no such file.
    """
    if args.layout:
        return list(LAYOUTS[args.layout].classes)
    path = Path(args.data_root, args.classes)
    try:
        names = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f'--classes {path}: cannot be read ({error}). Write one class '
            'name to a line, in the order of the indices.') from error
    return [name.strip() for name in names if name.strip()]


def read_statistics_of(args: argparse.Namespace) -> SourceStatistics:
    """Mean and deviation of the images.

    Raises:
        ConfigError: If it is not clear which.
    """
    if args.layout:
        return LAYOUTS[args.layout].statistics
    table = OSPRETRAIN_STATISTICS if args.statistics == 'published' else (
        choose_statistics(args.statistics, args.data_root, {}))
    name = args.source
    if name is None and len(table) == 1:
        name, = table
    if name not in table:
        raise ConfigError(
            f'--source {name}: {args.statistics} has {", ".join(table)}. '
            'Name one of these.')
    return table[name]


def read_scenes(args: argparse.Namespace, classes: Sequence[str],
                sensor: str, list_file: str) -> Scenes:
    """One of the lists."""
    if args.layout:
        probe = ProbeSet(args.data_root, args.layout, list_file)
        return Scenes(probe.paths(sensor), torch.from_numpy(probe.labels))
    listed = SceneList(
        args.data_root, list_file, classes, sensor, args.columns)
    rows = [listed.get_data_info(i) for i in range(len(listed))]
    return Scenes([row['img_path'] for row in rows],
                  torch.tensor([row['label'] for row in rows]))


def list_names(args: argparse.Namespace) -> tuple[str, str]:
    """Of the training and of the test list."""
    train, test = 'scenes_train.txt', 'scenes_test.txt'
    if args.layout:
        train, test = LAYOUTS[args.layout].train, LAYOUTS[args.layout].test
    return args.train_list or train, args.test_list or test


class Lists:
    """Training and test images of each sensor.

    Args:
        args: The command line.
        classes: Names of the classes.

    Raises:
        DataFormatError: If an image is in both lists.
    """

    def __init__(self, args: argparse.Namespace,
                 classes: Sequence[str]) -> None:
        self.args = args
        self.classes = classes
        self.statistics = read_statistics_of(args)
        self.scenes = {
            sensor: [read_scenes(args, classes, sensor, name)
                     for name in list_names(args)]
            for sensor in args.sensors}
        for sensor, (train, test) in self.scenes.items():
            common = set(train.paths) & set(test.paths)
            if common:
                raise DataFormatError(
                    f'{len(common)} {sensor} images are in both lists, e.g. '
                    f'{min(common)}. Take them off one of them.')

    def describe(self, encoder: FrozenEncoder) -> dict[str, list[Tensor]]:
        """Features of both lists by sensor."""
        return {
            sensor: [describe_scenes(
                encoder, one.paths, SENSORS[sensor], self.statistics,
                self.args.batch_size, self.args.workers) for one in both]
            for sensor, both in self.scenes.items()}

    def probe(self, features: dict[str, list[Tensor]], sensor: str,
              seed: int) -> dict[str, Any]:
        """Train one head.

        Returns:
            ``seed``, ``final``, ``best``, ``best_epoch``,
            ``train_images``.
        """
        args = self.args
        train, test = features[sensor]
        labels, test_labels = (one.labels for one in self.scenes[sensor])
        count = len(self.classes)
        rows = torch.from_numpy(draw_shots(
            labels.numpy(), count, args.shots, seed, args.balanced))
        result = train_probe(
            train[rows], labels[rows], test, test_labels, count,
            ProbeSettings(args.epochs, args.head_batch, args.lr), seed)
        return dict(
            seed=seed, final=result.final, best=result.best,
            best_epoch=result.best_epoch, train_images=len(rows))


def probe_all(args: argparse.Namespace) -> dict[str, Any]:
    """Probe the trained network, the untrained one, or both."""
    cfg = load_config(args.config, args.cfg_options)
    lists = Lists(args, read_classes(args))
    amp: bool | str = 'auto' if args.amp == 'auto' else False
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {}
    kinds = [TRAINED] if args.checkpoint else []
    kinds += [UNTRAINED] if args.untrained or not args.checkpoint else []
    for kind in kinds:
        features: dict[str, list[Tensor]] = {}
        for seed in args.seeds:
            # A checkpoint is one network, whatever the seed.
            if not features or kind == UNTRAINED:
                features = lists.describe(FrozenEncoder(
                    cfg, args.checkpoint if kind == TRAINED else None,
                    args.device, seed, amp))
            for sensor in args.sensors:
                runs.setdefault(kind, {}).setdefault(sensor, []).append(
                    lists.probe(features, sensor, seed))
    return dict(
        config=args.config, checkpoint=args.checkpoint,
        classes=lists.classes, shots=args.shots, balanced=args.balanced,
        epochs=args.epochs, lr=args.lr, test_images={
            sensor: len(both[1].paths)
            for sensor, both in lists.scenes.items()}, runs=runs)


def table(results: dict[str, Any]) -> Table:
    """Means and spreads for a terminal."""
    out = Table(title='Linear probe: mean and standard deviation over '
                'seeds, percent')
    for name in ('network', 'sensor', 'figure', 'final', 'best', 'images'):
        out.add_column(name, no_wrap=True)
    for kind, sensors in results['runs'].items():
        for sensor, runs in sensors.items():
            for figure in runs[0]['final']:
                cells = []
                for which in ('final', 'best'):
                    mean, spread = mean_and_spread(
                        [run[which][figure] for run in runs])
                    cells.append(f'{mean:.2f} ± {spread:.2f}')
                out.add_row(
                    kind, sensor, figure, *cells,
                    f'{runs[0]["train_images"]} / '
                    f'{results["test_images"][sensor]}')
    return out


def main() -> None:
    """Probe, print the table, write the figures."""
    args = parse_args()
    require_range(0, 2**31, seeds=args.seeds)
    require_range(1, shots=args.shots)
    if args.balanced and args.shots is None:
        raise ConfigError('--balanced is of --shots: give both.')
    if args.checkpoint:
        args.checkpoint = str(checkpoint_file(args.checkpoint))
    results = probe_all(args)
    Console(width=100).print(table(results))
    if args.out:
        path = Path(args.out, 'linear_probe.json')
        with atomic_write(path) as file:
            json.dump(results, file, indent=2)
            file.write('\n')
        sys.stdout.write(f'Figures written to {path}.\n')


if __name__ == '__main__':
    launch.run(main)
