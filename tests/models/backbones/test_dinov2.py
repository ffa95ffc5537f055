"""DINOv2: the published numbers, positions, files of several packages."""

from __future__ import annotations

import functools
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hierarchical_case import randn

from osar_plugin.models.backbones import DINOv2
from osar_plugin.models.backbones.dinov2 import interpolate_positions
from osar_plugin.utils.errors import (
    CheckpointMismatchError,
    ConfigError,
    DataFormatError,
)

GOLDENS = Path(__file__).resolve().parents[2] / 'goldens/dinov2.npz'
PUBLISHED = {'vits14': ('small', 0), 'vitb14': ('base', 0),
             'vits14_reg4': ('small', 4), 'vitl14_reg4': ('large', 4)}
TINY: dict[str, Any] = dict(
    arch=dict(embed_dim=16, depth=3, num_heads=2), img_size=56)


@functools.cache
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDENS, allow_pickle=False) as arrays:
        return dict(arrays)


def filled(model: DINOv2) -> DINOv2:
    """The weights of the goldens, by the official names."""
    with torch.no_grad():
        for key, value in model.state_dict().items():
            seed = torch.Generator().manual_seed(zlib.crc32(key.encode()))
            torch.randn(value.shape, generator=seed, out=value)
            value *= 0.02
            if key.endswith('.gamma') or (
                    key.endswith('.weight') and value.ndim == 1):
                value += 1
    return model.eval()


def tiny(**changes: Any) -> Any:
    torch.manual_seed(0)
    model = DINOv2(**{**TINY, **changes})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model.eval()


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_numbers(name):
    arch, registers = PUBLISHED[name]
    model = filled(DINOv2(arch, registers, out='tokens'))
    sizes = {k.split('_')[-2] for k in golden()
             if k.rsplit('_', 2)[0] == name}
    assert sizes
    for size in sizes:
        height, width = map(int, size.split('x'))
        key = f'{name}_{size}'
        cls = golden()[f'{key}_cls']
        with torch.no_grad():
            out = model(randn(0, len(cls), 3, height, width))
        step = 7 if out.patches.shape[1] > 64 else 3
        found = dict(cls=out.cls, patch=out.patches[:, ::step, ::5])
        if registers:
            found['reg'] = out.registers
        for kind, value in found.items():
            np.testing.assert_allclose(
                value.numpy(), golden()[f'{key}_{kind}'], rtol=0, atol=2e-5)


@pytest.mark.parametrize(('arch', 'registers', 'keys', 'count'), [
    ('small', 0, 175, 22_056_576), ('small', 4, 176, 22_058_112)])
def test_published_sizes(arch, registers, keys, count):
    model = DINOv2(arch, registers)
    assert len(model.state_dict()) == keys
    assert sum(p.numel() for p in model.parameters()) == count
    assert model.pos_embed.shape == (1, 1370, 384)


def test_rules_of_interpolation():
    """Each rule of its kind of model; they differ; its own grid is kept."""
    table = randn(0, 1, 16, 4)
    offset, exact = (interpolate_positions(table, (3, 5), rule)
                     for rule in ('offset', 'antialias'))
    maps = table.mT.unflatten(2, (4, 4))
    torch.testing.assert_close(exact, F.interpolate(
        maps, (3, 5), mode='bicubic', antialias=True).flatten(2).mT)
    torch.testing.assert_close(offset, F.interpolate(
        maps, scale_factor=(3.1 / 4, 5.1 / 4), mode='bicubic'
    ).flatten(2).mT)
    assert float((offset - exact).abs().max()) > 0.05
    assert interpolate_positions(table, (4, 4), 'offset') is table
    assert tiny().rule == 'offset'
    assert tiny(num_registers=2).rule == 'antialias'
    assert tiny(interpolation='antialias').rule == 'antialias'


def test_registers_have_no_position():
    model = tiny(num_registers=2)
    tokens = model.embed(randn(0, 2, 3, 28, 42))
    assert tokens.shape == (2, 1 + 2 + 6, 16)
    assert torch.equal(tokens[1, 1:3], model.register_tokens[0])
    assert torch.equal(
        tokens[0, 0], (model.cls_token + model.pos_embed[:, :1])[0, 0])


def test_maps_of_blocks():
    x = randn(0, 2, 3, 28, 42)
    maps = tiny(out='maps', taps=(1, 3))(x)
    one, = tiny()(x)
    assert [m.shape for m in maps] == [(2, 16, 2, 3)] * 2
    assert torch.equal(maps[1], one) and not torch.equal(maps[0], one)
    patches = tiny(out='tokens')(x).patches
    assert torch.equal(one[0, :, 1, 2], patches[0, 1 * 3 + 2])
    model = tiny()
    first = model.norm(model.blocks[0](model.embed(x)))[:, 1:]
    torch.testing.assert_close(maps[0].flatten(2).mT, first)


def test_frozen():
    model = tiny(frozen=True).train()
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    out, = model(randn(0, 1, 3, 28, 28).requires_grad_())
    assert not out.requires_grad


