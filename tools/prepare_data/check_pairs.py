r"""Check a tree of optical-SAR pairs, and measure its statistics.

    python tools/prepare_data/check_pairs.py data/ospretrain \
        --statistics data/ospretrain/statistics.json
    python tools/prepare_data/check_pairs.py data/sen12 --layout sen12
    python tools/prepare_data/check_pairs.py data/ospretrain \
        --test data/bright/test --report faults.json

Looks for images that cannot be read, sides without a partner, pairs of
unequal size, unequal unpaired folders, and test images that leak into
pre-training (by content, or by a name in two lists). Mean and deviation are
exact, of everything that is not held out.

Exit status: 0 nothing wrong (there may be warnings), 1 something is wrong,
2 the command cannot be carried out.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import groupby
from pathlib import Path

try:
    from osar_plugin.datasets.pair_check import KINDS
except ModuleNotFoundError:
    # Run from a checkout that is not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from osar_plugin.datasets.pair_check import KINDS
from osar_plugin.datasets.ospretrain import OFFICIAL_DROP_TEST
from osar_plugin.datasets.pair_check import LAYOUTS, Result, check
from osar_plugin.datasets.pair_statistics import write_statistics
from osar_plugin.io import atomic_write
from osar_plugin.utils.errors import ConfigError, OSARError
from osar_plugin.utils.progress import progress_bar
from osar_plugin.utils.termination import orderly_termination

WRONG, USER_ERROR, INTERRUPTED = 1, 2, 130


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('root', type=Path, help='folder of the data set')
    add('--layout', choices=LAYOUTS, default=LAYOUTS[0],
        help='how the folder is built (default: %(default)s)')
    add('--statistics', type=Path, metavar='FILE',
        help='write mean and deviation of every source to a JSON file')
    add('--force', action='store_true',
        help='replace a file of statistics that is there')
    add('--drop-test', nargs='+', metavar='SOURCE',
        default=list(OFFICIAL_DROP_TEST),
        help='sources whose test.txt is held out of pre-training, or all '
        '(default: %(default)s)')
    add('--test', nargs='+', type=Path, default=[], metavar='DIR',
        help='folders of test images of other tasks, which must not be in '
        'pre-training')
    add('--size', type=int, default=224, metavar='PIXELS',
        help='what the model takes; smaller images are a warning '
        '(default: %(default)s)')
    add('--workers', type=int, metavar='N',
        help='processes (default: one per CPU; 0: none beside this one)')
    add('--report', type=Path, metavar='FILE',
        help='write all faults to a JSON file')
    add('--limit', type=int, default=20, metavar='N',
        help='faults to show of each kind, 0 for all (default: %(default)s)')
    return parser.parse_args(argv)


def check_args(args: argparse.Namespace) -> None:
    """Refuse what can be refused before the work begins."""
    for name in ('limit', 'size'):
        if getattr(args, name) < 0:
            raise ConfigError(
                f'--{name} {getattr(args, name)}: expected a number from 0 '
                'on.')
    if args.statistics and args.statistics.exists() and not args.force:
        raise ConfigError(
            f'--statistics {args.statistics}: is there already. Give '
            '--force to replace it, or another name.')


def run(args: argparse.Namespace) -> Result:
    """Check, and write what was asked for."""
    everything = args.drop_test == ['all']
    with progress_bar('checking') as show:
        result = check(
            args.root, args.layout,
            drop_test='all' if everything else args.drop_test,
            test_folders=args.test, size=args.size, workers=args.workers,
            progress=show)
    if args.report is not None:
        with atomic_write(args.report) as file:
            json.dump([
                dict(fault._asdict(), warning=KINDS[fault.kind][1])
                for fault in result.faults], file, indent=2)
            file.write('\n')
    # Of a damaged tree the statistics would be of what happens to be left.
    if args.statistics is not None and result.sound:
        write_statistics(args.statistics, result.statistics)
    return result


def show(args: argparse.Namespace, result: Result) -> None:
    """Faults, statistics, and a last line."""
    out = sys.stdout.write
    for kind, group in groupby(result.faults, lambda fault: fault.kind):
        faults = list(group)
        meaning, warning = KINDS[kind]
        out(f'{kind}{" (warning)" if warning else ""}: {len(faults)} '
            f'{meaning}\n')
        for fault in faults[:args.limit or None]:
            out(f'  {fault.path}: {fault.text}\n')
        more = len(faults) - args.limit
        if args.limit and more > 0:
            out(f'  and {more} more; --limit 0 shows all of them\n')
    for source, sides in result.statistics.items():
        for side, sums in zip(('RGB', 'SAR'), sides, strict=True):
            mean, std = (
                ' '.join(f'{value:.4f}' for value in values)
                for values in sums.mean_std())
            out(f'{source} {side}: {sums.images} images, mean {mean}, '
                f'deviation {std}\n')
    wrong = sum(not KINDS[fault.kind][1] for fault in result.faults)
    verdict = f'{wrong} problems' if wrong else 'nothing wrong'
    if args.statistics is not None:
        verdict += (
            f'; statistics written to {args.statistics}' if not wrong else
            '; no statistics written: mend the tree first')
    out(f'{args.root}: {result.images} images, {verdict}\n')


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    args = parse_args(argv)
    try:
        check_args(args)
        with orderly_termination():
            result = run(args)
    except OSARError as error:
        sys.stderr.write(f'error: {error}\n')
        return USER_ERROR
    except KeyboardInterrupt:
        sys.stderr.write('stopped; nothing was written\n')
        return INTERRUPTED
    show(args, result)
    return 0 if result.sound else WRONG


if __name__ == '__main__':
    raise SystemExit(main())
