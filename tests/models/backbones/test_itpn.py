"""iTPN: parity with the published code, masking, pyramid, limits."""

from __future__ import annotations

import math
from typing import Any

import mmengine
import pytest
import torch
from hierarchical_case import (
    TINY_ITPN,
    classify,
    close,
    filled,
    golden,
    images,
    randn,
    started,
    stats_close,
)
from mmengine.model import BaseModel
from mmengine.registry import Registry
from torch import nn

from osar_plugin.models.backbones import ITPN
from osar_plugin.models.backbones.hierarchical import (
    PatchEmbed,
    PatchMerge,
    PatchSplit,
    gather_units,
    resize_positions,
    sincos_table,
    to_map,
)
from osar_plugin.registry import MODELS
from osar_plugin.utils.errors import ConfigError, DataFormatError


def tiny(**changes: Any) -> Any:
    return started(ITPN(**{**TINY_ITPN, **changes}))


@pytest.fixture(scope='module')
def base():
    """The pre-training backbone of CoDe-MAE-B."""
    return filled(ITPN())


@pytest.mark.parametrize('name,shape,settings', [
    ('det', (1, 3, 224, 288), dict(modality='rgb')),
    ('det_sar', (1, 3, 224, 224), dict(modality='sar')),
    ('seg', (1, 3, 256, 256), dict(modality='rgb', num_outs=4, pool='max'))])
