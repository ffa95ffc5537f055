from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from torch import multiprocessing

from osar_plugin.evaluation import (
    Labels,
    ReIDMetric,
    evaluate_distances,
    evaluate_features,
    k_reciprocal,
    make_tasks,
)
from osar_plugin.registry import METRICS
from osar_plugin.structures import ReIDDataSample
from osar_plugin.utils.errors import ConfigError, DataFormatError

FIGURES = ('mAP', 'R1', 'R5', 'R10', 'mINP', 'mAP@10')


def make_samples(num=60, num_query=20, seed=0, ids=8, dims=16):
    """Samples with memberships as the data set would state them."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(ids, dims, generator=generator)
    pids = torch.randint(ids, (num,), generator=generator)
    modality = torch.randint(2, (num,), generator=generator)
    features = centres[pids] + torch.randn(num, dims, generator=generator)
    samples = []
    for i in range(num):
        query, sar = i < num_query, int(modality[i])
        sample = ReIDDataSample(
            pid=int(pids[i]), label=-1, modality=sar, feature=features[i])
        sample.set_metainfo(dict(
            img_path=f'{"query" if query else "gallery"}/{i:04d}_'
                     f's01c1_{"SAR" if sar else "RGB"}.tif',
            ori_shape=(20, 10), sample_idx=i, is_query=query,
            protocols=('ALL', 'S2O' if sar == query else 'O2S')))
        samples.append(sample)
    return samples


def run(metric, samples, batch=7):
    evaluator = Evaluator([metric])
    for start in range(0, len(samples), batch):
        evaluator.process(samples[start:start + batch], None)
    return evaluator.evaluate(len({s.sample_idx for s in samples}))


def split(samples):
    return ([s for s in samples if s.is_query],
            [s for s in samples if not s.is_query])


def direct(samples, names=('ALL', 'O2S', 'S2O', 'ALL-xcam')):
    sides = split(samples)
    features = [torch.stack([s.feature for s in side]) for side in sides]
    pids = [torch.tensor([s.pid for s in side]) for side in sides]
    modality = [torch.tensor([s.modality for s in side]) for side in sides]
    return features, Labels(*pids, *modality), make_tasks(names, *modality)


def test_it_is_registered_and_gives_the_keys_of_the_contract():
    metric = METRICS.build(dict(type='osar_plugin.ReIDMetric'))
    samples = make_samples()
    figures = run(metric, samples)
    assert set(figures) == {
        f'{p}/{f}' for p in ('ALL', 'O2S', 'S2O', 'ALL-xcam')
        for f in FIGURES}
    features, labels, tasks = direct(samples)
    for name, result in evaluate_features(*features, labels, tasks).items():
        for key, value in result.summary().items():
            assert figures[f'{name}/{key}'] == value


def test_samples_and_dicts_in_any_order_and_repeated():
    samples = make_samples()
    expected = run(ReIDMetric(), samples)
    shuffled = [samples[i] for i in torch.randperm(60).tolist()]
    metric = ReIDMetric()
    metric.process(None, shuffled)
    metric.process(None, [s.to_dict() for s in shuffled[:13]])
    assert metric.evaluate(60) == expected
    assert metric.results == []


def test_members_are_those_of_the_data_set():
    """Queries that the O2S folder lacks do not count in O2S."""
    samples = make_samples()
    optical = [s for s in samples if s.is_query and s.modality == 0]
    for sample in optical[::2]:
        sample.set_metainfo(dict(protocols=('ALL',)))
    metric = ReIDMetric(out_dir=None)
    figures = run(metric, samples)
    features, labels, tasks = direct(samples)
    for row, sample in enumerate(split(samples)[0]):
        tasks[1].query[row] &= 'O2S' in sample.protocols
    result = evaluate_features(*features, labels, tasks)['O2S']
    assert figures['O2S/mAP'] == 100 * result.mean_ap
    assert run(ReIDMetric(), make_samples())['O2S/mAP'] != figures['O2S/mAP']


def test_without_stated_members_modality_decides():
    samples = make_samples()
    expected = run(ReIDMetric(), samples)
    dicts = [s.to_dict() for s in samples]
    for sample in dicts:
        del sample['protocols']
    metric = ReIDMetric(protocols=('ALL', 'O2S', 'S2O', 'O2O'))
    metric.process(None, dicts)
    figures = metric.evaluate(60)
    assert {k: v for k, v in figures.items() if 'O2O' not in k} == expected
    assert not math.isnan(figures['O2O/mAP'])


def test_a_protocol_that_the_data_set_knows_never_goes_by_modality():
    samples = make_samples()
    for sample in samples:
        if sample.is_query:
            sample.set_metainfo(dict(protocols=('ALL',)))
    metric = ReIDMetric()
    metric.dataset_meta = dict(protocols=('ALL', 'O2S', 'S2O'))
    figures = run(metric, samples)
    assert math.isnan(figures['S2O/mAP'])
    assert not math.isnan(figures['ALL/mAP'])


def test_ignore_self():
    """A gallery that holds the queries: found first, unless left out."""
    samples = make_samples()
    queries = [s for s in samples if s.is_query]
    for i, sample in enumerate(queries):
        copy = sample.clone()
        copy.set_metainfo(dict(
            is_query=False, sample_idx=60 + i,
            img_path=sample.img_path.replace('query', 'gallery')))
        samples.append(copy)
    assert run(ReIDMetric(), samples)['ALL/R1'] == 100
    ignored = run(ReIDMetric(ignore_self=True), samples)
    features, labels, tasks = direct(samples)
    labels = Labels(**{**vars(labels),
                       'self_index': torch.arange(20) + 40})
    result = evaluate_features(*features, labels, tasks)['ALL']
    assert ignored['ALL/mAP'] == 100 * result.mean_ap < 100


def test_rerank_stands_beside_the_plain_figures():
    samples = make_samples()
    options = dict(k1=10, k2=3, within_modality=True)
    plain, figures = (run(ReIDMetric(rerank=rerank), samples)
                      for rerank in (None, options))
    assert {k: v for k, v in figures.items() if 'rerank' not in k} == plain
    features, labels, tasks = direct(samples)
    distances = k_reciprocal(
        *features, **options, query_modality=labels.query_cameras,
        gallery_modality=labels.gallery_cameras)
    for name, result in evaluate_distances(
            distances, labels, tasks).items():
        assert figures[f'{name}-rerank/mAP'] == 100 * result.mean_ap
    assert figures['O2S-rerank/mAP'] != figures['O2S/mAP']


def test_files(tmp_path):
    samples = make_samples()
    matched = {s.pid for s in samples if not s.is_query}
    samples[0].pid = 99
    skipped = sum(s.is_query and s.pid not in matched for s in samples)
    figures = run(ReIDMetric(out_dir=str(tmp_path / 'out')), samples)
    assert sorted(p.name for p in (tmp_path / 'out').iterdir()) == [
        'per_query.csv', 'results.json', 'table.md']
    table = (tmp_path / 'out/table.md').read_text()
    assert f'{figures["O2S/mAP"]:.2f}' in table
    assert 'queries without a match are skipped' in table
    data = json.loads((tmp_path / 'out/results.json').read_text())
    assert data['ALL']['mAP'] == figures['ALL/mAP']
    assert (data['ALL']['queries'], data['ALL']['skipped']) == (
        20 - skipped, skipped)
    assert data['ALL']['cmc'][0] == figures['ALL/R1']
    with open(tmp_path / 'out/per_query.csv', newline='') as file:
        rows = [r for r in csv.DictReader(file) if r['protocol'] == 'ALL']
    assert len(rows) == 20
    assert (rows[0]['matches'], rows[0]['AP']) == ('0', '')
    assert np.mean(
        [float(r['AP']) for r in rows if r['AP']]) == pytest.approx(
            figures['ALL/mAP'] / 100, abs=1e-6)


def test_a_protocol_without_matches_is_nan_not_zero(tmp_path):
    samples = [s for s in make_samples() if s.modality == 0]
    figures = run(ReIDMetric(out_dir=str(tmp_path)), samples)
    assert math.isnan(figures['O2S/mAP'])
    assert not math.isnan(figures['ALL/mAP'])
    text = (tmp_path / 'results.json').read_text()
    assert 'NaN' not in text
    assert json.loads(text)['O2S']['mAP'] is None


def test_prefix():
    figures = run(ReIDMetric(prefix='val'), make_samples())
    assert 'val/ALL/mAP' in figures


def test_nan_features_name_the_files():
    samples = make_samples()
    samples[3].feature = torch.full((16,), float('nan'))
    with pytest.raises(DataFormatError, match='query/0003_s01c1'):
        run(ReIDMetric(), samples)


@pytest.mark.parametrize('side', [True, False])
def test_a_missing_side(side):
    samples = [s for s in make_samples() if s.is_query is side]
    name = 'gallery' if side else 'query'
    with pytest.raises(DataFormatError, match=f'{name} side'):
        run(ReIDMetric(), samples)


def test_nothing_predicted():
    with pytest.raises(DataFormatError, match='None of 0'):
        ReIDMetric().evaluate(5)


def test_missing_field_and_unknown_protocol():
    sample = make_samples()[0].to_dict()
    del sample['is_query']
    with pytest.raises(DataFormatError, match=r'0000_s01.*is_query'):
        ReIDMetric().process(None, [sample])
    with pytest.raises(ConfigError, match='A2B'):
        ReIDMetric(protocols=['A2B'])


def test_many_samples_of_one_batch_are_not_pickled_many_times():
    """A view into a batch would carry the whole batch in each record."""
    metric = ReIDMetric()
    metric.process(None, make_samples())
    feature = metric.results[0]['feature']
    assert feature.untyped_storage().nbytes() == 60 * 16 * 4


def _worker(rank, folder, order):
    import os

    os.chdir(folder)
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank,
        world_size=2)
    samples = make_samples()
    if order == 'strided':  # padded with repeats at the end, as DefaultSampler
        part = (list(range(60)) + [0, 1])[rank::2]
    else:  # blocks of different length that overlap
        part = range(45) if rank == 0 else range(40, 60)
    metric = ReIDMetric(out_dir=os.path.join(folder, 'out'))
    for i in part:
        metric.process(None, [samples[i]])
    figures = metric.evaluate(60)
    with open(os.path.join(folder, f'{rank}.json'), 'w') as file:
        json.dump(figures, file)
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize('order', ['strided', 'blocks'])
def test_two_processes_give_the_table_of_one(tmp_path, order):
    expected = run(ReIDMetric(out_dir=str(tmp_path / 'one')), make_samples())
    multiprocessing.spawn(_worker, (str(tmp_path), order), nprocs=2)
    for rank in range(2):
        assert json.loads(
            (tmp_path / f'{rank}.json').read_text()) == expected
    assert (tmp_path / 'out/table.md').read_text() == (
        tmp_path / 'one/table.md').read_text()
