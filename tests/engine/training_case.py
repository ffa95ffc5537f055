"""A training whose every step depends on everything that can go wrong.

Random augmentation from three generators, dropout, BatchNorm, momentum, a
schedule, an average of the weights: a resumed run that differs in one of
them ends with other weights.
"""

from __future__ import annotations

import random
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from osar_plugin.utils.checkpoint import read_checkpoint


@DATASETS.register_module(force=True)
class CaseDataset(Dataset):
    """Vectors with augmentation from all three generators."""

    metainfo = dict(classes=('a', 'b'))

    def __init__(self, size: int = 22, augment: bool = True) -> None:
        self.size, self.augment = size, augment

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, Any]:
        x = torch.linspace(-1, 1, 6) * (index + 1) / self.size
        if self.augment:
            x = x + np.random.rand() + random.random() + torch.rand(6)
        return dict(inputs=x, data_samples=index % 2)


@MODELS.register_module(force=True)
class CaseModel(BaseModel):
    """Dropout and BatchNorm; draws from NumPy too."""

    def __init__(self, poison: int = -1, poison_input: bool = False) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(),
            nn.Dropout(0.3), nn.Linear(16, 2))
        self.poison, self.poison_input = poison, poison_input
        self.calls = 0

    def forward(self, inputs: Any, data_samples: Any, mode: str) -> Any:
        images = torch.stack(list(inputs))
        if self.poison_input and mode == 'loss' and (
                self.calls + 1 == self.poison):
            images = images * float('nan')
        out = self.net(images)
        if mode != 'loss':
            return [out]
        noise = random.random() + np.random.rand()
        loss = nn.functional.cross_entropy(
            out * (1 + noise), torch.tensor(data_samples))
        self.calls += 1
        if self.calls == self.poison:
            loss = loss * float('nan')
        return dict(loss=loss)


@METRICS.register_module(force=True)
class CaseMetric(BaseMetric):
    """Mean output: some number that depends on the weights.

    Draws random numbers, as an evaluation may.
    """

    def process(self, data_batch: Any, data_samples: Any) -> None:
        np.random.rand(3), torch.rand(3), random.random()
        self.results.append(float(data_samples[0].float().mean()))

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return dict(acc=sum(results) / len(results))


class Killed(Exception):
    """Stands for a process that is gone."""


@HOOKS.register_module(force=True)
class KillHook(Hook):
    """Ends the run after an iteration, behind the checkpoint's save."""

    priority = 'LOWEST'

    def __init__(self, at: int, when: str = 'iter') -> None:
        self.at, self.when = at, when

    def after_train_iter(self, runner: Any, **_: Any) -> None:
        if self.when == 'iter' and runner.iter + 1 == self.at:
            raise Killed

    def before_val(self, runner: Any) -> None:
        if self.when == 'val' and runner.iter == self.at:
            raise Killed


