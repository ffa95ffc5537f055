"""Checkpoints of every published layout, and files that must be refused."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from recipe import build, official_shapes, tiny_cfg
from torch import Tensor

from osar_plugin.models.reid.official import from_official, to_official
from osar_plugin.utils.checkpoint import (
    load_checkpoint,
    read_checkpoint,
    save_weights,
    sha256_of,
)
from osar_plugin.utils.errors import (
    CheckpointError,
    CheckpointMismatchError,
    UnsafeCheckpointError,
)


def released(name: str, seed: int = 1) -> dict[str, Tensor]:
    """What the authors' code would save of a tiny model."""
    return to_official(build(tiny_cfg(name), seed).state_dict())


def save(tmp_path: Path, content: Any, name: str = 'file.pth') -> Path:
    torch.save(content, tmp_path / name)
    return tmp_path / name


def backbone_of(name: str) -> dict[str, Tensor]:
    """The pair-pre-trained backbone: no prefix, `fc` along."""
    return {
        key.removeprefix('base.'): value
        for key, value in released(name).items()
        if key.startswith('base.') and 'wh_embed' not in key
    }


@pytest.mark.parametrize('name', ['sdfnet', 'transoss'])
def test_the_key_lists_are_the_published_ones(name: str) -> None:
    ours = to_official(build(tiny_cfg(name)).state_dict())
    expected = {
        key for key in official_shapes(name)
        if not key.startswith(tuple(f'base.blocks.{i}.' for i in
                                    range(2, 12)))
    }
    assert set(ours) == expected


@pytest.mark.parametrize('wrap', ['plain', 'module', 'state_dict', 'model'])
@pytest.mark.parametrize('name', ['sdfnet', 'transoss'])
def test_released_files(name: str, wrap: str, tmp_path: Path) -> None:
    source = build(tiny_cfg(name), 1)
    weights: Any = to_official(source.state_dict())
    if wrap == 'module':
        weights = {f'module.{k}': v for k, v in weights.items()}
    elif wrap != 'plain':
        weights = {wrap: weights, 'epoch': 3}
    model = build(tiny_cfg(name), 2)
    report = load_checkpoint(model, save(tmp_path, weights))
    assert not report.missing and not report.unexpected
    assert report.coverage == 1.
    for key, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key


def test_sdfnet_file_uses_the_fused_neck(tmp_path: Path) -> None:
    weights = released('sdfnet')
    weights['bottleneck_fuse.weight'] += 1
    weights['bottleneck.weight'] += 7
    model = build(tiny_cfg('sdfnet'))
    load_checkpoint(model, save(tmp_path, weights))
    assert model.head.bottleneck.weight.eq(2).all()


@pytest.mark.parametrize('absent', ['cls_token', 'mie_embed', None])
@pytest.mark.parametrize('name', ['sdfnet', 'transoss'])
def test_pair_pretrained_backbone(name: str, absent: str | None,
                                  tmp_path: Path) -> None:
    """`vit_b512_pre.pth` has 154 keys: one small tensor is absent."""
    weights = backbone_of('transoss')
    weights.pop(absent, None)
    model = build(tiny_cfg(name))
    report = load_checkpoint(model, save(tmp_path, weights))
    missing = {'backbone.size_embed.weight', 'backbone.size_embed.bias'}
    if name == 'sdfnet':
        missing.add('backbone.modality_tokens')
        positions = model.backbone.pos_embed
        assert torch.equal(positions[:, 0], positions[:, 1])
        assert torch.equal(positions[:, 1:], weights['pos_embed'])
        assert 'doubled' in report.resized['backbone.pos_embed']
    if absent:
        missing.add({'cls_token': 'backbone.cls_token',
                     'mie_embed': 'backbone.modality_embed'}[absent])
    heads = {key for key in report.missing if key.startswith('head.')}
    assert set(report.missing) == missing | heads
    assert not report.unexpected


