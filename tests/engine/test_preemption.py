"""Signals of a scheduler: save, leave with a status of its own, go on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from osar_plugin.engine.preemption import EXIT_PREEMPTED
from osar_plugin.utils.errors import ConfigError

from .training_case import last, same, train

PREEMPTION = dict(type='osar_plugin.PreemptionHook')


@HOOKS.register_module(force=True)
class SignalHook(Hook):
    """Sends this process a signal at some point of the training."""

    def __init__(self, at: int, name: str, when: str = 'iter') -> None:
        self.at, self.signal, self.when = at, getattr(signal, name), when

    def after_train_iter(self, runner: Any, **_: Any) -> None:
        if self.when == 'iter' and runner.iter + 1 == self.at:
            os.kill(os.getpid(), self.signal)
        if self.when == 'group' and runner.iter + 1 == self.at:
            os.killpg(os.getpgid(0), self.signal)
            time.sleep(0.5)  # time for a worker to die of it

    def before_val_iter(self, runner: Any, batch_idx: int, **_: Any) -> None:
        if self.when == 'val' and runner.iter == self.at and batch_idx == 1:
            os.kill(os.getpid(), self.signal)


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGUSR1'])
@pytest.mark.parametrize('loop', ['epoch', 'iter'])
def test_saved_in_the_middle_and_continued(
        name: str, loop: str, tmp_path: Path) -> None:
    hooks = (PREEMPTION, dict(type='SignalHook', at=9, name=name))
    before = signal.getsignal(getattr(signal, name))
    with pytest.raises(SystemExit) as ended:
        train(tmp_path / 'stopped', loop=loop, interval=100, hooks=hooks)
    assert ended.value.code == EXIT_PREEMPTED
    assert signal.getsignal(getattr(signal, name)) == before
    assert last(tmp_path / 'stopped')['meta']['iter'] == 9
    train(tmp_path / 'stopped', loop=loop, interval=100, resume=True,
          hooks=(PREEMPTION, ))
    train(tmp_path / 'whole', loop=loop, interval=100)
    assert same(last(tmp_path / 'whole'), last(tmp_path / 'stopped')) == []
    # The checkpoint saved out of turn went when a regular one came.
    assert not (tmp_path / 'stopped' / 'iter_9.pth').exists()


@pytest.mark.parametrize('interval', [1, 100])
def test_signal_during_validation(interval: int, tmp_path: Path) -> None:
    """Left at once where the training is saved, else after it."""
    hooks = (PREEMPTION, dict(
        type='SignalHook', at=12, name='SIGTERM', when='val'))
    with pytest.raises(SystemExit):
        train(tmp_path / 'stopped', interval=interval, hooks=hooks)
    saved = last(tmp_path / 'stopped')
    assert saved['meta']['iter'] == 12
    assert saved['exact_resume']['validated'] == (interval == 100)
    train(tmp_path / 'stopped', interval=interval, resume=True)
    train(tmp_path / 'whole', interval=interval)
    assert same(last(tmp_path / 'whole'), last(tmp_path / 'stopped')) == []


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGUSR1'])
@pytest.mark.parametrize('persistent', [False, True])
def test_signal_to_the_process_and_its_workers(
        name: str, persistent: bool, tmp_path: Path) -> None:
    """As Slurm and systemd send it: the workers must not die of it."""
    hooks = (PREEMPTION, dict(
        type='SignalHook', at=9, name=name, when='group'))
    arguments = dict(workers=2, persistent=persistent, interval=100)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        code = 1
        try:
            train(tmp_path / 'stopped', hooks=hooks, **arguments)
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 75
    assert last(tmp_path / 'stopped')['meta']['iter'] == 9
    train(tmp_path / 'stopped', resume=True, **arguments)
    train(tmp_path / 'whole', **arguments)
    assert same(last(tmp_path / 'whole'), last(tmp_path / 'stopped')) == []


def test_saved_out_of_turn_goes_whatever_is_kept(tmp_path: Path) -> None:
    hooks = (PREEMPTION, dict(type='SignalHook', at=9, name='SIGTERM'))
    with pytest.raises(SystemExit):
        train(tmp_path, loop='iter', interval=6, keep=-1, hooks=hooks)
    train(tmp_path, loop='iter', interval=6, keep=-1, resume=True)
    assert sorted(path.name for path in tmp_path.glob('iter_*.pth')) == [
        'iter_12.pth', 'iter_18.pth', 'iter_24.pth', 'iter_6.pth']


def test_needs_the_atomic_checkpoint_hook(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='AtomicCheckpointHook'):
        train(tmp_path, checkpoint='CheckpointHook', hooks=(PREEMPTION, ))


@pytest.mark.parametrize('wrong, message', [
    (dict(signals=['SIGFOO']), "'SIGFOO' is no signal"),
    (dict(exit_code=0), 'exit_code=0'),
    (dict(sync_interval=0), 'sync_interval=0'),
])
def test_arguments(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HOOKS.build(dict(PREEMPTION, **wrong))
