"""osar_plugin/evaluation/damage.py"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData

from osar_plugin.evaluation.damage import (
    BRIGHTMetric,
    confusion,
    damage_f1,
    mean_iou,
    summarise_damage,
)
from osar_plugin.structures import DamageDataSample
from osar_plugin.utils.errors import DataFormatError

EVENTS = ('turkey-earthquake', 'haiti-earthquake', 'libya-flood')


def tile(seed: int) -> dict:
    """Truth and predictions of one tile, with what it belongs to."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, (9, 11), np.uint8)
    right = rng.random(truth.shape) < 0.5
    damage = np.where(right, truth, rng.integers(0, 4, truth.shape))
    truth[rng.random(truth.shape) < 0.1] = 255
    event = EVENTS[seed % 3]
    return dict(truth=truth, damage=damage.astype(np.uint8),
                building=rng.integers(0, 2, truth.shape, np.uint8),
                event=event, disaster=event.split('-')[1])


def sample(one: dict) -> DamageDataSample:
    out = DamageDataSample(metainfo=dict(
        event=one['event'], disaster=one['disaster'], image_id='tile'))
    for key, name in (('truth', 'gt_damage'), ('damage', 'pred_damage'),
                      ('building', 'pred_building')):
        setattr(out, name, PixelData(data=torch.from_numpy(one[key])[None]))
    return out


TILES = [tile(seed) for seed in range(7)]


def evaluate(tiles: list, batch: int = 2, **kwargs) -> dict:
    metric = BRIGHTMetric(**kwargs)
    evaluator = Evaluator(metric)
    for start in range(0, len(tiles), batch):
        evaluator.process([sample(x) for x in tiles[start:start + batch]])
    return evaluator.evaluate(len(tiles))


def pixels(tiles: list) -> list[tuple[int, int, int]]:
    return [(int(t), int(d), int(b)) for x in tiles for t, d, b in zip(
        x['truth'].flat, x['damage'].flat, x['building'].flat,
        strict=True) if t != 255]


def f1(pairs: list[tuple[int, int]], label: int) -> float:
    hits = sum(t == p == label for t, p in pairs)
    wrong = sum((t == label) != (p == label) for t, p in pairs)
    return 2 * hits / (2 * hits + wrong)


def iou(pairs: list[tuple[int, int]]) -> float:
    values = []
    for label in range(4):
        either = sum(label in pair for pair in pairs)
        if either:
            values.append(sum(
                t == p == label for t, p in pairs) / either)
    return sum(values) / len(values)


def test_against_counting_by_hand() -> None:
    figures = evaluate(TILES)
    seen = pixels(TILES)
    pairs = [(t, d) for t, d, _ in seen]
    assert figures['bright/mIoU'] == pytest.approx(100 * iou(pairs))
    assert figures['bright/OA'] == pytest.approx(
        100 * sum(t == d for t, d in pairs) / len(pairs))
    assert figures['bright/IoU_damaged'] == pytest.approx(
        100 * sum(t == d == 2 for t, d in pairs) / sum(
            2 in pair for pair in pairs))
    assert figures['bright/building_F1'] == pytest.approx(
        100 * f1([(int(t > 0), b) for t, _, b in seen], 1))
    built = [(t, d) for t, d in pairs if t > 0]
    assert figures['bright/damage_F1'] == pytest.approx(
        100 * 3 / sum(1 / f1(built, label) for label in (1, 2, 3)))


def test_groups_have_matrices_of_their_own() -> None:
    figures = evaluate(TILES)
    for kind in ('event', 'disaster'):
        found = {}
        for name in {x[kind] for x in TILES}:
            found[name] = 100 * iou([(t, d) for t, d, _ in pixels(
                [x for x in TILES if x[kind] == name])])
            assert figures[f'bright/mIoU/{name}'] == pytest.approx(
                found[name])
        assert figures[f'bright/{kind}_mIoU'] == pytest.approx(
            sum(found.values()) / len(found))
    # Three events of two kinds.
    assert figures['bright/event_mIoU'] != pytest.approx(
        figures['bright/disaster_mIoU'], abs=1e-3)


@pytest.mark.parametrize('batch', [1, 3, 7])
def test_order_and_batches_do_not_matter(batch) -> None:
    assert evaluate(TILES[::-1], batch) == evaluate(TILES)


def test_processes_are_added_up(monkeypatch) -> None:
    """What two ranks collected, padded by a repeated tile, as one list."""
    ranks = []
    for part in (TILES[::2], [*TILES[1::2], TILES[0]]):
        metric = BRIGHTMetric()
        metric.process(None, [sample(x).to_dict() for x in part])
        ranks.append(metric.results)
    # As mmengine does: interleaved, and cut to the length of the data set.
    joined = [x for pair in zip(*ranks, strict=True) for x in pair][:7]
    assert BRIGHTMetric().compute_metrics(joined) == {
        k.removeprefix('bright/'): v for k, v in evaluate(TILES).items()}


def test_classes_that_do_not_occur() -> None:
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    guess = np.array([[0, 1, 1, 1]], np.uint8)
    matrix = confusion(truth, guess, 4)
    assert mean_iou(matrix) == pytest.approx((1 / 2 + 2 / 3) / 2)
    # Only intact buildings: their F1 alone.
    assert damage_f1(matrix) == 1
    assert math.isnan(damage_f1(confusion(0 * truth, guess, 4)))
    # A state that is never found makes the harmonic mean 0.
    truth[0, 3] = 3
    assert damage_f1(confusion(truth, guess, 4)) == 0


def test_a_perfect_map() -> None:
    perfect = [dict(x, damage=np.where(x['truth'] == 255, 0, x['truth']),
                    building=(np.where(x['truth'] == 255, 0, x['truth']) > 0
                              ).astype(np.uint8)) for x in TILES]
    figures = evaluate(perfect)
    assert set(figures.values()) == {100.}
    assert set(summarise_damage(np.eye(4, dtype=int), np.eye(2, dtype=int))
               ) <= {k.removeprefix('bright/') for k in figures}


def test_report(tmp_path) -> None:
    figures = evaluate(TILES, out_dir=str(tmp_path))
    content = json.loads((tmp_path / 'damage.json').read_text())
    assert content['tiles'] == 7 and 'harmonic mean' in content['definition']
    assert content['figures']['mIoU'] == pytest.approx(
        figures['bright/mIoU'])
    assert np.sum(content['damage_matrix']) == len(pixels(TILES))


def test_figure_names() -> None:
    """What `save_best` may name exists."""
    assert set(BRIGHTMetric().figure_names) <= set(evaluate(TILES))


def test_bad_input() -> None:
    one = sample(TILES[0])
    del one.pred_building
    with pytest.raises(DataFormatError, match='pred_building'):
        BRIGHTMetric().process(None, [one.to_dict()])
    one = sample(TILES[0])
    del one.gt_damage
    with pytest.raises(DataFormatError, match='with_labels'):
        BRIGHTMetric().process(None, [one.to_dict()])
    with pytest.raises(DataFormatError, match='one shape'):
        confusion(np.zeros((2, 2), int), np.zeros((2, 3), int), 4)
    with pytest.raises(DataFormatError, match='0 to 3'):
        confusion(np.full((2, 2), 4), np.zeros((2, 2), int), 4)
    blank = dict(TILES[0], truth=np.full((9, 11), 255, np.uint8))
    with pytest.raises(DataFormatError, match='all are 255'):
        evaluate([blank])
