"""A resumed run equals the run that was never stopped, byte for byte."""

from __future__ import annotations

import contextlib
import inspect
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.runner import (
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    Runner,
    loops,
)
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from osar_plugin.datasets.streams import (
    BatchStream,
    SeededDataset,
    replace_parts,
)

from .training_case import (
    CaseDataset,
    CaseModel,
    Killed,
    config,
    last,
    same,
    train,
)

WAYS: dict[str, dict[str, Any]] = {
    'epoch_end': dict(kill=12),
    'epoch_middle': dict(kill=9, by_epoch=False),
    'epoch_last_batch': dict(kill=12, by_epoch=False),
    'epoch_middle_workers': dict(kill=9, by_epoch=False, workers=2),
    'epoch_persistent': dict(
        kill=15, by_epoch=False, workers=2, persistent=True),
    'epoch_four_workers': dict(kill=12, workers=4),
    'epoch_ema_adamw': dict(
        kill=9, by_epoch=False, ema=True, optimizer='AdamW'),
    'epoch_amp': dict(kill=9, by_epoch=False, amp=True),
    'epoch_accumulating': dict(kill=9, by_epoch=False, accumulate=4),
    'epoch_in_validation': dict(kill=12, kill_when='val'),
    'epoch_no_seed': dict(kill=9, by_epoch=False, seed=None),
    'iter': dict(loop='iter', kill=9),
    'iter_finite_sampler': dict(
        loop='iter', kill=9, sampler='DefaultSampler'),
    'iter_workers': dict(loop='iter', kill=9, workers=2),
    'iter_four_workers_finite': dict(
        loop='iter', kill=15, workers=4, sampler='DefaultSampler'),
    'iter_persistent': dict(
        loop='iter', kill=15, workers=2, persistent=True),
    'iter_ema_amp_adamw': dict(
        loop='iter', kill=9, ema=True, amp=True, optimizer='AdamW'),
    'iter_in_validation': dict(loop='iter', kill=12, kill_when='val'),
}


@pytest.mark.parametrize('way', WAYS, ids=list(WAYS))
def test_resumed_equals_uninterrupted(way: str, tmp_path: Path) -> None:
    arguments = dict(WAYS[way])
    kill = {
        key: arguments.pop(key) for key in ('kill', 'kill_when')
        if key in arguments}
    stopped = train(tmp_path / 'stopped', **arguments, **kill)
    train(tmp_path / 'stopped', **arguments, resume=True)
    if arguments.get('seed', 3) is None:
        arguments['seed'] = stopped.seed
    train(tmp_path / 'whole', **arguments)
    assert same(last(tmp_path / 'whole'), last(tmp_path / 'stopped')) == []
    files = [
        sorted(path.name for path in (tmp_path / name).glob('*.pth'))
        for name in ('whole', 'stopped')]
    assert files[0] == files[1]


def test_early_stopping_goes_on_counting(tmp_path: Path) -> None:
    arguments = dict(val=1, epochs=8, hooks=(dict(
        type='mmengine.EarlyStoppingHook', monitor='acc', rule='less',
        patience=2), ))
    whole = train(tmp_path / 'whole', **arguments)
    stopped = train(tmp_path / 'stopped', kill=whole.iter - 3, **arguments)
    stopped = train(tmp_path / 'stopped', resume=True, **arguments)
    assert stopped.iter == whole.iter


@MODELS.register_module(force=True)
class TwoOptimizers(CaseModel):
    """As GANs are trained: one of the two accumulates over 4 iterations."""

    def train_step(self, data: Any, optim_wrapper: Any) -> Any:
        losses = self(**data, mode='loss')
        for name in ('first', 'rest'):
            optim_wrapper[name].update_params(
                self(**data, mode='loss')['loss'])
        return losses


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(force=True)
class TwoOptimizersConstructor:
    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, model: Any) -> OptimWrapperDict:
        parts = dict(first=model.net[0], rest=model.net[4])
        return OptimWrapperDict(**{
            name: OptimWrapper(
                torch.optim.SGD(part.parameters(), 0.05, momentum=0.9),
                accumulative_counts=1 if name == 'first' else 4)
            for name, part in parts.items()})


