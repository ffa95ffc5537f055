"""Continuing a training as if it had never been stopped.

What a step of training depends on is (weights, states of optimizer and
schedules, batch, random generators). MMEngine keeps the first two in its
checkpoints; :class:`ExactResumeHook` sees to the other two::

    before_train        data loader replaced: every batch and every sample is
                        a function of (seed, epoch or iteration, sample)
    before_train_iter   generators put where the last step left them
      ... the step and the other hooks draw from them ...
    after_train_iter    generators noted

Whatever draws between two steps (making of data, validation) no longer
matters, and the note goes into each checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import (
    all_gather_object,
    broadcast_object_list,
    get_dist_info,
)
from mmengine.hooks import EarlyStoppingHook, EMAHook, Hook
from mmengine.optim import OptimWrapperDict
from mmengine.registry import DATA_SAMPLERS as MMENGINE_SAMPLERS
from mmengine.runner import IterBasedTrainLoop
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import BatchSampler, DataLoader

from ..datasets.streams import (
    BatchStream,
    SeededDataset,
    has_indices,
    replace_parts,
)
from ..registry import HOOKS
from ..utils.random_state import (
    RandomState,
    pack_random_state,
    random_state,
    set_random_state,
    unpack_random_state,
)
from .loaders import put_loader

# Where a checkpoint keeps what this hook needs.
KEY = 'exact_resume'


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Make resumed runs equal to uninterrupted ones, bit for bit.

    For epoch-based and iteration-based loops, any number of workers,
    persistent or not, stopped at the end of an epoch or in the middle of
    one. A validation that was due when the run was stopped is made up
    before training goes on. Augmentation differs between epochs; it does
    not depend on the number of workers.

    On a GPU, equality also needs ``randomness=dict(deterministic=True)``.
    Not covered: data sets whose samples depend on samples made earlier (a
    cache inside a transform), ``IterableDataset``, and what models or hooks
    remember outside of weights, buffers and message hub (the image size that
    mmdet's ``BatchSyncRandomResize`` drew last); of MMEngine's hooks,
    ``EarlyStoppingHook`` is covered.

    Works in the config of any OpenMMLab package::

        custom_hooks = [dict(type='osar_plugin.ExactResumeHook')]

    With several processes it also needs ``osar_plugin.AtomicCheckpointHook``
    as checkpoint hook, which collects the states of all of them.

    Args:
        validate_on_resume: Make up a validation that the stop has cut off.
            A stopped run does not remember a validation that set no new
            best, so such a one may be repeated, with the same outcome.
    """

    # Before every hook that might draw; after those that check or replace
    # the data set.
    priority = 5

    def __init__(self, validate_on_resume: bool = True) -> None:
        self.validate_on_resume = validate_on_resume
        self._note: RandomState | None = None
        self._resumed: dict[str, Any] | None = None
        self._states: list[dict[str, Any]] = []
        self._done = 0  # batches of this epoch that have been trained on
        self._pending = False  # a validation that is to be made up
        self._by_iter = False  # whether the loop counts iterations
        self._validated: tuple[int, int] | None = None
        self._stream: BatchStream | None = None

    def before_run(self, runner: Any) -> None:
        """Register the part of this hook that comes after all others."""
        if not any(isinstance(hook, _LastHook) for hook in runner.hooks):
            runner.register_hook(_LastHook(self), priority='LOWEST')

    def after_load_checkpoint(
            self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Keep what a checkpoint says, if the run is being resumed."""
        saved = checkpoint.get(KEY)
        # What follows is of a run that resumes: one that only loads weights
        # begins at epoch 0 and must not pick up batches or generators.
        self._resumed = saved if runner._resume else None
        if runner._resume and saved is None:
            runner.logger.warning(
                'The checkpoint was written without '
                'osar_plugin.ExactResumeHook: training goes on from its '
                'weights, with other random numbers.')

    def before_train(self, runner: Any) -> None:
        """Take over the data, and the states of a resumed run."""
        self._note = None
        saved, self._resumed = self._resumed, None
        self._by_iter = isinstance(runner.train_loop, IterBasedTrainLoop)
        self._done = saved['batches_done'] if saved else 0
        self._pending = saved is not None and not saved['validated']
        self._validated = None
        if saved is not None:
            self._take_states(runner, saved)
            for hook, state in zip(
                    _early_stopping(runner), saved['early_stopping'],
                    strict=False):
                hook.wait_count = state['wait_count']
                hook.best_score = state['best_score']
        self._take_loader(runner, endless=self._by_iter)
        if self._done:
            runner.logger.info(
                f'Epoch {runner.epoch + 1} goes on after '
                f'{self._done} batches; the log counts the rest from 1.')

    def _take_states(self, runner: Any, saved: dict[str, Any]) -> None:
        """Put this process's generators where the checkpoint has them."""
        rank, world = get_dist_info()
        states = saved['random_states']
        if len(states) != world:
            runner.logger.warning(
                f'The checkpoint has the random states of {len(states)} '
                f'processes and this run has {world}: it goes on, but not '
                'as the stopped one would have. Use '
                f'{saved["world_size"]} processes for that, and '
                'osar_plugin.AtomicCheckpointHook.')
        if rank < len(states):
            self._note = unpack_random_state(states[rank]['generators'])
            for name, wrapper in _wrappers(runner).items():
                # That of a single wrapper MMEngine restores.
                if name:
                    wrapper._inner_count = states[rank]['counts'][name]
            _put_tensors(runner, states[rank])

    def _take_loader(self, runner: Any, endless: bool) -> None:
        """Put the loader of reproducible samples in the loop."""
        loop = runner.train_loop
        loader = loop.dataloader
        if not has_indices(loader):
            runner.logger.warning(
                'osar_plugin.ExactResumeHook: a loader without indices '
                f'({type(loader.dataset).__name__}) cannot be put back to '
                'where it was; only the random states are restored.')
            return
        seed = [runner.seed]
        broadcast_object_list(seed)
        self._stream = BatchStream(
            _fresh_batches(runner, loader, seed[0]), seed[0], endless)
        put_loader(loop, replace_parts(
            loader, SeededDataset(loader.dataset), self._stream))
        if endless:
            self._stream.set_position(0, runner.iter)
            loop.dataloader_iterator = _StreamIterator(
                loop.dataloader, runner.iter)

    def after_train(self, runner: Any) -> None:
        """Let the workers of an endless stream go.

        A process that trains several times would keep them, and wait for
        each of them when the runner is collected.
        """
        iterator = getattr(runner.train_loop, 'dataloader_iterator', None)
        if isinstance(iterator, _StreamIterator):
            iterator.close()

    def before_train_epoch(self, runner: Any) -> None:
        """Choose the epoch's order, or the rest of it."""
        self._restore()
        if self._stream is not None and not self._stream.endless:
            self._stream.set_position(runner.epoch, self._done)

    def before_train_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Put the generators where the last step left them."""
        self._restore()
        self._note = None
        # Iterations count themselves.
        self._done += not self._by_iter

    def before_val(self, runner: Any) -> None:
        """Begin validation with the same generators, resumed or not."""
        self._restore()

    def after_val_epoch(
            self, runner: Any, metrics: dict[str, float] | None = None
    ) -> None:
        """Remember that this point of the training was validated."""
        self._validated = (runner.epoch, runner.iter)

    def _restore(self) -> None:
        if self._note is not None:
            set_random_state(self._note)

    def note(self) -> None:
        """Note the generators; called when all other hooks are done."""
        self._note = random_state()

    def before_gather_checkpoint(self, runner: Any) -> None:
        """Collect the states of all processes.

        ``AtomicCheckpointHook`` calls this on every process before the
        first of them writes.
        """
        first, *others = all_gather_object(self._own_state(runner))
        for other in others:
            # The checkpoint has those of the first process anyway.
            other['buffers'] = {
                name: buffer for name, buffer in other['buffers'].items()
                if not torch.equal(buffer, first['buffers'][name])}
        first['buffers'] = {}
        self._states = [first, *others]

    def before_save_checkpoint(
            self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Put random states and progress into a checkpoint."""
        if 'optimizer' not in checkpoint:
            return  # weights only: the best checkpoint
        ended = checkpoint['meta']['epoch'] > runner.epoch
        checkpoint[KEY] = dict(
            random_states=self._states or [self._own_state(runner)],
            world_size=get_dist_info()[1],
            batches_done=0 if ended else self._done,
            early_stopping=[
                dict(wait_count=hook.wait_count, best_score=hook.best_score)
                for hook in _early_stopping(runner)],
            validated=self._validated == (runner.epoch, runner.iter))
        self._states = []

    def _own_state(self, runner: Any) -> dict[str, Any]:
        """Generators, and tensors that a checkpoint has no place for.

        These are gradients that wait for their update and, with several
        processes, the buffers (BatchNorm's statistics), which are each
        process's own.
        """
        state = self._note or random_state()
        wrappers = _wrappers(runner)
        gradients, buffers = {}, {}
        if not all(one.should_update() for one in wrappers.values()):
            gradients = {
                name: parameter.grad.cpu()
                for name, parameter in runner.model.named_parameters()
                if parameter.grad is not None}
        if get_dist_info()[1] > 1:
            buffers = {
                name: buffer.cpu() for name, buffer in _buffers(runner)}
        return dict(
            generators=pack_random_state(state), gradients=gradients,
            buffers=buffers, counts={
                name: one._inner_count for name, one in wrappers.items()})

    def make_up_validation(self, runner: Any) -> None:
        """Run the validation that was due when the run was stopped."""
        pending, self._pending = self._pending, False
        loop = runner.train_loop
        if not (pending and self.validate_on_resume and runner.val_loop):
            return
        # Dynamic intervals start from the first one in a fresh loop.
        loop._decide_current_val_interval()
        done = runner.iter if self._by_iter else runner.epoch
        last = runner.max_iters if self._by_iter else runner.max_epochs
        if self._done == 0 and done >= max(loop.val_begin, 1) and (
                done % loop.val_interval == 0 or done == last):
            runner.logger.info('The run was stopped before its validation '
                               'was complete; it is made up now.')
            runner.val_loop.run()


class _LastHook(Hook):
    """The part of :class:`ExactResumeHook` that runs after all hooks."""

    priority = 'LOWEST'

    def __init__(self, main: ExactResumeHook) -> None:
        self.main = main

    def before_train(self, runner: Any) -> None:
        if self.main._note is None:
            self.main.note()
        self.main.make_up_validation(runner)

    def after_train_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None,
            outputs: Any = None) -> None:
        self.main.note()

    def after_train_epoch(self, runner: Any) -> None:
        self.main._done = 0


