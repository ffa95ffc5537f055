"""tools/analysis/evaluate_translation.py on chips of noise."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import search_case
import torch
from translation_case import CONFIG, write_config, write_weights

from osar_plugin.apis import OpticalToSARInferencer
from osar_plugin.datasets.transforms.joint import brightness_offset
from osar_plugin.evaluation.translation import score_views
from osar_plugin.io import read_optical
from osar_plugin.registry import TRANSFORMS

TOOL = 'analysis/evaluate_translation.py'


@pytest.fixture(scope='module')
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp('case')
    config = write_config(folder)
    return config, write_weights(folder, config)


@pytest.fixture
def evaluate(run_tool, case, tiny_hoss):
    def run(*flags, config=case[0], data=tiny_hoss):
        return run_tool(TOOL, config, case[1], '--data-root', data, '--amp',
                        'off', '--device', 'cpu', *flags)

    return run


def sar(path: Path) -> torch.Tensor:
    """A chip of 24 x 48 pixels as the tiny translator sees it."""
    results = dict(img_path=str(path), modality=1)
    for cfg in (dict(type='LoadOpticalOrSAR'), dict(type='SARDenoise'),
                dict(type='PillowResize', size=(24, 16))):
        results = TRANSFORMS.build(
            dict(cfg, type=f'osar_plugin.{cfg["type"]}'))(results)
    return torch.tensor(results['img'][:, :, 0]).float()


def test_figures(evaluate, case, tiny_hoss, tmp_path) -> None:
    reid = search_case.write_config(tmp_path)
    weights = search_case.write_weights(tmp_path, reid)
    ended = evaluate('--out', tmp_path, '--reid-config', reid,
                     '--reid-weights', weights)
    assert ended.code == 0, ended.err
    for word in ('translator', 'optical, grey', 'mean of all SAR',
                 'another real SAR', 'G2S'):
        assert word in ended.out
    found = json.loads((tmp_path / 'translation.json').read_text())
    # 4 ships, 4 optical and 4 SAR chips each in query and gallery.
    assert (found['images'], found['pairs'], found['sar']) == (16, 64, 16)
    assert (found['views'], found['steps']) == (3, 4)

    root = tiny_hoss / 'HOSS'
    train = torch.stack([
        sar(p) for p in (root / 'bounding_box_train').glob('*SAR.tif')])
    mean, scores, translated = train.mean(0), [], []
    optical = sorted(
        p for side in ('query', 'bounding_box_test')
        for p in (root / side).glob('*RGB.tif'))
    inferencer = OpticalToSARInferencer(*case, 'cpu', False)
    for path, result in zip(
            optical, inferencer(optical, keep_size=False), strict=True):
        for side in ('query', 'bounding_box_test'):
            for other in (root / side).glob(f'{path.name[:4]}*SAR.tif'):
                real = sar(other)
                scores.append(score_views(mean[None], real))
                translated.append(
                    score_views(torch.tensor(result.views), real))
    for name, rows in (('mean of all SAR', scores),
                       ('translator', translated)):
        figures = found['methods'][name]
        for key, kind in (('structure', 'mean'), ('structure_best', 'best')):
            assert figures[key] == pytest.approx(np.mean(
                [row['structure'][kind] for row in rows]), abs=2e-3)
    # Of noise all ships are alike; real SAR has its own speckle.
    assert found['methods']['another real SAR']['looks_ratio'] \
        == pytest.approx(1)
    assert found['methods']['mean of all SAR']['looks_ratio'] > 2
    with open(tmp_path / 'translation.csv', newline='') as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 4 * 64
    own = [float(x['structure']) for x in lines
           if x['method'] == 'translator']
    assert np.mean(own) == pytest.approx(
        found['methods']['translator']['structure'], abs=1e-5)
    for name in ('O2S', 'G2S', 'S2O', 'S2G'):
        assert 0 < found['retrieval'][name]['mAP'] <= 100
    assert found['retrieval']['O2S'] != found['retrieval']['G2S']


def test_ships_lit_from_one_side(
        evaluate, case, tiny_hoss, tmp_path) -> None:
    """Pairs lit from the other side are compared as mirror images."""
    config = write_config(tmp_path, CONFIG.replace(
        "PairFlip', prob=0.5", "PairFlip', bright_side='left'"))
    ended = evaluate('--out', tmp_path / 'out', config=config)
    assert ended.code == 0, ended.err
    found = json.loads((tmp_path / 'out/translation.json').read_text())
    assert (found['images'], found['pairs']) == (16, 64)

    def lit(chip: torch.Tensor) -> tuple[torch.Tensor, bool]:
        flip = brightness_offset(chip.numpy()[..., None]) > 0
        return (chip.flip(-1) if flip else chip), flip

    root = tiny_hoss / 'HOSS'
    inferencer = OpticalToSARInferencer(config, case[1], 'cpu', False)
    scores, flips = [], []
    for path in sorted(root.glob('*/*RGB.tif')):
        if path.parent.name == 'bounding_box_train':
            continue
        image = read_optical(path)
        both = [result.views for result in inferencer(
            [image, np.ascontiguousarray(image[:, ::-1])], keep_size=False,
            modality='optical')]
        for other in sorted(root.glob(f'*/{path.name[:4]}*SAR.tif')):
            real, flip = lit(sar(other))
            flips.append(flip)
            scores.append(score_views(
                torch.tensor(both[flip]), real)['structure']['mean'])
    assert 0 < sum(flips) < len(flips)
    assert found['methods']['translator']['structure'] == pytest.approx(
        np.mean(scores), abs=2e-3)


def test_limit_and_settings(evaluate, tmp_path) -> None:
    ended = evaluate('--limit', '2', '--steps', '3', '--views', '1',
                     '--out', tmp_path)
    assert ended.code == 0, ended.err
    found = json.loads((tmp_path / 'translation.json').read_text())
    assert (found['images'], found['pairs']) == (2, 8)
    assert (found['views'], found['steps']) == (1, 3)
    assert not found['retrieval']
    assert not any(
        math.isnan(x) for x in found['methods']['translator'].values())


@pytest.mark.parametrize('flags, words', [
    (['--limit', '0'], '--limit 0'),
    (['--reid-config', 'a.py'], 'given together'),
    (['--split', 'all'], 'split')])
def test_bad_flags(evaluate, flags, words) -> None:
    ended = evaluate(*flags)
    assert ended.code == 2 and words in ended.err


def test_bad_data(evaluate, tmp_path) -> None:
    ended = evaluate(data=tmp_path)
    assert ended.code == 2 and 'HOSS' in ended.err