def config(work_dir: Path, *, loop: str = 'epoch', workers: int = 0,
           persistent: bool = False, optimizer: str = 'SGD',
           ema: bool = False, amp: bool = False, by_epoch: bool = True,
           interval: int = 1, keep: int = 1, kill: int = 0,
           kill_when: str = 'iter', resume: bool = False, val: int = 2,
           accumulate: int = 1, seed: int | None = 3,
           hooks: tuple[dict[str, Any], ...] = (), load_from: Any = None,
           checkpoint: str = 'osar_plugin.AtomicCheckpointHook',
           exact: bool = True, sampler: str = '', epochs: int = 4,
           max_iters: int = 24, poison: int = -1, poison_input: bool = False,
           **more: Any) -> Config:
    """The config of a run; 6 batches an epoch."""
    iterations = loop == 'iter'
    custom = [dict(type='osar_plugin.ExactResumeHook')] if exact else []
    custom += [dict(hook) for hook in hooks]
    if ema:
        custom.append(dict(
            type='mmengine.EMAHook', momentum=0.1, update_buffers=False))
    if kill:
        custom.append(dict(type='KillHook', at=kill, when=kill_when))
    optim = dict(type=optimizer, lr=0.05)
    if optimizer == 'SGD':
        optim.update(momentum=0.9, weight_decay=1e-3)
    changed = {
        key: more.pop(key) for key in (
            'model', 'optim_wrapper', 'param_scheduler') if key in more}
    loader = dict(
        batch_size=4, num_workers=workers,
        persistent_workers=persistent and workers > 0,
        collate_fn=dict(type='pseudo_collate'))
    return Config({**dict(
        default_scope='mmengine', work_dir=str(work_dir),
        model=dict(
            type='CaseModel', poison=poison, poison_input=poison_input),
        train_dataloader=dict(
            dataset=dict(type='CaseDataset'),
            sampler=dict(
                type=sampler or (
                    'InfiniteSampler' if iterations else 'DefaultSampler'),
                shuffle=True), **loader),
        val_dataloader=dict(
            batch_size=4, dataset=dict(type='CaseDataset', augment=False),
            sampler=dict(type='DefaultSampler', shuffle=False)),
        val_evaluator=dict(type='CaseMetric'),
        train_cfg=dict(
            by_epoch=False, max_iters=max_iters, val_interval=6 * val)
        if iterations else dict(
            by_epoch=True, max_epochs=epochs, val_interval=val),
        val_cfg=dict(),
        optim_wrapper=dict(
            type='osar_plugin.CPUAmpOptimWrapper' if amp else 'OptimWrapper',
            optimizer=optim, accumulative_counts=accumulate,
            clip_grad=dict(max_norm=1.)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0,
                 end=7),
            dict(type='CosineAnnealingLR', by_epoch=False, begin=7, end=24)],
        default_hooks=dict(checkpoint=dict(
            type=checkpoint, interval=interval,
            by_epoch=by_epoch and not iterations, max_keep_ckpts=keep,
            save_best='acc', rule='greater')),
        custom_hooks=custom, resume=resume, load_from=load_from,
        randomness=dict(seed=seed), log_level='WARNING', **more), **changed})


def train(work_dir: Path, name: str = '', **arguments: Any) -> Runner:
    """Train; a run that is killed ends quietly."""
    cfg = config(work_dir, **arguments)
    # A message hub of its own, as a new process has.
    cfg.experiment_name = name or uuid.uuid4().hex
    # What the process did before must not matter.
    random.seed(), np.random.seed(None), torch.seed()
    runner = Runner.from_cfg(cfg)
    try:
        runner.train()
    except Killed:
        assert arguments.get('kill')
    # A runner is a cycle of references. Its workers end at once where the
    # loop lets go of them; of a cycle that is collected, the queues go
    # first, and each worker is waited for in vain for 5 seconds.
    loop = runner.train_loop
    if arguments.get('loop') == 'iter':
        loop.dataloader_iterator = None
    loop.dataloader._iterator = None
    return runner


def last(work_dir: Path) -> dict[str, Any]:
    """The checkpoint that the pointer names."""
    return read_checkpoint(
        (work_dir / 'last_checkpoint').read_text().strip())


def same(a: Any, b: Any, path: str = '') -> list[str]:
    """Where two nested structures differ; clocks and folders aside."""
    name = path.rpartition('.')[2]
    if name in ('cfg', 'experiment_name', 'mmengine_version') or (
            name.endswith(('ckpt', 'ckpts'))) or (
                'time' in name.split('/')[-1]):
        return []
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) and a.dtype == b.dtype else [path]
    if isinstance(a, dict):
        found = [] if a.keys() == b.keys() else [
            f'{path}: {sorted(map(str, a.keys() ^ b.keys()))}']
        return found + sum(
            (same(a[key], b[key], f'{path}.{key}')
             for key in a.keys() & b.keys()), [])
    if isinstance(a, (list, tuple)):
        found = [] if len(a) == len(b) else [f'{path}: length']
        return found + sum(
            (same(x, y, f'{path}.{i}')
             for i, (x, y) in enumerate(zip(a, b, strict=False))), [])
    if isinstance(a, float) and a != a:
        return [] if b != b else [path]
    return [] if a == b else [f'{path}: {a!r} {b!r}']
