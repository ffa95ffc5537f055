"""Fits of transforms, choice among wrong matches, and refusal."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from osar_plugin.models.registration import (
    EstimateSettings,
    Match,
    estimate,
    fitting,
)
from osar_plugin.models.registration import geometry as G
from osar_plugin.models.registration.estimate import (
    TRANSFORMS,
    implausible,
    log_chance,
    ransac,
    spread_area,
)
from osar_plugin.models.registration.match import no_match
from osar_plugin.utils.errors import ConfigError, DataFormatError

AFFINE = np.array([[1.04, 0.07, -6.], [-0.05, 0.97, 4.5]])
HOMOGRAPHY = np.array(
    [[1.04, 0.07, -6.], [-0.05, 0.97, 4.5], [2e-4, -1e-4, 1.]])
SIZE = (200, 240)


def bend(points):
    """A second-order polynomial of the points."""
    x, y = points.T / 200
    return points + np.stack([3 * x * x - 2 * x * y + 4, 2 * y * y - x], 1)


MAPS = {
    'affine': lambda p: G.apply(AFFINE, p),
    'homography': lambda p: G.apply(HOMOGRAPHY, p), 'poly2': bend}


def cloud(count=80, seed=0):
    return np.random.default_rng(seed).uniform(
        0, 1, (count, 2)) * SIZE[::-1]


def matches(kind='affine', count=80, wrong=0., noise=0., seed=0):
    """Matches of which a share is anywhere within 28 pixels."""
    rng = np.random.default_rng(seed)
    fixed = cloud(count, seed)
    moving = MAPS[kind](fixed) + rng.normal(0, noise, (count, 2))
    bad = rng.random(count) < wrong
    moving[bad] = fixed[bad] + rng.uniform(-28, 28, (bad.sum(), 2))
    return Match(fixed, moving, np.ones(count), search_area=57.**2,
                 moving_size=SIZE), bad


@pytest.mark.parametrize('kind', ['affine', 'homography', 'poly2', 'tps'])
def test_exact_points_give_the_exact_transform(kind):
    fixed = torch.tensor(cloud(80))
    other = cloud(30, seed=9) * 0.8 + 20
    name = 'poly2' if kind == 'tps' else kind
    moving = torch.tensor(MAPS[name](fixed.numpy()))
    found = fitting.FITS[kind](fixed, moving)
    if kind == 'tps':
        # Through its own points; elsewhere near, for it is no polynomial.
        np.testing.assert_allclose(found(fixed.numpy()), moving, atol=1e-6)
        np.testing.assert_allclose(found(other), bend(other), atol=0.3)
        return
    moved = found(other) if kind == 'poly2' else G.apply(
        found.numpy(), other)
    np.testing.assert_allclose(moved, MAPS[name](other), atol=1e-6)


def test_spline_of_an_affine_is_the_affine():
    fixed, other = torch.tensor(cloud(20)), cloud(30, seed=9) * 3
    moving = torch.tensor(G.apply(AFFINE, fixed.numpy()))
    spline = fitting.fit_tps(fixed, moving)
    np.testing.assert_allclose(
        spline(other), G.apply(AFFINE, other), atol=1e-6)
    # The more bending costs, the nearer to the least-squares affine.
    noisy = moving + torch.randn(
        moving.shape, generator=torch.Generator().manual_seed(0),
        dtype=torch.float64)
    flat = G.apply(fitting.fit_affine(fixed, noisy).numpy(), other)
    far = [np.abs(fitting.fit_tps(fixed, noisy, smoothing=s)(other)
                  - flat).max() for s in (0, 0.1, 1e6)]
    assert far[0] > far[1] > far[2] and far[2] < 1e-3


def test_batches_and_weights():
    fixed = torch.tensor(np.stack([cloud(12, s) for s in range(3)]))
    moving = torch.stack([
        G.apply(torch.tensor(AFFINE) + 0.01 * s, fixed[s])
        for s in range(3)])
    moving[:, 0] += 40
    weight = torch.ones(3, 12, dtype=torch.float64)
    weight[:, 0] = 0
    found = fitting.fit_affine(fixed, moving, weight)
    for s in range(3):
        torch.testing.assert_close(
            found[s], torch.tensor(AFFINE) + 0.01 * s)
        torch.testing.assert_close(
            fitting.fit_homography(
                fixed[s], moving[s], weight[s])[:2], found[s],
            rtol=1e-5, atol=1e-6)
    assert (fitting.fit_affine(fixed, moving) - found).abs().max() > 0.01


def test_reweighting_ignores_what_is_far_off():
    match, bad = matches(wrong=0.3)
    plain = fitting.fit_affine(match.points_fixed, match.points_moving)
    robust = fitting.fit_affine_robust(
        match.points_fixed, match.points_moving)
    assert 0.2 < bad.mean() < 0.4
    corners = np.array([[0., 0], [239, 0], [0, 199], [239, 199]])
    error = [np.abs(G.apply(m, corners) - G.apply(AFFINE, corners)).max()
             for m in (plain, robust)]
    assert error[0] > 2 and error[1] < 0.5
    with pytest.raises(ConfigError, match='start >= end'):
        fitting.fit_affine_robust(
            match.points_fixed, match.points_moving, start=1., end=2.)


def test_gradients_of_the_fits():
    fixed = torch.tensor(cloud(7)) / 50
    moving = (fixed @ torch.tensor(AFFINE[:, :2]).T
              + 0.1 * torch.tensor(cloud(7, 5)) / 50)
    weight = torch.linspace(0.5, 1.5, 7, dtype=torch.float64)
    for leaf in (moving, weight):
        leaf.requires_grad_()
    check = torch.autograd.gradcheck
    assert check(lambda m, w: fitting.fit_affine(fixed, m, w),
                 (moving, weight))
    assert check(lambda m, w: fitting.fit_affine_robust(
        fixed, m, w, 2., 0.5, 4), (moving, weight))


@pytest.mark.parametrize('kind', ['affine', 'homography', 'poly2'])
@pytest.mark.parametrize('wrong', [0.2, 0.5])
def test_what_most_matches_agree_on(kind, wrong):
    match, bad = matches(kind, wrong=wrong, noise=0.3, seed=3)
    found = estimate(match, kind, SIZE)
    assert found.ok, found.reason
    near = np.linalg.norm(
        MAPS[kind](match.points_fixed) - match.points_moving, axis=1) < 1.5
    # All that are right, and none that is wrong by more than the threshold.
    assert found.inliers[near].all() and near.sum() > 20
    other = cloud(50, seed=7)
    error = np.linalg.norm(
        found.points(other) - MAPS[kind](other), axis=1)
    assert error.max() < 1.2 and found.rmse < 1
    flow = found.flow(SIZE)
    assert flow.shape == (2, *SIZE) and flow.dtype == np.float32
    np.testing.assert_allclose(
        flow[:, 120, 31], found.points(np.array([[31, 120]]))[0]
        - (31, 120), atol=1e-4)


def test_spline_follows_what_an_affine_cannot():
    match, _ = matches('poly2', count=150, wrong=0.2, noise=0.3, seed=1)
    other = cloud(40, seed=2) * 0.8 + 20
    error = {kind: np.abs(estimate(match, kind, SIZE).points(other)
                          - bend(other)).max() for kind in ('affine', 'tps')}
    assert error['tps'] < error['affine'] / 2


def test_the_same_seed_gives_the_same_bytes():
    match, _ = matches(wrong=0.5, noise=1.)
    first, again = (estimate(match, 'affine', SIZE) for _ in range(2))
    np.testing.assert_array_equal(first.matrix, again.matrix)
    match, _ = matches(count=300, wrong=0.5)  # many draw with replacement
    assert estimate(match, 'affine', SIZE).ok


def test_random_matches_are_refused():
    for seed in range(12):
        match, _ = matches(count=64, wrong=1., seed=seed)
        found = estimate(match, 'affine', SIZE)
        assert not found.ok and found.reason
        if found.matrix is None:
            with pytest.raises(DataFormatError, match='no transform'):
                found.flow(SIZE)


def test_degenerate_matches_are_refused():
    assert 'sought' in estimate(no_match('sought'), 'affine').reason
    x = np.linspace(0, 200, 40)
    line = np.stack([x, x / 2], 1)
    found = estimate(Match(line, line + 3, np.ones(40), search_area=3249.),
                     'affine', SIZE)
    assert not found.ok
    few = cloud(5)
    found = estimate(Match(few, few, np.ones(5)), 'affine', SIZE)
    assert not found.ok and '5 matches; at least 8' in found.reason
    one = np.repeat([[5., 5.]], 30, 0)
    assert not estimate(Match(one, one, np.ones(30)), 'affine', SIZE).ok
    # All agree, in one corner of what was matched.
    fixed = np.concatenate([cloud(40) * 0.15, cloud(40, 1)])
    far = np.random.default_rng(0).choice([-28., 28.], (40, 2))
    moving = fixed + np.concatenate([np.full((40, 2), 5.), far])
    found = estimate(Match(fixed, moving, np.ones(80), search_area=3249.),
                     'affine', SIZE)
    assert not found.ok and 'cover' in found.reason


def test_transforms_that_cannot_be():
    assert not implausible(AFFINE, SIZE, 2.5)
    assert not implausible(HOMOGRAPHY, SIZE, 2.5)
    assert 'mirrors' in implausible(
        np.array([[-1., 0, 100], [0, 1, 0]]), SIZE, 2.5)
    assert '0.10 to 1.00' in implausible(
        np.array([[0.1, 0, 0], [0, 1, 0]]), SIZE, 2.5)
    horizon = np.array([[1., 0, 0], [0, 1, 0], [-0.008, 0, 1]])
    assert 'horizon' in implausible(horizon, SIZE, 2.5)
    assert 'NaN' in implausible(np.full((2, 3), np.nan), SIZE, 2.5)
    # Stretch of a homography by finite differences.
    tilt = np.array([[1., 0, 0], [0, 1, 0], [-0.003, 0, 1]])
    step = G.apply(tilt, np.array([240., 200]) + np.array(
        [[0, 0], [1e-4, 0], [0, 1e-4]]))
    jacobian = (step[1:] - step[0]) / 1e-4
    high = np.linalg.svd(jacobian, compute_uv=False).max()
    assert f'to {high:.2f};' in implausible(tilt, SIZE, 2.5)


def test_chance_of_agreement():
    # By hand: 2 more matches of 5 within a tenth of the area, m = 3.
    expected = 2 * math.comb(5, 5) * math.comb(5, 3) * 0.1**2
    found = log_chance(5, 5, 3, math.sqrt(10 / math.pi), 100.)
    assert found == pytest.approx(math.log10(expected))
    assert log_chance(64, 40, 3, 3., 441.) < log_chance(64, 20, 3, 3., 441.)
    assert log_chance(64, 40, 3, 3., 441., 3.) > log_chance(
        64, 40, 3, 3., 441.)


def test_area_of_a_spread():
    x, y = np.meshgrid(np.arange(100.), np.arange(50.))
    points = np.stack([x.ravel(), y.ravel()], 1)
    assert spread_area(points) == pytest.approx(5000, rel=1e-3)
    assert spread_area(points[:1]) == 0
    assert spread_area(points[:100]) == pytest.approx(0, abs=1e-9)


def test_sampling_of_degenerate_grids():
    """Samples on a line, of which grids have many, decide nothing."""
    x, y = np.meshgrid(np.arange(4.) * 30, np.arange(2.) * 30)
    fixed = np.stack([x.ravel(), y.ravel()], 1)
    moving = G.apply(AFFINE, fixed)
    moving[0] += 20
    agree = ransac(fixed, moving, 'affine', 1., 500)
    np.testing.assert_array_equal(agree, [False, *[True] * 7])
    assert not ransac(fixed[:2], moving[:2], 'affine', 1.).any()


def dense(flow, **kwargs):
    points = cloud(30)
    return Match(points, G.move_points(flow, points), np.ones(30),
                 flow=flow, moving_size=SIZE, **kwargs)


def test_dense_flows_are_taken_as_they_are():
    flow = G.matrix_to_flow(AFFINE, SIZE)
    flow[:, 50:60, 50:60] += 3
    found = estimate(dense(flow), 'flow', SIZE)
    assert found.ok
    np.testing.assert_allclose(found.flow(SIZE), flow, atol=1e-5)
    np.testing.assert_allclose(found.matrix, AFFINE, atol=0.1)
    with pytest.raises(DataFormatError, match='resize_flow'):
        found.flow((10, 10))
    away = estimate(dense(flow + 500), 'flow', SIZE)
    assert not away.ok and 'overlap' in away.reason
    broken = dataclasses.replace(dense(flow), flow=flow * np.nan)
    assert 'NaN' in estimate(broken, 'flow', SIZE).reason
    # Without a flow the matches give one.
    sparse, _ = matches('poly2', wrong=0.2)
    made = estimate(sparse, 'flow', SIZE)
    assert made.ok and made.flow_field.shape == (2, *SIZE)


def test_bad_arguments():
    match, _ = matches()
    with pytest.raises(ConfigError, match=f'{", ".join(TRANSFORMS)}'):
        estimate(match, 'rigid')
    with pytest.raises(ConfigError, match='threshold'):
        EstimateSettings(threshold=0)
    with pytest.raises(ConfigError, match='smoothing=-1'):
        fitting.fit_tps(torch.rand(5, 2), torch.rand(5, 2), smoothing=-1)
    with pytest.raises(DataFormatError, match=r'\(N, 2\)'):
        Match(np.zeros((3, 2)), np.zeros((2, 2)), np.zeros(3))
    with pytest.raises(DataFormatError, match='NaN or infinity'):
        Match(np.full((3, 2), np.nan), np.zeros((3, 2)), np.zeros(3))
