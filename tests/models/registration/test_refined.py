"""A dense result that tiles of pixels go on from."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from rectangles import rectangles

from osar_plugin.models.registration import (
    CFOGMatcher,
    MatchSettings,
    estimate,
)
from osar_plugin.models.registration import geometry as G
from osar_plugin.models.registration.baselines import from_flow
from osar_plugin.models.registration.match import no_match
from osar_plugin.models.registration.refined import refine_match

SIZE = (192, 224)
TRUE = G.similarity(25., 1., (6., -4.), (111., 95.))


@pytest.fixture(scope='module')
def pair():
    """Rectangles, and their negative elsewhere."""
    image = rectangles(SIZE, 3)
    moving = cv2.warpAffine(255 - image, TRUE, SIZE[::-1])
    known = cv2.warpAffine(np.ones(SIZE, np.float32), TRUE, SIZE[::-1])
    return image, moving, MatchSettings(moving_valid=known > 0.99)


def dense(matrix, bump=0.):
    """What a network might have found: sure of the left half."""
    flow = G.matrix_to_flow(matrix, SIZE).astype(np.float32)
    flow[0, 80:100, 80:100] += bump
    certainty = np.zeros(SIZE, np.float32)
    certainty[:, :112] = 0.8
    return from_flow(flow, certainty, 16, SIZE)


def missed(flow):
    return np.hypot(*(flow - G.matrix_to_flow(TRUE, SIZE)))


FINE = CFOGMatcher(tile=64, step=20)


def test_a_rough_start_becomes_precise(pair):
    rough = G.similarity(23., 1.02, (9., -7.), (111., 95.))
    first = dense(rough, bump=2.)
    assert missed(first.flow).mean() > 3
    found = refine_match(first, FINE, *pair, reach=14.)
    transform = estimate(found, 'affine', SIZE)
    assert transform.ok and missed(transform.flow(SIZE)).max() < 1
    assert not estimate(FINE.match(*pair), 'affine', SIZE).ok
    # What the network found beside its affine stays where it was found.
    error = found.flow - G.matrix_to_flow(TRUE, SIZE)
    assert error[0, 82:98, 82:98].mean() > 1.2
    assert np.abs(error[:, 120:, 120:]).max() < 1
    assert found.certainty[50, 50] == pytest.approx(0.8)
    assert found.certainty[50, 150] == 0 and found.tries == 2


def test_a_wrong_start_costs_no_accuracy(pair):
    """Then the unmoved images decide, and the flow is not trusted."""
    image, _, settings = pair
    shift = np.array([[1., 0, 5], [0, 1, -3]])
    moving = cv2.warpAffine(255 - image, shift, SIZE[::-1])
    settings = replace(settings, moving_valid=None)
    wrong = dense(G.similarity(-20., 1.1, (-30., 20.), (111., 95.)))
    found = refine_match(wrong, FINE, image, moving, settings, reach=14.)
    transform = estimate(found, 'affine', SIZE)
    assert transform.ok
    np.testing.assert_allclose(transform.matrix, shift, atol=0.3)
    far = np.hypot(*(wrong.flow - found.flow)) > 15
    assert far.mean() > 0.5 and (found.certainty[far] == 0).all()
    np.testing.assert_allclose(
        found.flow[:, far], transform.flow(SIZE)[:, far], atol=1e-3)
    # So they do where the network found nothing.
    alone = refine_match(
        no_match('unsure'), FINE, image, moving, settings, 14.)
    np.testing.assert_allclose(
        estimate(alone, 'affine', SIZE).matrix, shift, atol=0.3)
    assert alone.flow.shape == (2, *SIZE) and not alone.certainty.any()


def test_nothing_to_go_on_stays_nothing(pair):
    image = pair[0]
    noise = np.random.default_rng(0).integers(0, 255, SIZE).astype(np.uint8)
    for first in (dense(TRUE), no_match('unsure')):
        found = refine_match(first, FINE, image, noise, MatchSettings(), 14.)
        for kind in ('affine', 'flow'):
            assert not estimate(found, kind, SIZE).ok
    flat = np.full(SIZE, 7, np.uint8)
    found = refine_match(dense(TRUE), FINE, image, flat, MatchSettings(), 14.)
    assert not found.ok and '7 everywhere' in found.reason
    assert 'no tiles confirm' in found.reason


def test_images_of_other_sizes_and_colour(pair):
    image, moving, settings = pair
    colour = np.repeat(image[..., None], 3, 2)
    wide = np.pad(moving.astype(np.float32), ((0, 58), (0, 116)),
                  constant_values=np.nan)
    known = np.pad(settings.moving_valid, ((0, 58), (0, 116)))
    rough = dense(G.similarity(23., 1.02, (9., -7.), (111., 95.)))
    found = refine_match(rough, FINE, colour, wide,
                   MatchSettings(moving_valid=known), 14.)
    assert found.moving_size == wide.shape
    transform = estimate(found, 'affine', SIZE)
    assert transform.ok and missed(transform.flow(SIZE)).max() < 1