class _StreamIterator:
    """Iterates a loader whose stream already begins where it should.

    Stands in for MMEngine's iterator of iteration-based loops, which skips
    the iterations that were trained before the stop: 0.10.7 by drawing that
    many batches, later versions by calling ``skip_iter``.

    Args:
        loader: Of an endless stream.
        skipped: Iterations that the loop is going to skip.
    """

    def __init__(self, loader: DataLoader, skipped: int) -> None:
        self._loader = loader
        self._skipped = skipped
        self._batches: Iterator[Any] | None = None
        drawn = not hasattr(_InfiniteDataloaderIterator, 'skip_iter')
        self._to_ignore = skipped if drawn else 0

    def with_loader(self, loader: DataLoader) -> _StreamIterator:
        """The same over another loader."""
        return _StreamIterator(loader, self._skipped)

    def skip_iter(self, num_iters: int) -> None:
        """Nothing: the stream is there already."""

    def __iter__(self) -> _StreamIterator:
        return self

    def __next__(self) -> Any:
        if self._to_ignore:
            self._to_ignore -= 1
            return None
        if self._batches is None:
            self._batches = iter(self._loader)
        return next(self._batches)

    def close(self) -> None:
        """Forget the loader's iterator, whose workers then end."""
        self._batches = None
        self._loader._iterator = None  # kept with persistent_workers