def test_raw_pair_training_file(tmp_path: Path) -> None:
    """`transformer_60.pth`: `module.base.*` with an untrained classifier."""
    weights = {f'module.base.{k}': v for k, v in
               backbone_of('transoss').items()}
    weights['module.logit_scale'] = torch.tensor(3.)
    weights['module.classifier.weight'] = torch.zeros(55_000, 24)
    model = build(tiny_cfg('transoss'))
    report = load_checkpoint(model, save(tmp_path, weights))
    assert 'head.classifier.weight' in report.mismatched
    assert torch.equal(model.backbone.cls_token,
                       weights['module.base.cls_token'])


def test_plain_vit(tmp_path: Path) -> None:
    """timm's file: square positions, one tokenizer, a head, flat patches."""
    weights = backbone_of('transoss')
    for key in [k for k in weights if 'SAR' in k or k.startswith('fc')]:
        del weights[key]
    del weights['mie_embed']
    generator = torch.Generator().manual_seed(0)
    weights['pos_embed'] = torch.randn(1, 1 + 16, 24, generator=generator)
    patches = weights['patch_embed.proj.weight']
    weights['patch_embed.proj.weight'] = patches.flatten(1)
    weights['head.weight'] = torch.zeros(1000, 24)
    model = build(tiny_cfg('transoss'))
    report = load_checkpoint(model, save(tmp_path, weights))
    assert torch.equal(model.backbone.patch_embeds[0].weight, patches)
    assert torch.equal(model.backbone.patch_embeds[1].weight, patches)
    assert torch.equal(model.backbone.pos_embed[:, 0],
                       weights['pos_embed'][:, 0])
    assert 'from 4 x 4 to 4 x 2' in report.resized['backbone.pos_embed']
    assert not report.unexpected


def test_every_loader_accepts_official_keys() -> None:
    model = build(tiny_cfg('sdfnet'))
    weights = released('sdfnet')
    before = set(weights)
    model.load_state_dict(weights, strict=True)
    assert set(weights) == before  # the caller's dict stays as it was
    assert torch.equal(model.backbone.cls_token, weights['base.cls_token'])


def test_renaming_is_invertible() -> None:
    state = build(tiny_cfg('sdfnet')).state_dict()
    back = from_official(to_official(state))
    assert {k for k in back if k != 'logit_scale'} == set(state)
    for key, value in state.items():
        assert torch.equal(back[key], value)


def test_init_cfg_goes_through_the_safe_reader(tmp_path: Path) -> None:
    path = save(tmp_path, released('transoss', 7))
    model = build(dict(tiny_cfg('transoss'), init_cfg=dict(
        type='Pretrained', checkpoint=str(path))))
    expected = released('transoss', 7)['base.cls_token']
    assert torch.equal(model.backbone.cls_token, expected)
    missing = dict(type='Pretrained', checkpoint=str(tmp_path / 'no.pth'))
    with pytest.raises(CheckpointError, match=r'no\.pth'):
        build(dict(tiny_cfg('transoss'), init_cfg=missing))
    build(dict(tiny_cfg('transoss'), init_cfg=dict(missing, optional=True)))


