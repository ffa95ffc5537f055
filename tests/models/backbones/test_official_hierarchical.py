"""Checkpoints of the authors in HiViT and iTPN."""

from __future__ import annotations

import argparse
from typing import Any

import pytest
import torch
from hierarchical_case import TINY_HIVIT, TINY_ITPN, randn, started

from osar_plugin.models.backbones import ITPN, HiViT
from osar_plugin.models.backbones.official_hierarchical import (
    backbone_weights,
    export_backbone,
    resize_relative_table,
)
from osar_plugin.utils.checkpoint import (
    load_checkpoint,
    read_checkpoint,
    save_weights,
)
from osar_plugin.utils.errors import (
    CheckpointError,
    CheckpointMismatchError,
    ConfigError,
    UnsafeCheckpointError,
)

# What a pre-training file holds besides the encoder.
REST = {
    'mask_token': (1, 1, 32), 'mask_token_cross': (1, 1, 32),
    'decoder_pos_embed': (1, 16, 32), 'decoder_embed.0.0.weight': (16, ),
    'decoder_blocks_cross.0.attn.qkv.weight': (96, 32),
    'lm_head.weight': (64, 32), 'norm.weight': (32, ),
    'norm_cls.weight': (32, ), 'cls_pt_layers.0.norm1.weight': (32, ),
    'contrastive_loss.crossattn_rgb.cattn.kv.weight': (64, 32)}


def itpn(**changes: Any) -> Any:
    return started(ITPN(**{**TINY_ITPN, **changes}), seed=1)


def hivit(**changes: Any) -> Any:
    return started(HiViT(**{**TINY_HIVIT, **changes}), seed=1)


def other(model: Any) -> dict[str, torch.Tensor]:
    """Weights for a model, unlike its own."""
    generator = torch.Generator().manual_seed(7)
    return {key: torch.randn(value.shape, generator=generator)
            for key, value in model.state_dict().items()}


def write(path: Any, weights: dict[str, torch.Tensor], **more: Any) -> str:
    torch.save(dict(model=weights, epoch=800, **more), path)
    return str(path)


def pretrained(path: str, **more: Any) -> dict[str, Any]:
    return dict(type='Pretrained', checkpoint=path, **more)


@pytest.fixture
def file(tmp_path):
    """A pre-training file of CoDe-MAE, and what its encoder holds."""
    weights = other(itpn())
    rest = {key: torch.zeros(shape) for key, shape in REST.items()}
    path = write(tmp_path / 'checkpoint-800.pth', {**rest, **weights},
                 args=argparse.Namespace(lr=1e-3), scaler=dict(scale=1.))
    return path, weights


@pytest.mark.parametrize('settings', [
    dict(), dict(modality='rgb'), dict(modality='sar', num_outs=4),
    dict(modality='sar', num_outs=1),
    dict(modality=None, default_modality='sar')])
def test_pretraining_file_into_every_use(file, settings):
    path, weights = file
    model = itpn(init_cfg=pretrained(path), **settings)
    model.init_weights()
    report = model.load_report
    assert report.missing == [] and report.coverage == 1.
    for key, value in model.state_dict().items():
        key = key.replace('patch_embed.', 'patch_embed_sar.')
        assert torch.equal(value, weights[key]), key
    left = {key.split('.')[0] for key in report.unexpected}
    assert left <= {'align_dim_16tofpn', 'align_dim_16to8', 'align_dim_8to4',
                    'split_16to8', 'split_8to4', 'block_16to8',
                    'block_8to4', 'fpn_modules'}
    assert bool(left) == (settings.get('num_outs') == 1)


@pytest.mark.parametrize('prefix', [
    'module.', 'backbone.', 'encoder.', 'module.backbone.encoder.'])
def test_prefixes(tmp_path, prefix):
    weights = other(itpn())
    content = {prefix + key: value for key, value in weights.items()}
    content[prefix.partition('.')[0] + '_other.weight'] = torch.zeros(3)
    model = itpn(init_cfg=pretrained(write(tmp_path / 'w.pth', content)))
    model.init_weights()
    assert torch.equal(model.blocks[6].mlp.fc1.weight,
                       weights['blocks.6.mlp.fc1.weight'])
    assert model.load_report.missing == []


