"""The Frechet distance, and the network around it."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from osar_plugin.evaluation.frechet import (
    FrechetInceptionMetric,
    frechet_distance,
    inception,
    moments,
    prepare,
)
from osar_plugin.utils.checkpoint import save_weights
from osar_plugin.utils.errors import (
    CheckpointError,
    DataFormatError,
    MissingDependencyError,
)


def features(seed: int, count: int = 40, channels: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(channels, channels, generator=generator)
    return torch.randn(count, channels, generator=generator) @ mixing + seed


def test_distance_is_that_of_the_definition() -> None:
    first, second = features(0), features(1)
    (a, cov_a), (b, cov_b) = (
        (x.mean(0), np.cov(x.T)) for x in (
            first.double().numpy(), second.double().numpy()))
    expected = ((a - b)**2).sum() + np.trace(
        cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    assert frechet_distance(moments(first), moments(second)) \
        == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(moments(first), moments(first)) \
        == pytest.approx(0, abs=1e-8)


def test_a_shift_counts_squared_even_below_full_rank() -> None:
    few = features(0, count=3)
    assert frechet_distance(moments(few), moments(few + 2)) \
        == pytest.approx(6 * 4, rel=1e-5)


def test_what_has_no_covariance() -> None:
    with pytest.raises(DataFormatError, match='no covariance'):
        moments(torch.ones(1, 4))
    with pytest.raises(DataFormatError, match='NaN'):
        moments(torch.full((3, 4), torch.nan))


def test_preparation() -> None:
    images = torch.zeros(2, 3, 8, 5, dtype=torch.uint8)
    images[1] = 255
    out = prepare(images)
    assert out.shape == (2, 3, 299, 299)
    assert out[0].unique().tolist() == [-1]
    torch.testing.assert_close(out[1], torch.ones(3, 299, 299))


def test_network_from_a_file(tmp_path) -> None:
    pytest.importorskip('torchvision', reason='needs the extra reid',
                        exc_type=Exception)
    from torchvision.models import inception_v3
    torch.manual_seed(0)
    weights = inception_v3(
        weights=None, init_weights=False).state_dict()
    save_weights(weights, tmp_path / 'inception.safetensors')
    metric = FrechetInceptionMetric(str(tmp_path / 'inception.safetensors'))
    own = metric.network.state_dict()
    torch.testing.assert_close(
        own['Mixed_7c.branch1x1.conv.weight'],
        weights['Mixed_7c.branch1x1.conv.weight'])
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(
        0, 256, (3, 3, 20, 12), generator=generator, dtype=torch.uint8)
    for image in images[:2]:
        metric.process(
            dict(inputs=dict(sar=[image])),
            [dict(views=torch.stack([image, image]))])
    assert metric.results[0]['generated'].shape == (2, 2048)
    # The same images on both sides, those of one side twice: the same
    # mean, covariances that differ by (N - 1) / N only.
    figures = metric.compute_metrics(metric.results)
    _, covariance = moments(
        torch.cat([r['real'] for r in metric.results]))
    assert figures['fid_torchvision'] == pytest.approx(
        float(covariance.trace()) * (1 - (2 / 3)**0.5)**2, rel=1e-3)
    with pytest.raises(DataFormatError, match='real SAR'):
        metric.process(dict(inputs=dict()), [dict(views=images)])
    with pytest.raises(CheckpointError):
        inception(str(tmp_path / 'missing.pth'))


def test_without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'torchvision', None)
    monkeypatch.setitem(sys.modules, 'torchvision.models', None)
    with pytest.raises(MissingDependencyError, match=r'osar_plugin\[reid\]'):
        inception('any.pth')
