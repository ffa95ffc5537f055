"""torchreid's ``evaluate_rank`` as the judge of ours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from osar_plugin.compat import require
from osar_plugin.evaluation import (
    Labels,
    evaluate_distances,
    evaluate_features,
)
from osar_plugin.evaluation.ranking import prepare_features

from .cases import everything, golden_features


@pytest.fixture(scope='module')
def torchreid():
    pytest.importorskip('scipy')
    require('torchvision', 'reid')
    pytest.importorskip('torchreid')
    return require('torchreid', 'reid')


def judge(torchreid, distances, labels, cameras):
    return torchreid.metrics.evaluate_rank(
        distances, labels.query_pids.numpy(), labels.gallery_pids.numpy(),
        *cameras, use_cython=False)


def test_a_thousand_random_cases(torchreid, capsys):
    """Disjoint cameras remove nothing; real ones are the -xcam figures."""
    rng = np.random.default_rng(20)
    compared = 0
    for _ in range(1000):
        num_query, num_gallery = rng.integers(1, 12), rng.integers(120, 150)
        ids = rng.integers(3, 40)
        labels = Labels(*(torch.as_tensor(rng.integers(0, high, num))
                          for high in (ids, 2)
                          for num in (num_query, num_gallery)))
        # A permutation has no ties, which torchreid breaks at random.
        distances = np.stack([
            rng.permutation(num_gallery) for _ in range(num_query)
        ]).astype(np.float32) / num_gallery
        tasks = [everything(num_query, num_gallery),
                 everything(num_query, num_gallery, 'xcam', True)]
        results = evaluate_distances(
            torch.as_tensor(distances), labels, tasks)
        real = labels.query_cameras.numpy(), labels.gallery_cameras.numpy()
        disjoint = np.zeros(num_query), np.ones(num_gallery)
        for name, cameras in (('all', disjoint), ('xcam', real)):
            result = results[name]
            if result.num_valid == 0:
                with pytest.raises(AssertionError):
                    judge(torchreid, distances, labels, cameras)
                continue
            cmc, mean_ap = judge(torchreid, distances, labels, cameras)
            assert abs(result.mean_ap - mean_ap) < 1e-9
            # Its curve is float32.
            np.testing.assert_array_equal(result.cmc.float().numpy(), cmc)
            compared += 1
    assert compared > 1900


def test_from_features(torchreid):
    query, gallery, *pids = golden_features()
    distances = torchreid.metrics.compute_distance_matrix(
        prepare_features(query), prepare_features(gallery)).numpy()
    labels = Labels(*pids)
    cmc, mean_ap = judge(
        torchreid, distances, labels, (np.zeros(30), np.ones(120)))
    result = evaluate_features(
        query, gallery, labels, [everything(30, 120)])['all']
    assert abs(result.mean_ap - mean_ap) < 1e-9
    np.testing.assert_array_equal(result.cmc.float().numpy(), cmc)
