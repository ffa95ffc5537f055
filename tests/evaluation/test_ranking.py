from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from osar_plugin.evaluation import (
    Labels,
    Task,
    evaluate_distances,
    evaluate_features,
    make_tasks,
    ranking,
    top_k,
)
from osar_plugin.utils.errors import ConfigError, DataFormatError

from .cases import GOLDEN, everything, golden_case, golden_features, plain

NAMES = ('ALL', 'O2S', 'S2O', 'O2O', 'S2S', 'ALL-xcam')


def tensors(*arrays):
    return [torch.as_tensor(a) for a in arrays]


def check(result, expected):
    for key, value in (
            ('ap', result.average_precision), ('inp', result.inverse_penalty),
            ('ap_k', result.average_precision_at_k),
            ('first', result.first_rank), ('matches', result.num_matches)):
        np.testing.assert_allclose(
            value.numpy(), expected[key], rtol=0, atol=1e-12, err_msg=key)
    np.testing.assert_array_equal(
        result.valid.numpy(), expected['matches'] > 0)


@pytest.mark.parametrize('name', 'ABC')
def test_golden_distances(name):
    golden = np.load(GOLDEN)
    distances, *rest = tensors(*golden_case(name))
    size = distances.shape
    results = evaluate_distances(
        distances, Labels(*rest),
        [everything(*size), everything(*size, 'market', True)])
    ours, market = results['all'], results['market']
    np.testing.assert_array_equal(ours.valid.numpy(), golden[f'{name}_valid'])
    assert abs(ours.mean_ap - golden[f'{name}_mAP']) < 1e-9
    assert abs(ours.mean_inp - golden[f'{name}_mINP']) < 1e-9
    np.testing.assert_allclose(
        ours.average_precision[ours.valid].numpy(), golden[f'{name}_ap'],
        rtol=0, atol=1e-9)
    # The official curve is in float32.
    np.testing.assert_array_equal(
        ours.cmc.float().numpy(), golden[f'{name}_cmc'])
    assert abs(market.mean_ap - golden[f'{name}_market_mAP']) < 1e-9
    assert abs(market.rank(1) - golden[f'{name}_market_r1']) < 1e-9
    assert market.num_valid == golden[f'{name}_market_nvalid']


def test_golden_features():
    golden = np.load(GOLDEN)
    query, gallery, query_pids, gallery_pids = golden_features()
    distances = ranking.squared_distances(
        ranking.prepare_features(query), ranking.prepare_features(gallery))
    np.testing.assert_allclose(
        distances.numpy(), golden['feat_dist'], rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        ranking.angular_distances(query, gallery).numpy(),
        golden['feat_arccos'], rtol=0, atol=1e-6)
    result = evaluate_features(
        query, gallery, Labels(query_pids, gallery_pids),
        [everything(30, 120)])['all']
    assert abs(result.mean_ap - golden['feat_mAP']) < 1e-9
    np.testing.assert_array_equal(
        result.cmc.float().numpy(), golden['feat_cmc'])


def random_labels(rng, num_query, num_gallery, ids):
    query_pids, gallery_pids, query_cams, gallery_cams = tensors(
        rng.integers(0, ids, num_query), rng.integers(0, ids, num_gallery),
        rng.integers(0, 2, num_query), rng.integers(0, 2, num_gallery))
    own = torch.full((num_query,), -1)
    for row in range(num_query):
        same = (gallery_pids == query_pids[row]).nonzero().flatten()
        if len(same) and rng.random() < .5:
            own[row] = same[rng.integers(len(same))]
    return Labels(query_pids, gallery_pids, query_cams, gallery_cams, own)


@pytest.mark.parametrize('many', [0, 64])
@pytest.mark.parametrize('tile', [8, 2**24])
@pytest.mark.parametrize('levels', [3, 10**6])
def test_protocols_in_one_pass_are_sorting_and_filtering(
        monkeypatch, many, tile, levels):
    """With few levels nearly everything ties; ids up to half the gallery."""
    monkeypatch.setattr(ranking, '_MANY', many)
    monkeypatch.setattr(ranking, '_TILE', dict(cpu=tile))
    monkeypatch.setattr(ranking, '_STRIP', 5)
    rng = np.random.default_rng(levels + many)
    for _ in range(8):
        num_query, num_gallery = rng.integers(1, 25), rng.integers(1, 60)
        labels = random_labels(
            rng, num_query, num_gallery, rng.integers(1, 20))
        distances = rng.integers(
            0, levels, (num_query, num_gallery)).astype(np.float32)
        tasks = make_tasks(
            NAMES, labels.query_cameras, labels.gallery_cameras)
        # A membership that no modality explains.
        tasks.append(Task(
            'some', *tensors(rng.random(num_query) < .7,
                             rng.random(num_gallery) < .5)))
        results = evaluate_distances(
            torch.as_tensor(distances), labels, tasks,
            memory=int(rng.choice([2000, 2**28])))
        for task in tasks:
            check(results[task.name], plain(distances, labels, task))


