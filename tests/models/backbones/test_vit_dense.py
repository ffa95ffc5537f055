"""Plain ViT with maps: names, tokens, pyramid, checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hierarchical_case import randn, started

from osar_plugin.engine.layer_decay import layer_ids
from osar_plugin.models.backbones import DenseViT, VisionTransformer
from osar_plugin.registry import MODELS
from osar_plugin.utils.errors import (
    CheckpointMismatchError,
    ConfigError,
    DataFormatError,
)

TINY: dict[str, Any] = dict(
    arch=dict(embed_dim=32, depth=3, num_heads=2), img_size=64, fpn_dim=8)


def tiny(**changes: Any) -> Any:
    return started(DenseViT(**{**TINY, **changes})).eval()


def test_tokens_are_those_of_the_other_vit():
    model = tiny(out='tokens')
    other = VisionTransformer(
        img_size=(64, 64), embed_dim=32, depth=3, num_heads=2,
        num_modalities=1, modality_coef=0., size_token=False).eval()
    other.load_state_dict({
        k.replace('patch_embed.proj', 'patch_embeds.0'): v
        for k, v in model.state_dict().items()})
    x = randn(0, 2, 3, 64, 64)
    expected = other(x, torch.zeros(2).long()).tokens[:, 1:]
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(model(x), model(x, 'sar'))


def test_names_and_size_of_vit_base():
    """timm's ViT-B/16 without its head has 85,798,656 parameters."""
    with torch.device('meta'):
        model = DenseViT('base', out='tokens')
    assert sum(p.numel() for p in model.parameters()) == 85_798_656
    keys = set(model.state_dict())
    assert {k for k in keys if not k.startswith('blocks.')} == {
        'cls_token', 'pos_embed', 'patch_embed.proj.weight',
        'patch_embed.proj.bias', 'norm.weight', 'norm.bias'}
    assert {k[9:] for k in keys if k.startswith('blocks.0.')} == {
        f'{layer}.{kind}' for kind in ('weight', 'bias') for layer in (
            'norm1', 'attn.qkv', 'attn.proj', 'norm2', 'mlp.fc1', 'mlp.fc2')}


def test_maps():
    x = randn(0, 1, 3, 64, 96)
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    for count in (4, 5):
        model = tiny(num_outs=count)
        maps = model(x)
        assert [tuple(m.shape[2:]) for m in maps] == sizes[:count]
        assert {m.shape[1] for m in maps} == {8}
        assert model.out_channels == [8] * count
    one, = tiny(out='map')(x)
    tokens = tiny(out='tokens')(x)
    assert torch.equal(one[0, :, 1, 2], tokens[0, 1 * 6 + 2])


def test_maps_for_a_neck():
    """Every stride with the channels of the backbone, no convolution."""
    x = randn(0, 1, 3, 64, 96)
    model = tiny(fpn_dim=None)
    maps = model(x)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (32, 16, 24), (32, 8, 12), (32, 4, 6), (32, 2, 3)]
    assert model.out_channels == [32] * 4
    one, = tiny(out='map')(x)
    assert torch.equal(maps[2], one)
    assert torch.equal(maps[3], torch.nn.functional.max_pool2d(one, 2))
    assert not any(isinstance(m, torch.nn.Conv2d)
                   for m in model.pyramid.modules())
    assert set(model.state_dict()) - set(tiny(out='tokens').state_dict()) == {
        f'pyramid.{key}.{kind}' for kind in ('weight', 'bias')
        for key in ('0.0', '0.1', '0.3', '1.0')}


def test_positions_of_another_size():
    model = tiny()
    table = model.positions((4, 6))
    assert table.shape == (1, 25, 32)
    assert torch.equal(table[:, 0], model.pos_embed[:, 0])
    assert torch.equal(model.positions((4, 4)), model.pos_embed)


