"""Samplers: official order, composition of batches, parts of processes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import DataLoader

from osar_plugin.datasets import (
    HOSS,
    ModalityBalancedSampler,
    RandomIdentitySampler,
)
from osar_plugin.datasets import samplers as module
from osar_plugin.utils.errors import ConfigError

GOLDEN = np.load(Path(__file__).parents[1] / 'goldens' / 'reid_data.npz')
BOTH = [RandomIdentitySampler, ModalityBalancedSampler]


class Table:
    """A data set that is its identity table."""

    def __init__(self, labels, modality=None):
        self.labels = np.asarray(labels, np.int64)
        self.modality = (
            np.arange(len(self.labels)) % 2 if modality is None
            else np.asarray(modality, np.int64))

    def identity_table(self):
        return self.labels, self.modality

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return index


def of_process(monkeypatch, rank, world, kind, *args, **kwargs):
    monkeypatch.setattr(module, 'get_dist_info', lambda: (rank, world))
    return kind(*args, **kwargs)


def test_official_order():
    sampler = RandomIdentitySampler(
        Table(GOLDEN['sampler_pids']), num_instances=4, batch_size=8, seed=77)
    assert list(sampler) == GOLDEN['sampler_idx'].tolist()
    assert len(sampler) == len(GOLDEN['sampler_idx'])
    sampler.set_epoch(1)
    assert list(sampler) != GOLDEN['sampler_idx'].tolist()
    sampler.set_epoch(0)
    assert list(sampler) == GOLDEN['sampler_idx'].tolist()


# Identities with 0..9 optical and 0..9 SAR images, none without any.
IDENTITIES = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(any),
    min_size=4, max_size=20)


def table_of(counts, seed=0):
    """Rows of identities in a mixed order, with labels far apart."""
    rows = [
        (label * 7 + 3, modality)
        for label, pair in enumerate(counts)
        for modality, count in enumerate(pair) for _ in range(count)]
    order = np.random.RandomState(seed).permutation(len(rows))
    rows = np.array(rows)[order]
    return Table(rows[:, 0], rows[:, 1])


@given(IDENTITIES, st.sampled_from(BOTH), st.integers(0, 2**31), st.integers(
    0, 3))
# Shuffles of three that end inside groups of two.
@example([(3, 9)] * 5, ModalityBalancedSampler, 0, 0)
@example([(9, 3)] * 5, ModalityBalancedSampler, 1, 1)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_batches_hold_p_identities_of_k_images(counts, kind, seed, epoch):
    table = table_of(counts)
    sampler = kind(table, num_instances=4, batch_size=16, seed=seed)
    sampler.set_epoch(epoch)
    indices = np.array(list(sampler))
    assert len(indices) == len(sampler) > 0 and len(indices) % 16 == 0
    for batch in indices.reshape(-1, 16):
        labels = table.labels[batch].reshape(4, 4)
        # Four groups of one identity each, no identity twice.
        assert (labels == labels[:, :1]).all()
        assert len(set(labels[:, 0].tolist())) == 4
        for group in batch.reshape(4, 4):
            check_group(table, group, kind)


def check_group(table, group, kind):
    own = np.nonzero(table.labels == table.labels[group[0]])[0]
    if kind is RandomIdentitySampler:
        assert len(own) < 4 or len(set(group.tolist())) == 4
        return
    sides = [own[table.modality[own] == modality] for modality in (0, 1)]
    drawn = Counter(table.modality[group].tolist())
    if all(len(side) for side in sides):
        assert drawn == {0: 2, 1: 2}
    for side in sides:
        uses = Counter(i for i in group.tolist() if i in set(side.tolist()))
        share = sum(uses.values())
        if share and len(side) >= share:
            # Enough images: no repetition inside a group.
            assert max(uses.values()) == 1


@given(IDENTITIES, st.integers(0, 2**31))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_images_are_used_evenly(counts, seed):
    table = table_of(counts)
    sampler = RandomIdentitySampler(
        table, num_instances=4, batch_size=4, seed=seed)
    # One identity per batch: nothing is left over but remainders.
    uses = Counter(sampler)
    for label in set(table.labels.tolist()):
        own = np.nonzero(table.labels == label)[0]
        total = sum(uses[i] for i in own.tolist())
        assert total == max(4, len(own) // 4 * 4)
        if len(own) >= 4:
            assert max(uses[i] for i in own.tolist()) == 1
    balanced = ModalityBalancedSampler(
        table, num_instances=4, batch_size=4, seed=seed)
    uses = Counter(balanced)
    for label in set(table.labels.tolist()):
        for modality in (0, 1):
            own = np.nonzero(
                (table.labels == label) & (table.modality == modality))[0]
            each = [uses[i] for i in own.tolist()]
            assert not each or max(each) - min(each) <= 1


@pytest.mark.parametrize('kind', BOTH)
@pytest.mark.parametrize('world', [1, 2, 3, 4])
@pytest.mark.parametrize('round_up', [True, False])
@pytest.mark.parametrize('epoch', [0, 5])
def test_parts_of_processes(monkeypatch, kind, world, round_up, epoch):
    table = table_of([(n % 5 + 1, n % 4 + 1) for n in range(40)])
    alone = kind(table, 4, 16, seed=3)
    alone.set_epoch(epoch)
    whole = alone.batches()
    parts = []
    for rank in range(world):
        sampler = of_process(
            monkeypatch, rank, world, kind, table, 4, 16, seed=3,
            round_up=round_up)
        sampler.set_epoch(epoch)
        part = np.array(list(sampler)).reshape(-1, 16)
        assert len(part) * 16 == len(sampler)
        parts.append(part)
    assert len({len(part) for part in parts}) == 1
    # Side by side, the parts are the order of one process.
    joint = np.stack(parts, axis=1).reshape(-1, 16)
    shared = min(len(joint), len(whole))
    np.testing.assert_array_equal(joint[:shared], whole[:shared])
    if round_up:
        assert len(whole) <= len(joint) < len(whole) + world
        np.testing.assert_array_equal(
            joint[len(whole):], whole[:len(joint) - len(whole)])
    else:
        assert len(whole) - world < len(joint) <= len(whole)


@pytest.mark.parametrize('kind', BOTH)
def test_new_order_each_epoch_same_for_the_same_seed(kind):
    table = table_of([(4, 4)] * 12)

    def order(seed, epoch):
        sampler = kind(table, 4, 16, seed=seed)
        sampler.set_epoch(epoch)
        return tuple(sampler)

    orders = {
        (seed, epoch): order(seed, epoch)
        for seed in range(4) for epoch in range(4)}
    assert len(set(orders.values())) == 16
    assert order(2, 3) == orders[2, 3]


def test_the_global_generators_are_left_alone():
    state = np.random.get_state()[1].copy()
    list(RandomIdentitySampler(table_of([(3, 3)] * 8), 4, 16, seed=1))
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_more_processes_than_batches(monkeypatch):
    table = table_of([(2, 2)] * 4)
    for rank in range(3):
        sampler = of_process(
            monkeypatch, rank, 3, RandomIdentitySampler, table, 4, 16, seed=0)
        assert len(sampler) == len(list(sampler)) == 16
    with pytest.raises(ConfigError, match='round_up'):
        of_process(
            monkeypatch, 0, 3, RandomIdentitySampler, table, 4, 16, seed=0,
            round_up=False)


def test_identities_with_one_modality():
    table = table_of([(2, 2)] * 4 + [(6, 0), (0, 2)])
    keep = ModalityBalancedSampler(table, 4, 4, seed=0)
    single = Counter(table.labels[list(keep)].tolist())
    assert single[4 * 7 + 3] == single[5 * 7 + 3] == 4
    drop = ModalityBalancedSampler(
        table, 4, 4, seed=0, single_modality='drop')
    assert set(table.labels[list(drop)].tolist()) == {3, 10, 17, 24}


@pytest.mark.parametrize('kind', BOTH)
def test_too_few_identities(kind):
    with pytest.raises(ConfigError) as error:
        kind(table_of([(4, 4)] * 5), 4, 32, seed=0)
    message = str(error.value)
    assert '8 identities' in message and 'has 5' in message
    assert 'at most 20' in message


@pytest.mark.parametrize(('kind', 'arguments', 'match'), [
    (RandomIdentitySampler, dict(batch_size=30), 'multiple'),
    (RandomIdentitySampler, dict(num_instances=0), 'multiple'),
    (ModalityBalancedSampler, dict(num_instances=1), 'even'),
    (ModalityBalancedSampler, dict(single_modality='fill'), 'fill')])
def test_arguments(kind, arguments, match):
    with pytest.raises(ConfigError, match=match):
        kind(table_of([(4, 4)] * 20), **arguments)


def test_data_set_without_identities():
    with pytest.raises(ConfigError, match=r'list.*identity_table|identity_ta'):
        RandomIdentitySampler([1, 2, 3])


def test_built_as_the_runner_builds_it():
    table = table_of([(4, 4)] * 9)
    sampler = DATA_SAMPLERS.build(
        dict(type='osar_plugin.RandomIdentitySampler', batch_size=16),
        default_args=dict(dataset=table, seed=5))
    assert sampler.seed == 5
    loader = DataLoader(table, batch_size=16, sampler=sampler)
    assert len(loader) == len(list(loader)) == len(sampler) // 16


def test_seed_is_shared_where_none_is_given():
    sampler = RandomIdentitySampler(table_of([(4, 4)] * 9), batch_size=16)
    assert isinstance(sampler.seed, int)


def test_real_chips_give_one_batch_of_the_recipe(hoss_mini):
    dataset = HOSS(hoss_mini)
    for kind in BOTH:
        sampler = kind(dataset, num_instances=4, batch_size=32, seed=1949)
        assert len(sampler) == 32
        labels, modality = dataset.identity_table()
        batch = np.array(list(sampler))
        assert len(set(labels[batch].tolist())) == 8
    # One optical and one SAR image each, so twice both.
    assert (modality[batch].reshape(8, 4).sum(axis=1) == 2).all()