def test_several_optimizers(tmp_path: Path) -> None:
    changes = dict(model=dict(type='TwoOptimizers'), param_scheduler=None,
                   optim_wrapper=dict(constructor='TwoOptimizersConstructor'),
                   by_epoch=False)
    train(tmp_path / 'whole', **changes)
    train(tmp_path / 'killed', kill=10, **changes)
    train(tmp_path / 'killed', resume=True, **changes)
    assert same(last(tmp_path / 'whole'), last(tmp_path / 'killed')) == []


def test_a_loader_that_is_given_built(tmp_path: Path) -> None:
    """Its RandomSampler draws from the global generator."""
    def run(folder: str, **arguments: Any) -> Any:
        cfg = config(tmp_path / folder, by_epoch=False, **arguments)
        cfg.experiment_name = f'{folder}{len(arguments)}'
        loader = DataLoader(
            CaseDataset(), batch_size=4, shuffle=True,
            collate_fn=pseudo_collate)
        runner = Runner(
            **{key: cfg[key] for key in (
                'model', 'work_dir', 'train_cfg', 'optim_wrapper',
                'default_hooks', 'custom_hooks', 'randomness', 'resume',
                'log_level', 'default_scope', 'experiment_name')},
            train_dataloader=loader)
        with contextlib.suppress(Killed):
            runner.train()
        return runner

    whole = run('whole').model.state_dict()
    run('killed', kill=9)
    assert same(whole, run('killed', resume=True).model.state_dict()) == []


def test_every_iteration_of_a_run(tmp_path: Path) -> None:
    """Killed after each of its 24 iterations, one after the other."""
    train(tmp_path / 'whole', by_epoch=False)
    for at in range(1, 25):
        train(tmp_path / 'killed', by_epoch=False, resume=True, kill=at)
    train(tmp_path / 'killed', by_epoch=False, resume=True)
    assert same(last(tmp_path / 'whole'), last(tmp_path / 'killed')) == []


def test_stock_hooks_differ(tmp_path: Path) -> None:
    """The comparison can fail: MMEngine alone goes on elsewhere."""
    stock = dict(exact=False, seed=5)
    train(tmp_path / 'whole', **stock)
    train(tmp_path / 'killed', kill=12, **stock)
    train(tmp_path / 'killed', resume=True, **stock)
    whole, killed = last(tmp_path / 'whole'), last(tmp_path / 'killed')
    assert same(whole['state_dict'], killed['state_dict'])


@pytest.mark.parametrize('loop', ['epoch', 'iter'])
def test_workers_change_nothing(loop: str, tmp_path: Path) -> None:
    runs = [
        train(tmp_path / str(workers), loop=loop, workers=workers,
              persistent=persistent)
        for workers, persistent in ((0, False), (2, False), (3, True))]
    weights = [run.model.state_dict() for run in runs]
    assert same(weights[0], weights[1]) == []
    assert same(weights[0], weights[2]) == []


@pytest.mark.parametrize('persistent', [False, True])
def test_an_endless_stream_leaves_no_workers(tmp_path, persistent):
    cfg = config(tmp_path, loop='iter', workers=2, max_iters=3,
                 persistent=persistent)
    runner = Runner.from_cfg(cfg)
    before = set(multiprocessing.active_children())
    runner.train()
    assert set(multiprocessing.active_children()) <= before


def test_validation_changes_nothing(tmp_path: Path) -> None:
    often = train(tmp_path / 'often', val=1).model.state_dict()
    never = train(tmp_path / 'never', val=9).model.state_dict()
    assert same(often, never) == []


