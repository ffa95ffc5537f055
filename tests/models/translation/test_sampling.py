"""Walking the bridge: the authors' samples, and independence of company."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from bbdm import golden, inputs
from torch import Tensor

import osar_plugin.models.translation as package
from osar_plugin.models.translation.sampling import (
    item_generators,
    sample,
    view_seeds,
)
from osar_plugin.models.translation.schedule import (
    bridge_schedule,
    step_list,
)
from osar_plugin.utils.errors import ConfigError, DataFormatError


def stand_in(context: Tensor):
    """The network of the golden file."""

    def denoise(x: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        return 0.3 * x + 0.1 * context[rows] + 0.001 * t.view(-1, 1, 1, 1)

    return denoise


@pytest.mark.parametrize('objective', ['grad', 'noise', 'ysubx'])
@pytest.mark.parametrize('name, total, steps, eta, clip', [
    ('sample', 1000, 200, 1., False), ('sample_clip', 1000, 200, 1., True),
    ('sample_eta0_s10', 1000, 10, 0., False),
    ('sample_full_T20', 20, None, 1., False)])
def test_published_samples(objective: str, name: str, total: int,
                           steps: int | None, eta: float,
                           clip: bool) -> None:
    y = inputs()[1]
    drawn = sample(
        stand_in(y), y, bridge_schedule(num_timesteps=total),
        step_list(total, steps), torch.Generator().manual_seed(4242),
        objective, eta, clip)
    expected = golden()[f'{name}_{objective}']
    scale = np.abs(expected).max()
    assert np.abs(drawn.numpy() - expected).max() < 1e-5 * scale


def walk(y: Tensor, seeds: list[int], **kwargs) -> Tensor:
    return sample(stand_in(y), y, bridge_schedule(), step_list(1000, 8),
                  item_generators(seeds), **kwargs)


def test_an_item_does_not_depend_on_its_company() -> None:
    y, seeds = inputs()[1], [11, 12, 13, 14]
    whole = walk(y, seeds)
    for i in range(4):
        assert torch.equal(walk(y[i:i + 1], seeds[i:i + 1])[0], whole[i])
    order = [2, 0, 3, 1]
    assert torch.equal(
        walk(y[order], [seeds[i] for i in order]), whole[order])
    assert not torch.allclose(walk(y, [11, 12, 13, 15])[3], whole[3])


def test_views_of_one_image_are_drawn_together() -> None:
    y, seeds, rows = inputs()[1], [11, 12, 13, 14, 15], [2, 0, 0, 2, 2]
    drawn = walk(y, seeds, rows=torch.tensor(rows))
    assert torch.equal(drawn, walk_each(y[rows], seeds))


def walk_each(y: Tensor, seeds: list[int]) -> Tensor:
    return torch.cat([
        walk(y[i:i + 1], seeds[i:i + 1]) for i in range(len(y))])


def test_eta_zero_draws_nothing() -> None:
    y = inputs()[1]
    assert torch.equal(walk(y, [1, 2, 3, 4], eta=0.),
                       walk(y, [5, 6, 7, 8], eta=0.))


def test_samples_are_distributed_as_the_bridge_says() -> None:
    """A network that knows the target's law draws from that law.

    For x0 ~ N(a, b^2) and a known y the best prediction is the mean of x0
    given x_t; with many steps the samples must then have mean a and variance
    b^2. A wrong variance of the steps or a wrong start would show.
    """
    a, b, count = 0.4, 0.7, 4000
    schedule = bridge_schedule()
    y = torch.full((1, 1, 1, count), -0.5)

    def best(x: Tensor, t: Tensor, _: Tensor) -> Tensor:
        m = schedule.m_t[t].view(-1, 1, 1, 1)
        d = schedule.variance_t[t].view(-1, 1, 1, 1)
        gain = (1 - m) * b**2 / ((1 - m)**2 * b**2 + d)
        return x - (a + gain * (x - (1 - m) * a - m * y))

    drawn = sample(best, y, schedule, step_list(1000, None),
                   item_generators([3]))
    assert abs(float(drawn.mean()) - a) < 0.04
    assert abs(float(drawn.std()) - b) < 0.04


def test_seeds_are_a_function_of_the_picture() -> None:
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (3, 8, 8), generator=generator)
    image = picture / 127.5 - 1
    seeds = view_seeds(image, 5)
    assert len(set(seeds)) == 5 and all(0 <= s < 2**63 for s in seeds)
    assert view_seeds(image, 2) == seeds[:2]
    # What rounding on another device may change does not matter.
    assert view_seeds(image + 1e-6, 5) == seeds
    other = picture.clone()
    other[0, 0, 0] ^= 1
    assert not set(view_seeds(other / 127.5 - 1, 5)) & set(seeds)
    assert not set(view_seeds(image, 5, salt=1)) & set(seeds)
    assert not set(view_seeds(image.reshape(3, 4, 16), 5)) & set(seeds)


def test_bad_arguments() -> None:
    y = inputs()[1]
    with pytest.raises(ConfigError, match='eta=-1'):
        walk(y, [1, 2, 3, 4], eta=-1.)
    with pytest.raises(DataFormatError, match='2 generators for 4 items'):
        walk(y, [1, 2])
    for steps in ([], [5, 3], [3, 3, 0], [1000, 0]):
        with pytest.raises(ConfigError, match='must fall'):
            sample(stand_in(y), y, bridge_schedule(), steps,
                   item_generators([1, 2, 3, 4]))


@pytest.mark.parametrize('name', ['schedule', 'bridge', 'sampling'])
def test_mathematics_knows_no_framework(name: str) -> None:
    text = (Path(package.__file__).parent / f'{name}.py').read_text()
    assert 'mmengine' not in text and 'registry' not in text
