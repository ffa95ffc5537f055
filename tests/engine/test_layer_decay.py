"""Layer-wise learning rates, number by number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from osar_plugin.engine import LayerDecayConstructor
from osar_plugin.models.backbones import ITPN, HiViT
from osar_plugin.registry import OPTIM_WRAPPER_CONSTRUCTORS
from osar_plugin.utils.errors import ConfigError

TINY: dict[str, Any] = dict(
    arch=dict(embed_dim=32, mlp_depths=(3, 3), depth=24, num_heads=2),
    img_size=32, fpn_dim=16)


class Detector(nn.Module):
    """A backbone and what stands behind it."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(16, 3)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, 4))


def settings_of(model: nn.Module, **paramwise: Any) -> dict[str, tuple]:
    """(learning rate, weight decay) by parameter, base rates 1 and 0.05."""
    constructor = LayerDecayConstructor(
        dict(type='OptimWrapper',
             optimizer=dict(type='AdamW', lr=1., weight_decay=0.05)),
        paramwise_cfg=dict(decay_rate=0.85, **paramwise))
    optimizer = constructor(model).optimizer
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: (group['lr'], group['weight_decay'])
            for group in optimizer.param_groups for p in group['params']}


@pytest.mark.parametrize('num_layers', [None, 31])
def test_official_scales_of_codemae(num_layers):
    """33 ids with PatchMerge counted; the published config says 31."""
    found = settings_of(Detector(ITPN(**TINY)), num_layers=num_layers)
    expected = {
        'backbone.absolute_pos_embed': (0.85**32, 0.),
        'backbone.patch_embed_rgb.proj.weight': (0.85**32, 0.05),
        'backbone.patch_embed_sar.norm.weight': (0.85**32, 0.),
        'backbone.blocks.0.mlp.fc1.weight': (0.85**31, 0.05),
        'backbone.blocks.3.reduction.weight': (0.85**28, 0.05),
        'backbone.blocks.7.norm.bias': (0.85**24, 0.),
        'backbone.blocks.8.attn.qkv.weight': (0.85**23, 0.05),
        'backbone.blocks.31.mlp.fc2.weight': (1., 0.05),
        'backbone.blocks.31.mlp.fc2.bias': (1., 0.),
        'backbone.split_16to8.reduction.weight': (1., 0.05),
        'backbone.fpn_modules.0.norm2.weight': (1., 0.),
        'head.weight': (1., 0.05),
        'head.bias': (1., 0.),
        'mask_token': (1., 0.)}
    for name, values in expected.items():
        assert found[name] == pytest.approx(values), name
    assert found['backbone.absolute_pos_embed'][0] == pytest.approx(
        .005513, abs=5e-7)
    assert found['backbone.blocks.0.norm2.weight'][0] == pytest.approx(
        .006486, abs=5e-7)
    assert len({rate for rate, _ in found.values()}) == 33


def test_only_attention_blocks_count_in_hivit():
    model = Detector(HiViT(
        dict(embed_dim=32, depths=(1, 1, 4), num_heads=2), out='maps'))
    found = settings_of(model, rule='hivit')
    for name, power in {
            'absolute_pos_embed': 5, 'patch_embed.proj.bias': 5,
            'blocks.0.mlp.fc1.weight': 5, 'blocks.2.reduction.weight': 5,
            'blocks.5.norm.weight': 5, 'blocks.6.attn.proj.weight': 4,
            'blocks.9.attn.proj.weight': 1, 'fpn4.1.weight': 0}.items():
        assert found[f'backbone.{name}'][0] == pytest.approx(0.85**power)
    assert found['head.weight'][0] == 1.


def test_classifiers_of_itpn():
    """31 steps, PatchMerge not counted, that take as much as 13 of 0.85."""
    found = settings_of(
        Detector(ITPN(**TINY)), rule='itpn', rescale_to=13)
    for name, scale in {
            'absolute_pos_embed': .120905, 'blocks.0.mlp.fc1.weight': .129433,
            'blocks.2.mlp.fc1.weight': .148334,
            'blocks.3.reduction.weight': .148334,
            'blocks.4.mlp.fc1.weight': 0.85**(13 * 27 / 31),
            'blocks.31.mlp.fc2.weight': .934117,
            'split_16to8.reduction.weight': 1.}.items():
        assert found[f'backbone.{name}'][0] == pytest.approx(scale, abs=5e-7)
    whole = settings_of(Detector(ITPN(**TINY)), rescale_to=32)
    assert whole == settings_of(Detector(ITPN(**TINY)))


