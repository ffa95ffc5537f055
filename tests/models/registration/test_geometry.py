"""Affines, homographies and flows against truths on paper."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from osar_plugin.models.registration import geometry as G
from osar_plugin.utils.errors import ConfigError, DataFormatError

# Size, matrix of `similarity`, then truths: (x, y): flow, and the RMS.
WARPS = [
    (512, (10., 1.1, (12., -7.), (256., 256.)),
     {(0, 0): (55.37265, -9.23167), (511, 0): (1.86062, 71.4358),
      (0, 511): (-25.29482, -62.74371),
      (256, 256): (-11.84839, 4.37261)}, 41.522135),
    (256, (-5., 0.8, (32., -32.), (128., 128.)),
     {(0, 0): (-81.69763, 25.88778), (255, 0): (-19.16057, -1.89311),
      (0, 255): (-53.91674, 88.42484)}, 63.194725)]

AFFINE = torch.tensor(
    [[1.03, 0.08, -3.5], [-0.06, 0.95, 2.25]], dtype=torch.float64)
HOMOGRAPHY = torch.tensor(
    [[1.03, 0.08, -3.5], [-0.06, 0.95, 2.25], [1e-3, -5e-4, 1.]],
    dtype=torch.float64)


def smooth(size, seed=0, sigma=3.):
    """An image without detail that a bilinear sample would lose."""
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.normal(size=size), (0, 0), sigma)
    return torch.tensor(image / image.std())[None, None]


@pytest.mark.parametrize(('side', 'parameters', 'flows', 'rms'), WARPS)
def test_flow_of_a_warped_image(side, parameters, flows, rms):
    matrix = G.similarity(*parameters)
    flow = G.matrix_to_flow(G.invert(matrix), (side, side))
    for (x, y), expected in flows.items():
        np.testing.assert_allclose(flow[:, y, x], expected, atol=1e-5)
    assert math.sqrt((flow**2).sum(0).mean()) == pytest.approx(rms, abs=1e-6)


def test_matrix_and_theta_on_paper():
    matrix = G.similarity(*WARPS[0][1])
    np.testing.assert_allclose(matrix, [
        [1.083289, 0.191013, -58.22119], [-0.191013, 1.083289, 20.577464]],
        atol=1e-6)
    np.testing.assert_allclose(
        G.to_theta(G.invert(matrix), (512, 512)),
        [[0.89528, -0.157862, -0.04577], [0.157862, 0.89528, 0.016977]],
        atol=1e-6)


def test_identity_is_exactly_no_flow():
    eye = torch.eye(3)
    for matrix in (eye[:2], eye):
        assert not G.matrix_to_flow(matrix, (7, 9)).any()
    theta = G.to_theta(eye[:2], (512, 512))
    torch.testing.assert_close(theta, eye[:2], rtol=0, atol=1e-7)


@pytest.mark.parametrize('fixed', [(24, 40), (31, 17)])
def test_theta_is_affine_grids(fixed):
    moving = (20, 33)
    theta = G.to_theta(AFFINE, fixed, moving)
    grid = F.affine_grid(theta[None], [1, 1, *fixed], align_corners=False)
    target = G.denormalise(grid[0], moving).permute(2, 0, 1)
    flow = G.matrix_to_flow(AFFINE, fixed)
    torch.testing.assert_close(
        target - G.pixel_grid(fixed, torch.float64), flow)
    torch.testing.assert_close(G.from_theta(theta, fixed, moving), AFFINE)
    torch.testing.assert_close(
        G.normalise(G.denormalise(grid, moving), moving), grid)


def test_warp_is_opencvs():
    image = smooth((40, 50))
    matrix = G.similarity(4., 1.05, (2., -3.), (20., 20.))
    flow = torch.tensor(G.matrix_to_flow(matrix, (30, 44)))
    ours = G.warp(image, flow[None])[0, 0].numpy()
    theirs = cv2.warpAffine(
        image[0, 0].numpy(), matrix, (44, 30),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    seen = G.inside(flow, (40, 50)).numpy()
    assert 0.3 < seen.mean() < 1
    # OpenCV rounds positions to 1/32 of a pixel.
    assert np.abs(ours - theirs)[seen].max() < 0.05
    assert np.abs(ours - theirs)[seen].mean() < 0.008


def test_a_shift_of_whole_pixels_moves_whole_pixels():
    image = torch.rand(1, 2, 6, 8)
    flow = torch.zeros(1, 2, 6, 8)
    flow[:, 0], flow[:, 1] = 2, -1
    out = G.warp(image, flow)
    torch.testing.assert_close(out[..., 1:, :6], image[..., :5, 2:])
    # Nothing comes from outside but the rounding of a position.
    assert out[..., 0, :].max() < 1e-6 and out[..., 6:].max() < 1e-6
    np.testing.assert_array_equal(
        G.inside(flow)[0, 1:, :6].numpy(), True)
    assert not G.inside(flow)[0, 0].any()
    assert not G.inside(flow)[0, :, 6:].any()


def test_flow_resized_by_two_doubles():
    flow = torch.ones(1, 2, 4, 5)
    torch.testing.assert_close(
        G.resize_flow(flow, (8, 10)), torch.full((1, 2, 8, 10), 2.))
    torch.testing.assert_close(
        G.resize_flow(flow, (2, 15)),
        torch.stack([torch.full((2, 15), 3.),
                     torch.full((2, 15), 0.5)])[None])
    # Both ways agree with the rescaled affine, borders aside.
    for factor in (2, 0.5):
        size = (int(24 * factor), int(32 * factor))
        expected = G.matrix_to_flow(
            G.rescale(AFFINE, factor, factor), size)
        found = G.resize_flow(G.matrix_to_flow(AFFINE, (24, 32)), size)
        torch.testing.assert_close(
            found[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1])


def test_rescale_keeps_the_borders():
    points = torch.tensor([[-0.5, -0.5], [31.5, 23.5]], dtype=torch.float64)
    doubled = torch.tensor([[-0.5, -0.5], [63.5, 47.5]], dtype=torch.float64)
    for matrix in (AFFINE, HOMOGRAPHY):
        scaled = G.rescale(matrix, fixed=2., moving=(3., 1.))
        expected = (G.apply(matrix, points) + 0.5) * torch.tensor(
            [3., 1.]) - 0.5
        torch.testing.assert_close(G.apply(scaled, doubled), expected)
    with pytest.raises(ConfigError, match='above 0'):
        G.rescale(AFFINE, fixed=0.)


def test_corner_convention():
    shifted = G.to_corner_convention(AFFINE)
    torch.testing.assert_close(shifted[:, :2], AFFINE[:, :2])
    expected = 0.5 * (torch.eye(2, dtype=torch.float64)
                      - AFFINE[:, :2]).sum(1)
    torch.testing.assert_close(shifted[:, 2] - AFFINE[:, 2], expected)
    torch.testing.assert_close(G.from_corner_convention(shifted), AFFINE)
    point = torch.tensor([[3., 4.]], dtype=torch.float64)
    torch.testing.assert_close(
        G.apply(G.to_corner_convention(HOMOGRAPHY), point + 0.5),
        G.apply(HOMOGRAPHY, point) + 0.5)


@pytest.mark.parametrize('matrix', [AFFINE, HOMOGRAPHY])
def test_compose_and_invert(matrix):
    points = torch.rand(5, 2, dtype=torch.float64) * 20
    there = G.apply(matrix, points)
    torch.testing.assert_close(G.apply(G.invert(matrix), there), points)
    torch.testing.assert_close(
        G.apply(G.compose(AFFINE, matrix), points),
        G.apply(AFFINE, there))
    assert G.compose(AFFINE, AFFINE).shape == (2, 3)


def test_arrays_in_arrays_out():
    found = G.apply(AFFINE.numpy(), np.array([[1, 2]]))
    assert isinstance(found, np.ndarray) and found.dtype == np.float64
    torch.testing.assert_close(
        torch.tensor(found),
        G.apply(AFFINE, torch.tensor([[1., 2.]], dtype=torch.float64)))
    assert G.matrix_to_flow(
        AFFINE.numpy().astype(np.float32), (4, 5)).dtype == np.float32


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_affine_of_an_affine_flow(dtype):
    batch = torch.stack([AFFINE, G.invert(AFFINE)]).to(dtype)
    flow = G.matrix_to_flow(batch, (512, 384))
    atol = 1e-4 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(
        G.flow_to_affine(flow), batch, rtol=0, atol=atol)


def test_affine_follows_the_weight():
    flow = G.matrix_to_flow(AFFINE, (20, 30))
    weight = torch.ones(20, 30, dtype=torch.float64)
    flow[:, 3:8, 4:20], weight[3:8, 4:20] = 50, 0
    torch.testing.assert_close(G.flow_to_affine(flow, weight), AFFINE)
    assert (G.flow_to_affine(flow) - AFFINE).abs().max() > 0.5


def elastic(size=(48, 64), amplitude=2.):
    """A smooth flow beside an affine one."""
    grid = G.pixel_grid(size, torch.float64)
    wave = torch.stack([torch.sin(grid[1] / 9 + 1), torch.cos(grid[0] / 11)])
    return G.matrix_to_flow(AFFINE, size) + amplitude * wave


def test_points_through_a_flow():
    points = torch.tensor(
        [[3., 4.], [10.5, 2.25], [-3., 60.], [63., 47.]],
        dtype=torch.float64)
    torch.testing.assert_close(
        G.move_points(G.matrix_to_flow(AFFINE, (48, 64)), points),
        G.apply(AFFINE, points))
    flow = elastic()
    torch.testing.assert_close(
        G.flow_at(flow, points)[0], flow[:, 4, 3])
    torch.testing.assert_close(
        G.flow_at(flow, points)[1],
        0.75 * flow[:, 2, 10:12].mean(1) + 0.25 * flow[:, 3, 10:12].mean(1))
    batch = torch.stack([flow, 2 * flow])
    torch.testing.assert_close(
        G.flow_at(batch, points.expand(2, -1, -1))[1],
        2 * G.flow_at(flow, points))


def test_composed_flows():
    outer = G.matrix_to_flow(G.invert(AFFINE), (48, 64))
    inner = G.matrix_to_flow(AFFINE, (48, 64))
    torch.testing.assert_close(
        G.compose_flows(outer, inner), torch.zeros_like(inner))
    shift = torch.zeros(2, 48, 64, dtype=torch.float64)
    shift[0] = 3
    flow = elastic()
    torch.testing.assert_close(
        G.compose_flows(flow, shift)[:, :, :61],
        flow[:, :, 3:] + shift[:, :, 3:])


def test_inverted_flow_leads_back():
    flow = elastic()
    back = G.invert_flow(flow)
    round_trip = G.compose_flows(flow, back)
    inner = round_trip[:, 8:-8, 8:-8]
    assert inner.abs().max() < 1e-6
    image = smooth((48, 64), sigma=4.)
    twice = G.warp(G.warp(image, flow[None]), back[None])
    seen = G.inside(back) & (G.warp(
        G.inside(flow).double()[None, None], back[None])[0, 0] > 0.999)
    assert seen.double().mean() > 0.5
    assert (twice - image)[0, 0][seen].abs().max() < 0.1


def test_gradients():
    points = torch.rand(4, 2, dtype=torch.float64) * 3
    flow = (elastic((4, 5)) * 0.1 + 0.013).detach()
    for leaf in (flow, points):
        leaf.requires_grad_()
    matrix = AFFINE.clone().requires_grad_()
    full = HOMOGRAPHY.clone().requires_grad_()
    image = torch.rand(1, 1, 6, 7, dtype=torch.float64, requires_grad=True)
    check = torch.autograd.gradcheck
    assert check(G.apply, (full, points))
    assert check(lambda a: G.matrix_to_flow(a, (3, 4)), (matrix,))
    assert check(lambda a: G.matrix_to_flow(a, (3, 4)), (full,))
    assert check(lambda a: G.to_theta(a, (3, 4)), (matrix,))
    assert check(lambda i, f: G.warp(i, f[None]), (image, flow))
    assert check(lambda f: G.resize_flow(f, (8, 9)), (flow,))
    assert check(G.flow_to_affine, (flow,))
    assert check(G.flow_at, (flow, points + 0.01))
    assert check(G.compose, (matrix, full))


def test_bad_matrices():
    with pytest.raises(DataFormatError, match='no matrix'):
        G.check_matrix([[1, 'a', 3], [2, 3]])
    with pytest.raises(DataFormatError, match=r'shape \(3, 2\)'):
        G.check_matrix(np.eye(3)[:, :2])
    with pytest.raises(DataFormatError, match='finite'):
        G.check_matrix([[1, 0, float('nan')], [0, 1, 0]])
    with pytest.raises(DataFormatError, match='cannot be inverted'):
        G.check_matrix([[1, 2, 0], [2, 4, 0]], 'truth')
    np.testing.assert_array_equal(
        G.check_matrix([[1, 0, 2], [0, 1, 3]]), [[1, 0, 2], [0, 1, 3]])