def test_windows():
    """One window over all patches is global attention."""
    x = randn(0, 1, 3, 64, 64)
    whole, window, small = (
        tiny(out='tokens', class_token=False, **settings)(x)
        for settings in (dict(), dict(window_size=4, global_blocks=[]),
                         dict(window_size=2, global_blocks=[1])))
    torch.testing.assert_close(whole, window, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(whole, small, atol=1e-2)


def test_recomputing_changes_nothing():
    grads = []
    for with_cp in (True, False):
        model = tiny(with_cp=with_cp, drop_path_rate=0.3).train()
        torch.manual_seed(5)
        sum(m.square().mean()
            for m in model(randn(0, 2, 3, 64, 64))).backward()
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('img_size,class_token', [
    (64, True), (96, True), (64, False)])
def test_files_of_plain_vits(tmp_path, img_size, class_token):
    """MAE with its decoder, DINO's teacher in a prefix."""
    weights = {k: randn(3, *v.shape) for k, v in
               tiny(out='tokens').state_dict().items()}
    rest = {'decoder_pos_embed': torch.zeros(1, 17, 8),
            'mask_token': torch.zeros(1, 1, 8), 'head.weight': torch.ones(2)}
    for prefix in ('', 'backbone.'):
        path = tmp_path / 'w.pth'
        torch.save(dict(model={
            prefix + k: v for k, v in {**weights, **rest}.items()}), path)
        model = DenseViT(**{**TINY, 'img_size': img_size},
                         class_token=class_token,
                         init_cfg=dict(type='Pretrained',
                                       checkpoint=str(path)))
        model.init_weights()
        report = model.load_report
        assert all(k.startswith('pyramid.') for k in report.missing)
        assert report.unexpected == []
        assert torch.equal(model.blocks[2].mlp.fc2.weight,
                           weights['blocks.2.mlp.fc2.weight'])
        table = weights['pos_embed'][:, not class_token:]
        if img_size == 64:
            assert torch.equal(model.pos_embed, table)
        else:
            assert torch.equal(model.pos_embed[:, 0], table[:, 0])
            assert model.pos_embed.shape == (1, 37, 32)


def test_files_of_other_models():
    model = tiny(out='tokens')
    weights = model.state_dict()
    for change in ({'blocks.3.mlp.fc1.weight': torch.zeros(128, 32)},
                   {'blocks.0.ls1.gamma': torch.ones(32)},
                   {'pos_embed': torch.zeros(1, 19, 32)},
                   {'pos_embed': torch.zeros(1, 16, 32)},
                   {'norm.weight': torch.zeros(16)}):
        with pytest.raises(CheckpointMismatchError):
            model.load_state_dict({**weights, **change})
    few = {k: v for k, v in weights.items() if not k.startswith('blocks.2')}
    with pytest.raises(CheckpointMismatchError, match='90%'):
        model.load_state_dict(few, strict=False)


def test_depths_and_freezing():
    ids, count = layer_ids(tiny(), 'vit')
    assert count == 5
    for name, number in {
            'cls_token': 0, 'pos_embed': 0, 'patch_embed.proj.bias': 0,
            'blocks.0.norm1.weight': 1, 'blocks.2.mlp.fc2.bias': 3,
            'norm.weight': None, 'pyramid.0.0.weight': None}.items():
        assert ids[name] == number
    model = tiny(frozen_stages=2).train()
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {n for n, i in ids.items() if i is not None and i < 3}
    assert [b.training for b in model.blocks] == [False, False, True]


@pytest.mark.parametrize('settings,message', [
    (dict(arch='huge'), "arch='huge'"),
    (dict(out='features'), "out='features'"),
    (dict(num_outs=3), 'num_outs=3'),
    (dict(img_size=60), 'img_size=60'),
    (dict(arch=dict(embed_dim=30, depth=1, num_heads=4)), 'embed_dim=30'),
    (dict(frozen_stages=4), 'frozen_stages=4'),
    (dict(window_size=2), 'class_token=False'),
    (dict(window_size=2, class_token=False, global_blocks=[3]),
     'global_blocks'),
    (dict(norm_eps=0.), 'norm_eps=0')])
def test_bad_arguments(settings, message):
    with pytest.raises(ConfigError, match=message):
        DenseViT(**{**TINY, **settings})


def test_bad_calls():
    model = tiny()
    for shape in ((1, 3, 60, 64), (1, 1, 64, 64), (3, 64, 64),
                  (1, 3, 0, 64)):
        with pytest.raises(DataFormatError, match='multiples of 16'):
            model(torch.zeros(shape))
    with pytest.raises(ConfigError, match="modality='ir'"):
        model(torch.zeros(1, 3, 64, 64), 'ir')
    with pytest.raises(ConfigError, match="rule='hivit'"):
        model.num_layers('hivit')


def test_is_registered():
    assert MODELS.get('osar_plugin.DenseViT') is DenseViT
