"""The reliability hooks where two processes train together (gloo)."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from .training_case import last, same, train

WRAPPER = dict(type='mmengine.MMDistributedDataParallel',
               broadcast_buffers=False, device_ids=None)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


def worker(rank: int, port: int, folder: str, only: dict[int, Any],
           arguments: dict[str, Any]) -> None:
    """One rank; ``only`` has arguments of a single rank."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2')
    dist.init_process_group(
        'gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    from . import test_preemption  # noqa: F401 - registers SignalHook
    arguments = {**arguments, **only.get(rank, {})}
    code = 0
    before = signal.getsignal(signal.SIGTERM)
    try:
        train(Path(folder), launcher='pytorch', model_wrapper_cfg=WRAPPER,
              name=Path(folder).name, **arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    assert signal.getsignal(signal.SIGTERM) == before
    Path(folder, f'code_{rank}').write_text(str(code))
    dist.destroy_process_group()


def run(folder: Path, only: dict[int, Any] | None = None,
        **arguments: Any) -> list[int]:
    """Train with two processes; their exit codes."""
    folder.mkdir(exist_ok=True)
    # Forked: the imports of two fresh interpreters would take most of the
    # time.
    mp.start_processes(
        worker, (free_port(), str(folder), only or {}, arguments), nprocs=2,
        start_method='fork')
    return [int((folder / f'code_{rank}').read_text()) for rank in (0, 1)]


@pytest.mark.parametrize('loop', ['epoch', 'iter'])
def test_resumed_equals_uninterrupted(loop: str, tmp_path: Path) -> None:
    """Each process has its own generators back: they drop out other units."""
    common = dict(loop=loop, by_epoch=False, epochs=4, max_iters=12, val=9)
    run(tmp_path / 'whole', **common)
    run(tmp_path / 'killed', kill=5, **common)
    states = last(tmp_path / 'killed')['exact_resume']['random_states']
    assert len(states) == 2
    run(tmp_path / 'killed', resume=True, **common)
    assert same(last(tmp_path / 'whole'), last(tmp_path / 'killed')) == []


def test_a_batch_that_one_process_skips_is_skipped_by_both(
        tmp_path: Path) -> None:
    guard = dict(type='osar_plugin.InvalidLossHook', max_skipped=1)
    run(tmp_path / 'run', only={1: dict(poison=4)}, hooks=(guard, ),
        by_epoch=False, keep=9, kill=6)
    three, four, five = (
        torch.load(tmp_path / f'run/iter_{n}.pth', weights_only=True)
        for n in (3, 4, 5))
    key = 'net.0.weight'
    assert torch.equal(three['state_dict'][key], four['state_dict'][key])
    assert not torch.equal(four['state_dict'][key], five['state_dict'][key])
    assert four['message_hub']['runtime_info']['invalid_losses'] == 1


def test_a_signal_to_one_process_stops_both(tmp_path: Path) -> None:
    hooks = (dict(type='osar_plugin.PreemptionHook', sync_interval=2), )
    told = (*hooks, dict(type='SignalHook', at=3, name='SIGTERM'))
    codes = run(tmp_path / 'run', only={1: dict(hooks=told)}, hooks=hooks,
                interval=100)
    assert codes == [75, 75]
    assert last(tmp_path / 'run')['meta']['iter'] == 4