def test_ties_and_duplicates_from_features():
    """Small integers make float32 products exact, so ties are real ties."""
    rng = np.random.default_rng(3)
    gallery = torch.as_tensor(rng.integers(-2, 3, (80, 3))).float()
    gallery = torch.cat([gallery, gallery[:40]])
    query = gallery[::4].clone()
    labels = random_labels(rng, len(query), len(gallery), 12)
    exact = ((query[:, None] - gallery[None]).double()**2).sum(2).numpy()
    tasks = make_tasks(NAMES, labels.query_cameras, labels.gallery_cameras)
    reference = None
    for memory in (1, 10_000, 2**28):
        results = evaluate_features(
            query, gallery, labels, tasks, normalize=False, memory=memory)
        for task in tasks:
            check(results[task.name], plain(exact, labels, task))
        figures = {k: v.summary() for k, v in results.items()}
        assert reference is None or figures == reference
        reference = figures


def test_chunk_size_does_not_matter_on_real_valued_features():
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(40, 32, generator=generator)
    pids = torch.randint(40, (700,), generator=generator)
    features = centres[pids] + torch.randn(700, 32, generator=generator)
    modality = torch.randint(2, (700,), generator=generator)
    tasks = make_tasks(NAMES, modality[:200], modality[200:])
    labels = Labels(pids[:200], pids[200:], modality[:200], modality[200:])
    results = [
        evaluate_features(features[:200], features[200:], labels, tasks,
                          memory=memory) for memory in (1, 50_000, 2**28)]
    for name in NAMES:
        for other in results[1:]:
            assert torch.allclose(
                results[0][name].average_precision,
                other[name].average_precision, rtol=0, atol=1e-9,
                equal_nan=True)


def test_figures_do_not_follow_autocast_or_matmul_precision():
    query, gallery, *pids = golden_features()
    query, gallery = query + 20, gallery + 20
    tasks = [everything(30, 120)]
    expected = evaluate_features(
        query, gallery, Labels(*pids), tasks, normalize=False)['all']
    torch.set_float32_matmul_precision('medium')
    try:
        with torch.autocast('cpu', dtype=torch.bfloat16):
            result = evaluate_features(
                query, gallery, Labels(*pids), tasks, normalize=False)['all']
            distances = ranking.squared_distances(query, gallery)
        assert torch.get_float32_matmul_precision() == 'medium'
    finally:
        torch.set_float32_matmul_precision('highest')
    assert distances.dtype == torch.float32
    assert result.summary() == expected.summary()


def test_grad_and_inference_mode_reach_the_threads():
    query, gallery, *pids = golden_features()
    labels, tasks = Labels(*pids), [everything(30, 120)]
    expected = evaluate_features(query, gallery, labels, tasks)['all']
    query.requires_grad_()
    distances = ranking.squared_distances(
        ranking.prepare_features(query), ranking.prepare_features(gallery))
    results = [
        evaluate_features(query, gallery, labels, tasks)['all'],
        evaluate_distances(distances.requires_grad_(), labels, tasks)['all']]
    with torch.inference_mode():
        results.append(
            evaluate_features(query, gallery, labels, tasks)['all'])
    threads = torch.get_num_threads()
    for result in results:
        assert result.summary() == expected.summary()
        assert not result.average_precision.requires_grad
    assert torch.get_num_threads() == threads


def test_queries_without_a_match_are_skipped_and_counted():
    distances = torch.tensor([[.1, .2], [.3, .1]])
    result = evaluate_distances(
        distances, Labels(torch.tensor([1, 9]), torch.tensor([2, 1])),
        [everything(2, 2)])['all']
    assert (result.num_valid, result.num_skipped) == (1, 1)
    assert result.mean_ap == .5
    assert result.rank(1) == 0
    assert result.rank(5) == 1  # the gallery ends at rank 2
    assert result.cmc.tolist() == [0, 1]
    assert torch.isnan(result.average_precision[1])


