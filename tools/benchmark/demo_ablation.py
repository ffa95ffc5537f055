"""The ablation of SDF-Net on the rendered ships: mean and spread over seeds.

    python tools/make_demo_data.py data/demo
    python tools/benchmark/demo_ablation.py --seeds 0 1 2

Trains each config once per seed (finished runs are kept and not repeated)
and prints a table of the figures after the last epoch. The ships are
rendered: the table tells whether the parts work together, not how good they
are on HOSS-ReID.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
from pathlib import Path

from mmengine.config import Config

REPO = Path(__file__).resolve().parents[2]
ROWS = {
    'TransOSS': 'transoss_hoss',
    '+ SCL': 'sdfnet_scl_hoss',
    '+ DFL': 'sdfnet_dfl_hoss',
    'SDF-Net': 'sdfnet_hoss',
}
COLUMNS = ('ALL/mAP', 'ALL/R1', 'O2S/mAP', 'O2S/R1', 'S2O/mAP', 'S2O/R1')


def train(name: str, seed: int, args: argparse.Namespace) -> dict:
    """Figures of one run after its last epoch, trained where missing."""
    work_dir = Path(args.work_dir, f'{name}_seed{seed}')
    result = work_dir / 'result.json'
    made_with = conditions(name, args)
    known = json.loads(result.read_text()) if result.is_file() else {}
    if known.get('conditions') != made_with:
        command = [
            sys.executable, 'tools/train.py', f'configs/demo/{name}.py',
            '--work-dir', str(work_dir.resolve()), '--data-root',
            str(Path(args.data_root).resolve()), '--seed', str(seed)
        ]
        if args.cfg_options:
            command += ['--cfg-options', *args.cfg_options]
        subprocess.run(command, cwd=REPO, check=True)
        known = dict(last_figures(work_dir), conditions=made_with)
        result.write_text(json.dumps(known))
    return known


def conditions(name: str, args: argparse.Namespace) -> str:
    """Hash of the config, the overrides and the data of a run."""
    config = Config.fromfile(REPO / f'configs/demo/{name}.py')
    stamp = Path(args.data_root, 'demo_world.json')
    parts = (config.pretty_text, repr(args.cfg_options),
             stamp.read_text() if stamp.is_file() else args.data_root)
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()


def last_figures(work_dir: Path) -> dict[str, float]:
    """The last line of a run's curves that holds an evaluation."""
    curves = sorted(work_dir.glob('*/vis_data/scalars.json'))[-1]
    rows = [json.loads(line) for line in curves.read_text().splitlines()]
    return [row for row in rows if COLUMNS[0] in row][-1]


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: mean and standard deviation over the seeds."""
    lines = ['| model | ' + ' | '.join(COLUMNS) + ' |',
             '|---|' + '--:|' * len(COLUMNS)]
    for row, runs in results.items():
        cells = []
        for column in COLUMNS:
            values = [run[column] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else 0.
            cells.append(f'{statistics.mean(values):.1f} ± {spread:.1f}')
        lines.append(f'| {row} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--rows', nargs='+', choices=ROWS, default=list(ROWS))
    parser.add_argument('--data-root', default='data/demo')
    parser.add_argument('--work-dir', default='work_dirs/demo_ablation')
    parser.add_argument(
        '--cfg-options', nargs='+', help='passed on to tools/train.py')
    args = parser.parse_args()
    results: dict[str, list[dict[str, float]]] = {r: [] for r in args.rows}
    # Seed by seed, so that an interrupted ablation is still balanced.
    for seed in args.seeds:
        for row in args.rows:
            results[row].append(train(ROWS[row], seed, args))
            sys.stdout.write(f'{row}, seed {seed}: {results[row][-1]}\n')
    sys.stdout.write(f'\n{len(args.seeds)} seeds\n{table(results)}\n')


if __name__ == '__main__':
    main()