def _wrappers(runner: Any) -> dict[str, Any]:
    """The optimizer wrappers, by name; '' where there is only one."""
    wrapper = runner.optim_wrapper
    if isinstance(wrapper, OptimWrapperDict):
        return dict(wrapper.optim_wrappers)
    return {'': wrapper} if hasattr(wrapper, 'should_update') else {}


def _early_stopping(runner: Any) -> list[EarlyStoppingHook]:
    return [
        hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]


def _buffers(runner: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Buffers of the model and of its averages, with names of their own."""
    yield from runner.model.named_buffers()
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            for name, buffer in hook.ema_model.named_buffers():
                yield f'average.{name}', buffer


def _put_tensors(runner: Any, state: dict[str, Any]) -> None:
    """Give the model the gradients and buffers of a process."""
    for name, parameter in runner.model.named_parameters():
        if name in state['gradients']:
            parameter.grad = state['gradients'][name].to(parameter)
    for name, buffer in _buffers(runner):
        if name in state['buffers']:
            buffer.copy_(state['buffers'][name])


def _fresh_batches(runner: Any, loader: DataLoader, seed: int) -> Any:
    """The batch sampler of a loader, as it was before anything was drawn.

    MMEngine 0.10.7 starts the workers of an iteration-based loop, which
    draw from the sampler, before any hook is called; and a resumed run
    without a seed of its own gets the checkpoint's after its samplers are
    built. So they are built once more, from the config.
    """
    old: Any = loader.batch_sampler
    config = runner.cfg.get('train_dataloader')
    config = config if isinstance(config, dict) else {}
    sampler = config.get('sampler')
    if not isinstance(sampler, dict):
        return old
    sampler = MMENGINE_SAMPLERS.build(
        dict(sampler), default_args=dict(dataset=loader.dataset, seed=seed))
    batches = config.get('batch_sampler')
    if batches is None:
        return BatchSampler(sampler, old.batch_size, old.drop_last)
    if not isinstance(batches, dict):
        return old
    return MMENGINE_SAMPLERS.build(
        dict(batches), default_args=dict(
            sampler=sampler, batch_size=config.get('batch_size')))