class Crafted:
    """Unpickling it with the full unpickler makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        import os
        return os.mkdir, (str(self.target), )


@pytest.mark.parametrize('form', ['zip', 'legacy', 'pickle'])
def test_a_file_that_carries_code_is_refused(form: str,
                                             tmp_path: Path) -> None:
    target = tmp_path / 'made'
    path = tmp_path / 'evil.pth'
    content = dict(released('transoss'), extra=Crafted(target))
    if form == 'pickle':
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path,
                   _use_new_zipfile_serialization=form == 'zip')
    model = build(tiny_cfg('transoss'))
    with pytest.raises(UnsafeCheckpointError, match='mkdir'):
        load_checkpoint(model, path)
    with pytest.raises(UnsafeCheckpointError):
        build(dict(tiny_cfg('transoss'), init_cfg=dict(
            type='Pretrained', checkpoint=str(path))))
    assert not target.exists()


def test_mmengine_files_are_read(tmp_path: Path) -> None:
    buffer = HistoryBuffer([1., 2.], [1, 1])
    content = dict(
        state_dict=released('transoss'),
        message_hub=dict(log_scalars=dict(loss=buffer)),
        meta=dict(seed=np.int64(3), value=np.float32(0.5)))
    read = read_checkpoint(save(tmp_path, content))
    assert read['message_hub']['log_scalars']['loss'].mean() == 1.5
    assert read['meta']['seed'] == 3


def test_broken_files(tmp_path: Path) -> None:
    whole = save(tmp_path, released('transoss'))
    data = whole.read_bytes()
    for name, content in (('cut.pth', data[:len(data) // 2]),
                          ('empty.pth', b''), ('text.pth', b'hello' * 10),
                          ('cut.safetensors', b'\x10' * 40)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=name):
            read_checkpoint(tmp_path / name)
    assert zipfile.is_zipfile(whole)
    with pytest.raises(CheckpointError, match='holds a list'):
        read_checkpoint(save(tmp_path, [torch.zeros(1)]))


def test_files_of_other_models_are_refused(tmp_path: Path) -> None:
    model = build(tiny_cfg('transoss'))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    foreign = save(tmp_path, {'conv1.weight': torch.zeros(64, 3, 7, 7)})
    with pytest.raises(CheckpointMismatchError, match=r'conv1\.weight'):
        load_checkpoint(model, foreign)
    wide = to_official(
        build(tiny_cfg('transoss', embed_dim=32)).state_dict())
    with pytest.raises(CheckpointMismatchError,
                       match=r'\(1, 1, 32\) in the file'):
        load_checkpoint(model, save(tmp_path, wide))
    with pytest.raises(CheckpointMismatchError):
        model.load_state_dict(wide, strict=True)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_written_weights_come_back(suffix: str, tmp_path: Path) -> None:
    state = build(tiny_cfg('sdfnet')).state_dict()
    path = tmp_path / f'weights{suffix}'
    assert save_weights(state, path) == sha256_of(path)
    model = build(tiny_cfg('sdfnet'), 9)
    assert load_checkpoint(model, path).coverage == 1.
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    with pytest.raises(CheckpointError, match=r'\.bin'):
        save_weights(state, tmp_path / 'weights.bin')


def test_a_part_of_a_model_is_read_safely_too(tmp_path: Path) -> None:
    """`init_cfg` of the backbone, which MMEngine's own loader would read."""
    target = tmp_path / 'made'
    path = save(tmp_path, dict(x=Crafted(target)), 'evil.pth')
    cfg = tiny_cfg('transoss')
    cfg['backbone']['init_cfg'] = dict(
        type='Pretrained', checkpoint=str(path))
    with pytest.raises(UnsafeCheckpointError, match='mkdir'):
        build(cfg)
    for address in ('s3://bucket/evil.pth', 'pavi://folder/evil.pth'):
        cfg['backbone']['init_cfg']['checkpoint'] = address
        with pytest.raises(CheckpointError, match='Download it yourself'):
            build(cfg)
    assert not target.exists()


def test_incomplete_weights_are_not_evaluated(tmp_path: Path) -> None:
    model = build(tiny_cfg('sdfnet'))
    report = load_checkpoint(model, save(tmp_path, released('transoss')))
    with pytest.raises(CheckpointMismatchError, match='modality_tokens'):
        report.require_complete()
    weights = released('sdfnet')
    weights['classifier.weight'] = torch.zeros(9, 24)
    load_checkpoint(model, save(tmp_path, weights)).require_complete()


def test_models_without_an_official_form(tmp_path: Path) -> None:
    cfg = tiny_cfg('sdfnet', modality_token=False)
    cfg['neck']['source'] = 'projection'
    with pytest.raises(CheckpointError, match=r'neck\.shared_head'):
        to_official(build(cfg).state_dict())
    pair = build(dict(
        type='osar_plugin.TransOSSPretrain',
        backbone=tiny_cfg('transoss', size_token=False)['backbone']))
    ours = to_official(pair.state_dict())
    assert set(ours) == set(backbone_of('transoss'))
    model = build(tiny_cfg('transoss'), 3)
    load_checkpoint(model, save(tmp_path, ours))
    assert torch.equal(model.backbone.cls_token, pair.backbone.cls_token)
