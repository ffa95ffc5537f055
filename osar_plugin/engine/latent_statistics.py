"""Mean and spread of latents, measured before a translator is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from torch import Tensor

from ..registry import HOOKS
from ..utils.checkpoint import bare_model
from ..utils.errors import ConfigError, DataFormatError
from ..utils.random_state import random_state, seed_sample, set_random_state

SIDES = ('optical', 'sar')
# Keeps what is drawn here apart from the draws of the training.
_STREAM = 0x6c6174656e74


@HOOKS.register_module()
class LatentStatisticsHook(Hook):
    """Measure what ``normalize_latent`` divides by.

    BBDM's ``normalize_latent`` standardises each channel of the latents of
    either side with its mean and standard deviation over the training set.
    They are measured once, in front of the first iteration, and travel in
    the weights; a model whose statistics are loaded keeps them. Nothing
    happens without ``normalize_latent``.

    Sums are held in float64, so that neither the order nor the number of
    processes shows.

    Args:
        max_samples: Measure on so many samples, spread evenly over the data
            set; ``None`` for all. Frozen codecs make this the cost of one
            forward pass each.
        batch_size: Samples that go through the codec at once.

    Raises:
        ConfigError: If an argument is below 1.
    """

    # Behind what loads weights, in front of what copies them.
    priority = 'HIGH'

    def __init__(self, max_samples: int | None = 3000,
                 batch_size: int = 8) -> None:
        if batch_size < 1 or (max_samples is not None and max_samples < 1):
            raise ConfigError(
                f'max_samples={max_samples}, batch_size={batch_size}: '
                'expected 1 or more.')
        self.max_samples = max_samples
        self.batch_size = batch_size

    def before_train(self, runner: Any) -> None:
        """Measure, unless the statistics are there.

        Raises:
            DataFormatError: If a channel of the latents is constant or not
                finite.
        """
        model = bare_model(runner)
        if not getattr(model, 'normalize_latent', False) or _known(model):
            return
        state = random_state()
        try:
            sums = self._sums(model, runner.train_dataloader.dataset,
                              runner.seed or 0)
        finally:
            # The training goes on as if nothing had been drawn.
            set_random_state(state)
        for side, (count, total, squares) in sums.items():
            mean = total / count
            std = (squares / count - mean.square()).clamp(min=0).sqrt()
            if not bool((std > 0).all() and mean.isfinite().all()):
                raise DataFormatError(
                    f'The {side} latents of {int(count)} positions have '
                    f'means {mean.tolist()} and standard deviations '
                    f'{std.tolist()}: expected finite numbers and no 0. Are '
                    "the codec's weights loaded (model.codec.init_cfg)?")
            shape = (1, -1, 1, 1)
            getattr(model, f'{side}_latent_mean').copy_(mean.view(shape))
            getattr(model, f'{side}_latent_std').copy_(std.view(shape))
            print_log(
                f'Latents of the {side} side: means {_shown(mean)}, '
                f'standard deviations {_shown(std)}', logger='current')

    @torch.no_grad()
    def _sums(self, model: Any, dataset: Any,
              seed: int) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Count, sum and sum of squares of each channel of each side."""
        channels = model.codec.latent_channels
        # Row 0 counts, in every channel alike.
        sums = {side: torch.zeros(3, channels, dtype=torch.float64)
                for side in SIDES}
        for batch in self._batches(dataset, seed):
            inputs = model.data_preprocessor(
                pseudo_collate(batch), False)['inputs']
            for side in SIDES:
                latents = model.codec.encode(inputs[side]).double().cpu()
                flat = latents.transpose(0, 1).flatten(1)
                sums[side] += torch.stack([
                    torch.full((channels, ), flat.shape[1]).double(),
                    flat.sum(dim=1), flat.square().sum(dim=1)])
        device = next(model.denoiser.parameters()).device
        found = {}
        for side, values in sums.items():
            values = values.to(device)
            all_reduce(values)
            found[side] = (values[0, 0], values[1], values[2])
        return found

    def _batches(self, dataset: Any, seed: int) -> Iterator[list[Any]]:
        """This process's share of the samples."""
        total = len(dataset)
        wanted = min(total, self.max_samples or total)
        indices = [i * total // wanted for i in range(wanted)]
        own = indices[get_rank()::get_world_size()]
        for start in range(0, len(own), self.batch_size):
            yield [_sample(dataset, seed, i)
                   for i in own[start:start + self.batch_size]]


def _sample(dataset: Any, seed: int, index: int) -> Any:
    """A sample that hangs on nothing but the seed and its index."""
    seed_sample((seed, _STREAM, index))
    return dataset[index]


def _known(model: Any) -> bool:
    """Whether the statistics are others than those of a new model."""
    return any(
        bool((getattr(model, f'{side}_latent_{name}') != value).any())
        for side in SIDES for name, value in (('mean', 0), ('std', 1)))


def _shown(values: Tensor) -> str:
    return ', '.join(f'{value:.3f}' for value in values.tolist())