def test_maps_of_detection_and_segmentation(name, shape, settings):
    """Official CoDe-MAE in mmdet and mmseg, LayerNorm epsilon 1e-5."""
    expected = golden('codemae_backbone')
    model = filled(ITPN(norm_eps=1e-5, **settings))
    with torch.no_grad():
        maps = model(randn(0, *shape))
    assert len(maps) == model.num_outs == len(model.out_channels)
    for level, actual in enumerate(maps):
        stride = 4 << level
        step = max(1, 8 >> level)
        assert actual.shape == (
            1, 256, shape[2] // stride, shape[3] // stride)
        close(actual[0, ::8, ::step, ::step], expected[f'{name}/s{stride}'])
        stats_close(actual, expected[f'{name}/s{stride}_stats'])


def test_tokens_of_classification():
    expected = golden('codemae_backbone')
    model = filled(ITPN(modality='rgb', num_outs=1))
    with torch.no_grad():
        tokens = model(images())
        pooled, logits = classify(tokens, 45)
    close(tokens[0, ::7, ::4], expected['cls/tokens_s0'])
    close(pooled, expected['cls/pooled'])
    close(logits, expected['cls/logits45'])


def test_masked_trunk_and_pyramid(base):
    """Official pre-training: the same units of both images of a pair."""
    expected = golden('codemae_backbone')
    keep = torch.from_numpy(expected['ids_keep']).long()
    sar = randn(2, 2, 1, 224, 224).expand(-1, 3, -1, -1)
    with torch.no_grad():
        units = torch.cat([base.embed(images(), 'rgb'),
                           base.embed(sar, 'sar')])
        output = base.trunk(units, (14, 14), keep.repeat(2, 1))
        p16, p8, p4 = base.pyramid(output)
    close(output.tokens[:, ::7, ::4], expected['masked/tokens_c4'])
    close(p16[:, ::7, 0, 0, ::2], expected['masked/level16_c2'])
    close(p8[:, ::7, 0, 1, ::4], expected['masked/level8_00_c4'])
    close(p4[:, ::7, 1, 2, ::4], expected['masked/level4_12_c4'])


def test_positions_of_masked_images(base):
    """A zoom of 0.7 % in the published code, on request none."""
    expected = golden('codemae_backbone')
    keep = torch.arange(8)[None]
    zoomed = base.positions((14, 14), keep)
    close(zoomed[0, :, :16], expected['pos_embed_used_when_masked_first8'])
    assert torch.equal(base.positions((14, 14)), base.absolute_pos_embed)
    for word, zooms in (('raw', False), ('zoomed', True), ('official', True)):
        model = tiny(masked_position=word)
        table = model.positions((4, 4), torch.arange(16)[None])
        assert torch.equal(table, model.absolute_pos_embed) != zooms


def test_published_sizes():
    def count(**settings):
        with torch.device('meta'):
            model = ITPN(**settings)
        return sum(p.numel() for p in model.parameters())

    assert count() == 81_558_528
    # with fc_norm and 45 classes: 77,928,109
    assert count(modality='rgb', num_outs=1) == (
        77_928_109 - 2 * 512 - 513 * 45)
    with torch.device('meta'):
        large = ITPN('large')
    assert [len(large.blocks), large.blocks[6].attn.num_heads] == [46, 12]


@pytest.mark.parametrize('eps', [1e-5, 1e-6])
def test_epsilon_of_every_norm(eps):
    model = tiny(norm_eps=eps)
    norms = [m for m in model.modules() if isinstance(m, nn.LayerNorm)]
    assert len(norms) == 2 + 3 + 2 + 2 * 3 + 3 + 2 + 2
    assert {norm.eps for norm in norms} == {eps}


def test_units_and_cells_lie_row_by_row():
    """The patch embedding is the convolution; maps put everything back."""
    model = PatchEmbed(3, 8, 1e-6)
    x = randn(0, 2, 3, 32, 48)
    expected = model.norm(model.proj(x).movedim(1, -1)).movedim(-1, 1)
    torch.testing.assert_close(
        to_map(model(x), (2, 3)), expected, rtol=1e-5, atol=1e-5)


def test_order_of_merged_and_split_neighbours():
    merge, split = PatchMerge(1, 1e-6), PatchSplit(1, 2, 1e-6)
    seen = []
    merge.norm.register_forward_hook(
        lambda module, args, output: seen.append(args[0]))
    merge(torch.arange(16.).view(1, 1, 4, 4, 1))
    assert seen[0][0, 0, 0, 1].tolist() == [2., 6., 3., 7.]
    split.norm = nn.Identity()
    with torch.no_grad():
        split.reduction.weight.copy_(torch.arange(8.)[:, None])
    out = split(torch.tensor([[[[[1.], [10.]]]]]))
    assert out.shape == (1, 1, 2, 4, 2)
    assert out[0, 0, ..., 0].tolist() == [[0., 2., 0., 20.],
                                          [4., 6., 40., 60.]]


def test_masked_units_cost_nothing():
    """No block sees a unit that was masked."""
    model = tiny(num_outs=3)
    seen = []
    for block in model.blocks:
        block.register_forward_hook(
            lambda module, args, output: seen.append(args[0].shape[1]))
    keep = torch.tensor([[3, 1, 7], [0, 15, 8]])
    output = model.trunk(model.embed(randn(0, 2, 3, 64, 64), 'rgb'), (4, 4),
                         keep)
    assert seen == [3] * len(model.blocks)
    shapes = [tuple(p.shape) for p in model.pyramid(output)]
    assert shapes == [(2, 3, 1, 1, 16), (2, 3, 2, 2, 16), (2, 3, 4, 4, 16)]


@pytest.mark.parametrize('rpe', [False, True])
def test_the_order_of_kept_units_does_not_matter(rpe):
    model = tiny(rpe=rpe, masked_position='raw').eval()
    units = model.embed(randn(0, 2, 3, 64, 64), 'sar')
    keep = torch.stack([torch.randperm(16) for _ in range(2)])
    plain = model.trunk(units, (4, 4), taps=(0, 5))
    mixed = model.trunk(units, (4, 4), keep, taps=(0, 5))
    for a, b in ((plain.tokens, mixed.tokens), (plain.cells4, mixed.cells4),
                 (plain.cells8, mixed.cells8),
                 (plain.taps[0], mixed.taps[0]),
                 (plain.taps[5], mixed.taps[5])):
        torch.testing.assert_close(
            gather_units(a, keep), b, rtol=1e-4, atol=1e-4)


def test_gathering_units():
    units = randn(0, 2, 5, 4, 4, 3).requires_grad_()
    keep = torch.tensor([[4, 0], [1, 3]])
    out = gather_units(units, keep)
    for image in range(2):
        assert torch.equal(out[image], units[image][keep[image]])
    out.sum().backward()
    kept = units.grad.flatten(2).amax(dim=2)
    assert kept.tolist() == [[1, 0, 0, 0, 1], [0, 1, 0, 1, 0]]


def test_taps_and_cells():
    """Cells are taken before the merge, taps after their module."""
    model = tiny().eval()
    units = model.embed(randn(0, 1, 3, 64, 64), 'rgb')
    output = model.trunk(units, (4, 4), taps=(0, 1, 3, 7))
    assert list(output.taps) == [0, 1, 3, 7]
    assert torch.equal(output.taps[0], output.cells4)
    assert torch.equal(output.taps[1], model.blocks[1](output.cells4))
    assert torch.equal(output.taps[3], output.cells8)
    assert torch.equal(output.taps[7], output.tokens)


def test_fused_attention_equals_plain():
    outputs, grads = [], []
    for kind in ('fused', 'plain'):
        model = tiny(attention=kind, rpe=True)
        maps = model(randn(0, 2, 3, 64, 64), 'rgb')
        sum(m.square().mean() for m in maps).backward()
        outputs.append(maps[0])
        grads.append(
            model.blocks[5].attn.relative_position_bias_table.grad)
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-6)
    assert grads[0].abs().max() > 0


