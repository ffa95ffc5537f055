"""Batches of one kind, new partners each epoch, seen by every worker."""

from __future__ import annotations

import uuid
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Runner
from pair_case import STATISTICS, write_source

from osar_plugin.datasets import PairedBatchSampler
from osar_plugin.datasets import pair_samplers as module
from osar_plugin.datasets.pair_samplers import draw_batches
from osar_plugin.utils.errors import ConfigError


class Table:
    """A data set that is its pair table."""

    def __init__(self, *paired):
        self.paired = np.array(paired, np.int8)

    def pair_table(self):
        return self.paired

    def __len__(self):
        return len(self.paired)


MIXED = Table(*[1] * 13, *[0] * 11, *[1] * 10)


def sampler_of(dataset=MIXED, batch_size=4, seed=5, epoch=0):
    sampler = PairedBatchSampler(
        DefaultSampler(dataset, seed=seed), batch_size)
    sampler.set_epoch(epoch)
    return sampler


@pytest.mark.parametrize('epoch', [0, 1, 7])
def test_batches_are_of_one_kind(epoch):
    sampler = sampler_of(epoch=epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 5 + 2
    pairs, left, right = [], [], []
    for batch in batches:
        assert len(batch) == 4
        if isinstance(batch[0], tuple):
            assert all(isinstance(index, tuple) for index in batch)
            left += [index[0] for index in batch]
            right += [index[1] for index in batch]
        else:
            pairs += batch
    assert all(isinstance(index, int) for index in pairs)
    assert len(set(pairs)) == len(pairs) == 20
    assert (MIXED.paired[pairs] == 1).all()
    # Every image at most once, on both sides.
    for side in (left, right):
        assert len(set(side)) == 8 and (MIXED.paired[side] == 0).all()


def test_epochs_and_seeds_differ_in_everything():
    drawn = {
        (seed, epoch): draw_batches(MIXED.paired, 4, seed, epoch)
        for seed in (0, 1) for epoch in (0, 1)}
    orders = [str(batches) for batches in drawn.values()]
    assert len(set(orders)) == 4
    partners = [
        frozenset(index for batch in batches for index in batch
                  if isinstance(index, tuple))
        for batches in drawn.values()]
    assert len(set(partners)) == 4
    kinds = [
        tuple(isinstance(batch[0], tuple) for batch in batches)
        for batches in drawn.values()]
    # The two kinds are mixed, not one behind the other in every epoch.
    assert len(set(kinds)) > 1
    assert drawn[1, 1] == draw_batches(MIXED.paired, 4, 1, 1)


def test_partners_are_spread_over_all_images():
    paired = np.zeros(8)
    counts = np.zeros((8, 8))
    for epoch in range(400):
        for batch in draw_batches(paired, 8, 3, epoch):
            counts[tuple(np.array(batch).T)] += 1
    # 50 on average, deviation under 7.
    assert counts.min() > 20 and counts.max() < 85


def test_the_global_generators_are_left_alone():
    state = np.random.get_state()[1].copy()
    list(sampler_of())
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize('world', [1, 2, 3, 4, 7])
def test_parts_of_processes(monkeypatch, world):
    whole = draw_batches(MIXED.paired, 4, 5, 2)
    parts = []
    for rank in range(world):
        monkeypatch.setattr(
            module, 'get_dist_info', lambda rank=rank: (rank, world))
        sampler = sampler_of(epoch=2)
        parts.append(list(sampler))
        assert len(parts[-1]) == len(sampler) == 7 // world
    joint = [batch for group in zip(*parts, strict=True) for batch in group]
    assert joint == whole[:len(joint)]


def test_what_is_left_out_is_said(caplog, monkeypatch):
    said = []
    monkeypatch.setattr(
        module, 'print_log', lambda text, **_: said.append(text))
    monkeypatch.setattr(module, 'get_dist_info', lambda: (0, 2))
    sampler_of(Table(*[1] * 22, *[0] * 3))
    assert 'None of the 3 unpaired rows' in said[0]
    assert '2 of 22 rows left out' in said[1]
    assert '1 batches left out' in said[1]


def test_too_little_data(monkeypatch):
    with pytest.raises(ConfigError, match='3 paired and 3 unpaired'):
        sampler_of(Table(1, 1, 1, 0, 0, 0))
    monkeypatch.setattr(module, 'get_dist_info', lambda: (0, 8))
    with pytest.raises(ConfigError, match='each of 8'):
        sampler_of()


def test_what_it_cannot_work_with():
    with pytest.raises(ConfigError, match=r'pair_table.*list'):
        PairedBatchSampler(DefaultSampler([1, 2]), 2)
    with pytest.raises(ConfigError, match='DefaultSampler'):
        PairedBatchSampler(torch.utils.data.SequentialSampler(MIXED), 2)
    with pytest.raises(ConfigError, match='drop_last'):
        PairedBatchSampler(DefaultSampler(MIXED), 2, drop_last=False)
    with pytest.raises(ConfigError, match='batch_size'):
        sampler_of(batch_size=0)


SEEN: list[tuple] = []


@pytest.fixture(autouse=True)
def plain_configs(monkeypatch):
    """Formatting the config takes MMEngine longer than all the rest."""
    monkeypatch.setattr(Config, 'pretty_text', '')


@MODELS.register_module(force=True)
class PairCaseModel(BaseModel):
    """Notes what it is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples, mode):
        assert len({sample.paired for sample in data_samples}) == 1
        for sample, rgb, sar in zip(
                data_samples, inputs['rgb'], inputs['sar'], strict=True):
            SEEN.append((
                sample.rgb_img_path, sample.sar_img_path,
                *(zlib.crc32(image.numpy()) for image in (rgb, sar))))
        return dict(loss=self.weight.sum())


@HOOKS.register_module(force=True)
class PairCaseKill(Hook):
    """Ends the run after an iteration, behind the checkpoint's save."""

    priority = 'LOWEST'

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner, **_):
        if runner.iter + 1 == self.at:
            raise KeyboardInterrupt


