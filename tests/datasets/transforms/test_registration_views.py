"""Views and tones of registered pairs."""

from __future__ import annotations

import numpy as np
import pytest

from osar_plugin.datasets.transforms import RandomPairView, RandomTone
from osar_plugin.utils.errors import ConfigError, DataFormatError


def pair(size=(60, 80), seed=0):
    rng = np.random.default_rng(seed)
    sar = rng.gamma(2., 20., size).astype(np.float32)
    return dict(
        fixed=np.repeat(sar[..., None], 3, 2).clip(0, 255).astype(np.uint8),
        moving=sar, fixed_modality=0, moving_modality=1,
        fixed_valid=np.ones(size, bool), moving_valid=np.ones(size, bool))


def test_both_images_are_cut_alike():
    """What lies on each other does so afterwards, at any zoom."""
    view = RandomPairView((32, 32), (0.3, 2.))
    seen = set()
    for seed in range(12):
        np.random.seed(seed)
        data = pair()
        data['fixed'] = data['moving'].copy()
        data['moving_valid'][:, :10] = False
        data['fixed_valid'] = data['moving_valid'].copy()
        out = view(data)
        assert out['fixed'].shape == out['moving'].shape == (32, 32)
        np.testing.assert_array_equal(out['fixed'], out['moving'])
        np.testing.assert_array_equal(
            out['fixed_valid'], out['moving_valid'])
        assert out['fixed_valid'].dtype == bool
        assert out['moving'].flags.c_contiguous
        seen.add(out['moving'].tobytes())
    assert len(seen) == 12


def test_oblong_views_are_mirrored_only():
    np.random.seed(0)
    out = RandomPairView((32, 64), (1., 1.))(pair())
    assert out['fixed'].shape == (32, 64, 3)
    assert out['moving'].shape == (32, 64)


def test_views_refuse_what_is_no_pair():
    data = pair()
    data['fixed'] = data['fixed'][:40]
    with pytest.raises(DataFormatError, match='one size'):
        RandomPairView((32, 32))(data)
    with pytest.raises(ConfigError, match='zoom'):
        RandomPairView((32, 32), (0., 1.))
    with pytest.raises(ConfigError, match='size'):
        RandomPairView((32, ))


def test_tones_repeat_and_stay_in_range():
    made = []
    for _ in range(2):
        np.random.seed(3)
        made.append(RandomTone(prob=1., imitate=0.)(pair()))
    for side, kind in (('fixed', np.uint8), ('moving', np.float32)):
        np.testing.assert_array_equal(made[0][side], made[1][side])
        assert made[0][side].dtype == kind
        assert made[0][side].shape == pair()[side].shape
    moving = made[0]['moving']
    assert moving.min() >= 0 and moving.max() <= pair()['moving'].max()
    assert np.abs(moving - pair()['moving']).mean() > 5


def test_nothing_is_drawn_at_probability_zero():
    out = RandomTone(prob=0., imitate=0.)(pair())
    np.testing.assert_allclose(out['moving'], pair()['moving'], rtol=1e-5)
    np.testing.assert_array_equal(out['fixed'], pair()['fixed'])


def test_a_curve_depends_on_the_value_alone():
    """Equal tones stay equal: no edge appears that was none."""
    tone = RandomTone(prob=1., field=0., blur=0., imitate=0.)
    data = pair()
    data['moving'] = np.repeat(np.float32([10, 200, 90, 40]), 20)[None].repeat(
        60, 0)
    for seed in range(5):
        np.random.seed(seed)
        out = tone({k: np.copy(v) for k, v in data.items()})['moving']
        for i in range(4):
            assert np.ptp(out[:, 20 * i:20 * i + 20]) < 1e-4


def test_an_imitation_shows_the_optical_image():
    np.random.seed(0)
    data = pair()
    other = pair(seed=1)['fixed']
    data['fixed'] = other
    out = RandomTone(imitate=1., prob=0.)(data)
    np.testing.assert_allclose(out['moving'], other.mean(2), atol=1e-3)


@pytest.mark.parametrize('wrong', [
    dict(imitate=2), dict(prob=-1), dict(knots=1), dict(field=-1),
    dict(blur=-1)])
def test_arguments_are_checked(wrong):
    with pytest.raises(ConfigError):
        RandomTone(**wrong)