def test_recomputing_changes_nothing():
    grads = []
    for with_cp in (True, False):
        model = tiny(with_cp=with_cp, drop_path_rate=0.3).train()
        torch.manual_seed(5)
        maps = model(randn(0, 2, 3, 64, 64), 'rgb')
        sum(m.square().mean() for m in maps).backward()
        grads.append({n: p.grad for n, p in model.named_parameters()})
    for name, grad in grads[0].items():
        if 'patch_embed_sar' in name:
            assert grad is None
        else:
            torch.testing.assert_close(grad, grads[1][name])


def test_bfloat16_stays_close():
    model = filled(ITPN(**TINY_ITPN, rpe=True))
    exact = model(randn(0, 1, 3, 64, 64), 'rgb')
    with torch.autocast('cpu', dtype=torch.bfloat16):
        mixed = model(randn(0, 1, 3, 64, 64), 'rgb')
    for a, b in zip(exact, mixed, strict=True):
        torch.testing.assert_close(b.float(), a, rtol=0.05, atol=0.05)


def test_stochastic_depth_grows_along_the_blocks():
    rates = [block.drop_path.drop_prob
             for block in tiny(drop_path_rate=0.5).blocks
             if hasattr(block, 'drop_path')]
    assert rates == pytest.approx([0., .1, .2, .3, .4, .5])
    pyramid = tiny(drop_path_rate=0.5).fpn_modules
    assert [block.drop_path.drop_prob for block in pyramid] == [0.] * 3


def test_each_sensor_has_its_own_embedding():
    model = tiny().eval()
    x = randn(0, 1, 3, 64, 64)
    before = model(x, 'rgb')[2], model(x, 'sar')[2]
    with torch.no_grad():
        model.patch_embed_sar.proj.weight.neg_()
    assert torch.equal(before[0], model(x, 'rgb')[2])
    assert not torch.allclose(before[1], model(x, 'sar')[2], atol=1e-3)
    fixed = tiny(default_modality='sar').eval()
    assert torch.equal(fixed(x)[0], fixed(x, 'sar')[0])
    single = tiny(modality=None)
    assert [n for n in single.state_dict() if 'patch_embed.' in n][0] == (
        'patch_embed.proj.weight')
    assert torch.equal(single(x)[0], single(x, 'sar')[0])
    assert torch.equal(tiny(modality='sar')(x)[0],
                       tiny(modality='sar')(x, 'sar')[0])


def test_outputs():
    x = randn(0, 1, 3, 64, 96)
    tokens = tiny(num_outs=1, modality='rgb')(x)
    assert tokens.shape == (1, 24, 32)
    one, = tiny(num_outs=1, modality='rgb', out='map')(x)
    assert torch.equal(one.flatten(2).transpose(1, 2), tokens)
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 1)]
    for count in (3, 4, 5):
        maps = tiny(num_outs=count, modality='rgb')(x)
        assert [tuple(m.shape[2:]) for m in maps] == sizes[:count]
    mean, largest = (tiny(modality='rgb', pool=pool)(x)[3]
                     for pool in ('avg', 'max'))
    assert (largest >= mean).all() and not torch.equal(largest, mean)


def test_frozen_stages():
    for stages, first in ((0, 0), (1, 2), (2, 5), (3, 8)):
        model = tiny(frozen_stages=stages, drop_path_rate=0.5).train()
        assert not model.absolute_pos_embed.requires_grad
        assert not model.patch_embed_sar.proj.weight.requires_grad
        for index, block in enumerate(model.blocks):
            frozen = index < first
            assert all(p.requires_grad != frozen for p in block.parameters())
            assert block.training != frozen
        assert all(p.requires_grad for p in model.fpn_modules.parameters())


def test_sine_and_cosine_positions():
    """Channel by channel, in plain Python."""
    table = sincos_table(8, 3)[0]
    for row in range(3):
        for column in range(3):
            expected = []
            for place in (column, row):
                angles = [place, place * 10000**-0.5]
                expected += [math.sin(a) for a in angles]
                expected += [math.cos(a) for a in angles]
            torch.testing.assert_close(
                table[row * 3 + column], torch.tensor(expected))
    model = ITPN(**TINY_ITPN)
    model.init_weights()
    assert torch.equal(model.absolute_pos_embed, sincos_table(32, 4))
    assert 0 < model.blocks[6].attn.qkv.weight.abs().max() <= 2
    assert model.blocks[6].attn.qkv.bias.eq(0).all()


def test_resized_positions():
    table = randn(0, 1, 16, 8)
    assert resize_positions(table, (6, 5)).shape == (1, 30, 8)
    exact = resize_positions(table, (4, 4), 'size')
    torch.testing.assert_close(exact, table)
    zoomed = resize_positions(table, (4, 4), 'official')
    assert 1e-3 < (zoomed - table).abs().max() < 0.5


