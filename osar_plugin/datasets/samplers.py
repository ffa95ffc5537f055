"""Batches of P identities with K images each.

Legend: P identities in a batch, K images per identity, W processes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from osar_plugin.registry import DATA_SAMPLERS
from osar_plugin.utils.errors import ConfigError


class IdentityBatchSampler(Sampler):
    """Base of samplers whose batches are P groups of K images.

    The order of a whole epoch is drawn from (seed, epoch) alone, the same
    on every process and for every W; process r takes batches r, r + W, ...
    so that a batch is never cut. All processes get the same number of
    batches: where W does not divide their number, the first batches of the
    epoch are used again (``round_up``), or the last ones are left out.

    The number of batches depends on the draw and thus on the epoch;
    ``len()`` is exact for the epoch set last.

    Args:
        dataset: A data set with ``identity_table()``.
        num_instances: K.
        batch_size: P x K, of one process. It must be the ``batch_size`` of
            the data loader, which cuts the stream of indices.
        seed: Seed; drawn and shared among the processes where None.
        round_up: Use batches again rather than leave some out.

    Raises:
        ConfigError: If the numbers do not fit each other or the data set.
    """

    def __init__(
            self,
            dataset: Any,
            num_instances: int = 4,
            batch_size: int = 32,
            seed: int | None = None,
            round_up: bool = True) -> None:
        if num_instances < 1 or batch_size < 1 \
                or batch_size % num_instances:
            raise ConfigError(
                f'batch_size={batch_size} must be a multiple of '
                f'num_instances={num_instances}, both above 0.')
        if not hasattr(dataset, 'identity_table'):
            raise ConfigError(
                f'{type(self).__name__} needs a data set with '
                f'identity_table(), such as osar_plugin.HOSS; '
                f'{type(dataset).__name__} has none. Take it out of its '
                'wrapper, or use mmengine.DefaultSampler.')
        self.rank, self.world_size = get_dist_info()
        self.num_instances = num_instances
        self.batch_size = batch_size
        self.num_ids = batch_size // num_instances
        self.seed = sync_random_seed() if seed is None else seed
        self.round_up = round_up
        self.epoch = 0
        self._order: tuple[int, np.ndarray] | None = None
        labels, modality = dataset.identity_table()
        self.images = self.group(labels, modality)
        if len(self.images) < self.num_ids:
            raise ConfigError(
                f'batch_size={batch_size} with num_instances='
                f'{num_instances} asks for {self.num_ids} identities in a '
                f'batch, but the data set has {len(self.images)}. Lower '
                'batch_size (in the data loader too) to at most '
                f'{len(self.images) * num_instances}.')
        if not round_up and len(self.batches()) < self.world_size:
            raise ConfigError(
                f'{len(self.batches())} batches for {self.world_size} '
                'processes leave some without any. Set round_up=True or use '
                'fewer processes.')

    def group(
            self, labels: np.ndarray, modality: np.ndarray
    ) -> dict[int, tuple[list[int], ...]]:
        """Rows of each identity, in the order of first appearance.

        Args:
            labels: (n,) identities.
            modality: (n,) 0 optical, 1 SAR.

        Returns:
            Identity to its lists of rows.
        """
        images: dict[int, tuple[list[int], ...]] = {}
        for row, label in enumerate(labels.tolist()):
            images.setdefault(label, ([],))[0].append(row)
        return images

    def split(
            self, rows: tuple[list[int], ...], chance: random.Random,
            numbers: np.random.RandomState) -> list[list[int]]:
        """Cut the images of one identity into shuffled groups of K."""
        raise NotImplementedError

    def batches(self) -> np.ndarray:
        """All batches of the epoch, the same on every process.

        Returns:
            (batches, P x K) int64.
        """
        if self._order is None or self._order[0] != self.epoch:
            self._order = (self.epoch, self._draw())
        return self._order[1]

    def _draw(self) -> np.ndarray:
        seed = self.seed
        if self.epoch:
            # Mixed, so that neighbouring seeds do not share epochs.
            mixed = np.random.SeedSequence([self.seed, self.epoch])
            seed = int(mixed.generate_state(1)[0])
        chance = random.Random(seed)
        numbers = np.random.RandomState(seed)
        groups = {
            label: self.split(rows, chance, numbers)
            for label, rows in self.images.items()}
        available = list(groups)
        taken = dict.fromkeys(groups, 0)
        batches = []
        while len(available) >= self.num_ids:
            batch = []
            for label in chance.sample(available, self.num_ids):
                batch += groups[label][taken[label]]
                taken[label] += 1
                if taken[label] == len(groups[label]):
                    available.remove(label)
            batches.append(batch)
        return np.array(batches, np.int64)

    def _count(self) -> int:
        """Batches of each process."""
        total = len(self.batches())
        if self.round_up:
            total += self.world_size - 1
        return total // self.world_size

    def __iter__(self) -> Iterator[int]:
        batches = self.batches()
        picks = np.arange(
            self.rank, self._count() * self.world_size, self.world_size)
        return iter(batches[picks % len(batches)].ravel().tolist())

    def __len__(self) -> int:
        """Indices of this process in the epoch set last."""
        return self._count() * self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of another epoch."""
        self.epoch = epoch


