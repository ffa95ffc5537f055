"""Invalid losses and images that cannot be decoded."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.optim import OptimWrapper
from pair_case import write_source
from PIL import Image

from osar_plugin.datasets import OSPretrain
from osar_plugin.datasets.streams import BatchStream, GuardedDataset
from osar_plugin.engine.guards import _invalid, image_paths
from osar_plugin.io import read_optical
from osar_plugin.registry import HOOKS
from osar_plugin.utils.errors import (
    ConfigError,
    CorruptImageError,
    DataFormatError,
    InvalidLossError,
)

from .training_case import last, same, train

step = OptimWrapper.update_params


def guard(**arguments: Any) -> tuple[dict[str, Any], ...]:
    return (dict(type='osar_plugin.InvalidLossHook', **arguments), )


def test_stops_before_the_weights_change(tmp_path: Path) -> None:
    """At iteration 10, with the weights of iteration 9."""
    train(tmp_path / 'before', kill=9, by_epoch=False)
    with pytest.raises(InvalidLossError) as info:
        train(tmp_path / 'run', poison=10, by_epoch=False, hooks=guard())
    assert 'Iteration 10: loss is nan' in str(info.value)
    assert 'clip_grad' in str(info.value)
    assert last(tmp_path / 'run')['meta']['iter'] == 9
    assert same(
        last(tmp_path / 'before')['state_dict'],
        last(tmp_path / 'run')['state_dict']) == []


@pytest.mark.parametrize('optimizer', ['SGD', 'AdamW'])
def test_a_skipped_batch_changes_nothing(
        optimizer: str, tmp_path: Path) -> None:
    """Neither weights nor momentum, though weight decay is on."""
    arguments = dict(optimizer=optimizer, by_epoch=False, keep=3)
    runner = train(tmp_path, poison=10, hooks=guard(max_skipped=2),
                   kill=10, **arguments)
    nine = torch.load(tmp_path / 'iter_9.pth', weights_only=True)
    ten = torch.load(tmp_path / 'iter_10.pth', weights_only=True)
    # The statistics of BatchNorm, which saw the batch, too.
    assert same(nine['state_dict'], ten['state_dict']) == []
    assert same(nine['optimizer']['state'], ten['optimizer']['state']) == []
    assert runner.message_hub.get_info('invalid_losses') == 1


def test_images_with_nan_leave_no_trace(tmp_path: Path) -> None:
    """A NaN in an image would stay in BatchNorm's statistics for ever."""
    runner = train(tmp_path, poison=10, poison_input=True,
                   hooks=guard(max_skipped=1))
    assert runner.iter == 24
    assert all(torch.isfinite(b).all() for b in runner.model.buffers())


