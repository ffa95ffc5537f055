"""Train a little with stock MMEngine and keep its checkpoint.

    python tests/goldens/checkpoints/write.py OUT.pth

Run with either stack, outside of any git checkout. Of osar_plugin only what
lets torchvision import on CPUs takes part, which MMEngine's runner asks for.
The file holds what MMEngine, its hooks and its users put into checkpoints:
histories, schedules, averaged weights, NumPy's scalars, arrays and random
state, a namespace.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from osar_plugin.compat import prepare_torchvision


def extras() -> dict:
    """What users and third-party hooks keep in checkpoints."""
    np.random.seed(3)
    return dict(
        score=np.float32(0.25), count=np.int64(7), flag=np.bool_(True),
        name=np.str_('ship'), when=np.datetime64('2026-01-02T03:04:05', 'ms'),
        image=np.arange(12, dtype=np.uint16).reshape(3, 4),
        big_endian=np.arange(3, dtype='>f4'), empty=np.zeros((0, 2)),
        column_major=np.asfortranarray(np.arange(6.).reshape(2, 3)),
        half=np.arange(2, dtype=np.float16), words=np.array(['a', 'bcd']),
        complex=np.array([1 + 2j]), dtype=np.dtype('>u2'),
        args=argparse.Namespace(lr=0.1, nested=[argparse.Namespace(a=1)]),
        lists=defaultdict(list, a=[1, np.float64(2)]), sets=defaultdict(set),
        nothing=defaultdict(None), ordered=OrderedDict(b=1, a=(2, 3)),
        cfg=ConfigDict(type='A', sizes=[1, dict(b=(2,))]),
        size=torch.Size((1, 2)), part=slice(1, None), path=Path('work/dir'),
        version=torch.__version__, numpy_state=np.random.get_state(),
        milestones=Counter((3, 3, 9)), bytes=b'', frozen=frozenset((1, 2)),
        complex_number=1 + 2j)


class Ramp(Dataset):
    """Eight short vectors."""

    metainfo = dict(classes=('a', 'b'), palette=np.eye(2, 3, dtype=np.uint8))

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict:
        return dict(x=torch.full((3,), index / 8))


class Tiny(BaseModel):
    """A linear layer and BatchNorm, whose versions go into state dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))

    def forward(self, x, mode: str = 'tensor'):
        x = self.net(torch.stack(list(x)))
        return dict(loss=x.square().mean()) if mode == 'loss' else x


class Extras(Hook):
    """Puts something into the hub, and `extras` into the checkpoint."""

    def before_train(self, runner) -> None:
        runner.message_hub.update_info('extras', dict(
            best=np.float64(0.5), boxes=np.arange(4, dtype=np.uint16)))

    def before_save_checkpoint(self, runner, checkpoint) -> None:
        checkpoint['extras'] = extras()


def build(work_dir: str, **more) -> Runner:
    """A stock runner: two epochs of four steps."""
    torch.manual_seed(0)
    return Runner(
        Tiny(), work_dir,
        train_dataloader=dict(
            batch_size=2, dataset=Ramp(), num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False)),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)),
        param_scheduler=[
            dict(type='OneCycleLR', eta_max=0.1, total_steps=8,
                 by_epoch=False),
            dict(type='LinearMomentum', start_factor=0.5, end=2)],
        train_cfg=dict(by_epoch=True, max_epochs=2),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        custom_hooks=[dict(type='EMAHook'), Extras()],
        randomness=dict(seed=0), **more)


def main() -> None:
    """Train, and copy the last checkpoint."""
    prepare_torchvision()
    with tempfile.TemporaryDirectory() as work_dir:
        build(work_dir, experiment_name='golden').train()
        shutil.copy(Path(work_dir, 'epoch_2.pth'), sys.argv[1])


if __name__ == '__main__':
    main()
