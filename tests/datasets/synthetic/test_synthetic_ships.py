"""Ships: geometry, sisters, and paint that knows nothing of either."""
from __future__ import annotations

import numpy as np
import pytest

from osar_plugin.datasets.synthetic.hoss import HossSettings, plan_hoss
from osar_plugin.datasets.synthetic.layouts import (
    TYPES,
    draw_hull,
    draw_plan,
)
from osar_plugin.datasets.synthetic.scene import Pose, Scene
from osar_plugin.datasets.synthetic.ship import Part, Ship, draw_paint


def seq(*key):
    return np.random.SeedSequence(11, spawn_key=key)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope='module')
def plans():
    return [draw_plan(seq(0, i), seq(1, i)) for i in range(60)]


def test_every_type_occurs_and_has_its_own_size_range(plans):
    assert {plan.kind for plan in plans} == set(TYPES)
    for plan in plans:
        low, high = TYPES[plan.kind][1]
        assert low <= plan.hull.length <= high
        assert 10 <= plan.hull.beam <= 65


def test_hull_tapers_to_nothing_outside(plans):
    for plan in plans[:10]:
        hull = plan.hull
        assert hull.half_at(0) == pytest.approx(hull.beam / 2)
        assert hull.half_at(hull.length / 2) < 0.05 * hull.beam
        assert hull.half_at(hull.length / 2 + 1) == 0
        assert hull.half_at(-hull.length / 2) == pytest.approx(
            hull.transom * hull.beam / 2, rel=1e-4)


def test_deck_lies_within_the_hull(plans):
    for plan in plans:
        for block in plan.blocks:
            if block.part == Part.CRANE:
                continue
            reach = abs(block.y) + (block.length / 2) * (block.angle == 0)
            assert reach < plan.hull.length * 0.53, (plan.kind, block)
            assert abs(block.x) < plan.hull.beam / 2 + 0.5


def test_sisters_share_hull_and_type_but_not_details():
    one, two = (draw_plan(seq(0, 5), seq(1, i)) for i in (1, 2))
    assert one.kind == two.kind
    assert one.hull == two.hull
    assert one.blocks != two.blocks
    again = draw_plan(seq(0, 5), seq(1, 1))
    assert again.blocks == one.blocks


def test_paint_does_not_depend_on_geometry(plans):
    deck = [draw_paint(plan, rng(7)).deck for plan in plans[:8]]
    for other in deck[1:]:
        np.testing.assert_array_equal(other, deck[0])


def test_another_paint_changes_no_geometry(plans):
    plan = plans[0]
    layers = []
    for seed in (1, 2):
        scene = Scene(plan.hull.beam + 20, plan.hull.length + 20)
        Ship(plan, draw_paint(plan, rng(seed))).draw(scene, Pose())
        layers.append(scene)
    one, two = layers
    np.testing.assert_array_equal(one.height, two.height)
    np.testing.assert_array_equal(one.sigma0, two.sigma0)
    np.testing.assert_array_equal(one.water, two.water)
    assert np.abs(one.albedo - two.albedo).mean() > 0.01


def test_a_ship_can_lie_anywhere_at_any_heading(plans):
    plan = min(plans, key=lambda p: p.hull.length)
    ship = Ship(plan, draw_paint(plan, rng()))
    areas = []
    for pose in (Pose(), Pose(20.0, -10.0, 63.0)):
        scene = Scene(260.0, 260.0)
        ship.draw(scene, pose)
        rows, cols = np.nonzero(~scene.water)
        x, y = scene.axes()
        areas.append(len(rows))
        near = pose.to_object(x[cols], y[rows])
        assert np.abs(near[1]).max() < plan.hull.length / 2 + 25
        assert np.median(near[0]) == pytest.approx(0, abs=1.5)
    assert areas[1] == pytest.approx(areas[0], rel=0.03)


def test_paint_for_another_ship_is_refused(plans):
    one = plans[0]
    two = next(p for p in plans if len(p.blocks) != len(one.blocks))
    with pytest.raises(ValueError, match='draw the paint for this plan'):
        Ship(one, draw_paint(two, rng()))


def test_unknown_type_is_refused():
    with pytest.raises(ValueError, match='submarine'):
        draw_hull('submarine', rng())


def test_size_alone_identifies_few_ships():
    """Guess each ship from a size that is off as that of a chip is."""
    settings = HossSettings()
    jobs = plan_hoss(settings)[settings.train_ids:]
    size = np.array([
        [p.hull.length, p.hull.beam] for p in (
            draw_plan(seq(2, job.family), seq(3, job.pid))
            for job in jobs)])
    noise = rng(1)
    # Scale is off by 2 per cent, margins of the crop by some metres.
    seen = size * np.exp(noise.normal(0, 0.02, (len(size), 1)))
    seen = seen + noise.uniform(-3, 3, size.shape)
    gap = np.abs((seen[:, None] - size[None]) / size[None].mean(axis=1))
    guess = gap.sum(axis=2).argmin(axis=1)
    right = (guess == np.arange(len(size))).mean()
    assert right < 0.5
    lone = len({job.family for job in jobs}) / len(jobs)
    assert lone < 0.85