def test_a_prefix_of_ones_own(tmp_path):
    weights = other(itpn())
    content = {f'student.{key}': value for key, value in weights.items()}
    path = write(tmp_path / 'w.pth', content)
    model = itpn(init_cfg=pretrained(path, prefix='student'))
    model.init_weights()
    assert torch.equal(model.absolute_pos_embed,
                       weights['absolute_pos_embed'])
    with pytest.raises(CheckpointMismatchError, match=r"prefix='teacher\.'"):
        itpn(init_cfg=pretrained(path, prefix='teacher.')).init_weights()
    with pytest.raises(CheckpointMismatchError):
        itpn(init_cfg=pretrained(path)).init_weights()


def test_a_single_embedding_serves_both_sensors(tmp_path):
    """The released iTPN, with twice the blocks in its pyramid."""
    weights = other(itpn(modality=None, fpn_depth=2))
    model = itpn(init_cfg=pretrained(write(tmp_path / 'w.pth', weights)))
    model.init_weights()
    single = weights['patch_embed.proj.weight']
    for embed in (model.patch_embed_rgb, model.patch_embed_sar):
        assert torch.equal(embed.proj.weight, single)
    assert model.load_report.resized['patch_embed_sar.proj.bias'] == (
        'from patch_embed')
    assert len(model.load_report.unexpected) == 12


def test_a_sensor_that_the_file_has_not(tmp_path):
    path = write(tmp_path / 'w.pth', other(itpn(modality='rgb')))
    for settings in (dict(modality='sar'), dict(modality='both')):
        with pytest.raises(CheckpointMismatchError, match='patch_embed_sar'):
            itpn(init_cfg=pretrained(path), **settings).init_weights()
    both = write(tmp_path / 'b.pth', other(itpn()))
    with pytest.raises(CheckpointMismatchError, match='default_modality'):
        itpn(init_cfg=pretrained(both), modality=None).init_weights()


def test_hivit_files(tmp_path):
    """Fine-tuned classifier, pre-training and detection files."""
    classifier = other(hivit(rpe=True))
    indices = {
        'relative_position_index': torch.zeros(16, 16).long(),
        'blocks.6.attn.relative_position_index': torch.zeros(16, 16).long(),
        'head.weight': torch.zeros(5, 32), 'fc_norm.weight': torch.ones(32)}
    path = write(tmp_path / 'cls.pth', {**classifier, **indices})
    model = hivit(rpe=True, init_cfg=pretrained(path))
    model.init_weights()
    assert model.load_report.missing == model.load_report.unexpected == []
    # Without tables: relative positions and the norms of maps start anew.
    path = write(tmp_path / 'mae.pth', other(hivit()))
    fresh = HiViT(**TINY_HIVIT, rpe=True, out='maps',
                  init_cfg=pretrained(path))
    fresh.init_weights()
    assert len(fresh.load_report.missing) == 4 + 8
    assert fresh.blocks[6].attn.relative_position_bias_table.eq(0).all()
    assert fresh.fpn1.weight.eq(1).all()


def test_another_image_size(tmp_path):
    """Both kinds of positions follow; a bias stays where it was."""
    weights = other(hivit(rpe=True))
    path = write(tmp_path / 'w.pth', weights)
    model = hivit(rpe=True, img_size=96, init_cfg=pretrained(path))
    model.init_weights()
    assert model.absolute_pos_embed.shape == (1, 36, 32)
    key = 'blocks.6.attn.relative_position_bias_table'
    table = model.state_dict()[key]
    assert table.shape == (121, 2)
    # The middle row is that of a unit with itself.
    torch.testing.assert_close(table[60], weights[key][24])
    assert 'resized from (49, 2)' in model.load_report.resized[key]
    assert model(randn(0, 1, 3, 96, 96)).shape == (1, 36, 32)


def test_resizing_a_table_keeps_directions():
    ramp = torch.arange(7.).repeat_interleave(7)[:, None]  # row difference
    out = resize_relative_table(ramp, 121).view(11, 11)
    assert (out.std(dim=1) < 1e-5).all()
    assert (out[1:, 0] > out[:-1, 0]).all()
    for rows in (48, 0):
        with pytest.raises(CheckpointMismatchError, match=f'{rows} rows'):
            resize_relative_table(torch.zeros(rows, 2), 121)


@pytest.mark.parametrize('key,shape', [
    ('absolute_pos_embed', (1, 0, 32)), ('absolute_pos_embed', (1, 15, 32)),
    ('absolute_pos_embed', (16, 32)), ('absolute_pos_embed', (1, 9, 16)),
    ('absolute_pos_embed', (2, 9, 32)),
    ('blocks.6.attn.relative_position_bias_table', (25, 3)),
    ('blocks.6.attn.relative_position_bias_table', (25, )),
    ('blocks.0.norm2.weight', ()), ('patch_embed.proj.weight', (8, 3))])
