"""Two processes with half a batch each equal one with the joint batch."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from codemae import build, samples, tiny_cfg, tiny_inputs, total
from mmengine.model import MMFullyShardedDataParallel
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from osar_plugin.models.pretraining import contrast
from osar_plugin.utils.checkpoint import read_checkpoint

RULES = ('official', 'differentiable')
# The second step has an unpaired half: that rank must still gather.
PAIRED = ((1, 1, 1, 1), (1, 1, 0, 0))


def free_port() -> int:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


def make(rule: str) -> Any:
    cfg = tiny_cfg()
    cfg['contrast'] = dict(
        type='osar_plugin.PairContrast', num_heads=2, gather=rule)
    # Bicubic positions are float32 whatever the model is.
    cfg['backbone']['masked_position'] = 'raw'
    # In double precision the order of a sum does not show.
    return build(cfg).double()


def step(model: Any, rows: slice, paired: tuple[int, ...],
         with_grads: bool = True) -> dict[str, dict[str, Tensor]]:
    model.zero_grad()
    inputs = {k: v[rows].double() for k, v in tiny_inputs().items()}
    losses = model(inputs, samples(*paired[rows]), mode='loss')
    total(losses).backward()
    raw = getattr(model, 'module', model)
    return dict(
        losses={k: v.detach() for k, v in losses.items()},
        # Of split weights a process has a part.
        grads={k: p.grad.clone() for k, p in raw.named_parameters()
               if with_grads})


def worker(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    for rule in RULES:
        # No search for unused parameters: there must be none.
        model = DistributedDataParallel(make(rule), broadcast_buffers=False)
        for i, paired in enumerate(PAIRED):
            result = step(model, slice(2 * rank, 2 * rank + 2), paired)
            torch.save(result, Path(folder) / f'{rule}{i}{rank}.pth')
    # Split over the processes, block by block.
    model = MMFullyShardedDataParallel(
        make(RULES[0]), auto_wrap_policy='osar_plugin.wrap_blocks',
        device_id=torch.device('cpu'))
    sharded = step(model, slice(2 * rank, 2 * rank + 2), PAIRED[0], False)
    torch.save(sharded, Path(folder) / f'sharded0{rank}.pth')
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('two')
    mp.spawn(worker, (free_port(), str(folder)), nprocs=2)
    return folder


def load(folder: Path, rule: str, number: int) -> list[Any]:
    return [read_checkpoint(folder / f'{rule}{number}{rank}.pth')
            for rank in (0, 1)]


@pytest.mark.parametrize('rule', RULES)
def test_two_processes_equal_one(
        rule: str, two_processes: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    """With the official rule, one process whose keys have no gradients."""
    if rule == 'official':
        monkeypatch.setattr(
            contrast, 'gather_keys', lambda x, rule: x.detach())
    single = step(make(rule), slice(None), PAIRED[0])
    ranks = load(two_processes, rule, 0)
    for key, value in single['losses'].items():
        mean = (ranks[0]['losses'][key] + ranks[1]['losses'][key]) / 2
        torch.testing.assert_close(mean, value, rtol=1e-9, atol=1e-12)
    for rank in ranks:
        assert rank['grads'].keys() == single['grads'].keys()
        for key, value in single['grads'].items():
            torch.testing.assert_close(
                rank['grads'][key], value, rtol=1e-7, atol=1e-12,
                msg=lambda m, k=key: f'{k}: {m}')


def test_the_rules_differ(two_processes: Path) -> None:
    """Same losses, other gradients: what the name promises."""
    first, second = (load(two_processes, rule, 0)[0] for rule in RULES)
    for key, value in first['losses'].items():
        torch.testing.assert_close(second['losses'][key], value)
    key = 'contrast.attn_rgb.q.weight'
    assert not torch.allclose(first['grads'][key], second['grads'][key])


@pytest.mark.parametrize('rule', RULES)
def test_one_rank_unpaired(rule: str, two_processes: Path) -> None:
    """It gathers along; its own comparison counts nothing."""
    pair, single = load(two_processes, rule, 1)
    assert single['losses']['loss_contrast'] == 0
    assert single['losses']['loss_cross'] == 0
    both = load(two_processes, rule, 0)[0]
    torch.testing.assert_close(
        pair['losses']['loss_contrast'], both['losses']['loss_contrast'])
    for key, value in pair['grads'].items():
        torch.testing.assert_close(single['grads'][key], value)


def test_split_weights_give_the_same_losses(two_processes: Path) -> None:
    """FSDP, with the policy of the large model's config."""
    for split, whole in zip(load(two_processes, 'sharded', 0),
                            load(two_processes, 'official', 0),
                            strict=True):
        for key, value in whole['losses'].items():
            torch.testing.assert_close(split['losses'][key], value)
