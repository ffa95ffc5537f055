"""TranslationMetric, the baselines and the retrieval with generated SAR."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from osar_plugin.evaluation.similarity import structural_scores
from osar_plugin.evaluation.translation import (
    MeanImage,
    SpeckleStatistics,
    TranslationMetric,
    evaluate_replacement,
    grey,
    score_views,
)
from osar_plugin.registry import METRICS
from osar_plugin.structures import ReIDDataSample
from osar_plugin.utils.errors import ConfigError, DataFormatError

from .test_similarity import scene


def pair(seed: int, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Views (K, 3, H, W) uint8 and the real image (3, H, W) of a scene."""
    images = scene(seed, count=count + 1).to(torch.uint8)
    images = images[:, None].repeat(1, 3, 1, 1)
    return images[1:], images[0]


def feed(metric: TranslationMetric, seeds: list[int]) -> None:
    for seed in seeds:
        views, real = pair(seed)
        sample = ReIDDataSample(metainfo=dict(
            optical_path=f'{seed}_RGB.tif', sar_path=f'{seed}_SAR.tif'))
        sample.views = views
        metric.process(dict(inputs=dict(sar=[real])), [sample])


def test_grey_is_pillows() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).convert('L'), float)
    found = grey(torch.tensor(image).permute(2, 0, 1))
    assert np.abs(found.numpy() - expected).max() <= 0.51


def test_mean_image() -> None:
    mean = MeanImage()
    with pytest.raises(DataFormatError, match='no image'):
        _ = mean.value
    images = torch.randint(0, 256, (5, 4, 3)).to(torch.uint8)
    mean.add(images[:2])
    mean.add(images[2:])
    torch.testing.assert_close(mean.value, images.float().mean(0))
    with pytest.raises(DataFormatError, match=r'\(2, 2\)'):
        mean.add([torch.ones(2, 2)])


def test_scores_of_views() -> None:
    views, real = (x.float().mean(-3) for x in pair(0))
    found = score_views(views, real)
    for name, values in found.items():
        each = structural_scores(views, real.expand_as(views))[name]
        assert values['mean'] == pytest.approx(float(each.mean()))
        assert values['best'] == pytest.approx(float(each.max()))
        assert values['worst'] == pytest.approx(float(each.min()))
        average = structural_scores(views.mean(0), real)[name]
        assert values['average'] == pytest.approx(float(average), abs=1e-6)
    with pytest.raises(DataFormatError, match='size of the network'):
        score_views(views, real[:-1])


def test_metric(tmp_path) -> None:
    metric = METRICS.build(dict(
        type='osar_plugin.TranslationMetric', out_dir=str(tmp_path)))
    feed(metric, [0, 1])
    figures = metric.evaluate(2)
    assert list(figures) == metric.figure_names
    rows = []
    for seed in (0, 1):
        views, real = (x.float().mean(-3) for x in pair(seed))
        rows.append(structural_scores(views, real.expand_as(views)))
    for name in ('ms_ssim', 'gradient', 'scatterers', 'structure'):
        values = torch.stack([row[name] for row in rows])
        key = f'translation/{name}'
        assert figures[key] == pytest.approx(float(values.mean()))
        assert figures[f'{key}_best'] == pytest.approx(
            float(values.amax(1).mean()))
        assert figures[f'{key}_worst'] == pytest.approx(
            float(values.amin(1).mean()))
    # The views are drawn like the real images: four looks each.
    assert figures['translation/looks_ratio'] == pytest.approx(1, abs=0.4)
    assert figures['translation/wasserstein'] < 3
    written = json.loads((tmp_path / 'translation.json').read_text())
    assert {f'translation/{k}': v for k, v in written.items()} == figures
    with open(tmp_path / 'translation.csv', newline='') as file:
        lines = list(csv.DictReader(file))
    assert [line['sar'] for line in lines] == ['0_SAR.tif', '1_SAR.tif']
    assert np.mean([float(line['structure_best']) for line in lines]) \
        == pytest.approx(figures['translation/structure_best'], abs=1e-6)


def test_smooth_views_have_too_many_looks() -> None:
    statistics = SpeckleStatistics()
    real = scene(0, 2., count=6)
    statistics.add('real', real[:3])
    statistics.add('generated', real[3:].mean(0, keepdim=True))
    figures = statistics.summary()
    assert figures['looks_ratio'] > 2
    assert figures['looks_ratio'] == pytest.approx(
        figures['looks'] / figures['looks_real'])


def test_metric_says_what_is_missing() -> None:
    metric = TranslationMetric()
    views, real = pair(0)
    with pytest.raises(DataFormatError, match='PackPairInputs'):
        metric.process(dict(inputs=[real]), [dict(views=views)])
    with pytest.raises(DataFormatError, match='0_RGB.tif has no views'):
        metric.process(
            dict(inputs=dict(sar=[real])), [dict(optical_path='0_RGB.tif')])
    with pytest.raises(DataFormatError, match='No pair'):
        metric.compute_metrics([])
    with pytest.raises(ConfigError, match='window=1'):
        TranslationMetric(window=1)


def test_replacement_in_retrieval() -> None:
    """Optical features far from SAR, generated ones near it."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(12, 16, generator=generator)
    noise = torch.randn(3, 12, 16, generator=generator)
    optical = centres.roll(1, 0) + 0.1 * noise[0]  # finds its neighbour
    generated, sar = centres + 0.1 * noise[1], centres + 0.1 * noise[2]
    pids = torch.arange(12)
    results = evaluate_replacement(optical, generated, sar, pids, pids)
    found = {name: r.summary()['R1'] for name, r in results.items()}
    assert found == dict(O2S=0., G2S=100., S2O=0., S2G=100.)
    # Fewer SAR chips than optical ones: sides are not mixed up.
    some = evaluate_replacement(
        optical, generated, sar[:4], pids, pids[:4])
    assert (some['G2S'].num_valid, some['G2S'].num_gallery) == (4, 4)
    assert (some['S2G'].num_valid, some['S2G'].num_gallery) == (4, 12)
    assert not math.isnan(some['S2G'].summary()['mAP'])
    with pytest.raises(DataFormatError, match='12 optical and 11'):
        evaluate_replacement(optical, generated[1:], sar, pids, pids)
