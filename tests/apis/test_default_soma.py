"""The trained SOMA that comes with the package."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from osar_plugin.apis.registration import (
    SOMA_CONFIG,
    SOMA_WEIGHTS,
    build_matcher,
)
from osar_plugin.models.registration import (
    CFOGMatcher,
    MatchSettings,
    estimate,
)
from osar_plugin.utils.errors import ConfigError
from osar_plugin.utils.geometry import matrix_to_flow, similarity

SIZE = (192, 192)


def test_it_is_there_and_small():
    assert SOMA_CONFIG.is_file()
    assert 0 < SOMA_WEIGHTS.stat().st_size < 5 * 2**20


def scene(rng):
    """Fields, roads and houses in grey, 0..1."""
    image = np.full(SIZE, 0.4, np.float32)
    for low, high, count in ((30, 80, 14), (6, 16, 40)):
        for _ in range(count):
            box = cv2.boxPoints((tuple(rng.uniform(0, SIZE[0], 2)),
                                 tuple(rng.uniform(low, high, 2)),
                                 rng.uniform(0, 90)))
            cv2.fillPoly(image, [box.astype(np.int32)], rng.uniform(0, 1))
    return cv2.GaussianBlur(image, (0, 0), 0.8)


@pytest.mark.parametrize('angle', [-17., 6.])
@pytest.mark.parametrize(
    'options, most', [({}, 1.2), (dict(refine=None), 5)])
def test_it_registers_a_turned_negative_in_speckle(angle, options, most):
    """Farther turned than it was trained for, so the search is at work.

    Measured are 0.6 pixels, and 2.7 of the network alone; 13 and 25 without
    any registration.
    """
    rng = np.random.default_rng(0)
    image = scene(rng)
    matrix = similarity(angle, 1., (9., -6.), (95.5, 95.5))
    sar = (0.1 + 0.9 * (1 - image)) * np.sqrt(rng.gamma(3, 1 / 3, SIZE))
    sar = cv2.warpAffine(sar.astype(np.float32), matrix, SIZE)
    known = cv2.warpAffine(np.ones(SIZE, np.float32), matrix, SIZE) > 0.99
    match = build_matcher('soma', options).match(
        (np.repeat(image[..., None], 3, 2) * 255).astype(np.uint8), sar,
        MatchSettings(moving_valid=known))
    found = estimate(match, 'flow', SIZE)
    assert found.ok
    truth = matrix_to_flow(matrix, SIZE)

    def length(flow):
        return np.sqrt(np.square(flow).sum(0).mean())

    assert length(found.flow(SIZE) - truth) < most
    assert length(truth) > 13


def test_what_goes_on_is_a_matcher():
    fine = CFOGMatcher(tile=64)
    assert build_matcher('soma', dict(refine=fine)).fine is fine
    assert build_matcher('soma', dict(refine=None)).fine is None
    with pytest.raises(ConfigError, match='no matcher'):
        build_matcher('soma', dict(refine=7))
    for refine, said in ((dict(type='osar_plugin.CFOGMatchr'), 'CFOGMatchr'),
                         (dict(rounds=2), '"type"')):
        with pytest.raises(ConfigError, match=said):
            build_matcher('soma', dict(refine=refine))
    with pytest.raises(ConfigError, match='CFOGMatchr is not in'):
        build_matcher(dict(type='osar_plugin.CFOGMatchr'))
