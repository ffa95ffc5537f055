"""The numbers of the official code, on its own weights."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
import torch
from recipe import batch, build, golden, model_cfg, official_weights

from osar_plugin.models.reid.losses import hard_pairs, triplet_loss
from osar_plugin.models.reid.official import resize_positions, to_official
from osar_plugin.models.reid.structure import gradient_energy
from osar_plugin.registry import MODELS


def relative(value: Any, expected: Any) -> float:
    """Largest deviation over the largest expected magnitude."""
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    gap = np.abs(np.asarray(value, float) - np.asarray(expected, float))
    return float(gap.max() / np.abs(expected).max())


@pytest.fixture(scope='module', params=['sdfnet', 'transoss'])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope='module')
def model(name: str) -> Any:
    model = MODELS.build(model_cfg(name))
    # strict: every official key is known, none of ours is missing
    model.load_state_dict(official_weights(name), strict=True)
    return model


@pytest.fixture(scope='module')
def step(model: Any) -> dict[str, Any]:
    """One training step without stochastic depth."""
    images, samples, modality, size = batch()
    model.eval()
    with torch.no_grad():
        output = model.backbone(images, modality, size, taps=(6, 12))
        features = model.neck(output.tokens)
        descriptor = model.extract_feat(images, modality, size)
        after = model.head.bottleneck(features.fused)
        tokens = model.backbone.embed(images, modality, size)
    model.train()
    losses = model.loss(images, samples)
    total = sum(v for k, v in losses.items() if k.startswith('loss'))
    total.backward()
    return dict(output=output, features=features, descriptor=descriptor,
                after=after, losses=losses, total=total, size=size,
                tokens=tokens)


def test_features(name: str, model: Any, step: dict[str, Any]) -> None:
    expected = golden(name)
    assert relative(step['size'], expected['img_wh']) == 0
    assert relative(step['descriptor'], expected['eval_feat']) < 1e-5
    output = step['output']
    for key, tokens in (('tok_block0_in', step['tokens']),
                        ('tok_block6_out', output.taps[6]),
                        ('tok_block12_out', output.taps[12])):
        assert relative(tokens[..., :8], expected[key]) < 1e-5, key
    if name == 'transoss':
        assert relative(step['after'], expected['eval_bn']) < 1e-5
        assert relative(
            step['features'].fused, expected['eval_global']) < 1e-5
        return
    features = step['features']
    assert relative(features.shared, expected['eval_shared']) < 1e-5
    assert relative(features.specific, expected['eval_spec']) < 1e-5
    maps = model.backbone.patch_map(output.taps[6])
    assert relative(gradient_energy(maps), expected['energy_block6']) < 1e-5
    assert relative(
        model.structure.describe(maps), expected['eval_fstruct']) < 1e-5


def test_losses(name: str, step: dict[str, Any]) -> None:
    expected, losses = golden(name), step['losses']
    pairs = {'loss_id': losses['loss_id'],
             'loss_triplet_soft': losses['loss_triplet'],
             'loss_total': step['total']}
    if name == 'sdfnet':
        pairs['loss_orth_raw'] = losses['loss_orth'] / 10
        pairs['loss_struct_raw'] = losses['loss_struct']
    for key, value in pairs.items():
        assert relative(value, expected[key]) < 1e-5, key


def test_training_outputs(name: str, model: Any) -> None:
    """Scores, features and the other forms of the losses in train mode."""
    expected = golden(name)
    fresh = MODELS.build(model_cfg(name))
    fresh.load_state_dict(official_weights(name))
    fresh.train()
    images, samples, modality, size = batch()
    labels = torch.tensor([s.label for s in samples])
    with torch.no_grad():
        output, features = fresh._encode(images, modality, size)
        score = fresh.head.classifier(fresh.head.bottleneck(features.fused))
        key = 'train_feat_fuse' if name == 'sdfnet' else 'train_feat'
        assert relative(features.fused, expected[key]) < 1e-5
        assert relative(score, expected['train_score']) < 1e-5
        positive, negative, _ = hard_pairs(features.fused, labels)
        assert relative(positive, expected['dist_ap']) < 1e-5
        assert relative(negative, expected['dist_an']) < 1e-5
        assert relative(triplet_loss(features.fused, labels, 0.3),
                        expected['loss_triplet_m03']) < 1e-5
        smoothed = MODELS.build(
            dict(type='osar_plugin.IdentityLoss', label_smoothing=0.1))
        assert relative(
            smoothed(score, labels), expected['loss_id_ls01']) < 1e-5
        if name == 'sdfnet':
            assert relative(features.shared, expected['train_shared']) < 1e-5
            assert relative(features.specific, expected['train_spec']) < 1e-5
            maps = fresh.backbone.patch_map(
                fresh.backbone(images, modality, size, (6, )).taps[6])
            assert relative(fresh.structure.describe(maps),
                            expected['train_fstruct']) < 1e-5


def test_gradients(name: str, model: Any, step: dict[str, Any]) -> None:
    expected = golden(name)
    grads = to_official({
        key: torch.zeros_like(p) if p.grad is None else p.grad
        for key, p in model.named_parameters()
    })
    norms = dict(zip(expected['grad_names'].tolist(),
                     expected['grad_norms'].tolist(), strict=True))
    largest = max(norms.values())
    assert len(norms) > 150
    for key, norm in norms.items():
        if norm < 0:  # no gradient: the parts that are never used
            assert key.startswith(('base.fc', 'bottleneck', 'logit_scale'))
            continue
        # Some gradients are zero but for rounding (base.norm.bias in front
        # of a BatchNorm): they are held against the largest one.
        gap = abs(float(grads[key].norm()) - norm)
        assert gap < 1e-5 * norm + 1e-9 * largest, key
    for key in expected:
        if key.startswith('grad:'):
            assert relative(
                grads[key.removeprefix('grad:')], expected[key]) < 1e-5


def test_batch_norm_statistics(name: str, model: Any,
                               step: dict[str, Any]) -> None:
    expected, norm = golden(name), model.head.bottleneck
    assert relative(norm.running_mean, expected['bn_running_mean']) < 1e-5
    assert relative(norm.running_var, expected['bn_running_var']) < 1e-5


def test_stochastic_depth_draws_the_official_numbers(name: str) -> None:
    model = MODELS.build(model_cfg(name, drop_path_rate=0.1))
    model.load_state_dict(official_weights(name))
    model.train()
    images, _, modality, size = batch()
    torch.manual_seed(123)
    with torch.no_grad():
        feature = model._encode(images, modality, size)[1].fused
    assert relative(feature, golden(name)['dp_feat']) < 1e-5


@pytest.mark.parametrize('key, seed, count', [
    ('timm_pos', 'a', 197), ('toss_pos', 'b', 129)])
def test_positions(key: str, seed: str, count: int) -> None:
    generator = torch.Generator().manual_seed(
        zlib.crc32(f'{seed}/pos_embed'.encode()))
    source = torch.randn(1, count, 768, generator=generator) * 0.02
    positions, note = resize_positions(source, 2, (16, 8))
    assert relative(positions[..., :16], golden('reid_posembed')[key]) < 1e-6
    assert 'class position doubled' in note


def test_a_round_trip_gives_the_official_layout(name: str,
                                                model: Any) -> None:
    weights = official_weights(name)
    fresh = build(model_cfg(name))
    fresh.load_state_dict(weights)
    back = to_official(fresh.state_dict())
    assert {k: v.shape for k, v in back.items()} == {
        k: v.shape for k, v in weights.items()}
    unused = ('base.fc', 'logit_scale',
              'bottleneck.' if name == 'sdfnet' else 'none')
    for key, value in weights.items():
        if not key.startswith(unused):
            assert torch.equal(back[key], value), key