def test_the_log_has_a_line_for_each_depth(monkeypatch):
    lines = []
    monkeypatch.setattr(
        'osar_plugin.engine.layer_decay.print_log',
        lambda text, **_: lines.extend(text.splitlines()))
    settings_of(Detector(ITPN(**TINY)))
    assert lines[0].endswith('66 parameter groups of 33 depths')
    assert len(lines) == 34
    assert lines[1].startswith('  depth 0: 0.005513 of 1, ')
    assert lines[2].startswith('  depth 1: 0.006486 of 1, ')
    assert lines[33].startswith('  depth 32: 1.000000 of 1, ')
    # Two patch embeddings; their biases and norms, and the position table.
    assert lines[1].endswith('2 tensors with weight decay, 7 without')


def test_tables_of_relative_positions_do_not_decay():
    found = settings_of(Detector(HiViT(
        dict(embed_dim=32, depths=(1, 1, 2), num_heads=2), rpe=True)))
    name = 'backbone.blocks.6.attn.relative_position_bias_table'
    assert found[name][1] == 0.


def test_more_depths_than_the_backbone_has():
    """What lies behind the blocks has the last id in any case."""
    found = settings_of(Detector(ITPN(**TINY)), num_layers=40)
    assert found['backbone.blocks.31.mlp.fc2.weight'][0] == pytest.approx(
        0.85**9)
    assert found['backbone.fpn_modules.0.norm2.weight'][0] == 1.
    assert found['head.weight'][0] == 1.


def test_every_trainable_parameter_is_in_one_group():
    model = Detector(ITPN(**TINY, frozen_stages=1))
    found = settings_of(model)
    assert set(found) == {
        n for n, p in model.named_parameters() if p.requires_grad}
    assert 'backbone.absolute_pos_embed' not in found
    alone = settings_of(ITPN(**TINY))
    assert alone['blocks.0.norm2.weight'] == pytest.approx((0.85**31, 0.))


def test_groups_are_merged():
    constructor = LayerDecayConstructor(
        dict(type='OptimWrapper',
             optimizer=dict(type='AdamW', lr=3e-4, weight_decay=0.05)),
        paramwise_cfg=dict(decay_rate=0.85))
    groups = constructor(Detector(ITPN(**TINY))).optimizer.param_groups
    assert len(groups) == 2 * 33
    assert max(g['lr'] for g in groups) == pytest.approx(3e-4)


@pytest.mark.parametrize('paramwise,message', [
    (dict(decay_rate=0.), 'decay_rate=0'),
    (dict(decay_rate=1.5), r'decay_rate=1\.5'),
    (dict(decay_rate='0.8'), "'0.8'"),
    (dict(decay_rate=float('nan')), 'decay_rate=nan'),
    (dict(rule='beit'), "rule='beit'"),
    (dict(num_layers=30), 'num_layers=30.*33.*Use 31'),
    (dict(num_layers=31.5), '31.5'),
    (dict(rescale_to=0), 'rescale_to=0'),
    (dict(rescale_to=13.5), '13.5.*rescale_to'),
    (dict(custom_keys={}), 'custom_keys')])
def test_bad_settings(paramwise, message):
    with pytest.raises(ConfigError, match=message):
        LayerDecayConstructor(
            dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1.)),
            paramwise_cfg=dict(dict(decay_rate=0.85), **paramwise))(
                Detector(ITPN(**TINY)))


def test_a_model_without_layer_ids():
    with pytest.raises(ConfigError, match='no backbone with layer ids'):
        settings_of(nn.Linear(2, 2))


def test_is_registered():
    assert OPTIM_WRAPPER_CONSTRUCTORS.get(
        'osar_plugin.LayerDecayConstructor') is LayerDecayConstructor
