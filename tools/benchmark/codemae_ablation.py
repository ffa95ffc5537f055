r"""The objectives of CoDe-MAE one by one, on rendered land.

    python tools/make_demo_data.py data/demo --sets ospretrain sen12
    python tools/benchmark/codemae_ablation.py --seeds 0 1 2

Pre-trains configs/demo/codemae_ospretrain.py with some of its objectives on
data/demo/OSPretrain, probes the scene classes of data/demo/SEN12 with a
linear classifier, and measures the effective rank of the features. Finished
runs are kept and not repeated.

The published teacher (DINOv3) knows no rendered land and is not free to
download. The teacher of the rows with OKD is therefore a HiViT-MAE of the
same size that was trained once on the optical images alone
(configs/demo/hivit_mae_ospretrain.py): the row shows whether the objective
works, not what a strong teacher would give. The land is rendered: nothing
here is a result on real images.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from mmengine.config import Config

from osar_plugin.io import atomic_write
from osar_plugin.utils import launch
from osar_plugin.utils.checkpoint import sha256_of
from osar_plugin.utils.config_values import require_range
from osar_plugin.utils.errors import CheckpointError
from osar_plugin.utils.kept_runs import (
    add_run_options,
    choose,
    conditions,
    keep,
    kept,
    run_tool,
    spread_table,
)
from osar_plugin.utils.work_dir import find_checkpoint

REPO = Path(__file__).resolve().parents[2]
BASE = REPO / 'configs/demo/codemae_ospretrain.py'
TEACHER = REPO / 'configs/demo/hivit_mae_ospretrain.py'
OKD, CDR, CCL = 'okd', 'cdr', 'ccl'
UNTRAINED = 'untrained'
ROWS: dict[str, tuple[str, ...]] = {
    'MAE only': (), '+ OKD': (OKD, ), '+ CDR': (CDR, ), '+ CCL': (CCL, ),
    'all': (OKD, CDR, CCL)}
COLUMNS = ('optical', 'sar', 'rank optical', 'rank sar')


def model_changes(parts: tuple[str, ...], teacher: Path | None
                  ) -> dict[str, Any]:
    """What a row changes of the demo's model, which has CDR and CCL."""
    changes: dict[str, Any] = {}
    if CDR not in parts:
        changes['degraded'] = None
    if CCL not in parts:
        changes['contrast'] = None
    if OKD in parts:
        model = Config.fromfile(TEACHER).model
        normal = model.data_preprocessor
        changes['distillation'] = dict(
            _delete_=True, type='osar_plugin.OpticalDistillation', depth=1,
            num_heads=4, tap=0.75)
        changes['teacher'] = dict(
            _delete_=True, type='osar_plugin.TrunkTeacher',
            backbone=model.backbone.to_dict(), checkpoint=str(teacher),
            mean=tuple(normal.mean[:3]), std=tuple(normal.std[:3]))
    return changes


def write_config(parts: tuple[str, ...], teacher: Path | None,
                 path: Path) -> None:
    """Write the config of a row."""
    with atomic_write(path) as file:
        file.write(f'_base_ = [{str(BASE)!r}]\n'
                   f'model = {model_changes(parts, teacher)!r}\n')


def depends_on(config: Path, args: argparse.Namespace,
               teacher: Path | None) -> str:
    """Hash of what a run depends on."""
    return conditions(config, args.cfg_options, args.data_root,
                      '' if teacher is None else sha256_of(teacher))


def pretrain(config: Path, work_dir: Path, seed: int,
             args: argparse.Namespace) -> Path:
    """Train from a config; gives the checkpoint.

    Raises:
        CheckpointError: If the training left none.
    """
    options = ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    run_tool(REPO, 'train', config, '--work-dir', work_dir, '--data-root',
        Path(args.data_root, 'OSPretrain').resolve(), '--seed', str(seed),
        *options)
    found = find_checkpoint(work_dir)
    if found is None:
        raise CheckpointError(f'{work_dir}: the training left no checkpoint.')
    return Path(found)


def train_teacher(args: argparse.Namespace) -> Path:
    """The teacher, trained where it is missing; gives its weights."""
    work_dir = Path(args.work_dir, 'teacher').resolve()
    made_with = depends_on(TEACHER, args, None)
    known = kept(work_dir / 'result.json', made_with)
    if known is None or not Path(known['checkpoint']).is_file():
        checkpoint = pretrain(TEACHER, work_dir, 0, args)
        known = keep(work_dir / 'result.json',
                     dict(checkpoint=str(checkpoint)), made_with)
    return Path(known['checkpoint'])


def measure(config: Path, checkpoint: Path | None, work_dir: Path,
            seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Probe a network and measure its effective rank."""
    run_tool(REPO, 'analysis/linear_probe', config,
        *([] if checkpoint is None else [checkpoint]), '--data-root',
        Path(args.data_root, 'SEN12').resolve(), '--seeds', str(seed),
        '--out', work_dir)
    run_tool(
        REPO, 'analysis/analyse_pretraining', config,
        checkpoint or UNTRAINED, '--data-root',
        Path(args.data_root, 'OSPretrain').resolve(),
        '--figures', 'spectrum', '--seed', str(seed), '--out', work_dir)
    probe = json.loads((work_dir / 'linear_probe.json').read_text())
    rank = json.loads((work_dir / 'summary.json').read_text())
    runs, = probe['runs'].values()
    # The last evaluation: the best would be chosen on the test images.
    figures = {sensor: one[0]['final']['accuracy']
               for sensor, one in runs.items()}
    figures['rank optical'] = rank['effective_rank']['rgb']
    figures['rank sar'] = rank['effective_rank']['sar']
    return figures


def figures_of(row: str, seed: int,
               args: argparse.Namespace) -> dict[str, Any]:
    """Figures of one run, trained where missing."""
    parts = ROWS.get(row, ())
    teacher = train_teacher(args) if OKD in parts else None
    name = '-'.join(parts) or ('none' if row == UNTRAINED else 'mae')
    work_dir = Path(args.work_dir, f'{name}_seed{seed}').resolve()
    work_dir.mkdir(parents=True, exist_ok=True)
    config = work_dir.parent / f'codemae_{name}.py'
    write_config(parts, teacher, config)
    made_with = depends_on(config, args, teacher)
    known = kept(work_dir / 'result.json', made_with)
    if known is None:
        checkpoint = None if row == UNTRAINED else pretrain(
            config, work_dir, seed, args)
        known = keep(work_dir / 'result.json', measure(
            config, checkpoint, work_dir, seed, args), made_with)
    return known


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--rows', nargs='+', metavar='ROW',
        help=f'of {UNTRAINED!r}, {", ".join(map(repr, ROWS))}; all by '
        'default')
    add_run_options(parser, 'work_dirs/codemae_ablation',
                    'folder of OSPretrain and SEN12')
    return parser.parse_args(argv)


def main() -> None:
    """Train and measure what is missing and print the table."""
    args = parse_args()
    require_range(0, 2**31, seeds=args.seeds)
    rows = choose('--rows', args.rows, (UNTRAINED, *ROWS))
    results: dict[str, list[dict[str, float]]] = {}
    # Seed by seed, so that an interrupted ablation is still balanced.
    for seed in args.seeds:
        for row in rows:
            figures = figures_of(row, seed, args)
            results.setdefault(row, []).append(figures)
            sys.stdout.write(f'{row}, seed {seed}: {figures}\n')
    sys.stdout.write(f'\n{len(args.seeds)} seeds\n'
        f'{spread_table(results, COLUMNS, "objectives")}\n')


if __name__ == '__main__':
    launch.run(main)