def mmpretrain(weights):
    """Its names, which have no registers and another mask token."""
    out = {}
    for key, value in weights.items():
        for ours, theirs in (
                ('blocks.', 'layers.'), ('.norm1.', '.ln1.'),
                ('.norm2.', '.ln2.'), ('.ls1.gamma', '.attn.gamma1.weight'),
                ('.ls2.gamma', '.ffn.gamma2.weight'),
                ('.mlp.fc1.', '.ffn.layers.0.0.'),
                ('.mlp.fc2.', '.ffn.layers.1.'),
                ('patch_embed.proj.', 'patch_embed.projection.')):
            key = key.replace(ours, theirs)
        out['backbone.' + ('ln1' + key[4:] if key.startswith('norm.')
                           else key)] = value
    return dict(state_dict=out)


def timm(weights):
    out = dict(weights)
    out.pop('mask_token')
    if 'register_tokens' in out:
        table = out['pos_embed']
        out['reg_token'] = out.pop('register_tokens')
        out['cls_token'] = out['cls_token'] + table[:, :1]
        out['pos_embed'] = table[:, 1:]
    return out


def transformers(weights):
    out = {}
    for key, value in weights.items():
        if '.qkv.' in key:
            for name, part in zip(
                    ('query', 'key', 'value'), value.chunk(3), strict=True):
                new = key.replace('blocks.', 'encoder.layer.').replace(
                    '.attn.qkv.', f'.attention.attention.{name}.')
                out[f'dinov2.{new}'] = part
            continue
        for ours, theirs in (
                ('blocks.', 'encoder.layer.'),
                ('.attn.proj.', '.attention.output.dense.'),
                ('.ls1.gamma', '.layer_scale1.lambda1'),
                ('.ls2.gamma', '.layer_scale2.lambda1'),
                ('patch_embed.proj.',
                 'embeddings.patch_embeddings.projection.'),
                ('pos_embed', 'embeddings.position_embeddings')):
            key = key.replace(ours, theirs)
        if key.startswith('norm.'):
            key = 'layernorm.' + key[5:]
        if key.endswith(('_token', '_tokens')):
            key = f'embeddings.{key}'
        out[f'dinov2.{key}'] = value
    return out


def bare_transformers(weights):
    """Of the model without a head, which has no prefix."""
    return {key.removeprefix('dinov2.'): value
            for key, value in transformers(weights).items()}


def training(weights):
    """The authors' training: chunks of blocks, below `teacher`."""
    out = {}
    for key, value in weights.items():
        if key.startswith('blocks.'):
            key = key.replace('blocks.', 'blocks.0.', 1)
        out[f'backbone.{key}'] = value
    return dict(teacher={**out, 'dino_head.mlp.weight': torch.ones(2)})


@pytest.mark.parametrize('registers', [0, 2])
@pytest.mark.parametrize('layout', [
    dict, mmpretrain, timm, transformers, bare_transformers, training])
def test_files(tmp_path, layout, registers):
    if layout is mmpretrain and registers:
        pytest.skip('mmpretrain has no registers')
    donor = tiny(num_registers=registers)
    path = tmp_path / 'w.pth'
    torch.save(layout(donor.state_dict()), path)
    model = DINOv2(**TINY, num_registers=registers, init_cfg=dict(
        type='Pretrained', checkpoint=str(path))).eval()
    model.init_weights()
    assert set(model.load_report.missing) <= {'mask_token'}
    x = randn(0, 1, 3, 42, 28)
    torch.testing.assert_close(model(x)[0], donor(x)[0])


def test_files_that_do_not_fit():
    donor = tiny(num_registers=2).state_dict()
    for changes in (dict(), dict(num_registers=2, img_size=70),
                    dict(num_registers=3)):
        with pytest.raises(CheckpointMismatchError):
            tiny(**changes).load_state_dict(donor)
    with pytest.raises(CheckpointMismatchError, match='num_registers=0'):
        tiny(num_registers=2).load_state_dict(tiny().state_dict())
    with pytest.raises(CheckpointMismatchError, match='img_size=56'):
        tiny(img_size=112).load_state_dict(tiny().state_dict())


@pytest.mark.parametrize('changes', [
    dict(arch='giant'), dict(num_registers=-1), dict(out='maps'),
    dict(taps=(1, )), dict(out='maps', taps=(4, )), dict(img_size=50),
    dict(interpolation='bilinear'), dict(layer_scale=float('nan')),
    dict(arch=dict(embed_dim=15, depth=1, num_heads=2))])
def test_bad_arguments(changes):
    with pytest.raises(ConfigError):
        DINOv2(**{**TINY, **changes})


@pytest.mark.parametrize('shape', [
    (1, 3, 28, 30), (1, 4, 28, 28), (3, 28, 28), (1, 3, 0, 28)])
def test_bad_images(shape):
    with pytest.raises(DataFormatError, match='multiples of 14'):
        tiny()(torch.zeros(shape))
