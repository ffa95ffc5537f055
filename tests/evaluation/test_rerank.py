from __future__ import annotations

import numpy as np
import pytest
import torch

from osar_plugin.evaluation import Labels, evaluate_distances, k_reciprocal
from osar_plugin.evaluation.ranking import prepare_features, squared_distances
from osar_plugin.utils.errors import ConfigError, DataFormatError

from .cases import GOLDEN, everything, golden_features


@pytest.fixture(autouse=True)
def _one_thread():
    """Thousands of tiny steps, whose threads would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def plain(query, gallery, k1, k2, lambda_value, dtype=np.float32):
    """The method written down row by row, with V in ``dtype``."""
    features = torch.cat([query, gallery])
    num, num_query = len(features), len(query)
    d = squared_distances(features, features).numpy()
    d = d / d.max(1, keepdims=True)
    rank = np.argsort(d, axis=1, kind='stable')

    def reciprocal(k):
        near = np.zeros((num, num), bool)
        np.put_along_axis(near, rank[:, :k + 1], True, axis=1)
        return near & near.T

    whole_k, half_k = reciprocal(k1), reciprocal(round(k1 / 2))
    v = np.zeros((num, num), dtype)
    for i in range(num):
        chosen = whole_k[i].copy()
        for j in np.flatnonzero(whole_k[i]):
            if 3 * (half_k[j] & whole_k[i]).sum() > 2 * half_k[j].sum():
                chosen |= half_k[j]
        weight = np.exp(-d[i, chosen])
        v[i, chosen] = weight / weight.sum()
    if k2 > 1:
        v = np.stack([v[rank[i, :k2]].mean(0) for i in range(num)])
    m = np.zeros((num_query, num - num_query), dtype)
    for k in range(num):
        m += np.minimum(v[:num_query, k, None], v[None, num_query:, k])
    return ((1 - m / (2 - m)) * (1 - lambda_value)
            + d[:num_query, num_query:] * lambda_value)


def normalised():
    query, gallery, *pids = golden_features()
    return prepare_features(query), prepare_features(gallery), *pids


@pytest.mark.parametrize('k1,k2,name', [(50, 15, 'k50'), (20, 6, 'k20')])
def test_golden(k1, k2, name):
    """The official code sums in float16, which is worth 4e-3 at k1 = 50."""
    golden = np.load(GOLDEN)
    query, gallery, query_pids, gallery_pids = golden_features()
    labels, tasks = Labels(query_pids, gallery_pids), [everything(30, 120)]
    for half, tolerance, map_tolerance in (
            (True, 6e-4, 1e-3), (False, 5e-3, 2e-3)):
        distances = k_reciprocal(query, gallery, k1, k2, 0.3, half=half)
        assert distances.dtype == torch.float32
        np.testing.assert_allclose(
            distances.numpy(), golden[f'rerank_{name}'], rtol=0,
            atol=tolerance)
        result = evaluate_distances(distances, labels, tasks)['all']
        assert result.mean_ap == pytest.approx(
            float(golden[f'rerank_{name}_mAP']), abs=map_tolerance)


@pytest.mark.parametrize('memory', [1, 50_000, 2**28])
@pytest.mark.parametrize('k1,k2,weight', [
    (50, 15, .3), (20, 6, .3), (7, 1, 0.), (1, 2, .5), (149, 15, 1.)])
def test_as_written_down(k1, k2, weight, memory):
    query, gallery, *_ = normalised()
    np.testing.assert_allclose(
        k_reciprocal(query, gallery, k1, k2, weight, memory=memory).numpy(),
        plain(query, gallery, k1, k2, weight), rtol=0, atol=2e-6)


def test_float16_as_written_down():
    query, gallery, *_ = normalised()
    np.testing.assert_allclose(
        k_reciprocal(query, gallery, half=True).numpy(),
        plain(query, gallery, 50, 15, .3, np.float16), rtol=0, atol=1e-3)


def test_it_helps():
    query, gallery, query_pids, gallery_pids = golden_features()
    labels, tasks = Labels(query_pids, gallery_pids), [everything(30, 120)]
    before = evaluate_distances(
        squared_distances(*normalised()[:2]), labels, tasks)['all'].mean_ap
    after = evaluate_distances(
        k_reciprocal(query, gallery, 20, 6), labels, tasks)['all'].mean_ap
    assert after > before + .1


def test_within_one_modality():
    """Each block is what re-ranking that part alone gives."""
    query, gallery, *_ = golden_features()
    generator = torch.Generator().manual_seed(0)
    query_modality = torch.randint(2, (30,), generator=generator)
    gallery_modality = torch.randint(2, (120,), generator=generator)
    result = k_reciprocal(
        query, gallery, 20, 6, within_modality=True,
        query_modality=query_modality, gallery_modality=gallery_modality)
    for q in (0, 1):
        for g in (0, 1):
            rows, columns = query_modality == q, gallery_modality == g
            torch.testing.assert_close(
                result[rows][:, columns],
                k_reciprocal(query[rows], gallery[columns], 20, 6))


def test_collapsed_features_give_no_nan():
    same = torch.ones(60, 8)
    assert torch.isfinite(k_reciprocal(same[:9], same[9:], 20, 6)).all()


@pytest.mark.parametrize('options,message', [
    (dict(k1=150), 'only 150 images'),
    (dict(k1=0), 'k1 >= 1'),
    (dict(k2=0), 'k2'),
    (dict(k1=5, k2=9), 'k2'),
    (dict(lambda_value=1.5), 'within \\[0, 1\\]'),
    (dict(within_modality=True), 'query_modality'),
])
def test_bad_parameters(options, message):
    query, gallery, *_ = golden_features()
    with pytest.raises(ConfigError, match=message):
        k_reciprocal(query, gallery, **options)


def test_empty_side():
    with pytest.raises(DataFormatError, match='got 0 and 60'):
        k_reciprocal(torch.zeros(0, 4), torch.ones(60, 4))
