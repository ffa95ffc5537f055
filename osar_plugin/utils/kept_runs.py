"""Runs of an ablation: started, kept so that none is repeated, tabulated."""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..io import atomic_write
from .errors import CheckpointError, ConfigError
from .names import did_you_mean, nearest


def add_run_options(parser: argparse.ArgumentParser, work_dir: str,
                    data_root: str = 'the demo world') -> None:
    """The flags that all drivers have.

    Args:
        parser: Gets them.
        work_dir: Default folder of the runs.
        data_root: What that flag's folder holds.
    """
    add = parser.add_argument
    add('--seeds', type=int, nargs='+', default=[0, 1, 2])
    add('--data-root', default='data/demo', help=data_root)
    add('--work-dir', default=work_dir, help='one folder in it for each run')
    add('--cfg-options', nargs='+', metavar='KEY=VALUE',
        help='passed on to tools/train.py and tools/test.py')


def choose(flag: str, given: Sequence[str] | None,
           known: Collection[str]) -> list[str]:
    """What is asked for, all by default.

    Raises:
        ConfigError: If one of them is not known.
    """
    for name in given or ():
        if name not in known:
            raise ConfigError(
                f'{flag} {name!r}: there are '
                f'{", ".join(map(repr, known))}.'
                + did_you_mean(nearest(name, known)))
    return list(given or known)


def run_tool(checkout: Path, tool: str, *arguments: str | Path) -> None:
    """Run ``tools/<tool>.py`` of a checkout in a process of its own.

    Raises:
        subprocess.CalledProcessError: If it fails; it has said why.
    """
    subprocess.run(
        [sys.executable, f'tools/{tool}.py', *map(str, arguments)],
        cwd=checkout, check=True)


def conditions(config: Path, overrides: Sequence[str] | None,
               data_root: str | Path, *more: str) -> str:
    """Hash of what a run depends on.

    Args:
        config: Its config.
        overrides: As of ``--cfg-options``.
        data_root: Its data; of a demo world, the stamp counts.
        more: What else, e.g. the hash of the weights that it starts from.
    """
    stamp = Path(data_root, 'demo_world.json')
    parts = (Config.fromfile(config).pretty_text, repr(overrides),
             stamp.read_text() if stamp.is_file() else str(data_root), *more)
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()


def kept(result: Path, made_with: str) -> dict[str, Any] | None:
    """Figures of an earlier run under the same conditions.

    Args:
        result: File of :func:`keep`.
        made_with: What the run depends on, as a string.
    """
    known = json.loads(result.read_text()) if result.is_file() else {}
    return known if known.get('conditions') == made_with else None


def keep(result: Path, figures: dict[str, Any],
         made_with: str) -> dict[str, Any]:
    """Write figures down and give them back."""
    known = dict(figures, conditions=made_with)
    with atomic_write(result) as file:
        json.dump(known, file)
    return known


def last_figures(work_dir: Path, column: str) -> dict[str, float]:
    """The last evaluation of a run, from its curves.

    Args:
        work_dir: Of the run.
        column: A figure that evaluations have.

    Raises:
        CheckpointError: If the run was not evaluated.
    """
    for curves in sorted(work_dir.glob('*/vis_data/scalars.json'))[-1:]:
        rows = map(json.loads, curves.read_text().splitlines())
        found: list[dict[str, float]] = [r for r in rows if column in r]
        if found:
            return found[-1]
    raise CheckpointError(
        f'{work_dir}: the curves of this run hold no {column}; it ended '
        'before its first evaluation. Remove the folder and start again.')


def evaluations(work_dir: Path) -> dict[str, list[float]]:
    """All evaluations of a run, from its curves.

    A run that was resumed has several files of curves; where they overlap,
    the later one counts.

    Args:
        work_dir: Of the run.

    Returns:
        Figure to its values in the order of the steps.

    Raises:
        CheckpointError: If the run was not evaluated.
    """
    steps: dict[int, dict[str, float]] = {}
    for curves in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in curves.read_text().splitlines():
            row = json.loads(line)
            # Rows of the training have a learning rate.
            if 'step' in row and 'lr' not in row:
                steps[row['step']] = row
    found: dict[str, list[float]] = {}
    for step in sorted(steps):
        for name, value in steps[step].items():
            if name not in ('step', 'time', 'data_time'):
                found.setdefault(name, []).append(value)
    if not found:
        raise CheckpointError(
            f'{work_dir}: no evaluation in the curves '
            '(<time>/vis_data/scalars.json) of this folder. Name work dirs '
            'of runs that were evaluated.')
    return found


def spread_table(results: Mapping[str, Sequence[Mapping[str, float]]],
                 columns: Sequence[str], first: str) -> str:
    """Markdown: mean and standard deviation over the seeds.

    Args:
        results: Row to the figures of its runs.
        columns: Which figures.
        first: Title of the first column.
    """
    lines = [f'| {first} | ' + ' | '.join(columns) + ' |',
             '|---|' + '--:|' * len(columns)]
    for row, runs in results.items():
        cells = []
        for column in columns:
            mean, spread = mean_and_spread([run[column] for run in runs])
            cells.append(f'{mean:.1f} ± {spread:.1f}')
        lines.append(f'| {row} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (n - 1) over seeds; 0 of one value."""
    spread = statistics.stdev(values) if len(values) > 1 else 0.
    return statistics.mean(values), spread