def run(root: Path, work_dir: Path, workers=0, kill=None, resume=False,
        exact=True):
    """What two epochs and a bit of training saw."""
    SEEN.clear()
    pipeline = [
        dict(type='osar_plugin.LoadPair'),
        dict(type='osar_plugin.PairRandomResizedCrop', size=16),
        dict(type='osar_plugin.PairHorizontalFlip'),
        dict(type='osar_plugin.PackPretrainInputs')]
    hooks = [dict(type='osar_plugin.ExactResumeHook')] if exact else []
    if kill:
        hooks.append(dict(type='PairCaseKill', at=kill))
    runner = Runner.from_cfg(Config(dict(
        default_scope='mmengine', work_dir=str(work_dir),
        experiment_name=uuid.uuid4().hex, log_level='WARNING',
        model=dict(type='PairCaseModel'),
        train_dataloader=dict(
            batch_size=4, num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=dict(type='mmengine.default_collate'),
            sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
            batch_sampler=dict(type='osar_plugin.PairedBatchSampler'),
            dataset=dict(
                type='osar_plugin.OSPretrain', data_root=str(root),
                statistics=dict(Mine=STATISTICS), pipeline=pipeline)),
        train_cfg=dict(by_epoch=True, max_epochs=3),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=dict(
            type='osar_plugin.AtomicCheckpointHook', interval=kill or 99,
            by_epoch=False)),
        custom_hooks=hooks, resume=resume, randomness=dict(seed=3))))
    try:
        runner.train()
    except KeyboardInterrupt:
        assert kill
    iterator = runner.train_loop.dataloader._iterator
    if iterator is not None:
        # Left to the garbage collector, each worker costs it five seconds.
        iterator._shutdown_workers()
    return list(SEEN)


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp('pairs')
    write_source(root, 'Mine', 9, 1)
    return write_source(root, 'Unpaired', 8, 2)


def epochs(seen):
    """Partners of the unpaired images in each epoch."""
    parts = [seen[start:start + 16] for start in range(0, 48, 16)]
    return [
        {row[:2] for row in part if 'Unpaired' in row[0]} for part in parts]


def check_epochs(seen):
    assert len(seen) == 3 * 16
    for row in seen:
        if 'Unpaired' not in row[0]:
            assert row[1] == row[0].replace('RGB', 'SAR')
    drawn = epochs(seen)
    for partners in drawn:
        assert len({rgb for rgb, _ in partners}) == 8
        assert len({sar for _, sar in partners}) == 8
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]


def test_persistent_workers_see_new_partners(tree, tmp_path):
    alone = run(tree, tmp_path / 'alone')
    check_epochs(alone)
    # Number and life of the workers change nothing, pixels included.
    assert run(tree, tmp_path / 'workers', workers=2) == alone


def test_without_the_resume_hook_epochs_differ_too(tree, tmp_path):
    check_epochs(run(tree, tmp_path, workers=2, exact=False))


@pytest.mark.parametrize('workers, kill', [(0, 6), (2, 6), (0, 8)])
def test_resumed_order_equals_the_whole(tree, tmp_path, workers, kill):
    whole = run(tree, tmp_path / 'whole', workers)
    first = run(tree, tmp_path / 'cut', workers, kill=kill)
    assert first == whole[:4 * kill]
    rest = run(tree, tmp_path / 'cut', workers, resume=True)
    assert rest == whole[4 * kill:]
