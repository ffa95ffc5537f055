"""Figures of pre-training, against cases whose answer is known."""

from __future__ import annotations

import math

import pytest
import torch

from osar_plugin.evaluation.linear_probe import (
    ProbeResult,
    ProbeSettings,
    micro_average_precision,
    micro_f1,
    pool_tokens,
    train_probe,
)
from osar_plugin.evaluation.pretraining import (
    binned_means,
    correlation,
    effective_rank,
    image_ssim,
    modality_gap,
    patch_alignment,
    patch_ssim,
    principal_plane,
    singular_spectrum,
    ssim_by_scale,
)
from osar_plugin.utils.errors import ConfigError, DataFormatError


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed))


def test_spectrum_is_that_of_the_covariance() -> None:
    features = draw(40, 6) * torch.tensor([5., 4, 3, 2, 1, 0]) + 7
    values = singular_spectrum(features)
    expected = torch.linalg.eigvalsh(features.double().T.cov()).flip(0)
    torch.testing.assert_close(values**2, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(('values', 'rank'), [
    ([1., 1, 1, 1], 4.), ([3., 0, 0], 1.), ([0., 0], 0.),
    # entropy of (3/4, 1/4)
    ([3., 1], math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4)))])
def test_effective_rank(values: list[float], rank: float) -> None:
    assert effective_rank(
        torch.tensor(values, dtype=torch.float64)) == pytest.approx(rank)


def test_alignment_is_of_the_same_place() -> None:
    tokens = torch.eye(3).expand(2, 3, 3)
    assert patch_alignment(tokens, 5 * tokens).eq(1).all()
    assert patch_alignment(tokens, tokens.roll(1, 1)).eq(0).all()
    with pytest.raises(DataFormatError, match='do not correspond'):
        patch_alignment(tokens, tokens[:, :2])


def test_patch_ssim_by_hand() -> None:
    """Of the second patch alone the contents are turned around."""
    first = torch.rand(1, 16, 32, generator=torch.Generator().manual_seed(1))
    second = first.clone()
    second[..., 16:] = 1 - second[..., 16:]
    a = first[0, :, 16:].double()
    b = second[0, :, 16:].double()
    covariance = ((a - a.mean()) * (b - b.mean())).mean()
    expected = ((2 * a.mean() * b.mean() + 1e-4) * (2 * covariance + 9e-4)
                / ((a.mean()**2 + b.mean()**2 + 1e-4)
                   * (a.var(correction=0) + b.var(correction=0) + 9e-4)))
    found = patch_ssim(first, second)
    torch.testing.assert_close(
        found, torch.tensor([[1., float(expected)]]), atol=1e-5, rtol=0)
    assert found[0, 1] < -0.9
    with pytest.raises(DataFormatError, match='16 x 30'):
        patch_ssim(first[..., :30], second[..., :30])


def test_scales_leave_structure_and_average_noise() -> None:
    """Two noisy views of one smooth scene agree where noise is averaged."""
    ramp = torch.linspace(0.2, 0.8, 96).expand(1, 96, 96)
    views = [ramp + 0.1 * draw(1, 96, 96, seed=s) for s in (1, 2)]
    levels = torch.cat(ssim_by_scale(views[0], views[1], 9))
    # 96, 48, 24, 12 pixels; at 6 the window does not fit.
    assert len(levels) == 4
    assert (levels.diff() > 0).all() and levels[0] < 0.3 < 0.7 < levels[-1]
    torch.testing.assert_close(levels[:1], image_ssim(*views))
    assert all(
        float(level) == pytest.approx(1, abs=1e-6)
        for level in ssim_by_scale(ramp, ramp))
    with pytest.raises(DataFormatError, match='too small'):
        image_ssim(ramp[:, :10], ramp[:, :10])


def test_bins_hold_equal_numbers() -> None:
    x = torch.arange(10.).flip(0)
    bins = binned_means(x, 2 * x, 5)
    assert [row[0] for row in bins] == [0.5, 2.5, 4.5, 6.5, 8.5]
    assert [row[1:] for row in bins] == [
        (2 * row[0], 1., 2) for row in bins]
    assert correlation(x, -3 * x) == pytest.approx(-1)
    with pytest.raises(DataFormatError):
        binned_means(x[:0], x[:0])


def test_gap_of_clouds_that_are_shifted() -> None:
    """One shape, moved: parallel lines. Shuffled: no longer."""
    rgb = torch.nn.functional.normalize(draw(50, 8), dim=1)
    shift = torch.zeros(8)
    shift[0] = 20.
    figures = modality_gap(rgb, rgb)
    assert figures['gap'] == pytest.approx(0, abs=1e-6)
    assert figures['pair_cosine'] == pytest.approx(1)
    assert figures['topology'] == pytest.approx(1)
    assert abs(figures['other_cosine']) < 0.2
    moved = modality_gap(rgb, rgb + shift)
    assert moved['parallel'] > 0.7 > figures['parallel']
    mixed = modality_gap(rgb, rgb.flip(0))
    assert abs(mixed['topology']) < 0.2
    with pytest.raises(DataFormatError, match='NaN'):
        modality_gap(rgb * math.nan, rgb)


