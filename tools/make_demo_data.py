"""Render the demo world: small data sets in the layouts of the real ones.

    python tools/make_demo_data.py data/demo
    python tools/make_demo_data.py data/demo --sets hoss --train-ids 40

The same options give the same bytes, whatever the number of workers.
"""
from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

try:
    from osar_plugin.datasets.synthetic import WorldError
except ModuleNotFoundError:
    # Run from a checkout that is not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from osar_plugin.datasets.synthetic import WorldError
from osar_plugin.datasets.synthetic.hoss import HossSettings, write_hoss


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    hoss = HossSettings()
    parser.add_argument('out', type=Path, help='folder of the demo world')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--sets', nargs='+', default=['hoss'], choices=['hoss'],
        help='which sets to write (default: all)')
    parser.add_argument(
        '--train-ids', type=int, default=hoss.train_ids,
        help='HOSS: ships to train on (default: %(default)s)')
    parser.add_argument(
        '--test-ids', type=int, default=hoss.test_ids,
        help='HOSS: ships with queries (default: %(default)s)')
    parser.add_argument(
        '--distractor-ids', type=int, default=hoss.distractor_ids,
        help='HOSS: ships in the gallery only (default: %(default)s)')
    parser.add_argument(
        '--sequences', type=int, default=hoss.sequences,
        help='HOSS: acquisitions (default: %(default)s)')
    parser.add_argument(
        '--workers', type=int, default=min(4, os.cpu_count() or 1),
        help='processes (default: %(default)s)')
    parser.add_argument(
        '--force', action='store_true', help='replace sets that are there')
    return parser.parse_args(argv)


def write_sets(args: argparse.Namespace) -> None:
    """Write the sets one after the other and report each."""
    if args.workers < 1:
        raise WorldError(f'--workers must be at least 1, got {args.workers}')
    hoss = HossSettings(
        seed=args.seed, train_ids=args.train_ids, test_ids=args.test_ids,
        distractor_ids=args.distractor_ids, sequences=args.sequences)
    begin = time.perf_counter()
    fresh = write_hoss(args.out, hoss, args.workers, args.force)
    took = time.perf_counter() - begin
    state = f'rendered in {took:.0f} s' if fresh else 'was there already'
    sys.stdout.write(f'{args.out / "HOSS"}: {state}\n')


def _stop(number: int, frame: object) -> None:
    """Turn a termination into an exception, so that half work is removed."""
    raise SystemExit(128 + number)


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    args = parse_args(argv)
    signal.signal(signal.SIGTERM, _stop)
    try:
        write_sets(args)
    except WorldError as error:
        sys.stderr.write(f'error: {error}\n')
        return 2
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
