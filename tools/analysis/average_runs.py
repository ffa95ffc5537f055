r"""Mean and standard deviation of a figure over runs, e.g. of several seeds.

    python tools/analysis/average_runs.py work_dirs/codemae_fusar/*

For each figure of the evaluations: that of the last one, which is not chosen,
and the best one, chosen on the images that it is of, as many papers do. The
deviation is that of a sample (n - 1).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from osar_plugin.utils import launch
from osar_plugin.utils.errors import ConfigError
from osar_plugin.utils.kept_runs import evaluations, mean_and_spread


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('work_dirs', nargs='+', type=Path, help='of the runs')
    add('--figures', nargs='+', metavar='NAME',
        help='which ones, e.g. accuracy/top1; default: all that the runs '
        'have in common')
    add('--smaller', action='store_true',
        help='the best value is the smallest one')
    return parser.parse_args(argv)


def table(runs: list[dict[str, list[float]]], figures: list[str],
          smaller: bool) -> str:
    """Markdown: a row for each figure."""
    best = min if smaller else max
    lines = ['| figure | runs | last | best |', '|---|--:|--:|--:|']
    for figure in figures:
        cells = [
            '{:.2f} ± {:.2f}'.format(*mean_and_spread(values))
            for values in ([run[figure][-1] for run in runs],
                           [best(run[figure]) for run in runs])]
        lines.append(f'| {figure} | {len(runs)} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def main() -> None:
    """Read the runs and print the table."""
    args = parse_args()
    runs = [evaluations(work_dir) for work_dir in args.work_dirs]
    common = [name for name in runs[0] if all(name in run for run in runs)]
    figures = args.figures or common
    unknown = [name for name in figures if name not in common]
    if unknown or not figures:
        raise ConfigError(
            f'--figures {" ".join(unknown)}: not in all of the runs, which '
            f'have {", ".join(common) or "none"} in common. Name some of '
            'these.')
    counts = {str(folder): len(run[figures[0]])
              for folder, run in zip(args.work_dirs, runs, strict=True)}
    if len(set(counts.values())) > 1:
        sys.stderr.write(
            'The runs have different numbers of evaluations: '
            + ', '.join(f'{name} {count}' for name, count in counts.items())
            + '.\n')
    sys.stdout.write(table(runs, figures, args.smaller) + '\n')


if __name__ == '__main__':
    launch.run(main)
