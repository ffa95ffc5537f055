"""Tiles of learned features, and the search that goes before them."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from soma_case import randn, tiny

from osar_plugin.models.registration import GLAM, TwoBranchEncoder
from osar_plugin.models.registration.correlation import LOWEST
from osar_plugin.models.registration.geometry import (
    apply,
    invert,
    matrix_to_flow,
    similarity,
    warp,
)
from osar_plugin.models.registration.search import (
    SearchSettings,
    agreement,
    best_shift,
    bring,
    enlarged,
    reach_of,
    shrunk,
)
from osar_plugin.models.registration.tiles import (
    LIKEST,
    TileMatch,
    TileStage,
    shift_products,
    tile_centres,
    tile_loss,
    tile_positions,
    tile_scores,
)
from osar_plugin.utils.errors import ConfigError

SIZE = (128, 128)


def masks(*size):
    return torch.ones(1, 1, *size), torch.ones(1, 1, *size)


# -------------------------------------------------------------------- tiles


def test_products_of_every_shift():
    fixed, moving = randn(0, 2, 3, 5, 7), randn(1, 2, 3, 5, 7)
    got = shift_products(fixed, moving, 2)
    padded = torch.nn.functional.pad(moving, (2, 2, 2, 2))
    for i in range(5):
        for j in range(5):
            want = (fixed * padded[:, :, i:i + 5, j:j + 7]).sum(1)
            torch.testing.assert_close(got[:, 5 * i + j], want)
    small = [x[:1, :, :3, :4].double().requires_grad_()
             for x in (fixed, moving)]
    assert torch.autograd.gradcheck(
        lambda a, b: shift_products(a, b, 1), small)


def test_scores_find_a_shift_and_forget_what_is_masked():
    whole = randn(0, 1, 4, 20, 20)
    fixed, moving = whole[..., 3:19, 2:18], whole[..., 1:17, 3:19]
    # fixed(x) = moving(x + (-1, 2))
    scores = tile_scores(fixed, moving, masks(16, 16), 6, 5, 3)
    inner = scores[0, 4]
    best = int(inner.argmax())
    assert (best % 7 - 3, best // 7 - 3) == (-1, 2)
    top = math.atanh(LIKEST)
    assert float(inner.max()) == pytest.approx(top, abs=1e-4)
    # Fisher's z of the correlation, here of the shift (0, 0).
    parts = [x[0, :, 5:11, 5:11].flatten() for x in (fixed, moving)]
    rho = float(torch.cosine_similarity(*parts, dim=0))
    assert float(inner[24]) == pytest.approx(math.atanh(rho), abs=1e-4)
    known = torch.ones(1, 1, 16, 16)
    known[..., 10:] = 0
    other = tile_scores(fixed, moving * known, (masks(16, 16)[0], known), 6,
                        5, 3)
    # The middle tile covers columns 5 to 10; at x = 0 five of six count.
    assert float(other[0, 4, 5 * 7 + 2]) == pytest.approx(top, abs=1e-4)
    energy = fixed[0, :, 5:11, 5:11].square().sum(0)
    share = float(energy[:, :5].sum() / energy.sum())
    rho = float(torch.cosine_similarity(*(
        x[0, :, 5:11, 5:10].flatten() for x in (fixed, moving)), dim=0))
    assert float(other[0, 4, 24]) == pytest.approx(
        math.atanh(rho) * math.sqrt(share), abs=1e-4)
    plain = tile_scores(fixed, moving * known, (masks(16, 16)[0], known), 6,
                        5, 3, significance=False)
    assert float(plain[0, 4, 24]) == pytest.approx(rho, abs=1e-4)
    # In the right column nothing meets data at x >= 0.
    right = other[0, 5].view(7, 7)
    assert bool((right[:, 3:] == LOWEST).all())
    assert float(plain.max()) == pytest.approx(1, abs=1e-4)


def test_training_scores_by_correlation():
    stage = TileStage({4: 3, 8: 3}, width=4, tile=32, step=16, radius=8)
    maps = [{s: randn(i + s, 1, 3, 64 // s, 64 // s) for s in (4, 8)}
            for i in (0, 1)]
    sides = [stage.describe(m) for m in maps]
    rows = []
    for training in (True, False):
        match = stage.train(training)(*sides)
        scores = tile_scores(
            sides[0][0], sides[1][0], (sides[0][1], sides[1][1]),
            *stage.cells, significance=not training)
        rows.append(match.log_prob)
        torch.testing.assert_close(match.log_prob, (
            scores / stage.log_temperature.exp()).log_softmax(2))
    assert not torch.allclose(*rows)


@pytest.mark.parametrize('significance', [False, True])
def test_scores_without_data_have_gradients(significance):
    fixed, moving = (randn(i, 1, 4, 16, 16).requires_grad_() for i in (0, 1))
    known = torch.ones(1, 1, 16, 16)
    known[..., 5:] = 0
    scores = tile_scores(fixed * known, moving * known, (known, known), 6, 5,
                         3, significance)
    assert bool((scores < -3).any())
    scores.softmax(2).square().sum().backward()
    for x in (fixed, moving):
        assert bool(x.grad.isfinite().all()) and bool(x.grad.any())


def test_positions_between_cells():
    """A parabola of log-probabilities around (1.25, -0.75) cells."""
    axis = torch.arange(-3., 4)
    log = -1.5 * ((axis - 1.25)[None]**2 + (axis + 0.75)[:, None]**2)
    centres = torch.tensor([[10., 20.]])
    found, sure = tile_positions(
        log.flatten()[None, None].log_softmax(2), centres, 4)
    torch.testing.assert_close(
        found[0, 0], torch.tensor([15., 17.]), atol=0.05, rtol=0)
    assert 0.99 < float(sure) <= 1.0001


def test_loss_is_shared_by_four_shifts():
    log = randn(0, 1, 2, 25).log_softmax(2)
    match = TileMatch(log, torch.tensor([[4., 4.], [11., 4.]]), 4)
    flow = torch.zeros(1, 2, 16, 16)
    flow[:, 0], flow[:, 1] = 1., -3.  # a quarter of a cell, three quarters
    valid = torch.ones(1, 16, 16, dtype=torch.bool)
    valid[:, :, 8:] = False  # without the second tile
    want = -(log[0, 0, 7] * .75 * .75 + log[0, 0, 8] * .25 * .75
             + log[0, 0, 12] * .75 * .25 + log[0, 0, 13] * .25 * .25)
    torch.testing.assert_close(tile_loss(match, flow, valid), want)
    assert float(tile_loss(match, flow + 40, valid)) == 0
    assert float(tile_loss(match, flow, valid & False)) == 0


def test_centres_lie_in_the_middle_of_their_cells():
    like = torch.zeros(1)
    # One tile of 16 x 16 pixels: its middle lies between pixels 7 and 8.
    assert tile_centres((4, 4), 4, 1, 4, like).tolist() == [[7.5, 7.5]]
    assert tile_centres((4, 8), 4, 4, 4, like).tolist() == [
        [7.5, 7.5], [23.5, 7.5]]


def test_arguments_of_tiles_are_checked():
    with pytest.raises(ConfigError, match='prior=9'):
        TileStage({1: 3, 4: 8, 8: 8}, prior=9)
    with pytest.raises(ConfigError, match='radius'):
        TileStage({4: 8, 8: 8}, radius=0)
    with pytest.raises(ConfigError, match='flow alone'):
        GLAM({4: 8, 8: 8}, 'tiles', (4, 8), with_affine=False)


# ------------------------------------------------------------------- search


def test_best_shift_with_masks():
    whole = randn(0, 1, 4, 30, 30)
    fixed, moving = whole[..., 5:25, 5:25], whole[..., 2:22, 9:29]
    known = masks(20, 20)
    known[1][..., :4] = 0
    shift, score = best_shift(fixed, moving * known[1], known, (6, 6))
    assert shift.tolist() == [[-4., 3.]]
    assert float(score) == pytest.approx(1, abs=1e-3)
    # Beyond the reach nothing is found.
    assert float(best_shift(fixed, moving, masks(20, 20), (2, 2))[1]) < 0.5


def test_agreement_counts_common_ground_only():
    a = randn(0, 2, 4, 8, 8)
    b = a.clone()
    b[..., 4:] = 100.
    half = torch.ones(2, 1, 8, 8)
    half[..., 4:] = 0
    torch.testing.assert_close(
        agreement(a, b, (torch.ones_like(half), half)), torch.ones(2))


def test_bring_fills_with_the_mean():
    image = randn(0, 1, 3, 32, 32) + 5
    affine = torch.tensor([[[1., 0., 8.], [0., 1., 0.]]])
    moved, known = bring(image, torch.ones(1, 1, 32, 32).bool(), affine)
    torch.testing.assert_close(moved[..., :24], image[..., 8:])
    assert not known[..., 24:].any() and known[..., :24].all()
    torch.testing.assert_close(
        moved[..., 30, 30], image[..., 8:].mean((2, 3)))


def test_shrunk_images_keep_their_place():
    image = randn(0, 1, 3, 96, 160)
    valid = torch.ones(1, 1, 96, 160).bool()
    valid[..., 4:, 7] = False
    small, known = shrunk(image, valid, 2)
    assert small.shape == (1, 3, 64, 96) and known.shape == (1, 1, 64, 96)
    torch.testing.assert_close(
        small[0, 1, 5, 9], image[0, 1, 10:12, 18:20].mean())
    assert known[0, 0, 1, 3] and not known[0, 0, 2:, 3].any()
    assert not known[..., 48:, :].any() and not known[..., 80:].any()
    assert known[..., :48, 4:80].all()


def test_enlarged_images_keep_their_place():
    image = randn(0, 1, 3, 64, 64)
    valid = torch.ones(1, 1, 64, 64).bool()
    valid[..., :3] = False
    large, known = enlarged(image, valid, 2)
    assert large.shape == (1, 3, 128, 128) and known.dtype == torch.bool
    torch.testing.assert_close(
        large[0, 0, 20:22, 30:32].mean(),
        image[0, 0, 9:12, 14:17].mul(torch.tensor(
            [.125, .75, .125])).mul(torch.tensor(
                [.125, .75, .125])[:, None]).sum())
    assert not known[..., :7].any() and known[..., 7:].all()


def test_starts_turn_about_the_centre():
    settings = SearchSettings(angles=(-10, 0, 10), scales=(1., 1.2), keep=1)
    starts = settings.starts(SIZE, torch.zeros(1, dtype=torch.float64))
    centre = torch.full((6, 1, 2), 63.5, dtype=torch.float64)
    torch.testing.assert_close(apply(starts, centre), centre)
    assert starts[1].tolist() == torch.eye(2, 3).tolist()
    assert float(torch.linalg.det(starts[4, :, :2])) == pytest.approx(1.44)
    assert reach_of(0.15, (32, 64)) == (10, 10)
    assert reach_of(1., (4, 8)) == (3, 7)


@pytest.mark.parametrize('wrong', [
    dict(angles=(200., )), dict(scales=(0., )), dict(keep=10),
    dict(radii=()), dict(radii=(0, )), dict(shift=2.)])
def test_arguments_of_the_search_are_checked(wrong):
    with pytest.raises(ConfigError):
        SearchSettings(**wrong)


def test_a_search_needs_tiles():
    with pytest.raises(ConfigError, match='tiles'):
        tiny(search=dict())


# -------------------------------------------------------------------- model


def light(**changes):
    """A model that compares gradients alone, before it has learnt."""
    model = tiny(
        encoder=dict(last=8, fge_strides=(4, ), raw_input=False),
        matcher=dict(
            coarse='tiles', coarse_strides=(4, 8),
            tiles=dict(width=8, prior=9, tile=48, step=16, radius=16,
                       temperature=0.01),
            stages=[dict(stride=4, channels=8, widths=(8, 8, 8))]),
        **changes).eval()
    with torch.no_grad():
        model.matcher.tiles.mix.fill_(-20.)
    return model


def picture(seed=0):
    """Fields and roads, (128, 128) float32 of 0..1."""
    rng = np.random.default_rng(seed)
    image = np.full(SIZE, 0.5, np.float32)
    for _ in range(14):
        box = cv2.boxPoints(((rng.uniform(0, 128), rng.uniform(0, 128)),
                             rng.uniform(10, 50, 2), rng.uniform(0, 90)))
        cv2.fillPoly(image, [box.astype(np.int32)], rng.uniform(0, 1))
    return cv2.GaussianBlur(image, (0, 0), 1)


def pair(angle, shift=(6., -4.)):
    """A picture and its negative, moved: fixed, moving, flow."""
    image = torch.from_numpy(picture())[None, None]
    matrix = similarity(angle, 1., shift, (63.5, 63.5))
    flow = matrix_to_flow(torch.from_numpy(matrix).float()[None], SIZE)
    back = matrix_to_flow(
        torch.from_numpy(invert(matrix)).float()[None], SIZE)
    moved = warp(1 - image, back, padding='border')
    inputs = dict(
        fixed=image.repeat(1, 3, 1, 1), moving=moved.repeat(1, 3, 1, 1),
        modalities=(0, 1), sizes=[SIZE])
    for side in ('fixed', 'moving'):
        inputs[f'{side}_valid'] = torch.ones(1, 1, *SIZE).bool()
    return inputs, flow


def error(model, angle):
    inputs, flow = pair(angle)
    with torch.no_grad():
        found = model(inputs)
    missed = (found.flow - flow).square().sum(1).sqrt()
    drawn = (matrix_to_flow(found.affine, SIZE) - flow).square().sum(1)
    # Before training the local flow is 0.
    torch.testing.assert_close(drawn.sqrt(), missed, atol=1e-3, rtol=1e-3)
    return float(missed.mean())


def test_tiles_find_an_affine_of_inverted_contrast():
    assert error(light(), 0.) < 1.5
    assert error(light(), 4.) < 2.5


def test_search_finds_what_tiles_cannot():
    search = dict(angles=(-35, 0, 35))
    assert error(light(search=search), 33.) < 2.5
    for more in (dict(reduction=2), dict(enlarge=2, radii=(12, 8))):
        assert error(light(search=dict(search, **more)), 33.) < 2.5
    assert error(light(), 33.) > 8


def test_search_of_a_batch_is_that_of_its_pairs():
    model = light(search=dict(angles=(-10, 0, 10), radii=(20, )))
    ones = [pair(9.)[0], pair(-9., (0., 3.))[0]]
    both = {k: torch.cat([x[k] for x in ones]) for k in ones[0] if k not in (
        'modalities', 'sizes')}
    both.update(modalities=(0, 1), sizes=[SIZE] * 2)
    with torch.no_grad():
        together = model(both)
        for i, one in enumerate(ones):
            torch.testing.assert_close(
                model(one).flow[0], together.flow[i], atol=1e-2, rtol=1e-3)


def test_gradients_alone_know_no_contrast():
    encoder = TwoBranchEncoder(
        8, (1, 1, 1, 1), gradient_stem=True, stem_sigmas=(2., 1.),
        raw_input=False, norm='GN', last=8).eval()
    assert encoder.out_channels[1] == 3 + 18
    image = torch.from_numpy(picture())[None, None].repeat(1, 3, 1, 1)
    with torch.no_grad():
        first, second = (encoder(x, 0) for x in (image, 0.2 - 0.6 * image))
    for stride in (2, 4, 8):
        torch.testing.assert_close(
            first[stride], second[stride], atol=2e-3, rtol=1e-3)
    with pytest.raises(ConfigError, match='nothing to see'):
        TwoBranchEncoder(8, raw_input=False)
    with pytest.raises(ConfigError, match='stem_sigmas'):
        TwoBranchEncoder(8, gradient_stem=True, stem_sigmas=(0., ))


def test_a_step_teaches_every_weight():
    model = light().train()
    inputs, flow = pair(3.)
    output = model.match(inputs)
    losses = model.criterion(output, flow, torch.ones(1, *SIZE).bool())
    assert 0 < float(losses['loss_match']) < 20
    sum(v for k, v in losses.items() if k.startswith('loss')).backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None]
    assert idle == []
    assert all(math.isfinite(float(p.grad.abs().sum()))
               for p in model.parameters())
