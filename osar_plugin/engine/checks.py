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

    priority = 'VERY_HIGH'

    def before_train(self, runner: Any) -> None:
        """Look at the loader once it is built."""
        loader = runner.train_dataloader
        composed = getattr(loader.sampler, 'batch_size', loader.batch_size)
        if composed != loader.batch_size:
            raise ConfigError(
                f'train_dataloader.batch_size={loader.batch_size}, but its '
                f'sampler composes batches of {composed}: identities would '
                'be torn apart. Give train_dataloader.sampler.batch_size '
                'the same value.')
        if len(loader) == 0:
            raise ConfigError(
                f'The training loader has no batch: {len(loader.dataset)} '
                f'samples, batch_size={loader.batch_size} and '
                f'drop_last={loader.drop_last}. Use a smaller '
                'train_dataloader.batch_size or more data.')
