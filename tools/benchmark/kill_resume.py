"""SIGKILL at random moments of a training: does it resume, to what?

Each trial trains a demo config in a tiny form, with a save every other
iteration and ``max_keep_ckpts=1``, kills it at a random moment, resumes it
and compares the final weights with those of the run that was never stopped.
``--hooks stock`` does the same with MMEngine's hooks alone.

Runs are children of one process that has imported everything, so that a
trial takes seconds; each goes through ``tools/train.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import runpy
import shutil
import signal
import socket
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from osar_plugin.datasets.synthetic import (
    HossSettings,
    PairSettings,
    write_hoss,
    write_pairs,
)
from osar_plugin.utils.checkpoint import read_checkpoint
from osar_plugin.utils.errors import OSARError

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = {
    'sdfnet': 'configs/demo/sdfnet_hoss.py',
    'pretrain': 'configs/demo/transoss_pretrain.py',
}
# Few, short iterations with states of some MiB, so that a good part of the
# time goes into saving.
TINY = {
    'sdfnet': [
        'model.backbone.depth=2', 'model.structure.layer=1',
        'model.head.num_classes=12', 'train_dataloader.batch_size=8',
        'train_dataloader.sampler.batch_size=8'],
    'pretrain': [
        'model.backbone.depth=2', 'train_dataloader.batch_size=8'],
}
# MMEngine as it comes: nothing of ours but the model and the data.
STOCK = [
    'default_hooks.checkpoint.type=mmengine.CheckpointHook',
    'default_hooks.exact_resume=None', 'default_hooks.preemption=None',
    'default_hooks.invalid_loss=None', 'default_hooks.bad_sample=None']


class Trials:
    """Runs of one tiny training.

    Args:
        name: Which one, a key of ``CONFIGS``.
        root: Folder for data and work dirs.
        stock: Use MMEngine's own hooks.
        processes: Processes (gloo) that train together.
        options: More ``--cfg-options``.
    """

    def __init__(self, name: str, root: Path, stock: bool = False,
                 processes: int = 1, options: tuple[str, ...] = ()) -> None:
        self.config = CONFIGS[name]
        self.root = root
        self.stock = stock
        self.processes = processes
        self.options = [
            *TINY[name], 'train_cfg.max_epochs=3', 'param_scheduler.total=3',
            'param_scheduler.warmup=1', 'default_hooks.checkpoint.by_epoch='
            'False', 'default_hooks.checkpoint.interval=2',
            'default_hooks.checkpoint.save_best=None',
            'default_hooks.checkpoint.max_keep_ckpts=1',
            'vis_backends=[]', 'visualizer.vis_backends=None',
            'log_level=ERROR', *(STOCK if stock else ()), *options]

    def start(self, work_dir: Path, resume: bool) -> list[int]:
        """Start a run; the process numbers of its ranks."""
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        return [
            self._fork(work_dir, resume, rank, port)
            for rank in range(self.processes)]

    def _fork(
            self, work_dir: Path, resume: bool, rank: int, port: int) -> int:
        child = os.fork()
        if child:
            return child
        os.setpgid(0, 0)
        work_dir.mkdir(parents=True, exist_ok=True)
        log = os.open(
            work_dir / f'rank_{rank}.txt',
            os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        options = list(self.options)
        if resume and self.stock:
            options.append('resume=True')
        sys.argv = [
            'train.py', str(ROOT / self.config), '--work-dir', str(work_dir),
            '--data-root', str(self.root / 'data'), '--no-validate',
            *(['--resume'] if resume and not self.stock else []),
            *(['--launcher', 'pytorch'] if self.processes > 1 else []),
            '--cfg-options', *options]
        if self.processes > 1:
            os.environ.update(
                RANK=str(rank), LOCAL_RANK=str(rank), MASTER_PORT=str(port),
                WORLD_SIZE=str(self.processes), MASTER_ADDR='127.0.0.1')
        code = 1
        try:
            torch.set_num_threads(1)
            runpy.run_path(str(ROOT / 'tools/train.py'), run_name='__main__')
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def wait(self, children: list[int]) -> bool:
        """Whether all ranks ended well; the others are ended with one."""
        ended = True
        left = set(children)
        while left:
            child, status = os.wait()
            if child not in left:
                continue
            left.remove(child)
            if status:
                ended = False
                for other in left:
                    kill(other)
        return ended

    def whole(self) -> tuple[dict[str, Any], float, float]:
        """The final weights of the run that is never stopped.

        Returns:
            The weights, and the seconds to its first save and to its end.
        """
        work_dir = self.root / 'whole'
        begin = time.perf_counter()
        children = self.start(work_dir, resume=False)
        while not any(work_dir.glob('*.pth')) and (
                time.perf_counter() - begin < 60):
            time.sleep(0.01)
        first = time.perf_counter() - begin
        if not self.wait(children):
            raise OSARError(
                'The run that is not killed failed: '
                + (work_dir / 'rank_0.txt').read_text()[-2000:])
        return weights(work_dir), first, time.perf_counter() - begin

    def trial(self, number: int, moment: float) -> tuple[Path, bool, bool]:
        """Kill a run, and resume it.

        Args:
            number: Of the trial.
            moment: Seconds after its start at which it is killed.

        Returns:
            The work dir, whether it had begun to save when it was killed,
            and whether the resumed run came to its end.
        """
        work_dir = self.root / f'trial_{number}'
        children = self.start(work_dir, resume=False)
        time.sleep(moment)
        for child in children:
            kill(child)
        self.wait(children)
        begun = any(work_dir.glob('*.pth')) or any(work_dir.glob('.*.tmp'))
        return work_dir, begun, self.wait(self.start(work_dir, resume=True))


def kill(child: int) -> None:
    """SIGKILL to a run and the workers of its loaders."""
    for target in (os.killpg, os.kill):
        try:
            target(child, signal.SIGKILL)
            return
        except ProcessLookupError:
            continue


def weights(work_dir: Path) -> dict[str, Any]:
    """The weights that a finished run has left."""
    path = (work_dir / 'last_checkpoint').read_text().strip()
    content = read_checkpoint(path)
    return dict(content['state_dict'], iterations=torch.tensor(
        content['meta']['iter']))


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two sets of weights are the same bytes."""
    return a.keys() == b.keys() and all(
        torch.equal(a[key], b[key]) for key in a)


