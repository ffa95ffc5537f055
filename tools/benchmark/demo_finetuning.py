r"""Tasks of the demo world, from pre-training and from scratch.

    python tools/make_demo_data.py data/demo \
        --sets ospretrain sen12 detection segmentation bright
    python tools/train.py configs/demo/codemae_ospretrain.py
    python tools/benchmark/demo_finetuning.py --seeds 0 1 2 \
        --pretrained work_dirs/codemae_ospretrain

Trains each task's demo config once per seed and start (finished runs are kept
and not repeated) and prints the figures after the last step. Segmentation has
a third of its config's iterations. `decayed` starts from pre-training, too,
with the layer-wise learning rates of the published recipes (0.85 a layer); it
is left out unless it is asked for with --starts. Detection, segmentation and
classification need the toolboxes: `make setup-full`. The land is rendered: the
table tells whether pre-training reaches the tasks, not how good they are on
real images.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

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
BACKBONE = 'model.backbone.init_cfg'
SCRATCH, PRETRAINED, DECAYED = 'scratch', 'pretrained', 'decayed'
DECAY = 'optim_wrapper.paramwise_cfg.decay_rate=0.85'


class Task(NamedTuple):
    """How a task is trained and judged.

    Attributes:
        config: In configs/demo.
        data: Its folder inside the demo world.
        figure: Of its evaluation.
        start: The ``init_cfg`` that takes pre-trained weights.
        scale: From the figure to percent.
        options: More overrides.
    """

    config: str
    data: str
    figure: str
    start: str = BACKBONE
    scale: float = 1.
    options: tuple[str, ...] = ()


# Mean and deviation of the SAR scenes in place of the optical ones'.
_SAR = ('model.data_preprocessor.mean=[66.0,66.0,66.0]',
        'model.data_preprocessor.std=[34.0,34.0,34.0]',
        'model.backbone.modality=sar', *(
    f'{split}_dataloader.dataset.modality=sar'
    for split in ('train', 'val', 'test')))
TASKS = {
    'scenes, optical': Task(
        'codemae_classification', 'SEN12', 'accuracy/top1'),
    'scenes, SAR': Task(
        'codemae_classification', 'SEN12', 'accuracy/top1', options=_SAR),
    'segmentation': Task(
        'codemae_segmentation', 'LoveDA', 'mIoU', options=(
            'train_cfg.max_iters=1000', 'train_cfg.val_interval=500',
            'param_scheduler.1.end=1000')),
    'detection': Task('codemae_detection', 'Detection/DIOR',
                      'coco/bbox_mAP_50', scale=100.),
    'damage': Task('codemae_bright', 'BRIGHT', 'bright/mIoU',
                   start='model.init_cfg'),
}


def train(name: str, seed: int, start: str,
          args: argparse.Namespace) -> dict[str, Any]:
    """The figure of one run after its last step, trained where missing."""
    task = TASKS[name]
    weights = None if start == SCRATCH else args.pretrained
    folder = f'{name.replace(", ", "_")}_{start}_seed{seed}'
    work_dir = Path(args.work_dir, folder).resolve()
    changes = [*task.options, *((DECAY, ) if start == DECAYED else ()),
               *(args.cfg_options or ())]
    options = [*changes]
    if weights is None and task.start != BACKBONE:
        options += [f'{task.start}=None']
    if weights is not None:
        options += [f'{task.start}.type=Pretrained',
                    f'{task.start}.checkpoint={weights}']
    config = REPO / f'configs/demo/{task.config}.py'
    made_with = conditions(
        config, changes, args.data_root,
        '' if weights is None else sha256_of(weights))
    known = kept(work_dir / 'result.json', made_with)
    if known is None:
        run_tool(REPO, 'train', config, '--work-dir', work_dir,
                 '--data-root', Path(args.data_root, task.data).resolve(),
                 '--seed', str(seed),
                 *(['--cfg-options', *options] if options else []))
        figure = last_figures(work_dir, task.figure)[task.figure]
        known = keep(work_dir / 'result.json',
                     {task.figure: figure * task.scale}, made_with)
    return known


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--tasks', nargs='+', metavar='TASK',
        help=f'of {", ".join(map(repr, TASKS))}; all by default')
    add('--starts', nargs='+', choices=(SCRATCH, PRETRAINED, DECAYED),
        default=[SCRATCH, PRETRAINED])
    add('--pretrained', type=Path, metavar='FILE',
        help='weights of configs/demo/codemae_ospretrain.py, or its work dir')
    add_run_options(parser, 'work_dirs/demo_finetuning')
    return parser.parse_args()


def check(args: argparse.Namespace) -> None:
    """Check tasks and weights before hours are spent.

    Raises:
        ConfigError: If a task is not known or the weights are not named.
        CheckpointError: If the weights are not there.
    """
    args.tasks = choose('--tasks', args.tasks, TASKS)
    if {PRETRAINED, DECAYED} & set(args.starts):
        if args.pretrained is None:
            raise ConfigError(
                'The pre-trained start needs --pretrained FILE: train one '
                'with tools/train.py configs/demo/codemae_ospretrain.py, or '
                f'leave it out with --starts {SCRATCH}.')
        args.pretrained = checkpoint_file(args.pretrained).resolve()


def main() -> None:
    """Train what is missing and print the table."""
    args = parse_args()
    check(args)
    results: dict[str, list[dict[str, float]]] = {}
    # Seed by seed, so that an interrupted comparison is still balanced.
    for seed in args.seeds:
        for name in args.tasks:
            figure = TASKS[name].figure
            runs = {
                start: train(name, seed, start, args)[figure]
                for start in args.starts}
            results.setdefault(f'{name} ({figure})', []).append(runs)
            sys.stdout.write(f'{name}, seed {seed}: {runs}\n')
    table = spread_table(results, args.starts, 'task')
    sys.stdout.write(f'\n{len(args.seeds)} seeds\n{table}\n')


if __name__ == '__main__':
    launch.run(main)
