"""What whole checkpoints and exact resumes cost, against MMEngine's hooks.

Saves the same model with both checkpoint hooks, by turns: seconds, bytes on
the disk and peak memory above the model's own. Then the microseconds that
the other hooks add to an iteration, and what both come to at a save every
500 iterations of a training whose step takes so long.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.data import Dataset

from osar_plugin.compat import prepare_torchvision
from osar_plugin.utils.measuring import in_fresh_process, peak_bytes

OURS = 'osar_plugin.AtomicCheckpointHook'
STOCK = 'mmengine.CheckpointHook'
HOOKS = ('ExactResumeHook', 'InvalidLossHook', 'PreemptionHook',
         'BadSampleHook')


@MODELS.register_module()
class Weights(BaseModel):
    """So many MiB of weights, and a step that does next to nothing."""

    def __init__(self, mib: float, step: bool = False) -> None:
        super().__init__()
        side = max(1, int((mib * 2**20 / 4 / 8)**0.5))
        self.layers = nn.ModuleList(
            nn.Linear(side, side, bias=False) for _ in range(8))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, inputs: Any, data_samples: Any = None,
                mode: str = 'loss') -> Any:
        """A loss that touches every weight once."""
        sums = [next(layer.parameters())[0].sum() for layer in self.layers]
        return dict(loss=self.scale * torch.stack(sums).sum())


@DATASETS.register_module()
class Numbers(Dataset):
    """Nothing to load."""

    metainfo: dict[str, Any] = {}

    def __len__(self) -> int:
        return 4096

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(inputs=index)


def build(folder: str, mib: float, hook: str, hooks: tuple[str, ...] = (),
          iterations: int = 4) -> Runner:
    """A runner that trains the model with AdamW and saves only when told."""
    return Runner.from_cfg(Config(dict(
        default_scope='mmengine', work_dir=folder, log_level='ERROR',
        experiment_name=Path(folder).name,
        model=dict(type='Weights', mib=mib),
        train_dataloader=dict(
            batch_size=8, num_workers=0, dataset=dict(type='Numbers'),
            sampler=dict(type='InfiniteSampler', shuffle=True)),
        train_cfg=dict(by_epoch=False, max_iters=iterations,
                       val_interval=10**9),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-6)),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=10**9),
            checkpoint=dict(
                type=hook, by_epoch=False, interval=10**9, save_last=False,
                max_keep_ckpts=1)),
        custom_hooks=[dict(type=f'osar_plugin.{name}') for name in hooks],
        randomness=dict(seed=0))))


def save_cost(hook: str, mib: float, repeats: int) -> dict[str, Any]:
    """Seconds, bytes and memory of one checkpoint, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        runner = build(folder, mib, hook)
        runner.train()
        saver = next(h for h in runner.hooks if hasattr(h, 'saved_at')
                     or type(h).__name__ == 'CheckpointHook')
        before, seconds = peak_bytes(), []
        for step in range(repeats):
            begin = time.perf_counter()
            saver._save_checkpoint_with_step(
                runner, step, dict(epoch=0, iter=step))
            seconds.append(time.perf_counter() - begin)
        file = next(Path(folder).glob('iter_*.pth'))
        return dict(
            hook=hook, mib=mib, seconds=statistics.median(seconds),
            bytes=file.stat().st_size, memory=(peak_bytes() - before) / 2**20)


def step_cost(iterations: int) -> dict[str, float]:
    """Microseconds of an iteration without and with the other hooks."""
    found: dict[str, list[float]] = {}
    names: dict[str, Callable[[], tuple[str, ...]]] = {
        'none': tuple, 'all': lambda: HOOKS}
    names.update({
        name: (lambda name=name: (name, )) for name in HOOKS})  # type: ignore[misc]
    for _ in range(3):
        for label, chosen in names.items():
            with tempfile.TemporaryDirectory() as folder:
                runner = build(
                    folder, 0.01, OURS, chosen(), iterations)
                begin = time.perf_counter()
                runner.train()
                found.setdefault(label, []).append(
                    (time.perf_counter() - begin) / iterations * 1e6)
    return {label: min(times) for label, times in found.items()}


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--mib', type=float, nargs='+', default=[25, 330],
                        help='weights; 330 MiB is a ViT-B/16')
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--iterations', type=int, default=1500)
    parser.add_argument('--interval', type=int, default=500)
    parser.add_argument(
        '--step', type=float, default=0.5,
        help='seconds of a training step that the slowdown is told for')
    parser.add_argument('--json', action='store_true')
    parser.add_argument('--one', help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every pair (size, hook) in a process of its own, by turns."""
    rows = []
    for mib in args.mib:
        for hook in (STOCK, OURS):
            rows.append(in_fresh_process(
                __file__, '--one', hook, '--mib', mib, '--repeats',
                args.repeats))
    return rows


def main() -> None:
    """Measure and show."""
    args = parse_args()
    prepare_torchvision()  # a Runner imports it, also with stock hooks
    if args.one:
        row = save_cost(args.one, args.mib[0], args.repeats)
        sys.stdout.write('\n' + json.dumps(row) + '\n')
        return
    rows, steps = measure(args), step_cost(args.iterations)
    if args.json:
        sys.stdout.write('\n' + json.dumps(dict(
            saves=rows, microseconds=steps)) + '\n')
        return
    table = Table(title=f'One checkpoint, median of {args.repeats}')
    for title in ('weights MiB', 'hook', 's', 'bytes', 'memory above, MiB',
                  f'slowdown at one in {args.interval} x {args.step} s'):
        table.add_column(title, justify='right')
    for row in rows:
        table.add_row(
            f'{row["mib"]:g}', row['hook'], f'{row["seconds"]:.3f}',
            f'{row["bytes"]:,}', f'{row["memory"]:.0f}',
            f'{row["seconds"] / (args.interval * args.step):.2%}')
    console = Console()
    console.print(table)
    added = steps['all'] - steps['none']
    console.print(
        'microseconds per iteration of nothing: ' + ', '.join(
            f'{name} {value:.0f}' for name, value in steps.items())
        + f'. All add {added:.0f}, {added / args.step / 1e4:.3f} % of a '
        f'step of {args.step} s.', soft_wrap=True)


if __name__ == '__main__':
    main()
