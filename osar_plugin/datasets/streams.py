"""Training data as a function of (seed, epoch or iteration, sample).

A data loader of PyTorch draws augmentations from generators that depend on
which worker meets a sample, and when; so a resumed run, or one with another
number of workers, sees other data. Here every index travels with a key, and
the sample is made with generators seeded by it::

    sampler -> BatchStream -> [(index, key), ...] -> SeededDataset[index]

The key is (seed, epoch, index, repeat) where training runs in epochs, and
(seed, iteration, index, repeat) where it runs in iterations; ``repeat``
counts earlier occurrences of the index in the epoch or in the batch, so that
a sample drawn twice is not augmented twice alike.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.logging import print_log
from torch.utils.data import DataLoader, IterableDataset

from ..io import decode
from ..utils.errors import CorruptImageError, OSARError
from ..utils.random_state import seed_sample

# Arguments of a DataLoader that are readable as attributes of one.
_LOADER_ARGUMENTS = (
    'num_workers', 'collate_fn', 'pin_memory', 'timeout', 'worker_init_fn',
    'multiprocessing_context', 'generator', 'prefetch_factor',
    'persistent_workers', 'pin_memory_device', 'in_order')


# How keys of a sample end that name images; not `teacher_path`, whose files
# are no images.
_IMAGE_KEYS = (
    'img_path', 'seg_map_path', 'rgb_path', 'sar_path', 'optical_path')
# Keeps the seeds of orders apart from those of samples.
_ORDER = 0x6f72646572


class SampleKey(NamedTuple):
    """An index of a data set, and what its random draws hang on.

    Attributes:
        row: The index as the sampler gave it: a number, or several
            (``(video, frame)``).
        key: Numbers that seed the sample.
    """

    row: Any
    key: tuple[int, ...]


class BatchStream:
    """Batches of sample keys from a batch sampler, from any batch on.

    Stands in a data loader where the batch sampler was. Indices in front of
    ``start`` are drawn and dropped; nothing is loaded for them.

    Args:
        batches: The batch sampler. Its ``set_epoch``, or that of its
            ``sampler``, is called before each pass.
        seed: First number of all keys; the same on all processes.
        endless: Begin a new pass where one ends, for loops that count
            iterations. Keys then carry the iteration, else the epoch.
    """

    def __init__(self, batches: Any, seed: int, endless: bool) -> None:
        self.batches = batches
        self.sampler = getattr(batches, 'sampler', None)
        self.batch_size = getattr(batches, 'batch_size', None)
        self.drop_last = getattr(batches, 'drop_last', False)
        self.seed = seed
        self.endless = endless
        self.epoch = 0
        self.start = 0

    def set_position(self, epoch: int, start: int) -> None:
        """Choose the pass that begins next.

        Args:
            epoch: Of loops that count epochs.
            start: Batches to leave out: of the epoch, or, where endless,
                of all.
        """
        self.epoch, self.start = epoch, start

    def __iter__(self) -> Iterator[list[SampleKey]]:
        numbered = enumerate(
            self._all() if self.endless else self._pass(self.epoch))
        seen: Counter[tuple[int, ...]] = Counter()
        for number, batch in numbered:
            if self.endless:
                seen.clear()
                if number < self.start:
                    continue
            moment = number if self.endless else self.epoch
            keys = []
            for row in batch:
                numbers = _numbers(row)
                keys.append(SampleKey(
                    row, (self.seed, moment, *numbers, seen[numbers])))
                seen[numbers] += 1
            if number >= self.start:
                yield keys

    def _pass(self, epoch: int) -> Iterator[list[Any]]:
        for sampler in (self.batches, self.sampler):
            if hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(epoch)  # type: ignore[union-attr]
                break
        # PyTorch's own RandomSampler draws from the global generator.
        seed_sample((self.seed, epoch, _ORDER))
        yield from self.batches

    def _all(self) -> Iterator[list[Any]]:
        for epoch in itertools.count():
            drawn = False
            for batch in self._pass(epoch):
                drawn = True
                yield batch
            if not drawn:  # an empty sampler would spin for ever
                return

    def __len__(self) -> int:
        """Batches of the pass that begins next; of one, where endless."""
        return len(self.batches) - (0 if self.endless else self.start)


def _numbers(row: Any) -> tuple[int, ...]:
    """The numbers of an index, without sign."""
    parts = row if isinstance(row, (tuple, list)) else (row, )
    return tuple(abs(int(part)) for part in parts)


class DatasetProxy:
    """A data set that changes how samples are made and nothing else.

    Attributes are read from and written to the data set behind it, and
    ``isinstance`` sees that one's class, since hooks of other packages look
    (``isinstance(dataset, ConcatDataset)``) and write
    (``dataset.pipeline = ...``).
    """

    # One dict that holds this object's own attributes.
    __slots__ = ('own', )

    # PyTorch asks for it to fetch a batch at once; the proxied data set's
    # would go around __getitem__.
    __getitems__ = None

    def __init__(self, dataset: Any, **own: Any) -> None:
        object.__setattr__(self, 'own', dict(dataset=dataset, **own))

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.own['dataset'])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own['dataset'], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.own['dataset'], name, value)

    def __len__(self) -> int:
        return len(self.own['dataset'])

    def __getitem__(self, index: Any) -> Any:
        return self.own['dataset'][index]

    def __reduce__(self) -> tuple[Any, ...]:
        # For workers that are started afresh (spawn).
        return _rebuild, (type(self), self.own)


def _rebuild(
        kind: type[DatasetProxy], own: dict[str, Any]) -> DatasetProxy:
    proxy = object.__new__(kind)
    object.__setattr__(proxy, 'own', own)
    return proxy


class SeededDataset(DatasetProxy):
    """Makes each sample with the generators that its key seeds."""

    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, SampleKey):
            seed_sample(index.key)
            index = index.row
        return self.own['dataset'][index]


class GuardedDataset(DatasetProxy):
    """Stops at, or replaces, samples whose files cannot be decoded.

    Made by :meth:`around`. Bad samples are marked in memory that all
    workers share.
    """

    __slots__ = ()

    @classmethod
    def around(cls, dataset: Any, limit: int) -> GuardedDataset:
        """Guard a data set.

        Args:
            dataset: The data set.
            limit: Samples that may be bad and are replaced; one more raises.
        """
        bad = torch.zeros(len(dataset), dtype=torch.uint8).share_memory_()
        return cls(dataset, limit=limit, bad=bad)

    def bad_indices(self) -> list[int]:
        """Samples that were found bad by any worker."""
        indices: list[int] = self.own['bad'].nonzero().flatten().tolist()
        return indices

    def __getitem__(self, index: Any) -> Any:
        while True:
            try:
                return self.own['dataset'][index]
            except Exception as error:
                corrupt = _find_corrupt(self.own['dataset'], index)
                if corrupt is None:
                    raise
                self._mark(index, corrupt, error)
            index = self._substitute(_numbers(index)[0])

    def _mark(self, index: Any, corrupt: CorruptImageError,
              error: Exception) -> None:
        bad, limit = self.own['bad'], self.own['limit']
        number = _numbers(index)[0]
        new = not bad[number]
        bad[number] = 1
        count = int(bad.sum())
        if count > limit:
            cure = (
                'Run tools/verify_dataset.py, and mend or remove what it '
                "names; or let osar_plugin.BadSampleHook(on_error='skip') "
                'replace a few.')
            if limit:
                cure = (
                    f'This is bad file {count}, and '
                    f'osar_plugin.BadSampleHook allows {limit}. Run '
                    'tools/verify_dataset.py to see them all.')
            raise CorruptImageError(f'{corrupt} {cure}') from error
        if new:
            print_log(
                f'Replaced by another sample, {count} of at most {limit}: '
                f'{corrupt}', logger='current', level=logging.WARNING)

    def _substitute(self, index: int) -> int:
        """Draw another sample that is not known to be bad."""
        dataset, bad = self.own['dataset'], self.own['bad']
        candidates: Any = range(len(dataset))
        if hasattr(dataset, 'substitutes'):
            candidates = dataset.substitutes(index) or candidates
        candidates = [i for i in candidates if not bad[i]]
        if not candidates:
            raise CorruptImageError(
                f'No sample is left to replace number {index}: all that '
                'could are bad. Run tools/verify_dataset.py.')
        return int(candidates[np.random.randint(len(candidates))])


def _find_corrupt(dataset: Any, index: Any) -> CorruptImageError | None:
    """Decode the files of a sample; the error of the first bad one."""
    try:
        info = dataset.get_data_info(index)
    except Exception:  # whatever failed first is the error to show
        return None
    for key, value in info.items() if isinstance(info, dict) else ():
        if not key.endswith(_IMAGE_KEYS) or not isinstance(value, str):
            continue
        try:
            decode(value)
        except CorruptImageError as error:
            return error
        except OSARError:
            continue  # whole, but not of a kind that this package reads
    return None


def has_indices(loader: DataLoader) -> bool:
    """Whether a loader asks its data set for batches of indices."""
    return loader.batch_sampler is not None and not isinstance(
        loader.dataset, IterableDataset)


def replace_parts(
        loader: DataLoader, dataset: Any = None,
        batch_sampler: Any = None,
        worker_init_fn: Callable[[int], None] | None = None) -> DataLoader:
    """A data loader like another one, with other parts.

    Args:
        loader: The one to copy, see :func:`has_indices`; it is not changed
            and no worker of it is started.
        dataset: In place of its data set.
        batch_sampler: In place of its batch sampler.
        worker_init_fn: In place of what its workers call first.
    """
    arguments = {
        name: getattr(loader, name) for name in _LOADER_ARGUMENTS
        if hasattr(loader, name)}
    if worker_init_fn is not None:
        arguments['worker_init_fn'] = worker_init_fn
    if not arguments.get('pin_memory_device'):
        # Deprecated; an empty one is better not said.
        arguments.pop('pin_memory_device', None)
    return type(loader)(
        loader.dataset if dataset is None else dataset,
        batch_sampler=batch_sampler or loader.batch_sampler, **arguments)
