"""Structural scores and speckle statistics against plain computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance
from torch import Tensor

from osar_plugin.evaluation.similarity import (
    STRUCTURE,
    bhattacharyya,
    equivalent_looks,
    gradient_concordance,
    histogram,
    local_looks,
    multiscale_ssim,
    scatterer_f1,
    structural_scores,
    wasserstein,
)
from osar_plugin.utils.errors import ConfigError, DataFormatError


def scene(seed: int, looks: float = 4., count: int = 1,
          size: tuple[int, int] = (96, 32)) -> Tensor:
    """Bright blocks on dark ground under speckle of its own, 0..255."""
    generator = np.random.default_rng(seed)
    clean = np.full(size, 12.)
    for _ in range(6):
        top, left = generator.integers(0, (size[0] - 12, size[1] - 8))
        clean[top:top + 10, left:left + 6] = generator.uniform(60, 160)
    images = [
        clean * np.sqrt(np.random.default_rng((seed, i, 7)).gamma(
            looks, 1 / looks, size)) for i in range(count)]
    return torch.tensor(np.clip(images, 0, 255), dtype=torch.float32)


def plain_ssim(a: np.ndarray, b: np.ndarray, whole: bool) -> float:
    """SSIM with SciPy's Gaussian filter, its borders cut off."""
    def smooth(x: np.ndarray) -> np.ndarray:
        return gaussian_filter(x, 1.5, radius=5)[5:-5, 5:-5]

    ma, mb = smooth(a), smooth(b)
    va, vb = smooth(a * a) - ma**2, smooth(b * b) - mb**2
    out = (2 * (smooth(a * b) - ma * mb) + 9e-4) / (va + vb + 9e-4)
    if whole:
        out = out * (2 * ma * mb + 1e-4) / (ma**2 + mb**2 + 1e-4)
    return float(out.mean())


