"""Matchers on scenes of known displacement, and on real pairs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from rectangles import rectangles

from osar_plugin.models.registration import (
    CallableMatcher,
    CFOGMatcher,
    ECCMatcher,
    Match,
    MatchSettings,
    ORBMatcher,
    PhaseCorrelationMatcher,
    SIFTMatcher,
    baselines,
    cfog,
    estimate,
)
from osar_plugin.models.registration import geometry as G
from osar_plugin.registry import MODELS
from osar_plugin.utils.errors import ConfigError, DataFormatError

DATA = Path(__file__).resolve().parents[4] / 'shared' / 'data'
SIZE = (192, 224)
TRUE = G.similarity(2.5, 1.03, (5., -4.), (111., 95.))
ALL = {'cfog': CFOGMatcher, 'sift': SIFTMatcher, 'orb': ORBMatcher,
       'ecc': ECCMatcher, 'phase': PhaseCorrelationMatcher}


def pair(matrix=TRUE, seed=0, radar=True):
    """A scene, and how another sensor sees it elsewhere."""
    fixed = rectangles(SIZE, seed)
    other = fixed
    if radar:
        # Another brightness for every grey value, and four looks.
        rng = np.random.default_rng(seed + 1)
        levels = rng.integers(30, 255, 256).astype(np.float32)
        other = levels[fixed] * np.sqrt(rng.gamma(4, 1 / 4, fixed.shape))
    moving = cv2.warpAffine(
        other.astype(np.float32), matrix, fixed.shape[::-1])
    return fixed, moving


def error(match, matrix=TRUE, size=SIZE):
    """RMSE of the affine of the matches, pixels."""
    found = estimate(match, 'affine', size)
    if not found.ok:
        return math.inf
    difference = found.flow(size) - G.matrix_to_flow(matrix, size)
    return float(np.sqrt((difference**2).sum(0).mean()))


# --------------------------------------------------------------- descriptor


def test_channels_do_not_see_the_sign_of_an_edge():
    image = rectangles(SIZE, 0).astype(np.float32)
    first = cfog.orientation_channels(image)
    assert first.shape == (9, *SIZE)
    for other in (255 - image, 3 * image + 7):
        found = cfog.orientation_channels(other)
        # Where it is all but flat, rounding has a direction, too.
        off = np.abs(found - first).max(0) > 1e-4
        assert off.mean() < 1e-3
    norm = np.sqrt((first**2).sum(0))
    assert ((np.abs(norm - 1) < 1e-5) | (norm == 0)).all()
    assert not cfog.orientation_channels(np.full(SIZE, 4., np.float32)).any()


@pytest.mark.parametrize(('angle', 'channel'), [(0, 0), (40, 2), (100, 5)])
def test_a_ramp_has_its_direction(angle, channel):
    """Gradient along k pi / 9: |cos| of the difference, then [1 2 1]."""
    y, x = np.mgrid[:40, :40].astype(np.float32)
    radians = math.radians(angle)
    ramp = x * math.cos(radians) + y * math.sin(radians)
    raw = np.abs(np.cos(radians - np.arange(9) * math.pi / 9))
    expected = 2 * raw + np.roll(raw, 1) + np.roll(raw, -1)
    expected /= np.linalg.norm(expected)
    found = cfog.orientation_channels(ramp)[:, 20, 20]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.argmax() == channel


def test_few_harmonics_hold_everything():
    channels = [cfog.orientation_channels(np.asarray(i, np.float32))
                for i in pair()]
    whole = (channels[0] * channels[1]).sum(0)
    for harmonics, tolerance in ((4, 1e-5), (2, 0.01)):
        kept = [cfog.compress(c, harmonics) for c in channels]
        assert kept[0].shape[0] == 1 + 2 * harmonics
        assert np.abs((kept[0] * kept[1]).sum(0) - whole).max() < tolerance


def direct_differences(fixed, moving, corner, tile, radius):
    """Mean squared difference where both have data, one by one."""
    x, y = corner
    out = np.full((2 * radius + 1, ) * 2, np.inf)
    a = fixed[:, y:y + tile, x:x + tile]
    for i in range(-radius, radius + 1):
        for j in range(-radius, radius + 1):
            b = np.zeros_like(a)
            for row in range(tile):
                for col in range(tile):
                    v, u = y + i + row, x + j + col
                    if 0 <= v < moving.shape[1] and 0 <= u < moving.shape[2]:
                        b[:, row, col] = moving[:, v, u]
            both = (a**2).sum(0) * (b**2).sum(0) > 0.5
            if both.sum() >= 0.5 * ((a**2).sum(0) > 0.5).sum():
                out[i + radius, j + radius] = (
                    (a - b)**2).sum(0)[both].mean()
    return out


def test_differences_in_the_fourier_domain():
    rng = np.random.default_rng(0)
    both = rng.normal(size=(2, 3, 20, 24)).astype(np.float32)
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    both[1, :, :9, :12] = 0  # no data
    corners = [(0, 0), (9, 4), (16, 12)]
    found = cfog.difference_maps(
        *map(torch.from_numpy, both), torch.tensor(corners), 8, 5, batch=2)
    for corner, maps in zip(corners, found.numpy(), strict=True):
        expected = direct_differences(*both, corner, 8, 5)
        np.testing.assert_array_equal(np.isinf(maps), np.isinf(expected))
        seen = np.isfinite(expected)
        assert seen.sum() > 0
        np.testing.assert_allclose(maps[seen], expected[seen], atol=1e-5)
    assert np.isinf(found.numpy()).any()


def test_lowest_to_a_fraction_of_a_pixel():
    y, x = torch.meshgrid(*[torch.arange(11.)] * 2, indexing='ij')
    maps = torch.stack([(x - 4.3)**2 + 2 * (y - 6.8)**2, x + y, 0 * x + 5])
    found, border = cfog.lowest(maps)
    torch.testing.assert_close(found[0], torch.tensor([4.3, 6.8]))
    assert found[1].tolist() == [0, 0]
    assert border.tolist() == [False, True, True]
    scores = cfog.distinctness(maps + 1)
    # The nearest beyond four pixels: x = 9, y = 7.
    second = (9 - 4.3)**2 + 2 * 0.2**2 + 1
    first = 0.3**2 + 2 * 0.2**2 + 1
    assert scores[0] == pytest.approx(1 - first / second, abs=1e-4)
    assert scores[2] == 0


def test_lengths():
    assert [cfog.fast_length(n) for n in (1, 7, 136, 144, 101)] == [
        1, 8, 144, 144, 108]


# ----------------------------------------------------------------- matchers


def test_cfog_finds_what_a_radar_sees():
    fixed, moving = pair()
    found = CFOGMatcher(tile=64, step=20).match(fixed, moving)
    assert found.ok and len(found.points_fixed) > 30
    assert error(found) < 1.
    # Half a pixel lost anywhere would show on one sensor.
    same = CFOGMatcher(tile=64, step=20).match(*pair(radar=False))
    assert error(same) < 0.2
    # Colour, other types and other sizes of the moving image.
    wide = np.pad(moving, ((0, 31), (0, 17)))
    colour = np.repeat(fixed[..., None], 3, 2).astype(np.uint16)
    assert error(CFOGMatcher(tile=64, step=20).match(colour, wide)) < 1.


def test_rounds_and_harmonics():
    matrix = G.similarity(12., 1.08, (9., 7.), (111., 95.))
    fixed, moving = pair(matrix, 3)
    options = dict(tile=64, step=20)
    one, three = (error(CFOGMatcher(rounds=n, **options).match(
        fixed, moving), matrix) for n in (1, 3))
    assert three < 0.8 and three < one
    full = CFOGMatcher(harmonics=None, **options).match(fixed, moving)
    assert error(full, matrix) == pytest.approx(three, abs=0.1)


def test_cfog_turns_where_it_may():
    matrix = G.similarity(-19., 1.05, (8., 5.), (111., 95.))
    fixed, moving = pair(matrix, 3)
    matcher = CFOGMatcher(tile=64, step=20)
    assert error(matcher.match(fixed, moving), matrix) > 5
    found = matcher.match(fixed, moving, MatchSettings(max_angle=20.))
    assert error(found, matrix) < 1 and found.tries > 1
    # Larger than twice coarse_side: the turned images are reduced.
    small = CFOGMatcher(tile=64, step=20, coarse_side=96)
    again = small.match(fixed, moving, MatchSettings(max_angle=20.))
    assert error(again, matrix) < 1
    wide = np.pad(moving, ((0, 40), (0, 56)))
    for one in (matcher, small):
        assert error(one.match(fixed, wide, MatchSettings(
            max_angle=20.)), matrix) < 1.5
    # Where the image as it lies is certain, nothing else is tried.
    here = matcher.match(*pair(), MatchSettings(max_angle=20.))
    assert here.tries == 1 and error(here) < 1


def test_turns_are_within_half_a_step():
    assert baselines.turns(0.) == baselines.turns(4.) == [0.]
    for most in (5., 20., 45., 180.):
        angles = np.array(baselines.turns(most))
        wanted = np.linspace(-most, most, 91)
        away = np.abs(wanted[:, None] - angles).min(1)
        assert away.max() <= baselines.ANGLE_STEP / 2
    # Exactly nothing, which is not resampled.
    np.testing.assert_array_equal(baselines.turned(0., (7, 10)), np.eye(2, 3))
    with pytest.raises(ConfigError, match='max_angle'):
        MatchSettings(max_angle=-1.)


def test_the_best_of_many_tries_is_likelier_by_chance():
    match = CFOGMatcher(tile=64, step=20).match(*pair())
    once = estimate(match, 'affine', SIZE).chance
    best = estimate(replace(match, tries=10), 'affine', SIZE).chance
    assert best == pytest.approx(once + 1)


def test_what_has_no_data_does_not_count():
    fixed, moving = pair()
    valid = np.ones(SIZE, bool)
    valid[:, :70] = False
    # Something else where there is no data, and NaN.
    masked = np.where(valid, moving, np.nan)
    found = CFOGMatcher(tile=64, step=20).match(
        fixed, masked, MatchSettings(moving_valid=valid))
    assert error(found) < 1.
    assert found.points_moving[:, 0].min() > 70 - 64
    left = valid[:, ::-1]
    nothing = CFOGMatcher().match(
        fixed, moving, MatchSettings(
            fixed_valid=np.zeros(SIZE, bool), moving_valid=left))
    assert not nothing.ok and 'fixed image has data on 0.0%' in nothing.reason


@pytest.mark.parametrize('name', ['sift', 'orb', 'ecc'])
def test_matchers_of_one_sensor(name):
    fixed, moving = pair(radar=False)
    assert error(ALL[name]().match(fixed, moving)) < 0.6


def test_phase_correlation_of_a_shift():
    shift = np.array([[1., 0, 7], [0, 1, -4]])
    fixed, moving = pair(shift, radar=False)
    found = PhaseCorrelationMatcher().match(fixed, moving)
    assert error(found, shift) < 0.5
    assert not PhaseCorrelationMatcher(min_response=1.).match(
        fixed, moving).ok
    other = np.pad(moving, ((0, 8), (0, 0)))
    assert PhaseCorrelationMatcher(gradient=True).match(fixed, other).ok


@pytest.mark.parametrize('name', sorted(ALL))
def test_nothing_to_match(name):
    matcher = ALL[name]()
    fixed, moving = pair()
    flat = np.full(SIZE, 7, np.uint8)
    for a, b, side in ((flat, moving, 'fixed'), (fixed, flat, 'moving')):
        found = matcher.match(a, b)
        assert not found.ok and f'{side} image is 7' in found.reason
        assert not estimate(found, 'affine', SIZE).ok
    with pytest.raises(DataFormatError, match='1 x 40'):
        matcher.match(fixed[:1, :40], moving)
    with pytest.raises(DataFormatError, match='moving.*NaN'):
        matcher.match(fixed, np.full(SIZE, np.nan))
    with pytest.raises(DataFormatError, match='complex'):
        matcher.match(fixed.astype(complex), moving)
    with pytest.raises(DataFormatError, match='mask of the fixed'):
        matcher.match(fixed, moving, MatchSettings(
            fixed_valid=np.ones((3, 3), bool)))


@pytest.mark.parametrize('name', ['cfog', 'sift', 'orb', 'ecc'])
def test_unrelated_images_are_no_match(name):
    for seed in range(2):
        fixed, moving = rectangles(SIZE, seed), rectangles(SIZE, seed + 50)
        match = ALL[name]().match(fixed, moving)
        if name == 'ecc' and match.ok:
            continue  # an affine of its own making proves nothing
        assert not estimate(match, 'affine', SIZE).ok


def test_the_same_input_gives_the_same_bytes():
    fixed, moving = pair()
    for matcher in (CFOGMatcher(tile=64), SIFTMatcher()):
        first, again = (matcher.match(fixed, moving) for _ in range(2))
        np.testing.assert_array_equal(
            first.points_moving, again.points_moving)


def test_bad_settings():
    for bad in (dict(tile=4), dict(rounds=0), dict(harmonics=5),
                dict(min_valid=2.), dict(step=0)):
        with pytest.raises(ConfigError):
            CFOGMatcher(**bad)
    with pytest.raises(ConfigError, match='blur=4'):
        ECCMatcher(blur=4)
    with pytest.raises(ConfigError, match='ratio'):
        SIFTMatcher(ratio=0)
    with pytest.raises(ConfigError, match='max_shift'):
        MatchSettings(max_shift=0)


def test_tiles():
    valid = np.ones((100, 150), bool)
    corners = baselines.tile_corners(valid, 40, 30, 0.5)
    # Three by four tiles fit; what is left is shared by both sides.
    assert sorted(set(corners[:, 0])) == [10, 40, 70, 100]
    assert sorted(set(corners[:, 1])) == [0, 30, 60]
    valid[:, :31] = False
    kept = baselines.tile_corners(valid, 40, 30, 0.5)
    assert sorted(set(kept[:, 0])) == [40, 70, 100]


# ----------------------------------------------------------------- callable


def by_points(fixed, moving):
    points = np.random.default_rng(0).uniform(0, 190, (40, 2))
    return points, G.apply(TRUE, points)


def by_flow(fixed, moving):
    flow = torch.tensor(G.matrix_to_flow(TRUE, fixed.shape[:2]))
    return flow, torch.ones(fixed.shape[:2])


RESULTS = {
    'points': by_points, 'flow': by_flow, 'affine': lambda a, b: TRUE,
    'homography': lambda a, b: G.homogeneous(TRUE),
    'match': lambda a, b: Match(*by_points(a, b), np.ones(40))}


@pytest.mark.parametrize('name', sorted(RESULTS))
def test_callables_of_all_kinds(name):
    fixed, moving = pair()
    found = CallableMatcher(RESULTS[name]).match(fixed, moving)
    assert error(found) < 1e-4
    if name == 'flow':
        dense = estimate(found, 'flow', SIZE)
        np.testing.assert_allclose(
            dense.flow(SIZE), G.matrix_to_flow(TRUE, SIZE), atol=1e-4)


def test_callables_by_name_and_config():
    fixed, moving = pair()
    built = MODELS.build(dict(
        type='osar_plugin.CallableMatcher', pass_settings=True,
        function=dict(type='osar_plugin.CFOGMatcher', tile=64, step=20)))
    assert error(built.match(fixed, moving)) < 1.
    named = CallableMatcher(
        'osar_plugin.models.registration.baselines:SIFTMatcher')
    assert named.match(*pair(radar=False)).ok
    path = 'osar_plugin.models.registration.baselines:'
    for bad in ('nowhere', 'no.such.module:f', f'{path}nothing', 5):
        with pytest.raises(ConfigError):
            CallableMatcher(bad)


@pytest.mark.parametrize('result', [
    'text', np.zeros((5, 7)), (np.zeros((5, 2)), np.zeros((4, 2))),
    np.full((2, *SIZE), np.nan), (np.zeros((2, *SIZE)), np.zeros((3, 3)))])
def test_callables_that_return_nonsense(result):
    with pytest.raises(DataFormatError):
        CallableMatcher(lambda a, b: result).match(*pair())
    assert not CallableMatcher(lambda a, b: None).match(*pair()).ok


# --------------------------------------------------------------- real pairs


def cfog_check_points():
    """Check points (N, 4) of the real pair, pixel centres integers."""
    folder = DATA / 'opt_sar_pairs' / 'cfog'
    if not folder.is_dir():
        pytest.skip('real pair not there: ../shared/data/opt_sar_pairs/cfog')
    points = np.loadtxt(folder / 'OpticaltoSAR_CP.txt')
    images = [cv2.imread(str(folder / name), 0)
              for name in ('optical_ref.png', 'SAR_sen.png')]
    return *images, points - 1


def test_real_pair_with_check_points():
    fixed, moving, points = cfog_check_points()
    assert len(points) > 290
    found = estimate(CFOGMatcher().match(
        fixed, moving, MatchSettings(max_shift=40)), 'affine', fixed.shape)
    assert found.ok, found.reason
    distance = np.linalg.norm(
        found.points(points[:, :2]) - points[:, 2:], axis=1)
    # The best affine of the check points themselves leaves 0.90.
    assert np.sqrt((distance**2).mean()) < 1.1
