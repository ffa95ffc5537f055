"""The authors' networks on their weights, through the converters."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bbdm import (
    UNET_TINY,
    VQ_TINY,
    draws,
    golden,
    official_weights,
    translator_cfg,
)

from osar_plugin.models.translation.codec import (
    SpaceToDepthCodec,
    VQCodec,
    nearest_codes,
)
from osar_plugin.models.translation.official import (
    codec_modules,
    from_official,
    to_official,
    translator_to_official,
    unet_modules,
)
from osar_plugin.models.translation.unet import BridgeUNet
from osar_plugin.registry import MODELS
from osar_plugin.utils.config import load_config
from osar_plugin.utils.errors import ConfigError

REPO = Path(__file__).resolve().parents[3]


def gap(value: torch.Tensor, key: str) -> float:
    return float(np.abs(value.detach().numpy() - golden()[key]).max())


@pytest.fixture(scope='module')
def unet() -> BridgeUNet:
    net = BridgeUNet(**UNET_TINY).eval()
    weights = from_official(
        official_weights('unet_tiny'), unet_modules(net.unet))
    net.unet.load_state_dict(weights, strict=True)
    return net


@pytest.fixture(scope='module')
def codec() -> VQCodec:
    codec = VQCodec(**VQ_TINY)
    codec.load_state_dict(official_weights('vq_tiny'), strict=True)
    return codec


@pytest.mark.parametrize('channels_last', [False, True])
def test_unet(unet: BridgeUNet, channels_last: bool) -> None:
    net = BridgeUNet(**UNET_TINY, channels_last=channels_last).eval()
    net.load_state_dict(unet.state_dict())
    x, context = draws(61, 2, 2, 3, 16, 16)
    with torch.no_grad():
        out = net(x, torch.tensor([3, 700]), context)
    assert gap(out, 'unet_tiny_out') < 1e-4
    first = net.unet.conv_in.weight
    assert first.is_contiguous(
        memory_format=torch.channels_last) == channels_last


def test_time_embedding() -> None:
    """The cosines come first."""
    net = BridgeUNet(**{**UNET_TINY, 'model_channels': 128})
    embedding = net.unet.time_proj(torch.tensor([0, 1, 500, 999]))
    assert gap(embedding, 'temb128') < 1e-5


def test_codec(codec: VQCodec) -> None:
    (images, ) = draws(62, 1, 2, 3, 32, 32)
    latent = codec.encode(images)
    quantized, index = codec.quantize(latent)
    assert gap(latent, 'vq_tiny_latent') < 1e-4
    assert gap(quantized, 'vq_tiny_quant') < 1e-4
    assert (index.flatten().numpy() == golden()['vq_tiny_ind']).all()
    assert gap(codec.decode(latent), 'vq_tiny_dec') < 1e-4
    # A latent that is a code already decodes to the same image.
    torch.testing.assert_close(codec.decode(quantized), codec.decode(latent))


def test_latents_in_front_of_the_quantiser(codec: VQCodec) -> None:
    other = VQCodec(**VQ_TINY, before_quant_conv=True)
    other.load_state_dict(codec.state_dict())
    (images, ) = draws(62, 1, 2, 3, 32, 32)
    before = other.encode(images)
    torch.testing.assert_close(
        codec.vq.quant_conv(before), codec.encode(images))
    torch.testing.assert_close(
        other.decode(before), codec.decode(codec.encode(images)))


def test_nearest_codes_in_strips() -> None:
    z, = draws(1, 1, 3, 5, 40, 50)
    codes, = draws(2, 1, 37, 5)
    flat = z.permute(0, 2, 3, 1).reshape(-1, 1, 5).double()
    slow = (flat - codes.double()).square().sum(-1).argmin(1)
    with torch.autocast('cpu', torch.bfloat16):
        fast = nearest_codes(z, codes)
    assert fast.shape == (3, 40, 50)
    assert torch.equal(fast.flatten(), slow)


def test_codec_stays_as_it_is(codec: VQCodec) -> None:
    assert not codec.train().training and not codec.vq.training
    assert not any(p.requires_grad for p in codec.parameters())


@pytest.mark.parametrize('name, modules, build', [
    ('unet_tiny', unet_modules, lambda: BridgeUNet(**UNET_TINY).unet),
    ('vq_tiny', codec_modules, lambda: VQCodec(**VQ_TINY).vq)])
def test_renaming_is_invertible(name: str, modules: Any, build: Any) -> None:
    weights = official_weights(name)
    table = modules(build())
    back = to_official(from_official(weights, table), table)
    assert set(back) == set(weights)
    for key, value in weights.items():
        assert torch.equal(back[key], value), key


def test_attention_on_some_levels_only() -> None:
    """The order of blocks where levels with and without attention mix."""
    with torch.device('meta'):
        net = BridgeUNet(
            model_channels=32, channel_mult=(1, 2, 2), num_res_blocks=2,
            attention_factors=(1, 4), head_channels=32).unet
    official = to_official(net.state_dict(), unet_modules(net))
    assert not any(key.startswith(('down_', 'up_', 'mid_'))
                   for key in official)
    # Attention takes place 1; a size change comes behind it.
    assert 'input_blocks.1.1.qkv.weight' in official
    assert 'input_blocks.4.1.qkv.weight' not in official
    assert 'input_blocks.7.1.qkv.weight' in official
    assert 'output_blocks.2.2.in_layers.0.weight' in official
    assert 'output_blocks.5.1.in_layers.0.weight' in official
    assert 'output_blocks.8.2.in_layers.0.weight' not in official


@pytest.mark.parametrize('variant, count', [
    ('f4', 237_091_331), ('pixel', 237_094_787)])
def test_published_sizes(variant: str, count: int) -> None:
    """Keys and shapes of the published models, from our configs."""
    cfg = load_config(REPO / f'configs/_base_/models/bbdm_{variant}.py')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert sum(p.numel() for p in model.denoiser.parameters()) == count
    ours = {key: tuple(value.shape)
            for key, value in translator_to_official(model).items()}
    theirs = {
        key: ast.literal_eval(shape) for key, shape in (
            entry.split('|') for entry in golden()[f'{variant}_keys'])}
    assert ours == theirs


@pytest.mark.parametrize('variant, shape', [
    ('f8', (1, 4, 32, 32)), ('f16', (1, 8, 16, 16))])
def test_other_variants(variant: str, shape: tuple[int, ...]) -> None:
    cfg = load_config(REPO / f'configs/_base_/models/bbdm_{variant}.py')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
        image = torch.zeros(1, 3, 256, 256)
        latent = model.codec.encode(image)
        assert latent.shape == shape
        decoded = model.codec.vq.decode(
            latent, force_not_quantize=True).sample
        assert decoded.shape == image.shape
        assert model.denoiser(latent, torch.zeros(1).long()).shape == shape
    at = 'codec.vq.encoder.down_blocks.{}.attentions.0.to_q.weight'
    level = {'f8': 3, 'f16': 4}[variant]
    assert at.format(level) in model.state_dict()
    assert at.format(level - 1) not in model.state_dict()


def test_initial_weights() -> None:
    torch.manual_seed(0)
    net = BridgeUNet(**{**UNET_TINY, 'channel_mult': (2, 4)})
    net.init_weights()
    for module in (net.unet.conv_out, net.unet.mid_block.resnets[0].conv2,
                   net.unet.time_embedding.linear_1):
        assert abs(float(module.weight.detach().std()) - 0.02) < 2e-3
    attention = net.unet.mid_block.attentions[0]
    assert not attention.to_out[0].weight.any()
    assert float(attention.to_q.weight.detach().std()) > 0.03


@pytest.mark.parametrize('change, words', [
    (dict(model_channels=48), r'multiple of 32 channels.*\[48, 96\]'),
    (dict(channel_mult=()), 'multiple of 32'),
    (dict(head_channels=48), 'head_channels=48 does not divide the 64')])
def test_widths_that_do_not_divide(change: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        BridgeUNet(**{**UNET_TINY, **change})


def test_bad_inputs(unet: BridgeUNet, codec: VQCodec) -> None:
    x, t = torch.zeros(1, 3, 16, 16), torch.zeros(1).long()
    with pytest.raises(ConfigError, match='condition of 3 channels.*got 0'):
        unet(x, t)
    with pytest.raises(ConfigError, match='15 x 16.*divisible by 2'):
        unet(x[..., :15, :], t, x[..., :15, :])
    with pytest.raises(ConfigError, match='31 x 32.*divisible by 2'):
        codec.encode(torch.zeros(1, 3, 31, 32))
    with pytest.raises(ConfigError, match='multiple of 32'):
        VQCodec(channels=16)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from osar_plugin.utils.errors import MissingDependencyError
    for name in [n for n in sys.modules if n.startswith('diffusers')]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError,
                       match=r'osar_plugin\[translation\]'):
        MODELS.build(translator_cfg())


def test_space_to_depth() -> None:
    codec = SpaceToDepthCodec(factor=2)
    images = torch.rand(2, 3, 8, 12)
    latents = codec.encode(images)
    assert latents.shape == (2, codec.latent_channels, 4, 6)
    # The four pixels of a block are neighbours in the channels.
    assert torch.equal(
        latents[1, 4:8, 1, 2], images[1, 1, 2:4, 4:6].flatten())
    assert torch.equal(codec.decode(latents), images)
    with pytest.raises(ConfigError, match='8 x 11 .* divisible by 2'):
        codec.encode(images[..., :11])
    with pytest.raises(ConfigError, match='factor=0'):
        SpaceToDepthCodec(factor=0)
