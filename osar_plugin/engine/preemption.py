"""Leaving in order when a scheduler asks for it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook

from ..datasets.streams import replace_parts
from ..registry import HOOKS
from ..utils.errors import ConfigError
from .checkpointing import AtomicCheckpointHook
from .loaders import put_loader

# "Temporary failure; try again" of sysexits.h.
EXIT_PREEMPTED = 75


class _Shielded:
    """Keeps a worker of a loader alive through signals from outside.

    A worker that died would take the process with it before it has saved.
    The process itself ends its workers with SIGTERM too; who sent a signal
    tells only ``sigwaitinfo``, so a thread waits for them.

    Args:
        init_fn: What the worker calls first otherwise.
        signals: Numbers of the signals.
    """

    def __init__(self, init_fn: Callable[[int], None] | None,
                 signals: Sequence[int]) -> None:
        self.init_fn = init_fn
        self.signals = tuple(signals)

    def __call__(self, worker_id: int) -> None:
        if hasattr(signal, 'sigwaitinfo'):  # not on macOS
            signal.pthread_sigmask(signal.SIG_BLOCK, self.signals)
            threading.Thread(target=self._wait, daemon=True).start()
        if self.init_fn is not None:
            self.init_fn(worker_id)

    def _wait(self) -> None:
        parent = os.getppid()
        while signal.sigwaitinfo(self.signals).si_pid != parent:
            pass
        os._exit(0)


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Save and leave when SIGTERM or SIGUSR1 arrives.

    The iteration that is running is finished, a checkpoint is saved (also
    in the middle of an epoch) and the process ends with status 75. In a
    Slurm script::

        #SBATCH --signal=USR1@120 --requeue
        srun python tools/train.py CONFIG --resume --launcher slurm
        [ $? -eq 75 ] && scontrol requeue $SLURM_JOB_ID

    Signals may go to a whole process group, as schedulers send them: the
    workers of the loaders then go on until the process has saved. During
    validation it leaves at once if the training so far is in a
    checkpoint, else when the validation is over. Needs
    ``osar_plugin.AtomicCheckpointHook`` as checkpoint hook.

    Args:
        signals: Names of the signals.
        exit_code: Status with which the process ends.
        sync_interval: Iterations between two looks of several processes at
            whether one of them got a signal: each look is a small
            all-reduce.

    Raises:
        ConfigError: If an argument cannot be used or the checkpoint hook is
            another one.
    """

    # After the checkpoint hook has saved what it saves anyway.
    priority = 'LOWEST'

    def __init__(
            self, signals: Sequence[str] = ('SIGTERM', 'SIGUSR1'),
            exit_code: int = EXIT_PREEMPTED,
            sync_interval: int = 10) -> None:
        for name in signals:
            if not hasattr(signal, name):
                raise ConfigError(
                    f'signals={list(signals)}: {name!r} is no signal of this '
                    'system; use names such as SIGTERM or SIGUSR1.')
        if not 0 < exit_code < 256:
            raise ConfigError(
                f'exit_code={exit_code} must be from 1 to 255: 0 means that '
                'the training is complete.')
        if sync_interval < 1:
            raise ConfigError(
                f'sync_interval={sync_interval} must be 1 or more '
                'iterations.')
        self.signals = [getattr(signal, name) for name in signals]
        self.exit_code = exit_code
        self.sync_interval = sync_interval
        self.received: int | None = None
        self._checkpoint: AtomicCheckpointHook
        self._before: dict[int, Any] = {}

    def before_train(self, runner: Any) -> None:
        """Find the checkpoint hook and begin to listen."""
        found = [
            hook for hook in runner.hooks
            if isinstance(hook, AtomicCheckpointHook)]
        if not found:
            raise ConfigError(
                'osar_plugin.PreemptionHook needs a checkpoint hook of type '
                'osar_plugin.AtomicCheckpointHook: set '
                'default_hooks.checkpoint.type to it.')
        self._checkpoint = found[0]
        if threading.current_thread() is not threading.main_thread():
            runner.logger.warning(
                'osar_plugin.PreemptionHook: training runs outside of the '
                'main thread, where Python gives no signals; it will not be '
                'saved when a scheduler ends it.')
            return
        for loop in (runner.train_loop, runner.val_loop):
            if loop is not None and loop.dataloader.num_workers:
                put_loader(loop, replace_parts(
                    loop.dataloader, worker_init_fn=_Shielded(
                        loop.dataloader.worker_init_fn, self.signals)))
        process = os.getpid()

        def note(number: int, _: FrameType | None) -> None:
            # Children that were forked with this handler leave it at that.
            if os.getpid() == process:
                self.received = number

        self._before = {
            number: signal.signal(number, note) for number in self.signals}

    def after_train(self, runner: Any) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def after_train_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None,
            outputs: Any = None) -> None:
        """Leave after this iteration if any process was asked to."""
        iteration = runner.iter + 1
        if self._agreed(look=iteration % self.sync_interval == 0):
            self._leave(runner, iteration)

    def after_val_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None,
            outputs: Any = None) -> None:
        """Leave a validation whose training is in a checkpoint."""
        if self.received is not None and get_world_size() == 1 and (
                self._saved(runner, runner.iter)):
            self._leave(runner, runner.iter)

    def after_val(self, runner: Any) -> None:
        """Leave after a validation that had to be finished."""
        if self._before and self._agreed(look=True):
            self._leave(runner, runner.iter)

    def _agreed(self, look: bool) -> bool:
        """Whether a signal has come, to this process or to another."""
        if get_world_size() == 1:
            return self.received is not None
        if not look:
            return False
        flag = torch.tensor(
            float(self.received is not None), device=get_device())
        all_reduce(flag, 'max')
        return bool(flag)

    def _saved(self, runner: Any, iteration: int) -> bool:
        return self._checkpoint.saved_at == (runner.epoch, iteration)

    def _leave(self, runner: Any, iteration: int) -> None:
        """Save what is not saved and end the process."""
        name = signal.Signals(self.received).name if self.received else (
            'a signal to another process')
        if not self._saved(runner, iteration):
            self._checkpoint.save_now(runner, runner.epoch, iteration)
        runner.logger.warning(
            f'Stopped by {name} after iteration {iteration}; the state is in '
            f'{self._checkpoint.last_ckpt}. Go on with --resume.')
        self.after_train(runner)
        raise SystemExit(self.exit_code)
