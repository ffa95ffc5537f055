"""Checks that a config alone does not allow."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook

from ..registry import HOOKS
from ..utils.errors import ConfigError


@HOOKS.register_module()
class DataCheckHook(Hook):
    """Stop a training whose loader cannot work, before its first step.

    Raises:
        ConfigError: If the loader has no batch, which MMEngine would train
            on for all epochs without a word; or if the sampler composes
            batches of another size than the loader cuts.
    """

    priority = 'HIGHEST'

    def before_train(self, runner: Any) -> None:
        """Look at the loader once it is built."""
        loader = runner.train_dataloader
        # Not of the loader: hooks may have put another one in its place.
        batches = loader.batch_sampler
        size = getattr(batches, 'batch_size', None)
        sampler = getattr(batches, 'sampler', None)
        composed = getattr(sampler, 'batch_size', size)
        if composed != size:
            raise ConfigError(
                f'train_dataloader.batch_size={size}, but its '
                f'sampler composes batches of {composed}: identities would '
                'be torn apart. Give train_dataloader.sampler.batch_size '
                'the same value.')
        if len(loader) == 0:
            raise ConfigError(
                f'The training loader has no batch: {len(loader.dataset)} '
                f'samples, batch_size={size} and drop_last='
                f'{getattr(batches, "drop_last", False)}. Use a smaller '
                'train_dataloader.batch_size or more data.')
