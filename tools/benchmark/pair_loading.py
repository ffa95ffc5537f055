"""How many images per second and core the data path of pairs gives.

    python tools/benchmark/pair_loading.py
    python tools/benchmark/pair_loading.py --root data/ospretrain --json

Without --root, pairs of rendered land are measured (--side pixels, kept in
memory by the system's file cache, as a local disk's are after the first
epoch). One process and one thread, processor time, so that a busy machine
does not change the figure; an image is one of the two of a pair.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.dataset import default_collate
from PIL import Image

try:
    from osar_plugin.datasets import OSPretrain
except ModuleNotFoundError:
    # Run from a checkout that is not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from osar_plugin.datasets import OSPretrain
from osar_plugin.datasets.pair_base import PretrainPairs
from osar_plugin.datasets.sen12 import SEN12
from osar_plugin.datasets.synthetic import OSPretrainSettings
from osar_plugin.datasets.synthetic.land.ospretrain import render_ospretrain
from osar_plugin.datasets.transforms import (
    LoadPair,
    PackPretrainInputs,
    PairHorizontalFlip,
    PairRandomResizedCrop,
)
from osar_plugin.datasets.transforms.pretrain_pairs import decode_8bit
from osar_plugin.utils import launch
from osar_plugin.utils.errors import ConfigError

_TRY = 32  # pairs that are timed at a time


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--root', help='a folder of pairs (default: render some)')
    add('--layout', choices=('ospretrain', 'sen12'), default='ospretrain')
    add('--statistics', help='its file of statistics')
    add('--side', type=int, default=256,
        help='side of the rendered images (default: %(default)s)')
    add('--size', type=int, default=224,
        help='what the model takes (default: %(default)s)')
    add('--pairs', type=int, default=256,
        help='pairs to load for each figure (default: %(default)s)')
    add('--json', action='store_true', help='print JSON')
    return parser.parse_args(argv)


def open_pairs(args: argparse.Namespace, scratch: str) -> PretrainPairs:
    """The data set to measure; rendered where none is given."""
    if args.root is None:
        render_ospretrain(Path(scratch), OSPretrainSettings(
            pairs=8, unpaired=8, size=args.side))
        return OSPretrain(scratch, statistics='statistics.json')
    kind = SEN12 if args.layout == 'sen12' else OSPretrain
    return kind(args.root, statistics=args.statistics)


def rate(step: Callable[[int], Any], pairs: int) -> float:
    """Images per second of processor time."""
    for number in range(min(8, pairs)):
        step(number)  # imports, caches
    begin = time.process_time()
    for number in range(pairs):
        step(number)
    return 2 * pairs / (time.process_time() - begin)


def measure(
        dataset: PretrainPairs, size: int, pairs: int) -> dict[str, float]:
    """Images per second and core of each step, and of all together."""
    rows = [dataset.get_data_info(n) for n in range(min(_TRY, len(dataset)))]
    files = [
        (row['rgb_path'], Path(row['rgb_path']).read_bytes(),
         Path(row['sar_path']).read_bytes()) for row in rows]
    load, crop = LoadPair(), PairRandomResizedCrop(size)
    flip, pack = PairHorizontalFlip(), PackPretrainInputs()
    loaded = [load.transform(dict(row)) for row in rows]
    cropped = [crop.transform(dict(row)) for row in loaded]
    packed = [pack.transform(dict(row)) for row in cropped]

    def both(decode: Callable[[bytes], Any]) -> Callable[[int], Any]:
        return lambda n: [
            decode(data) for data in files[n % len(files)][1:]]

    def of(step: Callable[[dict[str, Any]], Any],
           table: Sequence[dict[str, Any]]) -> Callable[[int], Any]:
        return lambda n: step(dict(table[n % len(table)]))

    def whole(row: dict[str, Any]) -> Any:
        return pack.transform(flip.transform(crop.transform(
            load.transform(row))))

    steps = {
        'decode (Pillow)': both(
            lambda data: np.array(Image.open(BytesIO(data)))),
        'decode (this package)': both(lambda data: decode_8bit(data, '')),
        'read and decode': of(load.transform, loaded),
        'crop and resize': of(crop.transform, loaded),
        'flip': of(flip.transform, cropped),
        'pack': of(pack.transform, cropped),
        'all together': of(whole, rows)}
    figures = {name: rate(step, pairs) for name, step in steps.items()}
    # One call stacks all of them.
    figures['collate'] = rate(
        lambda n: default_collate(packed), max(8, pairs // len(packed))
    ) * len(packed)
    return figures


def main() -> None:
    """Measure and print."""
    args = parse_args()
    if args.pairs < 1:
        raise ConfigError(f'--pairs {args.pairs}: expected at least 1.')
    cv2.setNumThreads(1)
    np.random.seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        dataset = open_pairs(args, scratch)
        first = dataset.get_data_info(0)['rgb_path']
        with Image.open(first) as image:
            side = 'x'.join(map(str, image.size))
        figures = measure(dataset, args.size, args.pairs)
    if args.json:
        sys.stdout.write(json.dumps(dict(
            image=side, size=args.size, images_per_second=figures)) + '\n')
        return
    sys.stdout.write(
        f'{side} pixels in, {args.size} out; images per second and core\n')
    for name, figure in figures.items():
        sys.stdout.write(f'{figure:9.0f}  {name}\n')


if __name__ == '__main__':
    launch.run(main)