def test_map_at_k_divides_by_what_can_be_reached():
    """Relevant at ranks 1, 3 and 4 of five, k = 3."""
    result = evaluate_distances(
        torch.tensor([[.1, .2, .3, .4, .5]]),
        Labels(torch.tensor([0]), torch.tensor([0, 1, 0, 0, 1])),
        [everything(1, 5)], topk=3)['all']
    assert result.mean_ap_at_k == pytest.approx((1 + 2 / 3) / 3)
    assert list(result.summary()) == ['mAP', 'R1', 'R5', 'R10', 'mINP',
                                      'mAP@3']


def test_double_distances_are_not_rounded():
    distances = torch.tensor([[1.0, 1.0 - 1e-12]], dtype=torch.float64)
    result = evaluate_distances(
        distances, Labels(torch.tensor([0]), torch.tensor([0, 1])),
        [everything(1, 2)])['all']
    assert result.first_rank.tolist() == [2]


@pytest.mark.parametrize('change,error,message', [
    (dict(query=torch.full((2, 3), float('nan'))), DataFormatError,
     'rows \\[0, 1\\]'),
    (dict(query=torch.zeros(2, 4)), DataFormatError, 'channels'),
    (dict(query=torch.zeros(0, 3), query_pids=torch.zeros(0)),
     DataFormatError, 'query side is empty'),
    (dict(query_pids=torch.zeros(5)), DataFormatError, 'query_pids'),
    (dict(tasks=[everything(2, 4, exclude=True)]), ConfigError, 'cameras'),
    (dict(tasks=[everything(2, 3)]), DataFormatError, 'mask of task'),
    (dict(tasks=[]), ConfigError, 'at least one'),
    (dict(query=torch.zeros(2, 3, dtype=torch.int64)), DataFormatError,
     'floating'),
])
def test_bad_input(change, error, message):
    args = dict(query=torch.eye(3)[:2], gallery=torch.ones(4, 3),
                query_pids=torch.zeros(2), tasks=[everything(2, 4)])
    args.update(change)
    with pytest.raises(error, match=message):
        evaluate_features(
            args['query'], args['gallery'],
            Labels(args['query_pids'], torch.zeros(4)), args['tasks'])


def test_bad_distances_and_names():
    labels = Labels(torch.zeros(1), torch.zeros(2))
    with pytest.raises(DataFormatError, match='finite'):
        evaluate_distances(
            torch.tensor([[0., float('inf')]]), labels, [everything(1, 2)])
    with pytest.raises(ConfigError, match='O2X'):
        make_tasks(['O2X'], torch.zeros(1), torch.zeros(2))
    with pytest.raises(DataFormatError, match='overflow'):
        evaluate_features(
            torch.full((1, 2), 1e19), torch.ones(2, 2), labels,
            [everything(1, 2)], normalize=False)


@pytest.mark.parametrize('memory', [1, 3000, 2**28])
def test_top_k_is_a_stable_sort(memory):
    rng = np.random.default_rng(1)
    gallery = torch.as_tensor(rng.integers(-1, 2, (90, 2))).float()
    query = torch.as_tensor(rng.integers(-1, 2, (25, 2))).float()
    exact = ranking.squared_distances(query, gallery)
    order = exact.sort(dim=1, stable=True)
    for k in (1, 7, 90):
        index, values = top_k(
            query, gallery, k, normalize=False, memory=memory)
        assert torch.equal(index, order.indices[:, :k])
        assert torch.equal(values, order.values[:, :k])
    with pytest.raises(ConfigError, match='90 gallery'):
        top_k(query, gallery, 91)


_MEMORY_RUN = """
import resource, sys
import torch
from osar_plugin.evaluation import Labels, evaluate_features, make_tasks
torch.set_num_threads(1)
def run(num_query, num_gallery, memory):
    generator = torch.Generator().manual_seed(0)
    draw = lambda *size: torch.randint(*size, generator=generator)
    features = torch.randn(num_query + num_gallery, 16, generator=generator)
    pids = draw(num_gallery // 10, (num_query + num_gallery,))
    modality = draw(2, (num_query + num_gallery,))
    labels = Labels(pids[:num_query], pids[num_query:],
                    modality[:num_query], modality[num_query:])
    evaluate_features(features[:num_query], features[num_query:], labels,
                      make_tasks(['ALL', 'O2S', 'S2O'], modality[:num_query],
                                 modality[num_query:]), memory=memory)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
start = run(50, 500, 2**20)
print(run(2000, 40000, 2**24) - start)
"""


def test_memory_stays_near_the_budget():
    """16 MiB of budget where the whole matrix would be 305 MiB."""
    done = subprocess.run(
        [sys.executable, '-c', _MEMORY_RUN], capture_output=True, text=True,
        check=True)
    assert float(done.stdout) < 5 * 16