def test_plane_of_largest_spread() -> None:
    features = torch.zeros(30, 5)
    features[:, 3], features[:, 1] = draw(30, seed=3) * 9, draw(30, seed=4)
    points, shares = principal_plane(features)
    assert shares.sum() == pytest.approx(1) and shares[0] > 0.9
    torch.testing.assert_close(
        torch.cdist(points, points),
        torch.cdist(features.double(), features.double()))


def test_probe_of_separable_classes() -> None:
    """Scale and offset of channels do not matter to the head."""
    labels = torch.arange(90) % 3
    features = torch.eye(3)[labels] * torch.tensor([1., 1e3, 1e-2]) + 5
    features = features + 1e-3 * draw(90, 3) * features.std(0)
    result = train_probe(
        features[:60], labels[:60], features[60:], labels[60:], 3,
        ProbeSettings(epochs=12, batch_size=16))
    assert list(result.curve) == [5, 10, 12]
    assert result.final == dict(accuracy=100.)
    again = train_probe(
        features[:60], labels[:60], features[60:], labels[60:], 3,
        ProbeSettings(epochs=12, batch_size=16))
    assert again.curve == result.curve
    several = torch.eye(3)[labels]
    result = train_probe(
        features[:60], several[:60], features[60:], several[60:], 3,
        ProbeSettings(epochs=20, batch_size=16))
    assert result.final['micro_ap'] == pytest.approx(100)
    assert result.final['micro_f1'] == pytest.approx(100)


def test_labels_without_meaning_are_not_learned() -> None:
    """A test image that leaked into training would be told rightly."""
    labels = torch.randint(
        0, 4, (400, ), generator=torch.Generator().manual_seed(5))
    features = draw(400, 16)
    result = train_probe(
        features[:200], labels[:200], features[200:], labels[200:], 4,
        ProbeSettings(epochs=10))
    assert result.final['accuracy'] < 40


def test_rate_and_best() -> None:
    settings = ProbeSettings()
    assert settings.rate(0, 100) == 0.5
    assert settings.rate(50, 100) == pytest.approx(0.25, abs=1e-6)
    assert settings.rate(100, 100) == pytest.approx(1e-6)
    result = ProbeResult({
        5: dict(accuracy=1.), 10: dict(accuracy=3.), 15: dict(accuracy=3.),
        20: dict(accuracy=2.)})
    assert (result.best_epoch, result.best, result.final) == (
        10, dict(accuracy=3.), dict(accuracy=2.))


def test_micro_average_precision_by_hand() -> None:
    """Falling scores 4 3 2 2 1: right, wrong, one of two right, right."""
    scores = torch.tensor([[4., 3.], [2., 2.], [1., 0.]])
    labels = torch.tensor([[1, 0], [1, 0], [1, 0]])
    expected = (1 * 1 + 1 * (2 / 4) + 1 * (3 / 5)) / 3
    assert micro_average_precision(scores, labels) == pytest.approx(expected)
    # The order of equal scores changes nothing.
    assert micro_average_precision(
        scores.flip(1), labels.flip(1)) == pytest.approx(expected)
    assert math.isnan(micro_average_precision(scores, 0 * labels))
    # Told: 5 of 6, 3 of them right, of 3.
    assert micro_f1(scores, labels) == pytest.approx(6 / 8)


def test_pooled_tokens_are_normalised() -> None:
    tokens = draw(2, 5, 8) * 3 + 1
    pooled = pool_tokens(tokens)
    mean = tokens.mean(1)
    expected = (mean - mean.mean(1, keepdim=True)) / (
        mean.var(1, keepdim=True, correction=0) + 1e-6).sqrt()
    torch.testing.assert_close(pooled, expected)


@pytest.mark.parametrize(('change', 'text'), [
    (dict(features=draw(4, 3) * math.nan), '4 of 4 training'),
    (dict(features=draw(1, 3), labels=torch.tensor([0])), 'two at least'),
    (dict(labels=torch.tensor([0, 1, 2, 9])), '0 to 9; expected 0 to 2'),
    (dict(labels=torch.zeros(4, 2)), r'\(N, 3\)'),
    (dict(test_features=draw(0, 3)), 'test features')])
def test_what_cannot_be_probed(change: dict, text: str) -> None:
    arguments = dict(
        features=draw(4, 3), labels=torch.tensor([0, 1, 2, 0]),
        test_features=draw(4, 3), test_labels=torch.tensor([0, 1, 2, 0]))
    with pytest.raises(DataFormatError, match=text):
        train_probe(**{**arguments, **change}, num_classes=3)


def test_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match='epochs=0'):
        ProbeSettings(epochs=0)
    with pytest.raises(ConfigError, match='min_lr'):
        ProbeSettings(lr=0.1, min_lr=0.2)
