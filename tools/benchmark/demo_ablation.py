r"""Ablations on the rendered ships: mean and spread over seeds.

    python tools/make_demo_data.py data/demo
    python tools/benchmark/demo_ablation.py --seeds 0 1 2
    python tools/train.py configs/demo/bbdm_hoss.py
    python tools/benchmark/demo_ablation.py --table mos \
        --translator work_dirs/bbdm_hoss --tau 0.02 0.1 0.3 --views 1 5

Trains each config once per seed (finished runs are kept and not repeated)
and prints a table of the figures after the last epoch. The row with views
(CDGF) trains nothing: it evaluates the row above it again, once for each tau
and number of views. The ships are rendered: the table tells whether the parts
work together, not how good they are on HOSS-ReID.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

from osar_plugin.utils import launch
from osar_plugin.utils.checkpoint import sha256_of
from osar_plugin.utils.errors import ConfigError
from osar_plugin.utils.kept_runs import (
    add_run_options,
    choose,
    conditions,
    keep,
    kept,
    last_figures,
    run_tool,
    spread_table,
)
from osar_plugin.utils.work_dir import checkpoint_file

REPO = Path(__file__).resolve().parents[2]
FUSED = '+ CDGF'
TABLES = {
    'sdfnet': {
        'TransOSS': 'transoss_hoss',
        '+ SCL': 'sdfnet_scl_hoss',
        '+ DFL': 'sdfnet_dfl_hoss',
        'SDF-Net': 'sdfnet_hoss',
    },
    'mos': {
        'TransOSS': 'transoss_hoss',
        '+ denoising': 'mos_denoising_hoss',
        '+ CMAL': 'mos_hoss',
        FUSED: 'mos_hoss',
    },
}
COLUMNS = ('ALL/mAP', 'ALL/R1', 'O2S/mAP', 'O2S/R1', 'S2O/mAP', 'S2O/R1')


def train(name: str, seed: int, args: argparse.Namespace) -> dict:
    """Figures of one run after its last epoch, trained where missing."""
    work_dir = run_folder(name, seed, args)
    result = work_dir / 'result.json'
    made_with = depends_on(name, args)
    known = kept(result, made_with)
    if known is None:
        options = ['--cfg-options', *args.cfg_options] if (
            args.cfg_options) else []
        run_tool(
            REPO, 'train', f'configs/demo/{name}.py', '--work-dir', work_dir,
            '--data-root', str(Path(args.data_root).resolve()), '--seed',
            str(seed), *options)
        known = keep(result, last_figures(work_dir, COLUMNS[0]), made_with)
    return known


def fuse(name: str, seed: int, tau: float, views: int, weights: Path,
         args: argparse.Namespace) -> dict:
    """Figures of a trained run with views, evaluated where missing."""
    work_dir = run_folder(name, seed, args)
    train(name, seed, args)
    out = work_dir / f'tau{tau:g}_views{views}'
    out.mkdir(exist_ok=True)
    made_with = '\0'.join((
        depends_on(name, args), sha256_of(weights), repr((tau, views)),
        sha256_of(last_checkpoint(work_dir))))
    made_with = hashlib.sha256(made_with.encode()).hexdigest()
    known = kept(out / 'result.json', made_with)
    if known is None:
        run_tool(
            REPO, 'test', f'configs/demo/{name}.py', work_dir, '--work-dir',
            work_dir / 'test', '--data-root',
            str(Path(args.data_root).resolve()), '--out', str(out),
            '--cfg-options', *(args.cfg_options or ()),
            f'custom_hooks.0.translator.checkpoint={weights}',
            f'custom_hooks.0.cache_dir={out.parents[1] / "pseudo_sar"}',
            f'custom_hooks.0.tau={tau}', f'custom_hooks.0.views={views}')
        table = json.loads((out / 'results.json').read_text())
        figures = {}
        for column in COLUMNS:
            protocol, figure = column.split('/')
            figures[column] = table[protocol][figure]
        known = keep(out / 'result.json', figures, made_with)
    return known


def run_folder(name: str, seed: int, args: argparse.Namespace) -> Path:
    """Work dir of a training."""
    return Path(args.work_dir, f'{name}_seed{seed}').resolve()


def last_checkpoint(work_dir: Path) -> Path:
    """The checkpoint that ``tools/test.py`` takes of a work dir."""
    named = (work_dir / 'last_checkpoint').read_text().strip()
    return work_dir / Path(named).name


def depends_on(name: str, args: argparse.Namespace) -> str:
    """Hash of the config, the overrides and the data of a run."""
    return conditions(
        REPO / f'configs/demo/{name}.py', args.cfg_options, args.data_root)


def figures_of(row: str, seed: int,
               args: argparse.Namespace) -> dict[str, dict]:
    """Title to figures: one of most rows, several of the one with views."""
    name = TABLES[args.table][row]
    if row != FUSED:
        return {row: train(name, seed, args)}
    return {
        f'{row}, tau {tau:g}, K {views}': fuse(
            name, seed, tau, views, args.translator, args)
        for tau in args.tau for views in args.views}


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--table', choices=TABLES, default='sdfnet')
    parser.add_argument('--rows', nargs='+', metavar='ROW',
                        help='rows of the table; all by default')
    parser.add_argument(
        '--translator', type=Path, metavar='FILE',
        help='weights of configs/demo/bbdm_hoss.py, or its work dir; needed '
        f'for the row {FUSED!r}')
    parser.add_argument('--tau', type=float, nargs='+', default=[0.02],
                        help='shares of the views to try')
    parser.add_argument('--views', type=int, nargs='+', default=[5],
                        help='numbers of views to try')
    add_run_options(parser, 'work_dirs/demo_ablation')
    return parser.parse_args()


def check(args: argparse.Namespace) -> None:
    """Check rows and translator before hours are spent.

    Raises:
        ConfigError: If a row is not in the table, or needs a translator.
        CheckpointError: If the translator's weights are not there.
    """
    args.rows = choose('--rows', args.rows, TABLES[args.table])
    if FUSED not in args.rows:
        return
    if args.translator is None:
        raise ConfigError(
            f'The row {FUSED!r} needs --translator FILE: train one with '
            'tools/train.py configs/demo/bbdm_hoss.py, or leave the row out '
            'with --rows.')
    args.translator = checkpoint_file(args.translator).resolve()


def main() -> None:
    """Train and evaluate what is missing and print the table."""
    args = parse_args()
    check(args)
    results: dict[str, list[dict[str, float]]] = {}
    # Seed by seed, so that an interrupted ablation is still balanced.
    for seed in args.seeds:
        for row in args.rows:
            for title, figures in figures_of(row, seed, args).items():
                results.setdefault(title, []).append(figures)
                sys.stdout.write(f'{title}, seed {seed}: {figures}\n')
    sys.stdout.write(f'\n{len(args.seeds)} seeds\n'
        f'{spread_table(results, COLUMNS, "model")}\n')


if __name__ == '__main__':
    launch.run(main)