def stream(size: int = 7, endless: bool = False) -> BatchStream:
    return BatchStream(
        BatchSampler(SequentialSampler(range(size)), 3, False), 11, endless)


def test_augmentation_differs_between_epochs_and_repeats_by_seed() -> None:
    """Stock workers, seeded with a constant, repeat themselves."""
    def epoch(number: int, seed: int = 11, workers: int = 2) -> list[Any]:
        batches = stream()
        batches.seed = seed
        batches.set_position(number, 0)
        loader = replace_parts(
            DataLoader(CaseDataset(7), num_workers=workers,
                       collate_fn=list),
            SeededDataset(CaseDataset(7)), batches)
        return [sample['inputs'] for batch in loader for sample in batch]

    first = epoch(0)
    assert same(first, epoch(0)) == []
    assert same(first, epoch(0, workers=0)) == []
    for other in (epoch(1), epoch(0, seed=12)):
        assert len(same(first, other)) == 7


def test_stream_from_any_batch_on() -> None:
    batches = stream()
    whole = list(batches)
    assert [[key.row for key in batch] for batch in whole] == [
        [0, 1, 2], [3, 4, 5], [6]]
    batches.set_position(0, 2)
    assert list(batches) == whole[2:] and len(batches) == 1
    batches.set_position(1, 2)
    assert list(batches)[0][0].key != whole[2][0].key


def test_endless_stream_counts_iterations() -> None:
    batches = stream(endless=True)
    numbers = iter(batches)
    drawn = [next(numbers) for _ in range(7)]
    batches.set_position(0, 4)
    resumed = iter(batches)
    assert [next(resumed) for _ in range(3)] == drawn[4:]
    assert drawn[0][0].row == drawn[3][0].row  # a pass is three batches
    assert drawn[0][0].key != drawn[3][0].key


def test_a_sample_drawn_twice_has_two_keys() -> None:
    batches = BatchStream([[4, 4], [4]], 0, False)
    keys = [key.key for batch in batches for key in batch]
    assert len(set(keys)) == 3


def test_empty_sampler_ends() -> None:
    assert list(BatchStream([], 0, True)) == []


def test_proxy_is_transparent() -> None:
    inner = CaseDataset(5)
    proxy = SeededDataset(inner)
    proxy.size = 3
    assert inner.size == 3 and len(proxy) == 3
    assert isinstance(proxy, CaseDataset)
    assert proxy.metainfo == inner.metainfo
    import pickle
    again = pickle.loads(pickle.dumps(proxy))
    assert type(again) is SeededDataset and again.size == 3


def test_what_is_touched_of_mmengine() -> None:
    """Private names that the hooks use, on the stack at hand."""
    def names(function: Any) -> list[str]:
        return list(inspect.signature(function).parameters)

    iterator = loops._InfiniteDataloaderIterator
    assert names(iterator.__init__)[1:] == ['dataloader']
    source = inspect.getsource(IterBasedTrainLoop.run)
    # Either of the two ways in which a resumed loop skips iterations.
    if hasattr(iterator, 'skip_iter'):
        assert 'self.dataloader_iterator.skip_iter(self._iter)' in source
    else:
        assert 'for _ in range(self._iter):' in source
        assert 'next(self.dataloader_iterator)' in source
    for loop in (EpochBasedTrainLoop, IterBasedTrainLoop):
        assert names(loop._decide_current_val_interval) == ['self']
    assert 'in enumerate(self.dataloader)' in inspect.getsource(
        EpochBasedTrainLoop.run_epoch)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_generator_of_the_gpu() -> None:
    from osar_plugin.utils import random_state as states
    torch.rand(1, device='cuda')
    noted = states.random_state()
    packed = states.pack_random_state(noted)
    first = torch.rand(3, device='cuda')
    states.set_random_state(states.unpack_random_state(packed))
    assert torch.equal(first, torch.rand(3, device='cuda'))