def test_multiscale_ssim_is_the_plain_one() -> None:
    a, b = scene(0, size=(64, 48))[0], scene(1, size=(64, 48))[0]
    logs = [np.log1p(x.numpy().astype(float)) / math.log(256) for x in (a, b)]
    values = []
    for scale in range(3):  # 64 x 48, 32 x 24, 16 x 12
        values.append(plain_ssim(*logs, whole=scale == 2))
        logs = [x.reshape(x.shape[0] // 2, 2, -1, 2).mean((1, 3))
                for x in logs]
    expected = np.average(values, weights=(0.0448, 0.2856, 0.3001))
    assert float(multiscale_ssim(a, b)[0]) == pytest.approx(
        expected, abs=1e-5)


@pytest.mark.parametrize('name', STRUCTURE)
def test_order_of_likeness(name: str) -> None:
    """The same image, the same scene in new speckle, another scene."""
    score = STRUCTURE[name]
    same, other = [], []
    for seed in range(8):
        first, second = scene(seed, count=2)
        assert float(score(first, first)[0]) == pytest.approx(1, abs=1e-5)
        # Both ways round.
        assert float(score(first, second)[0]) == pytest.approx(
            float(score(second, first)[0]), abs=1e-5)
        same.append(float(score(first, second)[0]))
        other.append(float(score(first, scene(seed + 100)[0])[0]))
    assert np.mean(same) > np.mean(other) + 0.2, (same, other)


@pytest.mark.parametrize('name', STRUCTURE)
def test_a_stack_is_its_images(name: str) -> None:
    a = torch.cat([scene(i) for i in range(3)])
    b = torch.cat([scene(i, count=2)[1:] for i in range(3)])
    torch.testing.assert_close(
        STRUCTURE[name](a, b),
        torch.cat([STRUCTURE[name](x, y) for x, y in zip(a, b, strict=True)]))


def test_nothing_in_an_image_scores_nothing() -> None:
    flat, image = torch.full((1, 96, 32), 80.), scene(0)
    for a, b in ((flat, image), (image, flat), (flat, flat)):
        assert float(scatterer_f1(a, b)) == 0
        assert float(gradient_concordance(a, b)) == 0


def test_gradients_are_the_plain_ones() -> None:
    a, b = (scene(i)[0] for i in (3, 4))
    edges = []
    for image in (a, b):
        smooth = gaussian_filter(
            np.pad(image.numpy().astype(float), 1, mode='edge'), 1.5,
            radius=4, mode='nearest')
        dy = smooth[2:, 1:-1] - smooth[:-2, 1:-1]
        dx = smooth[1:-1, 2:] - smooth[1:-1, :-2]
        edges.append(np.hypot(dx, dy).ravel() / 2)
    covariance = np.cov(*edges, bias=True)
    expected = 2 * covariance[0, 1] / (
        np.trace(covariance) + (edges[0].mean() - edges[1].mean())**2)
    assert float(gradient_concordance(a, b, 1.5)[0]) == pytest.approx(
        expected, abs=1e-5)
    # 96 x 32 pixels: a fiftieth of 96.
    assert float(gradient_concordance(a, b)) == pytest.approx(
        float(gradient_concordance(a, b, 1.92)))
    with pytest.raises(ConfigError, match='sigma=0'):
        gradient_concordance(a, b, 0.)


@pytest.mark.parametrize('name', STRUCTURE)
def test_a_mean_of_everything_does_not_pay(name: str) -> None:
    """It shows no scene, and must stay below the same scene anew."""
    mean = torch.cat([scene(seed) for seed in range(200, 260)]).mean(0)
    same, blurred = [], []
    for seed in range(8):
        first, second = scene(seed, count=2)
        same.append(float(STRUCTURE[name](first, second)[0]))
        blurred.append(float(STRUCTURE[name](mean, second)[0]))
    assert np.mean(same) > np.mean(blurred) + 0.2


def test_scatterers_by_hand() -> None:
    a, b = torch.zeros(1, 20, 20), torch.zeros(1, 20, 20)
    for row in range(4):
        a[0, 4 * row + 2, 5] = 200
        b[0, 4 * row + 2, 5 + row] = 100
    options = dict(share=0.01, tolerance=1)  # four pixels
    # Shifts of 0, 1, 2 and 3: two of four are near, on both sides.
    assert float(scatterer_f1(a, b, **options)) == pytest.approx(0.5)
    assert float(scatterer_f1(a, b, share=0.01, tolerance=2)) \
        == pytest.approx(0.75)
    # An echo without a partner costs recall alone.
    b[0, 10, 17] = 100
    precision, recall = 0.5, 0.4
    assert float(scatterer_f1(a, b, **options)) == pytest.approx(
        2 * precision * recall / (precision + recall))


def test_structure_is_the_mean_of_the_others() -> None:
    scores = structural_scores(*scene(0, count=2)[:, None])
    assert list(scores) == [*STRUCTURE, 'structure']
    assert float(scores['structure']) == pytest.approx(
        np.mean([float(scores[name]) for name in STRUCTURE]), abs=1e-6)


@pytest.mark.parametrize('first, second', [
    ((1, 32, 32), (1, 32, 31)), ((2, 32, 32), (1, 32, 32)),
    ((1, 1, 32, 32), (1, 1, 32, 32)), ((0, 32, 32), (0, 32, 32)),
    ((1, 10, 32), (1, 10, 32))])
def test_what_cannot_be_compared(first: tuple, second: tuple) -> None:
    with pytest.raises(DataFormatError, match='Images of'):
        multiscale_ssim(torch.ones(first), torch.ones(second))


@pytest.mark.parametrize('options', [
    dict(share=0), dict(share=1), dict(tolerance=-1)])
def test_bad_scatterer_options(options: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        scatterer_f1(torch.ones(20, 20), torch.ones(20, 20), **options)


@pytest.mark.parametrize('looks', [1, 3, 8])
@pytest.mark.parametrize('size', [(128, 128), (96, 24)])
def test_equivalent_looks_in_spite_of_a_ship(looks: int,
                                             size: tuple) -> None:
    """Gamma speckle of known looks; a ship covers a sixth of the chip."""
    rng = np.random.default_rng(looks)
    estimates = []
    for _ in range(6):
        intensity = 900 * rng.gamma(looks, 1 / looks, size)
        top, left = size[0] // 3, size[1] // 4
        ship = intensity[top:2 * top, left:3 * left]
        ship *= rng.uniform(1, 40, ship.shape)
        estimates.append(equivalent_looks(
            torch.tensor(np.sqrt(intensity))[None])[0])
    assert float(np.median(estimates)) == pytest.approx(looks, rel=0.15)
    # The mean over windows is far off, which is why the peak is taken.
    middle = local_looks(torch.tensor(np.sqrt(intensity))[None])
    assert middle.shape == (1, (size[0] - 6) * (size[1] - 6))


def test_looks_of_a_window_by_hand() -> None:
    amplitude = torch.tensor([[[1., 2.], [3., 4.]]])
    values = np.array([1., 4., 9., 16.])
    assert float(local_looks(amplitude, 2)) == pytest.approx(
        values.mean()**2 / values.var(ddof=1))


def test_looks_do_not_hang_on_brightness() -> None:
    image = scene(0, 3.)
    torch.testing.assert_close(
        equivalent_looks(image), equivalent_looks(image * 7))
    assert float(equivalent_looks(image)) > 2
    smooth = torch.nn.functional.avg_pool2d(image, 3, 1)
    assert float(equivalent_looks(smooth)) > 2 * float(
        equivalent_looks(image))


def test_no_speckle_no_looks() -> None:
    images = torch.stack([torch.zeros(16, 16), torch.full((16, 16), 9.)])
    assert torch.isnan(equivalent_looks(images)).all()
    with pytest.raises(DataFormatError, match='smaller than the window'):
        equivalent_looks(torch.ones(1, 6, 30))
    with pytest.raises(ConfigError, match='window=1'):
        equivalent_looks(torch.ones(1, 6, 30), window=1)


def test_histogram_distances() -> None:
    rng = np.random.default_rng(0)
    a = rng.gamma(2, 30, 4000).clip(0, 255).astype(np.uint8)
    b = rng.gamma(4, 25, 2000).clip(0, 255).astype(np.uint8)
    p, q = (histogram(torch.tensor(x)) for x in (a, b))
    assert p.sum() == 4000 and p[a[0]] == (a == a[0]).sum()
    assert wasserstein(p, q) == pytest.approx(wasserstein_distance(a, b))
    assert wasserstein(p, p) == 0
    shifted = histogram(torch.tensor(b // 2 + 10))
    assert wasserstein(histogram(torch.tensor(b // 2)), shifted) \
        == pytest.approx(10)
    share = [np.bincount(x, minlength=256) / len(x) for x in (a, b)]
    assert bhattacharyya(p, q) == pytest.approx(
        -math.log(np.sqrt(share[0] * share[1]).sum()))
    assert bhattacharyya(p, p) == pytest.approx(0, abs=1e-12)
    zero, one = (histogram(torch.full((5, ), x)) for x in (0, 1))
    assert bhattacharyya(zero, one) == math.inf
    empty = histogram(torch.empty(0))
    assert math.isnan(wasserstein(p, empty))
    assert math.isnan(bhattacharyya(empty, p))
