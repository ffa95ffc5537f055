"""Training on inputs that cannot be trusted.

:class:`InvalidLossHook` looks at what comes out of the model,
:class:`BadSampleHook` at what goes in.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from torch import Tensor, nn

from ..datasets.streams import GuardedDataset, has_indices, replace_parts
from ..registry import HOOKS
from ..utils.checkpoint import bare_model
from ..utils.errors import ConfigError, InvalidLossError
from .loaders import put_loader

COUNT = 'invalid_losses'


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Stop, or skip the batch, where a loss is NaN or infinite.

    The loss is looked at between the forward and the backward pass, so the
    weights stay what they were. Skipping means that a batch changes nothing:
    no gradient, no step of the optimizer, no momentum, no statistics of
    BatchNorm. Skipped batches are counted across resumes.

    Models whose ``train_step`` does not call their own ``forward`` in mode
    ``'loss'`` (GANs) are looked at after the step, and always stopped.

    Args:
        max_skipped: Batches to skip before the training is stopped; 0 stops
            at the first.

    Raises:
        ConfigError: If ``max_skipped`` is negative.
        InvalidLossError: During training; names the images of the batch.
    """

    priority = 'VERY_HIGH'

    def __init__(self, max_skipped: int = 0) -> None:
        if max_skipped < 0:
            raise ConfigError(
                f'max_skipped={max_skipped} must be 0 (stop at the first '
                'invalid loss) or the number of batches to skip.')
        self.max_skipped = max_skipped
        self._batch: Any = None
        self._runner: Any = None
        self._handles: list[Any] = []
        self._buffers: list[tuple[Tensor, Tensor]] = []
        self._skipped = False  # this iteration's batch

    def before_train(self, runner: Any) -> None:
        """Look at the output of the model from now on."""
        model = bare_model(runner)
        self._runner = runner
        self._handles = [model.register_forward_hook(
            self._look, with_kwargs=True)]
        if self.max_skipped:
            self._handles.append(model.register_forward_pre_hook(
                self._keep_buffers))

    def after_train(self, runner: Any) -> None:
        """Let go of the model."""
        for handle in self._handles:
            handle.remove()
        self._runner = self._batch = None
        self._buffers = []

    def before_train_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Keep the batch, to name its images."""
        self._batch, self._skipped = data_batch, False

    def after_train_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None,
            outputs: Any = None) -> None:
        """Look at models that go another way than ``forward``."""
        bad = {} if self._skipped else _invalid(outputs)
        if bad:
            self._stop(bad)
        self._batch = None

    def _keep_buffers(self, model: nn.Module, args: Any) -> None:
        """Copy what a forward pass changes; forward pre-hook of PyTorch."""
        if model.training:
            self._buffers = [(own, own.clone()) for own in model.buffers()]

    def _look(
            self, model: nn.Module, args: tuple[Any, ...],
            kwargs: dict[str, Any], output: Any) -> Any:
        """Check the losses of a forward pass; forward hook of PyTorch."""
        if kwargs.get('mode') != 'loss' or not isinstance(output, Mapping):
            return None
        bad = _invalid(output)
        anywhere = bool(bad)
        if self.max_skipped and get_world_size() > 1:
            # All processes skip together: their backward passes meet.
            flag = torch.tensor(float(anywhere), device=_device(output))
            all_reduce(flag, 'max')
            anywhere = bool(flag)
        if not anywhere:
            return None
        hub = self._runner.message_hub
        count = hub.runtime_info.get(COUNT, 0) + 1
        if count > self.max_skipped:
            self._stop(bad)
        hub.update_info(COUNT, count)
        self._skipped = True
        for buffer, before in self._buffers:
            buffer.copy_(before)
        self._runner.logger.warning(
            f'Batch skipped, {count} of at most {self.max_skipped}: '
            f'{self._describe(bad)}')
        return None if self._has_scaler() else _without_gradient(output)

    def _has_scaler(self) -> bool:
        """Whether a gradient scaler skips such a step by itself.

        It then wants to see the gradients, to lower its scale.
        """
        scaler = getattr(self._runner.optim_wrapper, 'loss_scaler', None)
        return scaler is not None and scaler.is_enabled()

    def _stop(self, bad: dict[str, float]) -> None:
        raise InvalidLossError(
            f'Iteration {self._runner.iter + 1}: {self._describe(bad)} Look '
            'at these images (tools/verify_dataset.py), lower the learning '
            'rate or clip gradients (optim_wrapper.clip_grad), or skip such '
            'batches with custom_hooks = '
            "[dict(type='osar_plugin.InvalidLossHook', max_skipped=...)]. "
            'The last checkpoint is intact.')

    def _describe(self, bad: dict[str, float]) -> str:
        """Losses, images and what is known of the reason."""
        if not bad:
            return 'another process met an invalid loss.'
        losses = ', '.join(f'{name} is {value}' for name, value in bad.items())
        names = list(image_paths(self._batch))
        text = f'{losses}. Images of the batch: {_listed(names)}.'
        damaged = [
            names[i] if i < len(names) else f'number {i}'
            for i, image in enumerate(_images(self._batch))
            if not bool(torch.isfinite(image).all())]
        if damaged:
            text += f' With NaN or infinite pixels: {_listed(damaged)}.'
        lost = [
            name for name, value in self._runner.model.named_parameters()
            if not bool(torch.isfinite(value).all())]
        if lost:
            text += (f' {len(lost)} weights are NaN or infinite already, '
                     f'e.g. {lost[0]}: the training has diverged.')
        return text


def _invalid(output: Any) -> dict[str, float]:
    """Losses that are not finite, by name."""
    if not isinstance(output, Mapping):
        return {}
    totals = {}
    for name, value in output.items():
        total = _total(value) if 'loss' in str(name) else None
        if total is not None:
            totals[name] = total
    if not totals:
        return {}
    # One transfer from the GPU for all of them.
    values = torch.stack(list(totals.values())).tolist()
    return {
        name: value for name, value in zip(totals, values, strict=True)
        if value != value or value in (float('inf'), float('-inf'))}


def _total(value: Any) -> Tensor | None:
    """A loss as one tensor; lists are several losses of a name."""
    if isinstance(value, Tensor):
        return value.detach().float().sum()
    if isinstance(value, float):
        return torch.tensor(value)
    if isinstance(value, (list, tuple)):
        parts = [part for part in map(_total, value) if part is not None]
        return torch.stack(parts).sum() if parts else None
    return None


def _without_gradient(output: Mapping[str, Any]) -> dict[str, Any]:
    """The same losses as zeros that no weight depends on.

    Optimizers leave parameters without a gradient alone.
    """
    def zero(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [zero(part) for part in value]
        return torch.zeros_like(value, requires_grad=True)

    return {
        name: zero(value) if 'loss' in str(name) else value
        for name, value in output.items()}


def _device(output: Mapping[str, Any]) -> torch.device:
    for value in output.values():
        if isinstance(value, Tensor):
            return value.device
    return torch.device('cpu')


def image_paths(batch: Any) -> Iterator[str]:
    """File names of a batch, in its order, as far as they are known."""
    samples = batch.get('data_samples') if isinstance(batch, Mapping) else None
    if not isinstance(samples, Sequence):
        samples = [samples]
    for sample in samples:
        info = getattr(sample, 'metainfo', None) or {}
        paths = [
            str(value) for key, value in info.items()
            if key == 'img_path' or key.endswith('_img_path')]
        if isinstance(getattr(sample, 'img_path', None), str):
            paths = paths or [sample.img_path]
        yield ' + '.join(paths) if paths else '(no img_path)'


def _images(batch: Any) -> Iterator[Tensor]:
    inputs = batch.get('inputs') if isinstance(batch, Mapping) else None
    if isinstance(inputs, Mapping):
        inputs = next(iter(inputs.values()), None)
    if isinstance(inputs, (Tensor, list, tuple)):
        yield from (i for i in inputs if isinstance(i, Tensor))


def _listed(names: Sequence[str], limit: int = 64) -> str:
    text = ', '.join(names[:limit])
    rest = len(names) - limit
    return text + (f' and {rest} more' if rest > 0 else '')


@HOOKS.register_module()
class BadSampleHook(Hook):
    """What to do with training images that cannot be decoded.

    A sample whose pipeline fails has its files decoded once more. If one of
    them cannot be, the run stops with its path, or another sample takes its
    place: one of ``dataset.substitutes(index)`` where the data set has that
    method (the same ship), else any. Errors of other kinds are never
    passed over. Bit flips inside the pixels go unseen by every decoder:
    check a manifest with ``tools/verify_dataset.py``.

    Args:
        on_error: ``'stop'`` or ``'skip'``.
        max_skipped: With ``'skip'``: so many files of the data set may be
            bad, as a number (int) or as a fraction (float below 1), counted
            by each process for itself.

    Raises:
        ConfigError: If an argument cannot be used.
        CorruptImageError: During training; names the files.
    """

    # Before the data set is wrapped for reproducible samples, so that the
    # choice of a substitute is reproducible too.
    priority = 'HIGHEST'

    def __init__(
            self, on_error: str = 'stop',
            max_skipped: int | float = 0.001) -> None:
        if on_error not in ('stop', 'skip'):
            raise ConfigError(
                f'on_error={on_error!r} is not known: use "stop" or "skip".')
        if max_skipped < 0 or (
                isinstance(max_skipped, float) and max_skipped >= 1):
            raise ConfigError(
                f'max_skipped={max_skipped} must be a number of files '
                '(int), or a fraction of the data set below 1.0 (float).')
        self.on_error = on_error
        self.max_skipped = max_skipped
        self._guarded: GuardedDataset | None = None
        self._reported = 0

    def before_train(self, runner: Any) -> None:
        """Put the guard around the training data."""
        loop = runner.train_loop
        dataset = loop.dataloader.dataset
        if not has_indices(loop.dataloader):
            runner.logger.warning(
                'osar_plugin.BadSampleHook: the samples of a '
                f'{type(dataset).__name__} have no numbers; it is left as it '
                'is.')
            return
        limit = 0
        if self.on_error == 'skip':
            limit = self.max_skipped if isinstance(
                self.max_skipped, int) else int(
                    self.max_skipped * len(dataset))
        self._guarded = GuardedDataset.around(dataset, limit)
        put_loader(loop, replace_parts(loop.dataloader, self._guarded))

    def after_train_epoch(self, runner: Any) -> None:
        """Say how many files were left out so far, and which."""
        bad = self._guarded.bad_indices() if self._guarded else []
        if len(bad) > self._reported:
            self._reported = len(bad)
            print_log(
                f'{len(bad)} of {len(self._guarded)} training samples '  # type: ignore[arg-type]
                'cannot be decoded and were replaced: numbers '
                f'{_listed([str(i) for i in bad])}.',
                logger='current', level=logging.WARNING)