def measure(trials: Trials, kills: int, seed: int) -> dict[str, Any]:
    """Kill and resume so many runs.

    Returns:
        Counts: ``kills``, ``in_training`` (of them behind the first save),
        ``resumed``, ``identical``; ``failed``, work dirs of the others.
    """
    final, first, seconds = trials.whole()
    moments = random.Random(seed)
    result: dict[str, Any] = dict(
        kills=kills, in_training=0, resumed=0, identical=0, failed=[],
        seconds=round(seconds, 2))
    console = Console(stderr=True)
    for number in track(range(kills), console=console, transient=True,
                        disable=not console.is_terminal):
        work_dir, begun, resumed = trials.trial(
            number, moments.uniform(0.8 * first, seconds))
        identical = resumed and equal(final, weights(work_dir))
        result['in_training'] += begun
        result['resumed'] += resumed
        result['identical'] += identical
        if identical:
            shutil.rmtree(work_dir)
        else:
            result['failed'].append(str(work_dir))
    return result


def warm_up() -> None:
    """Import what a training imports, once for all runs."""
    for name in ('models', 'datasets.transforms', 'engine', 'evaluation',
                 'visualization', 'registry'):
        import_module(f'osar_plugin.{name}')
    for name in ('torch._dynamo', 'torch.distributed', 'mmengine.runner'):
        import_module(name)


def render_data(folder: Path) -> None:
    """The smallest demo world with both kinds of data."""
    write_hoss(folder, settings=HossSettings(
        train_ids=12, test_ids=4, distractor_ids=1), workers=1)
    write_pairs(folder, settings=PairSettings(pairs=24), workers=1)


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kills', type=int, default=100)
    parser.add_argument(
        '--training', nargs='+', choices=list(CONFIGS),
        default=list(CONFIGS))
    parser.add_argument('--hooks', nargs='+', choices=['ours', 'stock'],
                        default=['ours', 'stock'])
    parser.add_argument('--processes', type=int, default=1)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    parser.add_argument('--json', action='store_true')
    return parser.parse_args()


def main() -> int:
    """Measure and show; 1 if a run of ours did not come back."""
    args = parse_args()
    warm_up()
    rows, lost = [], 0
    for name in args.training:
        for hooks in args.hooks:
            root = Path(tempfile.mkdtemp(prefix=f'kill_{name}_{hooks}_'))
            render_data(root / 'data')
            trials = Trials(name, root, hooks == 'stock', args.processes,
                            tuple(args.cfg_options))
            result = measure(trials, args.kills, args.seed)
            rows.append(dict(training=name, hooks=hooks, **result))
            if hooks == 'ours':
                lost += args.kills - result['identical']
            if not result['failed']:
                shutil.rmtree(root)
    if args.json:
        sys.stdout.write(json.dumps(rows) + '\n')
        return int(lost > 0)
    table = Table(title=f'{args.processes} process(es), seed {args.seed}')
    for title in ('training', 'hooks', 'kills', 'behind the first save',
                  'resumed', 'identical', 's per run'):
        table.add_column(title, justify='right')
    for row in rows:
        table.add_row(*(str(row[key]) for key in (
            'training', 'hooks', 'kills', 'in_training', 'resumed',
            'identical', 'seconds')))
    Console().print(table)
    for row in rows:
        for folder in row['failed'][:5]:
            Console().print(f'{row["training"]}, {row["hooks"]}: see '
                            f'{folder}/rank_0.txt', soft_wrap=True)
    return int(lost > 0)


if __name__ == '__main__':
    sys.exit(main())