@DATA_SAMPLERS.register_module()
class RandomIdentitySampler(IdentityBatchSampler):
    """P x K without regard to modality, as in the published recipes.

    The images of an identity are shuffled and cut into groups of K; the
    remainder is left out, and an identity with fewer than K images draws K
    of them with replacement. Then P identities at a time, drawn at random,
    give one group each, until fewer than P have one left. Epoch 0 with seed
    s is the order of the official sampler after ``random.seed(s)`` and
    ``numpy.random.seed(s)``.

    Args: see :class:`IdentityBatchSampler`.
    """

    def split(
            self, rows: tuple[list[int], ...], chance: random.Random,
            numbers: np.random.RandomState) -> list[list[int]]:
        """Shuffle and cut; see the class."""
        images = list(rows[0])
        size = self.num_instances
        if len(images) < size:
            images = numbers.choice(images, size, replace=True).tolist()
        chance.shuffle(images)
        return [
            images[start:start + size]
            for start in range(0, len(images) - size + 1, size)]


@DATA_SAMPLERS.register_module()
class ModalityBalancedSampler(IdentityBatchSampler):
    """K/2 optical and K/2 SAR images of each of P identities.

    This is what the SDF-Net paper describes. The modality with more images
    decides how many groups an identity has (its remainder is left out, as
    in :class:`RandomIdentitySampler`); of the other one, images are used
    again, each as often as any other to within one.

    Args:
        dataset: See :class:`IdentityBatchSampler`.
        num_instances: K, an even number.
        batch_size: See :class:`IdentityBatchSampler`.
        seed: See :class:`IdentityBatchSampler`.
        round_up: See :class:`IdentityBatchSampler`.
        single_modality: Identities with one modality only: ``'keep'`` them
            with K images of it (the classifier and the triplets need them),
            or ``'drop'`` them.
    """

    def __init__(
            self,
            dataset: Any,
            num_instances: int = 4,
            batch_size: int = 32,
            seed: int | None = None,
            round_up: bool = True,
            single_modality: str = 'keep') -> None:
        if num_instances % 2:
            raise ConfigError(
                f'num_instances={num_instances} must be even: half of them '
                'optical, half SAR.')
        if single_modality not in ('keep', 'drop'):
            raise ConfigError(
                f'single_modality={single_modality!r} is not known: use '
                '"keep" or "drop".')
        self.single_modality = single_modality
        super().__init__(dataset, num_instances, batch_size, seed, round_up)

    def group(
            self, labels: np.ndarray, modality: np.ndarray
    ) -> dict[int, tuple[list[int], ...]]:
        """Rows of each identity: optical, SAR."""
        images: dict[int, tuple[list[int], ...]] = {}
        for row, (label, kind) in enumerate(
                zip(labels.tolist(), modality.tolist(), strict=True)):
            images.setdefault(label, ([], []))[kind].append(row)
        if self.single_modality == 'drop':
            images = {
                label: rows for label, rows in images.items() if all(rows)}
        return images

    def split(
            self, rows: tuple[list[int], ...], chance: random.Random,
            numbers: np.random.RandomState) -> list[list[int]]:
        """Shuffle and cut each modality; see the class."""
        present = [kind for kind in rows if kind]
        share = self.num_instances // len(present)
        count = max(1, max(len(kind) // share for kind in present))
        parts = [_spread(kind, count, share, numbers) for kind in present]
        return [
            sum((part[start:start + share] for part in parts), [])
            for start in range(0, count * share, share)]


def _spread(
        images: list[int], count: int, share: int,
        numbers: np.random.RandomState) -> list[int]:
    """Draw ``count`` groups of ``share`` images, one after the other.

    They are whole shuffles in a row, so that all images are used equally
    often to within one. Where a shuffle ends inside a group, the next one
    puts the images of that group last: none is in a group twice if there
    are ``share`` of them.
    """
    drawn: list[int] = []
    while len(drawn) < count * share:
        begun = drawn[len(drawn) // share * share:]
        shuffle = numbers.permutation(images).tolist()
        drawn += sorted(shuffle, key=begun.__contains__)
    return drawn[:count * share]