def test_tensors_of_other_shapes(key, shape):
    model = hivit(rpe=True)
    with pytest.raises(CheckpointMismatchError):
        model.load_state_dict({**other(model), key: torch.zeros(shape)})


def test_files_of_other_models(tmp_path):
    """Nothing is loaded in silence."""
    own = itpn()
    cases = {
        'trunk only': other(itpn(num_outs=1)),
        'more blocks': other(itpn(arch=dict(
            embed_dim=32, mlp_depths=(1, 2), depth=4, num_heads=2))),
        'fewer blocks': other(itpn(arch=dict(
            embed_dim=32, mlp_depths=(1, 2), depth=2, num_heads=2))),
        'another width': other(itpn(arch=dict(
            embed_dim=64, mlp_depths=(1, 2), depth=3, num_heads=2))),
        'HiViT': other(hivit()),
        'another model': {'conv1.weight': torch.zeros(3)}}
    for name, weights in cases.items():
        before = {k: v.clone() for k, v in own.state_dict().items()}
        with pytest.raises(CheckpointMismatchError):
            load_checkpoint(own, write(tmp_path / 'w.pth', weights))
        for key, value in own.state_dict().items():
            assert torch.equal(before[key], value), name


def test_ninety_per_cent(tmp_path):
    weights = other(itpn())
    total = len(weights)
    keys = [k for k in weights if k.startswith(('fpn', 'blocks'))]
    for count, works in ((total // 10, True), (total // 10 + 1, False)):
        part = {k: v for k, v in weights.items() if k not in keys[-count:]}
        path = write(tmp_path / 'w.pth', part)
        model = itpn(init_cfg=pretrained(path))
        if works:
            model.init_weights()
            assert model.load_report.missing == [
                k for k in weights if k in keys[-count:]]
        else:
            with pytest.raises(CheckpointMismatchError, match='90%'):
                model.init_weights()


def test_bad_files(tmp_path):
    with pytest.raises(CheckpointError, match=r'gone\.pth'):
        itpn(init_cfg=pretrained(str(tmp_path / 'gone.pth'))).init_weights()
    with pytest.raises(ConfigError, match='names no checkpoint'):
        itpn(init_cfg=dict(type='Pretrained')).init_weights()
    torch.save(dict(model=other(itpn()), hook=print), tmp_path / 'code.pth')
    with pytest.raises(UnsafeCheckpointError):
        itpn(init_cfg=pretrained(str(tmp_path / 'code.pth'))).init_weights()
    (tmp_path / 'cut.pth').write_bytes(
        (tmp_path / 'code.pth').read_bytes()[:500])
    with pytest.raises(CheckpointError):
        itpn(init_cfg=pretrained(str(tmp_path / 'cut.pth'))).init_weights()


def test_inside_another_model_nothing_is_adapted():
    """Resuming a detector gives back what it saved."""
    detector = torch.nn.ModuleDict(dict(backbone=itpn()))
    saved = {k: v + 1 for k, v in detector.state_dict().items()}
    detector.load_state_dict(saved)
    for key, value in detector.state_dict().items():
        assert torch.equal(value, saved[key])
    del saved['backbone.blocks.0.norm2.bias']
    with pytest.raises(RuntimeError, match='Missing key'):
        detector.load_state_dict(saved)


@pytest.mark.parametrize('modality,prefix', [
    (None, ''), ('sar', ''), ('rgb', 'backbone.')])
def test_export(file, tmp_path, modality, prefix):
    """What other frameworks take through ``init_cfg``."""
    path, weights = file
    out = export_backbone(read_checkpoint(path), modality, prefix)
    expected = {
        prefix + k for k in weights if not k.startswith('patch_embed')
        or modality in (None, k.split('.')[0][-3:])}
    assert set(out) == expected
    for suffix in ('.pth', '.safetensors'):
        target = tmp_path / f'backbone{suffix}'
        save_weights(out, target)
        model = itpn(modality=modality or 'both', init_cfg=pretrained(
            str(target), prefix=prefix))
        model.init_weights()
        assert model.load_report.unexpected == []
        assert torch.equal(model.split_8to4.reduction.weight,
                           weights['split_8to4.reduction.weight'])


def test_export_of_nothing():
    with pytest.raises(CheckpointMismatchError, match='no hierarchical'):
        export_backbone(dict(a=torch.zeros(1)))
    assert backbone_weights(dict(epoch=3, text='x')) == {}
