"""The models as MMEngine sees them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from recipe import build, tiny_batch, tiny_cfg

from osar_plugin.models.reid.alignment import (
    fuse_views,
    modality_alignment_loss,
)
from osar_plugin.registry import MODELS
from osar_plugin.utils.errors import ConfigError, DataFormatError


def total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    return sum((v for k, v in losses.items() if k.startswith('loss')),
               torch.zeros(()))


@pytest.mark.parametrize('name', ['sdfnet', 'transoss'])
def test_modes_agree(name: str) -> None:
    model = build(tiny_cfg(name)).eval()
    images, samples, modality, size = tiny_batch()
    with torch.no_grad():
        expected = model.extract_feat(images, modality, size)
        assert torch.equal(model(images, samples), expected)
        predicted = model(images, samples, mode='predict')
    assert torch.equal(
        torch.stack([s.feature for s in predicted]), expected)
    with pytest.raises(ConfigError, match="'train'"):
        model(images, samples, mode='train')
    with pytest.raises(ConfigError, match='data_samples is None'):
        model(images)


def test_test_feature_before_or_after_the_neck() -> None:
    images, _, modality, size = tiny_batch()
    outputs = []
    for where in ('before', 'after'):
        cfg = tiny_cfg('sdfnet')
        cfg['head']['test_feature'] = where
        model = build(cfg).eval()
        model.head.bottleneck.running_mean.fill_(1.)
        with torch.no_grad():
            outputs.append(model.extract_feat(images, modality, size))
    torch.testing.assert_close(
        outputs[1], (outputs[0] - 1) / (1 + 1e-5)**0.5)


@pytest.mark.parametrize('fusion', ['sum', 'shared', 'specific', 'concat'])
@pytest.mark.parametrize('source', ['token', 'projection'])
def test_fusions(fusion: str, source: str) -> None:
    cfg = tiny_cfg('sdfnet', modality_token=source == 'token')
    cfg['neck'].update(fusion=fusion, source=source)
    cfg['head']['in_channels'] = 48 if fusion == 'concat' else 24
    model = build(cfg)
    images, samples, modality, size = tiny_batch()
    features = model._encode(images, modality, size)[1]
    expected = dict(
        sum=features.shared + features.specific, shared=features.shared,
        specific=features.specific,
        concat=torch.cat([features.shared, features.specific], 1))[fusion]
    assert torch.equal(features.fused, expected)
    total(model.loss(images, samples)).backward()
    assert all(p.grad is not None for p in model.parameters()
               if p.requires_grad)


@pytest.mark.parametrize('part, key', [
    ('structure', 'loss_struct'), ('loss_orth', 'loss_orth')])
def test_parts_can_be_left_out(part: str, key: str) -> None:
    images, samples, *_ = tiny_batch()
    whole = build(tiny_cfg('sdfnet', drop_path_rate=0.)).loss(
        images, samples)
    without = build(dict(tiny_cfg('sdfnet', drop_path_rate=0.),
                         **{part: None})).loss(images, samples)
    assert set(whole) - set(without) == {key}
    for name in without:
        torch.testing.assert_close(whole[name], without[name])


ALIGNMENT = dict(type='osar_plugin.ModalityAlignmentLoss')


@pytest.mark.parametrize('name', ['sdfnet', 'transoss'])
@pytest.mark.parametrize('form', ['official', 'paper'])
def test_alignment_is_a_loss_of_its_own(name: str, form: str) -> None:
    """On the features that the head takes, beside losses left as they are."""
    images, samples, modality, size = tiny_batch()
    cfg = tiny_cfg(name, drop_path_rate=0.)
    plain = build(cfg).loss(images, samples)
    model = build(dict(cfg, alignment=dict(ALIGNMENT, form=form)))
    losses = model.loss(images, samples)
    assert set(losses) - set(plain) == {'loss_align'}
    for key in plain:
        torch.testing.assert_close(losses[key], plain[key])
    fused = model._encode(images, modality, size)[1].fused
    labels = torch.tensor([s.label for s in samples])
    torch.testing.assert_close(
        losses['loss_align'], 2 * modality_alignment_loss(
            fused, labels, modality, squared=form == 'paper'))
    gradient, = torch.autograd.grad(
        losses['loss_align'], model.backbone.cls_token)
    assert gradient.abs().sum() > 0


def test_alignment_brings_the_modalities_together() -> None:
    """A few steps of it alone close most of the gap."""
    images, samples, modality, size = tiny_batch()
    model = build(dict(tiny_cfg('transoss', drop_path_rate=0.),
                       alignment=ALIGNMENT))
    optimizer = torch.optim.Adam(model.backbone.parameters(), lr=3e-3)
    history = []
    for _ in range(30):
        loss = model.loss(images, samples)['loss_align']
        history.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert history[-1] < 0.3 * history[0]


def test_fuse_is_the_fusion_of_mos() -> None:
    model = build(tiny_cfg('transoss'))
    optical, views = torch.randn(2, 24), torch.randn(2, 5, 24)
    assert torch.equal(model.fuse(optical, views, 0.3),
                       fuse_views(optical, views, 0.3))


def test_a_single_modality_or_identity_trains_on() -> None:
    for labels, modality in (((0, ) * 8, (0, 1) * 4),
                             ((0, 0, 1, 1) * 2, (1, ) * 8)):
        model = build(dict(tiny_cfg('sdfnet'), alignment=ALIGNMENT))
        images, samples, *_ = tiny_batch(labels=labels, modality=modality)
        loss = total(model.loss(images, samples))
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(p.grad).all() for p in model.parameters()
                   if p.grad is not None)


def test_labels_outside_the_classifier() -> None:
    images, samples, *_ = tiny_batch(labels=(0, 0, 1, 1, 2, 2, 9, 9))
    with pytest.raises(ConfigError, match=r'0 to 9.*num_classes=6'):
        build(tiny_cfg('transoss')).loss(images, samples)


def test_configs_that_do_not_fit() -> None:
    cfg = tiny_cfg('sdfnet')
    cfg['structure']['layer'] = 3
    with pytest.raises(Exception, match=r'structure\.layer=3.*1 to 2'):
        build(cfg)
    cfg = tiny_cfg('sdfnet')
    cfg['neck'] = dict(type='osar_plugin.ClassTokenNeck')
    images, samples, *_ = tiny_batch()
    with pytest.raises(ConfigError, match='DisentangledNeck'):
        build(cfg).loss(images, samples)


def test_preprocessor() -> None:
    prepare = MODELS.build(dict(type='osar_plugin.ReIDDataPreprocessor'))
    byte = torch.randint(0, 256, (3, 4, 2), dtype=torch.uint8)
    erased = byte.float() + 0.25
    out = prepare(dict(inputs=[byte, erased], data_samples=None))['inputs']
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    assert torch.equal(out[0], (byte.float() / 255 - mean) / std)
    assert torch.equal(out[1], (erased / 255 - mean) / std)
    with pytest.raises(DataFormatError, match='PillowResize'):
        prepare(dict(inputs=[byte, byte[:, :2]]))


def test_pair_pretraining_learns_to_pair() -> None:
    """Contrast rises from chance, and rows are SAR, columns optical."""
    cfg: dict[str, Any] = dict(
        type='osar_plugin.TransOSSPretrain',
        backbone=dict(tiny_cfg('transoss', size_token=False)['backbone']))
    model = build(cfg)
    generator = torch.Generator().manual_seed(0)
    scene = torch.randn(8, 3, 32, 16, generator=generator)
    inputs = dict(optical=scene, sar=-scene)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    history = []
    for _ in range(40):
        loss = model(inputs, mode='loss')['loss_clip']
        history.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert abs(history[0] - torch.tensor(8.).log()) < 0.7
    assert history[-1] < 0.2 * history[0]
    assert model.logit_scale.grad is not None


def test_autocast_changes_little() -> None:
    images, samples, *_ = tiny_batch()
    model = build(tiny_cfg('sdfnet', drop_path_rate=0.))
    exact = model.loss(images, samples)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = model.loss(images, samples)
    for key, value in exact.items():
        assert mixed[key].dtype == torch.float32
        if key != 'accuracy':
            torch.testing.assert_close(mixed[key], value, rtol=0.1,
                                       atol=0.05)