def test_a_gradient_scaler_skips_by_itself(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must see the gradients; the hook counts and lets the run go on."""
    scaler = SimpleNamespace(is_enabled=lambda: True)
    monkeypatch.setattr(OptimWrapper, 'loss_scaler', scaler, raising=False)
    monkeypatch.setattr(
        OptimWrapper, 'update_params',
        lambda self, loss, **_: None if loss.isnan() else step(self, loss))
    runner = train(tmp_path, poison=10, hooks=guard(max_skipped=1))
    assert runner.iter == 24
    assert runner.message_hub.get_info('invalid_losses') == 1


def test_count_survives_a_resume(tmp_path: Path) -> None:
    train(tmp_path, poison=3, kill=5, by_epoch=False,
          hooks=guard(max_skipped=1))
    with pytest.raises(InvalidLossError):
        train(tmp_path, poison=3, resume=True, by_epoch=False,
              hooks=guard(max_skipped=1))


def test_names_images_and_reasons() -> None:
    sample = SimpleNamespace(metainfo=dict(img_path='a.tif'))
    pair = SimpleNamespace(metainfo=dict(
        optical_img_path='b.tif', sar_img_path='c.tif'))
    inputs = [torch.zeros(2), torch.tensor([0., float('nan')])]
    batch = dict(inputs=inputs, data_samples=[sample, pair])
    assert list(image_paths(batch)) == ['a.tif', 'b.tif + c.tif']
    hook = HOOKS.build(dict(type='osar_plugin.InvalidLossHook'))
    model = torch.nn.Linear(1, 1)
    model.weight.data.fill_(float('inf'))
    hook._runner, hook._batch = SimpleNamespace(model=model), batch
    text = hook._describe({'loss': float('nan')})
    assert 'NaN or infinite pixels: b.tif + c.tif' in text
    assert '1 weights are NaN or infinite already, e.g. weight' in text


def test_what_counts_as_invalid() -> None:
    nan, inf = float('nan'), float('inf')
    assert list(_invalid(dict(
        loss_a=torch.tensor(nan), loss_b=[torch.tensor(1.), torch.tensor(inf)],
        loss_c=torch.tensor([1., 2.]), acc=torch.tensor(nan),
        loss=-inf))) == ['loss_a', 'loss_b', 'loss']
    assert _invalid(None) == _invalid({}) == {}


class Chips(BaseDataset):
    """Images of a folder, two of each ship."""

    def load_data_list(self) -> list[dict[str, Any]]:
        paths = sorted(Path(self.data_root).glob('*.png'))
        return [dict(img_path=str(path)) for path in paths]

    def prepare_data(self, idx: int) -> Any:
        if idx == 7:
            raise TypeError('a fault of the program')
        return self.get_data_info(idx)['img_path'], read_optical(
            self.get_data_info(idx)['img_path'])

    def substitutes(self, index: int) -> list[int]:
        return [index ^ 1]


@pytest.fixture
def chips(tmp_path: Path) -> Chips:
    for number in range(8):
        pixels = np.full((16, 16, 3), number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'{number}.png')
    whole = (tmp_path / '2.png').read_bytes()
    (tmp_path / '2.png').write_bytes(whole[:len(whole) // 2])
    return Chips(data_root=str(tmp_path))


def test_bad_file_stops_with_its_path(chips: Chips) -> None:
    guarded = GuardedDataset.around(chips, 0)
    assert guarded[1][1].max() == 1
    with pytest.raises(CorruptImageError, match='2.png.*verify_dataset'):
        guarded[2]


def test_bad_file_is_replaced_by_its_like_and_counted(chips: Chips) -> None:
    guarded = GuardedDataset.around(chips, 1)
    assert guarded[2][1].max() == 3
    assert guarded[2][1].max() == 3  # met again: still one bad file
    assert guarded.bad_indices() == [2]
    Path(chips[0][0]).write_bytes(b'no image')
    with pytest.raises(CorruptImageError, match='bad file 2, and.*allows 1'):
        guarded[0]


def test_samples_with_several_numbers(chips: Chips) -> None:
    """(video, frame), as samplers of tracking give them."""
    keys = list(BatchStream([[(2, 0), (2, 1)], [(2, 0)]], 5, False))
    assert keys[0][0].row == (2, 0)
    assert len({key.key for batch in keys for key in batch}) == 3


def test_nothing_left_to_replace(chips: Chips) -> None:
    Path(chips[3][0]).write_bytes(b'no image')
    guarded = GuardedDataset.around(chips, 8)
    with pytest.raises(CorruptImageError, match='No sample is left'):
        guarded[2]


def test_other_errors_are_not_passed_over(chips: Chips) -> None:
    with pytest.raises(TypeError, match='a fault of the program'):
        GuardedDataset.around(chips, 8)[7]


@pytest.mark.parametrize('side', ['RGB', 'SAR'])
def test_pairs_of_pre_training(side: str, tmp_path: Path) -> None:
    """They name their images otherwise; features are no images."""
    write_source(tmp_path, 'DDHR', 2)
    bad = tmp_path / f'DDHR/{side}/001.png'
    bad.write_bytes(bad.read_bytes()[:99])
    pairs = OSPretrain(
        str(tmp_path), pipeline=[dict(type='osar_plugin.LoadPair')])
    guarded = GuardedDataset.around(pairs, 1)
    assert guarded[1]['rgb_path'].endswith('000.png')
    assert guarded.bad_indices() == [1]
    bad.write_bytes((tmp_path / f'DDHR/{side}/000.png').read_bytes())
    pairs.teacher_features = str(tmp_path)
    # The image is whole; what is missing are features.
    with pytest.raises(DataFormatError, match='no features'):
        GuardedDataset.around(pairs, 1)[1]


def test_workers_share_the_count(chips: Chips) -> None:
    guarded = GuardedDataset.around(chips, 4)
    loader = torch.utils.data.DataLoader(
        guarded, batch_size=1, num_workers=2, sampler=[2, 2, 0, 1],
        collate_fn=list)
    assert len(list(loader)) == 4
    assert guarded.bad_indices() == [2]


@pytest.mark.parametrize('wrong', [
    dict(on_error='ignore'), dict(max_skipped=-1), dict(max_skipped=1.5)])
def test_arguments(wrong: dict[str, Any]) -> None:
    name, = wrong
    with pytest.raises(ConfigError, match=name):
        HOOKS.build(dict(type='osar_plugin.BadSampleHook', **wrong))
    if name == 'max_skipped':
        with pytest.raises(ConfigError, match=name):
            HOOKS.build(dict(
                type='osar_plugin.InvalidLossHook', max_skipped=-1))


@pytest.mark.parametrize('loop', ['epoch', 'iter'])
def test_together_with_reproducible_samples(
        loop: str, tmp_path: Path) -> None:
    hooks = (dict(type='osar_plugin.BadSampleHook', on_error='skip'), )
    guarded = train(tmp_path / 'a', loop=loop, hooks=hooks, workers=2)
    plain = train(tmp_path / 'b', loop=loop)
    assert same(guarded.model.state_dict(), plain.model.state_dict()) == []
