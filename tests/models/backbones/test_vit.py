"""The transformer: kernels, tokenizers, limits."""

from __future__ import annotations

import pytest
import torch

from osar_plugin.models.backbones import VisionTransformer
from osar_plugin.utils.errors import ConfigError, DataFormatError

TINY = dict(
    img_size=(32, 16), patch_size=8, embed_dim=24, depth=3, num_heads=2)


def make(seed: int = 0, **kwargs: object) -> VisionTransformer:
    torch.manual_seed(seed)
    model = VisionTransformer(**{**TINY, **kwargs})  # type: ignore[arg-type]
    model.init_weights()
    return model


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(4, 3, 32, 16, generator=generator),
            torch.tensor([0, 1, 1, 0]),
            torch.randn(4, 3, generator=generator))


def test_fused_attention_equals_plain() -> None:
    outputs, grads = [], []
    for kind in ('fused', 'plain'):
        model = make(attention=kind, drop_path_rate=0.)
        tokens = model(*inputs()).tokens
        tokens.square().mean().backward()
        outputs.append(tokens)
        grads.append(model.blocks[0].attn.qkv.weight.grad)
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-6)


def test_attention_in_bfloat16_stays_close() -> None:
    """Both forms under autocast, against float32."""
    exact = make(attention='fused').eval()(*inputs()).tokens
    with torch.autocast('cpu', dtype=torch.bfloat16):
        for kind in ('fused', 'plain', 'auto'):
            mixed = make(attention=kind).eval()(*inputs()).tokens
            torch.testing.assert_close(
                mixed.float(), exact, rtol=0.03, atol=0.03)


def test_recomputing_changes_nothing() -> None:
    grads = []
    for with_cp in (True, False):
        model = make(with_cp=with_cp).train()
        torch.manual_seed(5)  # stochastic depth draws again in the backward
        output = model(*inputs(), taps=(2, ))
        (output.tokens.mean() + output.taps[2].square().mean()).backward()
        grads.append([p.grad for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_each_image_goes_through_its_own_tokenizer() -> None:
    model = make().eval()
    images, modality, size = inputs()
    with torch.no_grad():
        before = model(images, modality, size).tokens
        model.patch_embeds[1].weight.add_(1.)
        after = model(images, modality, size).tokens
    changed = (before - after).abs().amax(dim=(1, 2)) > 1e-6
    assert changed.tolist() == [False, True, True, False]


def test_an_image_does_not_depend_on_its_batch() -> None:
    model = make(modality_token=True).eval()
    images, modality, size = inputs()
    with torch.no_grad():
        together = model(images, modality, size).tokens
        alone = torch.cat([
            model(images[i:i + 1], modality[i:i + 1], size[i:i + 1]).tokens
            for i in range(4)
        ])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_one_modality_leaves_no_parameter_out() -> None:
    model = make(modality_token=True)
    images, _, size = inputs()
    model(images, torch.zeros(4).long(), size).tokens.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.patch_embeds[1].weight.grad.eq(0).all()


def test_positions_modality_and_size_tokens_stand_where_they_should() -> None:
    model = make(modality_token=True)
    images, modality, size = inputs()
    tokens = model.embed(images, modality, size)
    assert tokens.shape == (4, 2 + 4 * 2 + 1, 24)
    torch.testing.assert_close(tokens[:, -1], model.size_embed(size))
    modality_part = 3.0 * model.modality_embed[modality][:, 0]
    torch.testing.assert_close(
        tokens[:, 0], model.cls_token[0, 0] + model.pos_embed[0, 0]
        + modality_part)
    torch.testing.assert_close(
        tokens[:, 1], model.modality_tokens[modality][:, 0]
        + model.pos_embed[0, 1] + modality_part)
    maps = model.patch_map(tokens)
    assert maps.shape == (4, 4, 2, 24)
    torch.testing.assert_close(maps[:, 1, 1], tokens[:, 2 + 3])


def test_taps_are_block_outputs() -> None:
    model = make().eval()
    images, modality, size = inputs()
    output = model(images, modality, size, taps=(1, 3))
    assert sorted(output.taps) == [1, 3]
    torch.testing.assert_close(model.norm(output.taps[3]), output.tokens)


def test_bad_arguments() -> None:
    with pytest.raises(ConfigError, match=r'\(30, 16\).*patch_size=8'):
        VisionTransformer(img_size=(30, 16), patch_size=8)
    with pytest.raises(ConfigError, match='num_heads=5'):
        VisionTransformer(num_heads=5)
    model = make()
    images, modality, size = inputs()
    with pytest.raises(DataFormatError, match=r'\(32, 16\).*\(16, 16\)'):
        model(images[:, :, :16], modality, size)
    with pytest.raises(DataFormatError, match='ShipSize'):
        model(images, modality)
