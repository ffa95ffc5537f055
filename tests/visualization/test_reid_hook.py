"""Pictures of a test: the hook behind ``tools/test.py --show-dir``."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from PIL import Image
from search_case import write_config, write_weights

from osar_plugin.datasets import HOSS
from osar_plugin.engine import ReIDVisualizationHook
from osar_plugin.engine import visualization as module
from osar_plugin.evaluation import ReIDMetric
from osar_plugin.structures import ReIDDataSample
from osar_plugin.utils.errors import ConfigError


class Drawn(dict):
    """Rows and subtitle by protocol."""

    really = False


@pytest.fixture
def samples(tiny_hoss):
    """Test chips, with random descriptors that lean on the identity."""
    dataset = HOSS(data_root=str(tiny_hoss), split='test')
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(20, 16))
    out = []
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        sample = ReIDDataSample(metainfo=dict(
            img_path=info['img_path'], sample_idx=i,
            is_query=info['is_query'], protocols=info['protocols']))
        sample.pid, sample.modality = info['pid'], info['modality']
        sample.feature = torch.from_numpy(
            centres[info['pid']] + 2 * rng.normal(size=16)).float()
        out.append(sample)
    return dataset, out


@pytest.fixture
def drawn(monkeypatch):
    """What was to be drawn: title -> rows. Drawing itself takes time."""
    kept = Drawn()
    draw = module.draw_ranked_list

    def spy(rows, title, subtitle):
        kept[title.split('  ·  ')[1].split(':')[0]] = rows, subtitle
        if kept.really:
            return draw(rows, title, subtitle)
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(module, 'draw_ranked_list', spy)
    return kept


def run(samples, folder, metric=None, **options):
    dataset, predicted = samples
    evaluator = Evaluator([metric or ReIDMetric()])
    evaluator.dataset_meta = dataset.metainfo
    runner = SimpleNamespace(
        test_loop=SimpleNamespace(evaluator=evaluator),
        test_dataloader=SimpleNamespace(dataset=dataset),
        model=torch.nn.Identity(), visualizer=None)
    hook = ReIDVisualizationHook(str(folder), **options)
    hook.before_test_epoch(runner)
    for start in range(0, len(predicted), 5):
        batch = predicted[start:start + 5]
        evaluator.process(batch)
        hook.after_test_iter(runner, 0, None, batch)
    figures = evaluator.evaluate(len(dataset))
    hook.after_test_epoch(runner, figures)
    return figures


def test_pictures(samples, tmp_path, drawn):
    drawn.really = True
    figures = run(samples, tmp_path / 'out')
    names = sorted(p.name for p in (tmp_path / 'out').iterdir())
    assert names == [
        'cmc.png', 'ranked_ALL.png', 'ranked_O2S.png', 'ranked_S2O.png']
    for name in names:
        with Image.open(tmp_path / 'out' / name) as image:
            assert image.mode == 'RGB'
    for protocol, (rows, subtitle) in drawn.items():
        assert f'mAP {figures[f"{protocol}/mAP"]:.1f} %' in subtitle
        assert f'R1 {figures[f"{protocol}/R1"]:.1f} %' in subtitle
        sides = dict(O2S=(0, 1), S2O=(1, 0)).get(protocol)
        for row in rows:
            if sides:
                assert row.query.modality == sides[0]
                assert {hit.modality for hit in row.hits} == {sides[1]}
            for hit in row.hits:
                assert hit.correct == (hit.pid == row.query.pid)
    picture = (tmp_path / 'out' / 'ranked_ALL.png').read_bytes()
    run(samples, tmp_path / 'out')
    assert (tmp_path / 'out' / 'ranked_ALL.png').read_bytes() == picture
    # Both sensors are among the queries of ALL.
    assert [r.query.modality for r in drawn['ALL'][0]].count(0) == 3


def test_lists_are_those_behind_the_figures(samples, tmp_path, drawn):
    """R1 and AP follow from the hits that are shown, if all are."""
    figures = run(samples, tmp_path, num_queries=99, topk=99)
    for protocol, (rows, _) in drawn.items():
        precision = []
        for row in rows:
            right = np.array([hit.correct for hit in row.hits])
            hits = right.cumsum()[right]
            precision.append((hits / (right.nonzero()[0] + 1)).mean())
            distances = [hit.distance for hit in row.hits]
            assert distances == sorted(distances)
            assert f'AP {100 * precision[-1]:.1f} %' in row.note
            first = right.nonzero()[0][0] + 1
            assert row.note.endswith(f'first at rank {first}')
        assert 100 * np.mean(precision) == pytest.approx(
            figures[f'{protocol}/mAP'])
        assert 100 * np.mean([r.hits[0].correct for r in rows]) \
            == pytest.approx(figures[f'{protocol}/R1'])


def test_choice_of_queries(samples, tmp_path, drawn):
    run(samples, tmp_path, num_queries=99, protocols=['ALL'])
    every = drawn['ALL'][0]
    notes = {row.query.title: float(row.note.split()[1]) for row in every}
    run(samples, tmp_path, num_queries=3, order='worst', protocols=['ALL'])
    worst = [notes[row.query.title] for row in drawn['ALL'][0]]
    assert worst == sorted(notes.values())[:3]
    run(samples, tmp_path, num_queries=5, topk=2, protocols=['S2O'])
    rows = drawn['S2O'][0]
    assert len(rows) == 5
    assert all(len(row.hits) == 2 for row in rows)


def test_own_image_is_left_out_as_in_the_metric(samples, tmp_path, drawn):
    dataset, predicted = samples
    for sample in predicted:
        # Every gallery chip takes the name of a query chip.
        path = sample.img_path.replace('bounding_box_test', 'query')
        sample.set_metainfo(dict(img_path=path.replace(
            '_s03', '_s01').replace('_s04', '_s02')))
    figures = run(
        samples, tmp_path, ReIDMetric(ignore_self=True), num_queries=99)
    rows, _ = drawn['ALL']
    for row in rows:
        assert row.query.title not in [hit.title for hit in row.hits]
    first = np.mean([row.hits[0].correct for row in rows])
    assert 100 * first == pytest.approx(figures['ALL/R1'])


def test_query_without_match(samples, tmp_path, drawn):
    dataset, predicted = samples
    for sample in predicted:
        if sample.is_query:
            sample.pid = 99
    run(samples, tmp_path, num_queries=2)
    for row in drawn['ALL'][0]:
        assert row.note == 'no match in the gallery'
        assert {hit.correct for hit in row.hits} == {False}
    assert not (tmp_path / 'cmc.png').exists()


@pytest.mark.parametrize('options', [
    dict(num_queries=0), dict(topk=0), dict(order='best')])
def test_wrong_arguments(tmp_path, options):
    with pytest.raises(ConfigError, match='expected'):
        ReIDVisualizationHook(str(tmp_path), **options)


def test_show_dir(run_python, tiny_hoss, tmp_path, repo):
    """Through the tool, beside a hook that the config has already."""
    config = write_config(tmp_path)
    weights = write_weights(tmp_path, config)
    with config.open('a') as file:
        file.write("custom_hooks = [dict(type='osar_plugin."
                   "ReIDVisualizationHook', out_dir='x', num_queries=1)]\n")
    ended = run_python(
        repo / 'tools' / 'test.py', config, weights, '--data-root', tiny_hoss,
        '--work-dir', tmp_path / 'work', '--show-dir', tmp_path / 'shown')
    assert ended.code == 0, ended.err
    assert len(list((tmp_path / 'shown').glob('*.png'))) == 4
    with Image.open(tmp_path / 'shown' / 'ranked_ALL.png') as image:
        assert image.height < 420  # one row
    # The runner's visualizer, and so TensorBoard, has them too.
    assert list((tmp_path / 'work').rglob('vis_image/ranked_ALL*.png'))
