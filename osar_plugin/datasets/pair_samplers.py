"""Batches of pairs, or of unpaired images with new partners each epoch.

Legend: B batch size, W processes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info
from mmengine.logging import print_log
from torch.utils.data import Sampler

from osar_plugin.registry import DATA_SAMPLERS
from osar_plugin.utils.config_values import require_range
from osar_plugin.utils.errors import ConfigError

# Names of the four independent draws of an epoch.
_PAIRED, _UNPAIRED, _PARTNERS, _BATCHES = range(4)
Index = int | tuple[int, int]


def draw_batches(
        paired: np.ndarray, batch_size: int, seed: int,
        epoch: int) -> list[list[Index]]:
    """All batches of an epoch, the same on every process.

    Pairs and unpaired rows are shuffled apart and cut into batches of one
    kind; an incomplete batch of each kind is left out. The SAR side of the
    unpaired rows is shuffled by itself, so that each optical image gets a
    SAR image of its own. Then the batches of both kinds are mixed.

    Args:
        paired: (n,) 1 for pairs, 0 for unpaired rows.
        batch_size: B.
        seed: Seed.
        epoch: Epoch.

    Returns:
        Lists of B indices: row numbers for pairs, (row, row of the SAR
        image) for unpaired rows.
    """
    draws = [
        np.random.default_rng((seed, epoch, part)) for part in range(4)]
    pairs = draws[_PAIRED].permutation(np.flatnonzero(paired == 1))
    rows = np.flatnonzero(paired == 0)
    left = draws[_UNPAIRED].permutation(rows)
    right = draws[_PARTNERS].permutation(rows)
    batches: list[list[Index]] = [
        pairs[start:start + batch_size].tolist()
        for start in range(0, len(pairs) - batch_size + 1, batch_size)]
    batches += [
        list(zip(left[start:start + batch_size].tolist(),
                 right[start:start + batch_size].tolist(), strict=True))
        for start in range(0, len(left) - batch_size + 1, batch_size)]
    order = draws[_BATCHES].permutation(len(batches))
    return [batches[number] for number in order.tolist()]


@DATA_SAMPLERS.register_module()
class PairedBatchSampler(Sampler):
    """Batches that are wholly paired or wholly unpaired.

    Everything about an epoch is a function of (seed, epoch): which rows are
    together, who is the partner of an unpaired image, and the order of the
    batches, see :func:`draw_batches`. Process r takes batches r, r + W, ...
    and all processes get the same number: up to W - 1 batches at the end of
    the shuffled list are left out of an epoch.

    The partner of an unpaired row travels in its index, (row, row of the
    SAR image), so workers know it, persistent or not.

    In a config::

        train_dataloader = dict(
            batch_size=128,
            sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
            batch_sampler=dict(type='osar_plugin.PairedBatchSampler'))

    Args:
        sampler: Says data set, seed and epoch; its own order is not used.
            MMEngine's runner gives it.
        batch_size: B, of one process. The runner gives it.
        drop_last: Must be True: batches of unequal size on the processes
            could not be contrasted with each other.

    Raises:
        ConfigError: If the data set does not say what is paired, or there
            is less than one batch for each process.
    """

    def __init__(
            self, sampler: Any, batch_size: int,
            drop_last: bool = True) -> None:
        require_range(1, batch_size=batch_size)
        self.dataset: Any = getattr(sampler, 'dataset', None)
        table = getattr(self.dataset, 'pair_table', None)
        if table is None or not hasattr(sampler, 'seed'):
            raise ConfigError(
                f'{type(self).__name__} needs mmengine.DefaultSampler as '
                'sampler and a data set with pair_table(), such as '
                f'osar_plugin.OSPretrain; got {type(sampler).__name__} of '
                f'{type(self.dataset).__name__}. Take the data set out of '
                'its wrapper.')
        if not drop_last:
            raise ConfigError(
                'drop_last=False: PairedBatchSampler leaves incomplete '
                'batches out. Remove the argument, or use a smaller '
                'batch_size.')
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.seed = int(sampler.seed)
        self.rank, self.world_size = get_dist_info()
        self.paired = np.asarray(table())
        self._say()

    def _say(self) -> None:
        """Say what an epoch leaves out; refuse to leave out everything."""
        unpaired = int((self.paired == 0).sum())
        counts = {'paired': len(self.paired) - unpaired,
                  'unpaired': unpaired}
        total = self._total()
        if total < self.world_size:
            raise ConfigError(
                f'{counts["paired"]} paired and {unpaired} unpaired rows '
                f'make {total} batches of batch_size={self.batch_size}, '
                f'which is less than one for each of {self.world_size} '
                'processes. Use a smaller batch_size.')
        for kind, count in counts.items():
            if 0 < count < self.batch_size:
                print_log(
                    f'None of the {count} {kind} rows is ever used: they '
                    f'are fewer than batch_size={self.batch_size}.',
                    logger='current', level=logging.WARNING)
        print_log(
            f'An epoch is {len(self)} batches of {self.batch_size} on each '
            f'of {self.world_size} processes: '
            + ', '.join(f'{count // self.batch_size} {kind} batches ('
                        f'{count % self.batch_size} of {count} rows left '
                        'out)' for kind, count in counts.items())
            + f', {total % self.world_size} batches left out.',
            logger='current')

    def _total(self) -> int:
        """Batches of all processes together."""
        unpaired = int((self.paired == 0).sum())
        return (len(self.paired) - unpaired) // self.batch_size + (
            unpaired // self.batch_size)

    @property
    def epoch(self) -> int:
        """The epoch set last, here or on the sampler."""
        return int(getattr(self.sampler, 'epoch', 0))

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of another epoch."""
        # On the sampler, since that is where MMEngine's hook sets it.
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[Index]]:
        batches = draw_batches(
            self.paired, self.batch_size, self.seed, self.epoch)
        last = len(self) * self.world_size
        return iter(batches[self.rank:last:self.world_size])

    def __len__(self) -> int:
        """Batches of this process in an epoch."""
        return self._total() // self.world_size