@pytest.mark.parametrize('settings,message', [
    (dict(num_outs=2), 'num_outs=2'),
    (dict(pool='median'), "pool='median'"),
    (dict(out='maps'), "out='maps'"),
    (dict(modality='RGB'), "modality='RGB'"),
    (dict(modality='both', default_modality='ir'), "default_modality='ir'"),
    (dict(arch='huge'), "arch='huge'"),
    (dict(arch=dict(embed_dim=8)), 'needs exactly'),
    (dict(arch=dict(embed_dim=30, mlp_depths=(1, 1), depth=1, num_heads=4)),
     'embed_dim=30'),
    (dict(arch=dict(embed_dim=32, mlp_depths=(1, ), depth=1, num_heads=4)),
     'expected two'),
    (dict(img_size=100), 'img_size=100'),
    (dict(norm_eps=float('nan')), 'norm_eps=nan'),
    (dict(drop_path_rate=1.), 'drop_path_rate=1'),
    (dict(frozen_stages=4), 'frozen_stages=4'),
    (dict(fpn_dim=0), 'fpn_dim=0'),
    (dict(fpn_depth=0), 'fpn_depth=0'),
    (dict(attention='flash'), "attention='flash'"),
    (dict(position='nearest'), "position='nearest'"),
    (dict(masked_position='none'), "masked_position='none'")])
def test_bad_arguments(settings, message):
    with pytest.raises(ConfigError, match=message):
        ITPN(**{**TINY_ITPN, **settings})


@pytest.mark.parametrize('shape', [
    (1, 3, 60, 64), (1, 3, 64, 8), (1, 1, 64, 64), (3, 64, 64),
    (0, 3, 64, 64), (1, 3, 0, 64)])
def test_bad_images(shape):
    with pytest.raises(DataFormatError, match='takes (images|sides)'):
        tiny()(torch.zeros(shape), 'rgb')


def test_images_of_whole_numbers():
    with pytest.raises(DataFormatError, match='floats.*uint8'):
        tiny()(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), 'rgb')


def test_both_sensors_in_one_batch():
    """As damage mapping does: each embedding, then everything shared."""
    model = tiny(num_outs=4).eval()
    x, y = randn(0, 1, 3, 64, 96), randn(1, 1, 3, 64, 96)
    units = torch.cat([model.embed(x, 'rgb'), model.embed(y, 'sar')])
    maps = model.maps(model.trunk(units, (4, 6)), (4, 6))
    for both, a, b in zip(maps, model(x, 'rgb'), model(y, 'sar'),
                          strict=True):
        torch.testing.assert_close(
            both, torch.cat([a, b]), rtol=1e-4, atol=1e-4)


def test_bad_calls():
    model = tiny()
    x = torch.zeros(2, 3, 64, 64)
    with pytest.raises(ConfigError, match=r'modality=None.*default_modality'):
        model(x)
    with pytest.raises(ConfigError, match="modality='ir'"):
        model(x, 'ir')
    with pytest.raises(ConfigError, match="modality='sar'.*patch_embed_rgb"):
        tiny(modality='rgb')(x, 'sar')
    with pytest.raises(ConfigError, match="modality='ir'"):
        tiny(modality=None)(x, 'ir')
    units = model.embed(x, 'rgb')
    with pytest.raises(DataFormatError, match='grid of'):
        model.trunk(units, (4, 5))
    for keep in (torch.zeros(2, 3), torch.zeros(1, 3).long(),
                 torch.zeros(2, 0).long(), torch.zeros(2).long()):
        with pytest.raises(DataFormatError, match='keep must be'):
            model.trunk(units, (4, 4), keep)
    for value in (-1, 16):
        keep = torch.tensor([[0, 1], [2, value]])
        with pytest.raises(DataFormatError, match=f'{value}.*0 to 15'):
            model.trunk(units, (4, 4), keep)
    with pytest.raises(ConfigError, match='made for 4 x 4'):
        tiny(rpe=True)(torch.zeros(1, 3, 64, 96), 'rgb')
    alone = tiny(num_outs=1)
    with pytest.raises(ConfigError, match='num_outs=1'):
        alone.pyramid(alone.trunk(units, (4, 4)))


def test_is_registered():
    assert MODELS.get('osar_plugin.ITPN') is ITPN


def test_as_the_backbone_of_another_framework():
    """Built through its registry, started by its model, called with x."""
    registry = Registry('model', parent=mmengine.registry.MODELS,
                        scope='another')

    class Detector(BaseModel):

        def __init__(self):
            super().__init__()
            self.backbone = registry.build(dict(
                TINY_ITPN, type='osar_plugin.ITPN', modality='both',
                default_modality='sar', num_outs=5))

        def forward(self, inputs, data_samples=None, mode='tensor'):
            return self.backbone(inputs)

    model = Detector()
    model.init_weights()
    maps = model(torch.zeros(1, 3, 64, 64))
    assert len(maps) == 5
    assert model.backbone.absolute_pos_embed.abs().max() == 1.
