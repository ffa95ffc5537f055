"""GLAM: the release's numbers, and what the corrected one must do."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from soma_case import THETA, close, filled, randn

from osar_plugin.models.registration.correlation import (
    cell_centres,
    local_correlation,
    match_cells,
    match_loss,
    soft_positions,
)
from osar_plugin.models.registration.deform import (
    DeformBlock,
    compiled,
    deform_conv,
    deform_conv_torch,
)
from osar_plugin.models.registration.geometry import (
    apply,
    compose,
    from_theta,
    matrix_to_flow,
    warp,
)
from osar_plugin.models.registration.glam import (
    GLAM,
    robust_affine,
    updated,
)
from osar_plugin.models.registration.glam_blocks import Regressor, Stage
from osar_plugin.models.registration.glam_released import (
    ReleasedAffineFlow,
    ReleasedGLAM,
    ReleasedRefiner,
    released_compose,
    released_flow,
    released_sample,
)
from osar_plugin.models.registration.losses import (
    SOMALoss,
    agreement_loss,
    certainty_loss,
    rmse,
    uniformity_loss,
    update_loss,
    warp_loss,
)
from osar_plugin.utils.errors import ConfigError, DataFormatError

CHANNELS = {1: 3, 2: 8, 4: 16, 8: 16, 16: 32, 32: 64}
SMALL = [dict(stride=8, affine=True, channels=8, widths=(8, 8, 8), radius=2,
              deformable=True),
         dict(stride=4, affine=True, channels=8, widths=(8, 8, 8)),
         dict(stride=1, widths=(8, 8, 4))]


def features(seed: int, size: tuple[int, int] = (64, 96)):
    return {s: randn(seed + s, 2, c, size[0] // s, size[1] // s)
            for s, c in CHANNELS.items()}


def small(**changes):
    torch.manual_seed(0)
    return GLAM(**{**dict(channels=CHANNELS, coarse_channels=16,
                          stages=SMALL), **changes})


# ------------------------------------------------------------- the release


def test_published_numbers():
    pair = randn(0, 2, 16, 12, 16), randn(1, 2, 16, 12, 16)
    close(filled(Regressor(32))(*pair), 'coarse_0')
    for i, out in enumerate(filled(ReleasedAffineFlow(16))(*pair, THETA)):
        close(out, f'tf16_{i}')
    more = randn(2, 2, 2, 12, 16), randn(3, 2, 1, 12, 16)
    for i, out in enumerate(filled(ReleasedRefiner(16, True))(*pair, *more)):
        close(out, f'refine16_as_released_{i}')
    close(released_flow(THETA, (12, 16)), 'flow_theta_as_released')
    close(released_compose(THETA, THETA.flip(0)), 'compose_as_released')


def test_published_size():
    model = ReleasedGLAM()
    assert sum(p.numel() for p in model.parameters()) == 10_046_932


def test_what_is_wrong_in_the_release():
    eye = torch.eye(2, 3)[None]
    flow = released_flow(eye, (512, 512))
    assert float(flow[0, 0, 0, 0]) == pytest.approx(0.499, abs=1e-3)
    assert float(flow[0, 0, 0, -1]) == pytest.approx(-0.499, abs=1e-3)
    assert float(flow.square().sum(1).mean().sqrt()) == pytest.approx(
        0.408, abs=1e-3)
    image = randn(0, 1, 2, 8, 8)
    torch.testing.assert_close(
        released_sample(image, torch.zeros(1, 2, 8, 8)), image.mT)


def test_release_as_a_whole():
    """Its stages, put together by hand."""
    torch.manual_seed(0)
    model = ReleasedGLAM(8, CHANNELS).eval()
    size = (32, 64)
    fixed, moving = features(0, size), features(100, size)
    out = model(fixed, moving)
    theta = model.coarse(fixed, moving)
    for number, stride in enumerate((8, 4)):
        stage = getattr(model, f'fine_matcher_{stride}')
        delta, local = stage(fixed[stride], moving[stride], theta)
        found = out.stages[number]
        torch.testing.assert_close(found.before, released_flow(theta, size))
        torch.testing.assert_close(found.local, local)
        theta = released_compose(theta, delta)
    half = released_flow(theta, (16, 32))
    delta2, logit2 = model.fine_matcher_2(fixed[2], moving[2], half)

    def up(x):
        return F.interpolate(x, size, mode='bilinear', align_corners=False)

    # No factor of 2: defect 3.
    flow1 = up(half + delta2)
    delta1, logit1 = model.fine_matcher_1(
        fixed[1], moving[1], flow1, up(logit2))
    torch.testing.assert_close(out.flow, flow1 + delta1)
    torch.testing.assert_close(out.certainty, up(logit2) + logit1)
    assert [s.stride for s in out.stages] == [8, 4, 2, 1]


# --------------------------------------------------- deformable convolution


def by_loop(x, offset, weight, bias):
    """Deformable convolution pixel by pixel."""
    b, c, height, width = x.shape
    out = bias[None, :, None, None].repeat(b, 1, height, width)
    for n in range(b):
        for i in range(height):
            for j in range(width):
                for k in range(9):
                    y = i + k // 3 - 1 + float(offset[n, 2 * k, i, j])
                    z = j + k % 3 - 1 + float(offset[n, 2 * k + 1, i, j])
                    y0, z0 = math.floor(y), math.floor(z)
                    value = torch.zeros(c, dtype=x.dtype)
                    for v in (y0, y0 + 1):
                        for w in (z0, z0 + 1):
                            if 0 <= v < height and 0 <= w < width:
                                value += x[n, :, v, w] * (
                                    1 - abs(y - v)) * (1 - abs(z - w))
                    out[n, :, i, j] += weight[:, :, k // 3, k % 3] @ value
    return out


def deform_case(scale: float = 1.5):
    return (randn(0, 2, 3, 5, 6).double(),
            scale * randn(1, 2, 18, 5, 6).double(),
            randn(2, 4, 3, 3, 3).double(), randn(3, 4).double())


def test_deformable_convolution(monkeypatch):
    case = deform_case()
    expected = by_loop(*case)
    torch.testing.assert_close(deform_conv_torch(*case), expected)
    # In bands of a few rows it is the same.
    monkeypatch.setattr(
        'osar_plugin.models.registration.deform.CHUNK', 2 * 3 * 9 * 6 * 2)
    torch.testing.assert_close(deform_conv_torch(*case), expected)
    x, offset, weight, bias = case
    torch.testing.assert_close(
        deform_conv_torch(x, 0 * offset, weight, bias),
        F.conv2d(x, weight, bias, padding=1))


@pytest.mark.skipif(not compiled(), reason='mmcv has no compiled operators')
def test_deformable_convolution_of_mmcv():
    x, offset, weight, bias = (t.float() for t in deform_case())
    torch.testing.assert_close(
        deform_conv(x, offset, weight, bias, 'ops'),
        deform_conv_torch(x, offset, weight, bias), rtol=1e-4, atol=1e-5)


def test_gradients_of_the_deformable_convolution():
    case = [t[:1, :, :3, :4] if t.ndim == 4 and t.shape[0] == 2 else t
            for t in deform_case(0.3)]
    for t in case:
        t.requires_grad_()
    assert torch.autograd.gradcheck(
        deform_conv_torch, case, fast_mode=True)


def test_deform_block_starts_as_a_convolution():
    torch.manual_seed(0)
    block, x = DeformBlock(4, 5), randn(0, 1, 4, 6, 7)
    conv = block.defconv
    torch.testing.assert_close(
        block(x), F.conv2d(x, conv.weight, conv.bias, padding=1))


# -------------------------------------------------------------- correlation


def test_cells_of_a_shifted_image():
    """Features moved by whole cells are found there, with certainty."""
    base = randn(0, 1, 64, 12, 14)
    fixed, moving = base[..., 2:10, 3:11], base[..., 1:9, 1:9]
    joint = match_cells(fixed, moving, 0.05)
    positions, sure = soft_positions(joint, (8, 8), 16.)
    centres = cell_centres((8, 8), 16., fixed)
    assert centres[0].tolist() == [7.5, 7.5]
    flow = (positions - centres)[0].mT.unflatten(1, (8, 8))
    # fixed cell (x, y) is base (x + 3, y + 2) is moving (x + 2, y + 1).
    expected = torch.tensor([32., 16.])[:, None, None].expand(2, 6, 6)
    torch.testing.assert_close(flow[:, :6, :6], expected, atol=0.1, rtol=0)
    sure = sure[0].view(8, 8)
    assert sure[:7, :6].min() > 0.9 and sure[7].max() < 0.5
    hidden = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    hidden[..., 4:] = False
    found, _ = soft_positions(
        match_cells(fixed, moving, 0.05, hidden), (8, 8), 16.)
    assert found[..., 0].max() <= 3.5 * 16


def test_positions_between_cells():
    joint = torch.full((1, 1, 16), -50.)
    joint[0, 0, 5] = joint[0, 0, 6] = -1.
    joint[0, 0, 15] = -1.5  # far away: does not pull
    positions, sure = soft_positions(joint, (4, 4), 8., window=1)
    torch.testing.assert_close(
        positions[0, 0], torch.tensor([2. * 8 - 0.5, 1.5 * 8 - 0.5]))
    assert float(sure) == pytest.approx(math.exp(-1))


def test_local_correlation():
    a, b = randn(0, 2, 5, 6, 7), randn(1, 2, 5, 6, 7)
    out = local_correlation(a, b, 2)
    assert out.shape == (2, 25, 6, 7)
    for i, j, y, x in ((0, 3, 4, 2), (2, 2, 0, 0), (4, 1, 1, 3)):
        expected = F.cosine_similarity(
            a[1, :, y, x], b[1, :, y + i - 2, x + j - 2], dim=0)
        torch.testing.assert_close(out[1, 5 * i + j, y, x], expected)
    assert float(out[0, 0, 0, 0]) == 0  # outside


def test_match_loss():
    """Of a truth that lies on cells, and of one between two."""
    joint = -randn(0, 1, 12, 12).abs()
    flow = torch.zeros(1, 2, 3, 4)
    flow[:, 0] = 8.  # one cell to the right
    keep = [y * 4 + x for y in range(3) for x in range(3)]
    expected = -torch.stack([joint[0, k, k + 1] for k in keep]).mean()
    torch.testing.assert_close(match_loss(joint, (3, 4), 8., flow), expected)
    flow[:, 0] = 4.
    expected = -torch.stack([
        (joint[0, k, k] + joint[0, k, k + 1]) / 2 for k in keep]).mean()
    torch.testing.assert_close(match_loss(joint, (3, 4), 8., flow), expected)
    valid = torch.zeros(1, 1, 3, 4, dtype=torch.bool)
    assert float(match_loss(joint, (3, 4), 8., flow, valid)) == 0


def test_gradients_of_the_correlation():
    # No symmetric features: a tie of two cells has no derivative.
    a, b = (randn(s, 1, 3, 2, 3).double().requires_grad_() for s in (0, 1))
    assert torch.autograd.gradcheck(
        lambda x, y: soft_positions(match_cells(x, y, 0.5), (2, 3), 4.),
        (a, b), fast_mode=True)
    flow = randn(2, 1, 2, 2, 3).double()
    assert torch.autograd.gradcheck(
        lambda x, y: match_loss(match_cells(x, y, 0.5), (2, 3), 4., flow),
        (a, b), fast_mode=True)
    assert torch.autograd.gradcheck(
        lambda x, y: local_correlation(x, y, 1), (a, b),
        fast_mode=True)


def test_robust_affine():
    truth = torch.tensor([[1.1, 0.1, -7.], [-0.2, 0.9, 12.]])
    points = cell_centres((8, 8), 16., truth)
    moved = apply(truth, points)[None].repeat(2, 1, 1)
    moved[:, ::5] += 70.  # a fifth is wrong
    sure = torch.ones(2, 64)
    found = robust_affine(points, moved, sure, dict(end=1., steps=12))
    torch.testing.assert_close(
        found, truth.expand(2, 2, 3), atol=0.02, rtol=0)
    # Nothing is certain: an answer all the same.
    assert robust_affine(points, moved, 0 * sure, {}).isfinite().all()


# ------------------------------------------------------------ the corrected


def test_update_stands_behind_the_affine():
    """fixed(x) = moving(A D x) where A brought moving onto fixed."""
    affine = torch.tensor([[[0.9, 0.2, 5.], [-0.1, 1.1, -3.]]])
    delta = 0.1 * randn(0, 1, 2, 3)
    inner = from_theta(torch.eye(2, 3) + delta, (40, 60))
    torch.testing.assert_close(
        updated(affine, delta, (40, 60)), compose(affine, inner))
    torch.testing.assert_close(
        updated(affine, 0 * delta, (40, 60)), affine)
    # By images: warping twice is warping by the product.
    y, x = torch.meshgrid(torch.arange(40.), torch.arange(60.),
                          indexing='ij')
    image = ((x / 9).sin() + (y / 7).cos())[None, None]
    twice = warp(warp(image, matrix_to_flow(affine, (40, 60))),
                 matrix_to_flow(inner, (40, 60)))
    once = warp(image, matrix_to_flow(
        updated(affine, delta, (40, 60)), (40, 60)))
    part = (..., slice(15, 25), slice(25, 35))
    assert float((twice - once)[part].abs().max()) < 0.02


@pytest.mark.parametrize('changes', [
    dict(), dict(with_flow=False), dict(with_affine=False),
    dict(coarse='regress'), dict(propagate_local_flow=False)])
def test_before_training_nothing_is_added(changes):
    """The flow is that of the coarse stage, on every path."""
    model = small(**changes).eval()
    same = features(0)
    out = model(same, same)
    assert out.flow.shape == (2, 2, 64, 96)
    assert out.certainty.shape == (2, 1, 64, 96)
    for stage in out.stages[1:]:
        assert float(stage.delta.abs().max()) < 1e-4
    if changes.get('with_affine', True):
        torch.testing.assert_close(
            out.flow, matrix_to_flow(out.affine, (64, 96)))
    # Images that are alike are registered; without the affine, cell by cell.
    most = 1e-2 if changes.get('with_affine', True) else 1.
    assert float(out.flow.abs().max()) < most
    expected = [16, 8, 4, 1]
    if changes.get('with_flow') is False:
        expected.remove(1)
    assert [s.stride for s in out.stages] == expected


def trained_like(model):
    """Heads that give something."""
    torch.manual_seed(1)
    for stage in model.stages:
        for head in (stage.out_conv[-1], stage.theta_decoder):
            if head is not None:
                last = head if head is stage.out_conv[-1] else head[-1]
                torch.nn.init.normal_(last.weight, std=0.02)
                torch.nn.init.normal_(last.bias, std=0.02)
    return model


def test_flow_is_the_sum_of_its_parts():
    """Affine and local flows of all stages, in pixels of the image."""
    model = trained_like(small()).eval()
    fixed, moving = features(0), features(100)
    out = model(fixed, moving)
    affine = matrix_to_flow(out.affine, (64, 96))
    last = out.stages[-1]
    torch.testing.assert_close(out.flow, last.before + last.delta)
    # Both local flows and the refinement, but not the affines.
    local = 0
    for stage in out.stages[1:]:
        step = stage.delta if stage.local is None else (
            stage.local - stage.affine)
        local = F.interpolate(
            local, step.shape[-2:], mode='bilinear',
            align_corners=False) + step if stage.stride < 8 else step
    torch.testing.assert_close(
        out.flow - affine, local, atol=1e-4, rtol=1e-4)
    assert float(local.abs().max()) > 0.1
    for stage in out.stages[1:3]:
        assert stage.local is not None
        # On its own grid, an update has the values of the whole image.
        assert stage.delta.shape[-1] == 96 // stage.stride
    kept = trained_like(small(propagate_local_flow=False)).eval()
    other = kept(fixed, moving)
    torch.testing.assert_close(
        other.stages[-1].before, matrix_to_flow(other.affine, (64, 96)))


def test_iterations():
    stages = [{**SMALL[0], 'iterations': 3}]
    out = small(stages=stages)(features(0), features(1))
    assert [s.stride for s in out.stages] == [16, 8, 8, 8]


def test_every_weight_learns():
    for changes in (dict(), dict(with_flow=False), dict(with_affine=False)):
        model = trained_like(small(**changes))
        out = model(features(0), features(100))
        losses = SOMALoss(match=1.)(out, 3 * randn(5, 2, 2, 64, 96))
        sum(v for k, v in losses.items() if 'loss' in k).backward()
        idle = [n for n, p in model.named_parameters() if p.grad is None]
        assert idle == []


@pytest.mark.parametrize('changes', [
    dict(coarse='dino'), dict(stages=[]), dict(temperature=0.),
    dict(stages=[dict(stride=4), dict(stride=8)]),
    dict(stages=[dict(stride=8, widths=(8, 8))]),
    dict(stages=[dict(stride=8, radius=99)]), dict(channels={16: 3}),
    dict(with_affine=False, with_flow=False)])
def test_bad_arguments(changes):
    with pytest.raises(ConfigError):
        small(**changes)
    with pytest.raises(ConfigError):
        ReleasedGLAM(channels={8: 3})


# ------------------------------------------------------------------- losses


def loss_case():
    return (3 * randn(0, 2, 2, 16, 24), 3 * randn(1, 2, 2, 16, 24),
            randn(2, 2, 1, 16, 24))


def test_published_losses():
    flow, truth, logit = loss_case()
    for loss, expected in (
            (warp_loss(flow, truth), 3.5105221),
            (uniformity_loss(flow, truth), 0.5225824),
            (rmse(flow, truth), 6.2460723),
            (certainty_loss(logit, flow, truth), 0.2692522)):
        assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_total_of_the_release():
    """Weights of its training, from the parts."""
    flow, truth, logit = loss_case()
    own, local = randn(3, 2, 2, 4, 6), randn(4, 2, 2, 4, 6)
    stages = [Stage(s, randn(5 + s, 2, 2, 16, 24), randn(9 + s, 2, 2, 16, 24),
                    *((own, local) if s > 2 else ())) for s in (8, 4, 2, 1)]
    from osar_plugin.models.registration import GLAMOutput
    out = GLAMOutput(torch.eye(2, 3), flow, logit, stages)
    losses = SOMALoss(mask=False, detach_certainty=False)(out, truth)
    agreement = 2 * (own - local).square().sum(1).mean().sqrt()
    update = sum(w * (s.delta - (truth - s.before)).abs().mean()
                 for w, s in zip((.125, .25, .5, 1.), stages, strict=True))
    total = 3.5105221 + 0.5 * agreement + 0.1 * (
        0.5225824 + update + 0.2692522)
    found = sum(v for k, v in losses.items() if k.startswith('loss'))
    assert float(found) == pytest.approx(float(total), rel=1e-5)
    assert float(losses['rmse']) == pytest.approx(6.2460723, abs=1e-5)


def test_masks():
    """What is masked out changes nothing, whatever it holds."""
    flow, truth, logit = loss_case()
    valid = torch.ones(2, 16, 24, dtype=torch.bool)
    valid[:, :, 12:] = False
    wild = flow.clone()
    wild[..., 12:] += 1e3
    for loss in (warp_loss, rmse, uniformity_loss):
        torch.testing.assert_close(
            loss(wild, truth, valid), loss(flow, truth, valid))
        half = (..., slice(None, 12))
        if loss is not uniformity_loss:
            torch.testing.assert_close(
                loss(flow, truth, valid), loss(flow[half], truth[half]))
        assert float(loss(flow, truth, 0 * valid > 0)) == 0
    stage = Stage(4, flow[..., ::4, ::4] * 0, flow[..., ::4, ::4])
    wrong = truth.clone()
    wrong[..., 12:] += 1e3
    torch.testing.assert_close(
        update_loss(stage, wrong, valid), update_loss(stage, truth, valid))
    # There the certainty is to be 0.
    sure = torch.full_like(logit, 30.)
    assert float(certainty_loss(sure, truth, truth)) < 1e-6
    assert float(certainty_loss(sure, truth, truth, valid)) == (
        pytest.approx(0.5))


def test_gradients_of_losses():
    flow, truth, logit = (t.double()[:1, :, :8, :8] for t in loss_case())
    flow.requires_grad_()
    logit.requires_grad_()
    valid = randn(7, 1, 8, 8) > -1
    for loss in (warp_loss, rmse, uniformity_loss):
        assert torch.autograd.gradcheck(
            lambda x, f=loss: f(x, truth, valid), flow, fast_mode=True)
    assert torch.autograd.gradcheck(
        lambda c, x: certainty_loss(c, x, truth, valid), (logit, flow),
        fast_mode=True)
    # At no error at all there is no direction, and no NaN.
    for loss in (warp_loss, rmse, uniformity_loss):
        exact = truth.clone().requires_grad_()
        loss(exact, truth).backward()
        assert exact.grad.isfinite().all()


def test_stage_without_a_local_flow_agrees():
    flow = randn(0, 1, 2, 4, 4)
    assert float(agreement_loss(Stage(1, flow, flow))) == 0


def test_truth_of_another_size():
    from osar_plugin.models.registration import GLAMOutput
    flow, _, logit = loss_case()
    with pytest.raises(DataFormatError, match='alike'):
        SOMALoss()(GLAMOutput(flow, flow, logit), flow[..., 1:])
