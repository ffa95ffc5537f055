"""What holds on a CPU holds on a GPU, and half precision trains there."""

from __future__ import annotations

import pytest
import torch
from recipe import build, tiny_batch, tiny_cfg

from osar_plugin.evaluation import (
    Labels,
    evaluate_features,
    k_reciprocal,
    make_tasks,
)
from osar_plugin.registry import OPTIM_WRAPPERS

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason='no GPU on this machine')


def test_features_and_losses() -> None:
    model = build(tiny_cfg('sdfnet', drop_path_rate=0.))
    images, samples, modality, size = tiny_batch()
    expected = model.loss(images, samples)
    model.cuda()
    losses = model.loss(images.cuda(), samples)
    for key, value in expected.items():
        torch.testing.assert_close(
            losses[key].cpu(), value, rtol=1e-3, atol=1e-4)
    batch = dict(inputs=list(images.mul(50).add(100)), data_samples=samples)
    on_gpu = torch.stack([
        s.feature for s in model.eval().test_step(batch)])
    on_cpu = torch.stack([
        s.feature for s in model.cpu().test_step(batch)])
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_mixed_precision_trains(dtype: str) -> None:
    model = build(tiny_cfg('sdfnet')).cuda().train()
    images, samples, *_ = tiny_batch()
    wrapper = OPTIM_WRAPPERS.build(dict(
        type='AmpOptimWrapper', dtype=dtype, optimizer=torch.optim.AdamW(
            model.parameters(), 3e-3)))
    history = []
    for _ in range(20):
        with wrapper.optim_context(model):
            losses = model.loss(images.cuda(), samples)
        total = sum(v for k, v in losses.items() if k.startswith('loss'))
        wrapper.update_params(total)
        history.append(float(total.detach()))
    assert history[-1] < 0.7 * history[0]


def test_retrieval_figures() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(140, 16, generator=generator)
    pids = torch.randint(0, 12, (140, ), generator=generator)
    cams = torch.randint(0, 2, (140, ), generator=generator)

    def figures(device: str) -> dict[str, float]:
        parts = [x.to(device) for x in (features, pids, cams)]
        query, gallery = ([x[:40] for x in parts], [x[40:] for x in parts])
        labels = Labels(query[1], gallery[1], query[2], gallery[2])
        results = evaluate_features(
            query[0], gallery[0], labels,
            make_tasks(['ALL', 'O2S', 'S2O'], query[2], gallery[2]))
        return {name: r.mean_ap for name, r in results.items()}

    assert figures('cuda') == pytest.approx(figures('cpu'), abs=1e-6)


def test_reranking() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(90, 16, generator=generator)
    on_cpu = k_reciprocal(features[:20], features[20:], k1=15, k2=5)
    on_gpu = k_reciprocal(
        features[:20].cuda(), features[20:].cuda(), k1=15, k2=5)
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=0, atol=1e-4)
