"""Teachers: DINOv3 against its formula, features from disk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from codemae import seeded, tiny_inputs
from torch import Tensor

from osar_plugin.models.pretraining.teachers import (
    SAT_MEAN,
    SAT_STD,
    DINOv3Teacher,
    PrecomputedTeacher,
    from_transformers,
    normalized_features,
)
from osar_plugin.utils.checkpoint import save_weights
from osar_plugin.utils.errors import (
    CheckpointError,
    ConfigError,
    DataFormatError,
    MissingDependencyError,
)

DIM, HEADS, DEPTH = 192, 3, 2
TINY = dict(model='vit_tiny_patch16_dinov3_qkvb', options=dict(depth=DEPTH))


@pytest.fixture(scope='module')
def weights() -> dict[str, Tensor]:
    """As the transformers library names them; every tensor counts."""
    generator = seeded(0)

    def draw(*shape: int, scale: float = 0.05, shift: float = 0.) -> Tensor:
        return torch.randn(shape, generator=generator) * scale + shift

    out = {
        'embeddings.cls_token': draw(1, 1, DIM),
        'embeddings.mask_token': draw(1, 1, DIM),
        'embeddings.register_tokens': draw(1, 4, DIM),
        'embeddings.patch_embeddings.weight': draw(DIM, 3, 16, 16),
        'embeddings.patch_embeddings.bias': draw(DIM),
        'norm.weight': draw(DIM, shift=1.), 'norm.bias': draw(DIM)}
    for i in range(DEPTH):
        p = f'layer.{i}.'
        for n in (1, 2):
            out[f'{p}norm{n}.weight'] = draw(DIM, shift=1.)
            out[f'{p}norm{n}.bias'] = draw(DIM)
            out[f'{p}layer_scale{n}.lambda1'] = draw(DIM, scale=0.5)
        for n in 'qkvo':
            out[f'{p}attention.{n}_proj.weight'] = draw(DIM, DIM)
            if n != 'k':
                out[f'{p}attention.{n}_proj.bias'] = draw(DIM)
        for n, size in (('up', (4 * DIM, DIM)), ('down', (DIM, 4 * DIM))):
            out[f'{p}mlp.{n}_proj.weight'] = draw(*size)
            out[f'{p}mlp.{n}_proj.bias'] = draw(size[0])
    return out


@pytest.fixture(scope='module')
def file(weights: dict[str, Tensor],
         tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('dino') / 'model.safetensors'
    save_weights(weights, path)
    return path


def rotate(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """DINOv3's positions: rows and columns turn the patch tokens."""
    size = x.shape[-1]
    rates = 100**(-torch.arange(size // 4) / (size // 4))
    rows, columns = ((torch.arange(n) + .5) / n * 2 - 1 for n in grid)
    places = torch.cartesian_prod(rows, columns)
    angles = (2 * math.pi * places[:, :, None] * rates).flatten(1).tile(2)
    head, rest = x[:, :, :5], x[:, :, 5:]
    first, second = rest.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return torch.cat(
        [head, rest * angles.cos() + turned * angles.sin()], dim=2)


def by_the_formula(images: Tensor, w: dict[str, Tensor]) -> Tensor:
    """The published network, written out."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (SAT_MEAN, SAT_STD))
    grid = (images.shape[-2] // 16, images.shape[-1] // 16)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, w[f'{name}.weight'], w.get(f'{name}.bias'))

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (DIM, ), w[f'{name}.weight'],
                            w[f'{name}.bias'], 1e-5)

    patches = F.conv2d((images - mean) / std,
                       w['embeddings.patch_embeddings.weight'],
                       w['embeddings.patch_embeddings.bias'], stride=16)
    x = torch.cat([
        w[f'embeddings.{n}'].expand(len(images), -1, -1)
        for n in ('cls_token', 'register_tokens')
    ] + [patches.flatten(2).transpose(1, 2)], dim=1)
    for i in range(DEPTH):
        p = f'layer.{i}'
        y = norm(x, f'{p}.norm1')
        q, k, v = (linear(y, f'{p}.attention.{n}_proj').unflatten(
            -1, (HEADS, -1)).transpose(1, 2) for n in 'qkv')
        y = F.scaled_dot_product_attention(
            rotate(q, grid), rotate(k, grid), v)
        y = linear(y.transpose(1, 2).flatten(2), f'{p}.attention.o_proj')
        x = x + w[f'{p}.layer_scale1.lambda1'] * y
        y = F.gelu(linear(norm(x, f'{p}.norm2'), f'{p}.mlp.up_proj'))
        y = linear(y, f'{p}.mlp.down_proj')
        x = x + w[f'{p}.layer_scale2.lambda1'] * y
    return F.layer_norm(norm(x, 'norm'), (DIM, ))[:, 5:]


def test_dinov3_from_a_published_file(weights: dict[str, Tensor],
                                      file: Path) -> None:
    pytest.importorskip('timm')
    images = torch.rand(2, 3, 48, 64, generator=seeded(1))
    teacher = DINOv3Teacher(str(file), amp=False, **TINY).eval()
    with torch.no_grad():
        out = teacher(dict(rgb01=images))
    assert out.shape == (2, 12, DIM)
    assert teacher.dim == DIM
    torch.testing.assert_close(
        out, by_the_formula(images, weights), atol=1e-5, rtol=0)


def test_names_of_the_transformers_library(
        weights: dict[str, Tensor]) -> None:
    """Every tensor has one place, the mask token none."""
    out = from_transformers(weights)
    assert set(out) == {
        'cls_token', 'reg_token', 'patch_embed.proj.weight',
        'patch_embed.proj.bias', 'norm.weight', 'norm.bias',
        *(f'blocks.{i}.{n}' for i in range(DEPTH) for n in (
            'gamma_1', 'gamma_2', 'norm1.weight', 'norm1.bias',
            'norm2.weight', 'norm2.bias', 'attn.qkv.weight', 'attn.q_bias',
            'attn.v_bias', 'attn.proj.weight', 'attn.proj.bias',
            'mlp.fc1.weight', 'mlp.fc1.bias', 'mlp.fc2.weight',
            'mlp.fc2.bias'))}
    q, k, v = out['blocks.1.attn.qkv.weight'].chunk(3)
    for part, name in ((q, 'q'), (k, 'k'), (v, 'v')):
        assert torch.equal(
            part, weights[f'layer.1.attention.{name}_proj.weight'])
    broken = {k: v for k, v in weights.items() if 'k_proj' not in k}
    with pytest.raises(CheckpointError, match='damaged'):
        from_transformers(broken)


def test_dinov3_refuses_other_files(weights: dict[str, Tensor],
                                    tmp_path: Path) -> None:
    pytest.importorskip('timm')
    path = tmp_path / 'model.safetensors'
    save_weights({k: v for k, v in weights.items() if 'layer.1' not in k},
                 path)
    with pytest.raises(CheckpointError, match='teacher.model'):
        DINOv3Teacher(str(path), **TINY)
    with pytest.raises(CheckpointError, match='no checkpoint'):
        DINOv3Teacher(str(tmp_path / 'absent.safetensors'), **TINY)


def test_dinov3_refuses_other_patches_and_models() -> None:
    pytest.importorskip('timm')
    with pytest.raises(ConfigError, match='units of the encoder'):
        DINOv3Teacher('random', model='vit_tiny_patch16_dinov3_qkvb',
                      options=dict(depth=1, patch_size=8))
    with pytest.raises(ConfigError, match='list_models'):
        DINOv3Teacher('random', model='vit_tiny_patch17')
    with pytest.raises(ConfigError, match='amp='):
        DINOv3Teacher('random', amp='half', **TINY)


def test_dinov3_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(MissingDependencyError, match='timm'):
        DINOv3Teacher('random')


def test_dinov3_needs_images_on_the_scale_0_to_1() -> None:
    pytest.importorskip('timm')
    teacher = DINOv3Teacher('random', **TINY)
    with pytest.raises(DataFormatError, match='rgb01'):
        teacher(dict(rgb=torch.rand(1, 3, 32, 32)))


def test_features_are_normalised_in_float32() -> None:
    tokens = torch.randn(2, 3, 16, generator=seeded(0)) * 40 + 7
    with torch.autocast('cpu', torch.bfloat16):
        out = normalized_features(tokens.bfloat16())
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.mean(-1), torch.zeros(2, 3),
                               atol=1e-6, rtol=0)
    torch.testing.assert_close(out.var(-1, unbiased=False),
                               torch.ones(2, 3), atol=1e-4, rtol=0)


def test_features_from_disk() -> None:
    teacher: Any = PrecomputedTeacher(dim=8)
    inputs = tiny_inputs()
    assert teacher(inputs) is inputs['teacher']
