"""Render the demo world: small data sets in the layouts of the real ones.

    python tools/make_demo_data.py data/demo
    python tools/make_demo_data.py data/demo --sets hoss --train-ids 40
    python tools/make_demo_data.py data/demo --sets sen12 ospretrain

The same options give the same bytes, whatever the number of workers.
"""
from __future__ import annotations

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path

# One process per core is at work already; more threads in the matrix
# products only get in each other's way.
os.environ['OPENBLAS_NUM_THREADS'] = '1'

try:
    from osar_plugin.datasets.synthetic import WorldError
except ModuleNotFoundError:
    # Run from a checkout that is not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from osar_plugin.datasets.synthetic import WorldError
from osar_plugin.datasets.synthetic import (
    BrightSettings,
    DetectionSettings,
    HossSettings,
    OSPretrainSettings,
    PairSettings,
    SegmentationSettings,
    Sen12Settings,
    write_bright,
    write_detection,
    write_hoss,
    write_ospretrain,
    write_pairs,
    write_segmentation,
    write_sen12,
)
from osar_plugin.utils.termination import orderly_termination

# Ships, which the demo of re-identification needs, and land.
SHIPS = ('hoss', 'optisar_pair')
SETS = (*SHIPS, 'sen12', 'ospretrain', 'bright', 'detection', 'segmentation')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    hoss, pair = HossSettings(), PairSettings()
    sen12, land = Sen12Settings(), OSPretrainSettings()
    tiles = SegmentationSettings()
    bright = BrightSettings()
    detection = DetectionSettings()
    parser.add_argument('out', type=Path, help='folder of the demo world')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--sets', nargs='+', default=list(SHIPS), choices=SETS,
        help=f'which sets to write (default: {" ".join(SHIPS)})')
    for name, value, text in (
            ('--train-ids', hoss.train_ids, 'HOSS: ships to train on'),
            ('--test-ids', hoss.test_ids, 'HOSS: ships with queries'),
            ('--distractor-ids', hoss.distractor_ids,
             'HOSS: ships in the gallery only'),
            ('--sequences', hoss.sequences, 'HOSS: acquisitions'),
            ('--pairs', pair.pairs, 'OptiSar_Pair: pairs'),
            ('--sen12-pairs', sen12.pairs, 'SEN12: pairs'),
            ('--source-pairs', land.pairs, 'OSPretrain: pairs per source'),
            ('--unpaired', land.unpaired,
             'OSPretrain: unpaired images per sensor'),
            ('--detection-images', detection.images,
             'Detection: images of each sensor'),
            ('--bright-tiles', bright.tiles,
             'BRIGHT: tiles of 256 pixels of each of four events'),
            ('--tiles', tiles.train,
             'LoveDA: tiles to train on, a quarter more to evaluate on'),
            ('--land-size', land.size,
             'SEN12, OSPretrain: side of the images in pixels'),
            ('--workers', min(4, os.cpu_count() or 1), 'processes')):
        parser.add_argument(
            name, type=int, default=value, metavar='N',
            help=f'{text} (default: %(default)s)')
    parser.add_argument(
        '--force', action='store_true', help='replace sets that are there')
    return parser.parse_args(argv)


def write_sets(args: argparse.Namespace) -> None:
    """Write the sets one after the other and report each."""
    if args.workers < 1:
        raise WorldError(f'--workers must be at least 1, got {args.workers}')
    # All settings are checked before the first set is rendered.
    hoss = HossSettings(
        seed=args.seed, train_ids=args.train_ids, test_ids=args.test_ids,
        distractor_ids=args.distractor_ids, sequences=args.sequences)
    pair = PairSettings(seed=args.seed, pairs=args.pairs)
    sen12 = Sen12Settings(
        seed=args.seed, pairs=args.sen12_pairs, size=args.land_size)
    land = OSPretrainSettings(
        seed=args.seed, pairs=args.source_pairs, unpaired=args.unpaired,
        size=args.land_size)
    detection = DetectionSettings(
        seed=args.seed, images=args.detection_images)
    bright = BrightSettings(seed=args.seed, tiles=args.bright_tiles)
    tiles = SegmentationSettings(
        seed=args.seed, train=args.tiles, val=max(1, args.tiles // 4))
    writers = {
        'segmentation': ('LoveDA', partial(
            write_segmentation, settings=tiles)),
        'hoss': ('HOSS', partial(write_hoss, settings=hoss)),
        'optisar_pair': ('OptiSar_Pair', partial(
            write_pairs, settings=pair)),
        'bright': ('BRIGHT', partial(write_bright, settings=bright)),
        'sen12': ('SEN12', partial(write_sen12, settings=sen12)),
        'ospretrain': ('OSPretrain', partial(
            write_ospretrain, settings=land)),
        'detection': ('Detection', partial(
            write_detection, settings=detection))}
    for key in dict.fromkeys(args.sets):
        name, write = writers[key]
        begin = time.perf_counter()
        fresh = write(args.out, workers=args.workers, force=args.force)
        took = time.perf_counter() - begin
        state = f'rendered in {took:.0f} s' if fresh else 'there already'
        sys.stdout.write(f'{args.out / name}: {state}\n')


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    args = parse_args(argv)
    try:
        with orderly_termination():
            write_sets(args)
    except WorldError as error:
        sys.stderr.write(f'error: {error}\n')
        return 2
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
