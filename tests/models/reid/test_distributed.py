"""Two processes with half a batch each equal one with the joint batch."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from recipe import build, tiny_batch, tiny_cfg
from torch.nn.parallel import DistributedDataParallel


def free_port() -> int:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


def cfg_of(name: str) -> dict[str, Any]:
    if name == 'pretrain':
        return dict(
            type='osar_plugin.TransOSSPretrain',
            joint_batch=True,
            backbone=tiny_cfg('transoss', size_token=False)['backbone'])
    if name == 'mos':
        return dict(
            tiny_cfg('transoss', drop_path_rate=0.),
            alignment=dict(type='osar_plugin.ModalityAlignmentLoss'))
    return tiny_cfg(name, drop_path_rate=0.)


def step(model: Any, name: str, rows: slice) -> dict[str, Any]:
    images, samples, *_ = tiny_batch()
    # In double precision the order of a sum does not show.
    images = images.double()
    for sample in samples:
        sample.size = sample.size.double()
    if name == 'pretrain':
        inputs: Any = dict(optical=images[rows], sar=images.flip(0)[rows])
        losses = model(inputs, mode='loss')
    else:
        losses = model(images[rows], samples[rows], mode='loss')
    total = sum(v for k, v in losses.items() if k.startswith('loss'))
    total.backward()
    raw = model.module if hasattr(model, 'module') else model
    return dict(
        losses={k: v.detach() for k, v in losses.items()},
        grads={k: p.grad for k, p in raw.named_parameters()},
        buffers={k: v for k, v in raw.named_buffers() if 'running' in k})


def worker(rank: int, port: int, name: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    # No search for unused parameters: there must be none.
    model = DistributedDataParallel(
        build(cfg_of(name)).double(), broadcast_buffers=False)
    result = step(model, name, slice(4 * rank, 4 * rank + 4))
    torch.save(result, Path(folder) / f'{rank}.pth')
    dist.destroy_process_group()


@pytest.mark.parametrize('name', ['sdfnet', 'transoss', 'mos', 'pretrain'])
def test_two_processes_equal_one(name: str, tmp_path: Path) -> None:
    mp.spawn(worker, (free_port(), name, str(tmp_path)), nprocs=2)
    single = step(build(cfg_of(name)).double(), name, slice(None))
    for rank in (0, 1):
        split = torch.load(tmp_path / f'{rank}.pth', weights_only=True)
        for part in ('losses', 'grads', 'buffers'):
            assert split[part].keys() == single[part].keys()
            for key, value in single[part].items():
                if value is None:  # frozen
                    assert split[part][key] is None
                    continue
                torch.testing.assert_close(
                    split[part][key], value, rtol=1e-9, atol=1e-12,
                    msg=lambda m, k=key: f'{k}: {m}')
