"""The translator: losses, views and what decides them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from bbdm import draws, translator_cfg
from mmengine.optim import OptimWrapper
from mmengine.structures import BaseDataElement

from osar_plugin.models.translation.translator import (
    SamplerSettings,
    to_uint8,
)
from osar_plugin.registry import MODELS
from osar_plugin.structures import ReIDDataSample
from osar_plugin.utils.errors import ConfigError, DataFormatError


def build(seed: int = 0, **kwargs: Any) -> Any:
    torch.manual_seed(seed)
    model = MODELS.build(translator_cfg(**kwargs))
    model.init_weights()
    return model.eval()


@pytest.fixture(scope='module', params=['pixel', 'latent'])
def model(request: pytest.FixtureRequest) -> Any:
    return build(latent=request.param == 'latent')


@pytest.fixture(scope='module')
def images() -> torch.Tensor:
    return draws(7, 1, 3, 3, 16, 16)[0].clamp(-1, 1)


def pairs(images: torch.Tensor) -> dict[str, torch.Tensor]:
    return dict(optical=images, sar=images.flip(0))


@pytest.mark.parametrize('objective', ['grad', 'noise', 'ysubx'])
@pytest.mark.parametrize('kind', ['l1', 'l2'])
def test_loss_is_the_published_one(objective: str, kind: str,
                                   images: torch.Tensor) -> None:
    model = build(objective=objective, loss=kind)
    torch.manual_seed(5)
    loss = model(pairs(images), mode='loss')['loss_bridge']
    torch.manual_seed(5)
    t = torch.randint(1000, (3, ))
    noise = torch.randn_like(images)
    y, x0 = images, images.flip(0)
    m = model.schedule.m_t[t].view(-1, 1, 1, 1)
    scale = (2 * (m - m**2)).sqrt()
    x_t = (1 - m) * x0 + m * y + scale * noise
    target = dict(grad=x_t - x0, noise=noise, ysubx=y - x0)[objective]
    gap = model.denoiser(x_t, t, y) - target
    expected = gap.abs().mean() if kind == 'l1' else gap.square().mean()
    torch.testing.assert_close(loss, expected)


def test_training_moves_the_network_only(images: torch.Tensor) -> None:
    model = build(latent=True).train()
    before = copy.deepcopy(model.state_dict())
    wrapper = OptimWrapper(torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad], 1e-2))
    scaled = {k: list((v + 1) * 127.5) for k, v in pairs(images).items()}
    log = model.train_step(dict(inputs=scaled), wrapper)
    assert torch.isfinite(log['loss'])
    for key, value in model.state_dict().items():
        if key.startswith('codec.'):
            assert torch.equal(value, before[key]), key
    assert not torch.equal(
        model.state_dict()['denoiser.unet.conv_out.weight'],
        before['denoiser.unet.conv_out.weight'])


def test_the_preprocessor_centres_pixels(model: Any) -> None:
    data = model.data_preprocessor(dict(inputs=dict(
        optical=[torch.tensor([0, 255]).to(torch.uint8).expand(3, 1, 2)])))
    assert data['inputs']['optical'][0, 0].tolist() == [[-1., 1.]]


def test_a_view_does_not_depend_on_its_company(model: Any,
                                               images: torch.Tensor) -> None:
    views = model.translate(images)
    assert views.shape == (3, 3, 3, 16, 16)
    one = model.translate(images[1:2])
    torch.testing.assert_close(one[0], views[1], rtol=1e-4, atol=1e-5)
    turned = model.translate(images.flip(0))
    torch.testing.assert_close(turned.flip(0), views, rtol=1e-4, atol=1e-5)
    for most in (1, 4):
        part = model.translate(
            images, settings=SamplerSettings(3, 4, max_items=most))
        torch.testing.assert_close(part, views, rtol=1e-4, atol=1e-5)
    # A third view leaves the first two as they were.
    fewer = model.translate(images, settings=SamplerSettings(2, 4))
    torch.testing.assert_close(fewer, views[:, :2], rtol=1e-4, atol=1e-5)
    assert torch.equal(model.translate(images), views)


def test_views_differ_where_noise_does() -> None:
    model, images = build(), draws(7, 1, 1, 3, 16, 16)[0].clamp(-1, 1)
    views = model.translate(images)[0]
    assert (views[0] - views[1]).abs().mean() > 1e-3
    salted = model.translate(images, settings=SamplerSettings(3, 4, salt=1))
    assert (salted[0] - views).abs().mean() > 1e-3
    seeded = model.translate(images, [[1, 2, 1]])[0]
    torch.testing.assert_close(seeded[0], seeded[2])


def test_grey_views(model: Any, images: torch.Tensor) -> None:
    views = model.translate(images)
    grey = model.translate(images, settings=SamplerSettings(3, 4, grey=True))
    assert (views[:, :, 0] - views[:, :, 1]).abs().mean() > 1e-3
    for channel in range(3):
        torch.testing.assert_close(grey[:, :, channel], views.mean(dim=2))


def test_predict_sets_views(model: Any, images: torch.Tensor) -> None:
    samples = [BaseDataElement() for _ in images]
    out = model(dict(optical=images), samples, mode='predict')
    expected = to_uint8(model(images, mode='tensor'))
    for sample, views in zip(out, expected, strict=True):
        assert sample.views.dtype == torch.uint8
        assert torch.equal(sample.views, views)


def test_bytes_are_rounded() -> None:
    values = torch.tensor([-2., -1., 0.0, 1 / 255, 1., 3.])
    assert to_uint8(values).tolist() == [0, 0, 128, 128, 255, 255]
    steps = torch.arange(256.) / 127.5 - 1
    assert to_uint8(steps).tolist() == list(range(256))


def test_rescaled_condition(images: torch.Tensor) -> None:
    cfg = translator_cfg(latent=True, condition='rescaled')
    cfg['denoiser']['context_channels'] = 3
    model = MODELS.build(cfg).train()
    loss = model(pairs(images), mode='loss')['loss_bridge']
    loss.backward()
    assert model.rescaler.weight.grad.abs().sum() > 0
    context = model._context(images, images)
    halved = (images[..., ::2, ::2] + images[..., 1::2, ::2]
              + images[..., ::2, 1::2] + images[..., 1::2, 1::2]) / 4
    torch.testing.assert_close(
        context, torch.einsum('oc,bchw->bohw',
                              model.rescaler.weight[..., 0, 0], halved))


def test_latents_are_standardised(images: torch.Tensor) -> None:
    plain = build(latent=True)
    model = build(latent=True, normalize_latent=True)
    for side, mean, std in (('optical', 0.3, 2.), ('sar', -0.2, 0.5)):
        getattr(model, f'{side}_latent_mean').fill_(mean)
        getattr(model, f'{side}_latent_std').fill_(std)
    torch.testing.assert_close(
        model.encode(images, 'optical'),
        (plain.encode(images, 'optical') - 0.3) / 2)
    torch.testing.assert_close(
        model.decode(model.encode(images, 'sar')),
        plain.decode(plain.encode(images, 'sar')), rtol=1e-4, atol=1e-5)
    assert 'sar_latent_std' in model.state_dict()


@pytest.mark.parametrize('change, words', [
    (dict(objective='eps'), "objective='eps'.*grad, noise, ysubx"),
    (dict(loss='huber'), "loss='huber'.*l1, l2"),
    (dict(condition='first_stage'), 'condition=.*none, source, rescaled'),
    (dict(schedule=dict(num_timesteps=1)), 'num_timesteps=1'),
    (dict(schedule=dict(num_timesteps=3)), 'steps=4.*num_timesteps=3'),
    (dict(sampler=dict(views=0)), 'views=0'),
    (dict(sampler=dict(max_items=0)), 'max_items=0'),
    (dict(normalize_latent=True), 'no codec')])
def test_bad_configs(change: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        MODELS.build(translator_cfg(**change))


def test_bad_inputs(images: torch.Tensor) -> None:
    model = build()
    with pytest.raises(DataFormatError, match='needs pairs'):
        model(dict(optical=images), mode='loss')
    with pytest.raises(DataFormatError, match=r"\['sar'\].*optical"):
        model(dict(sar=images))
    radar = ReIDDataSample(metainfo=dict(img_path='0002_s05c1_SAR.tif'))
    radar.modality = 1
    with pytest.raises(DataFormatError, match='0002_s05c1_SAR.tif.*is a SAR'):
        model(images[:1], [radar], mode='predict')
    with pytest.raises(DataFormatError, match='3 images and 0'):
        model(images, mode='predict')
    with pytest.raises(DataFormatError, match=r'3 seeds for each.*\[3, 2\]'):
        model.translate(images[:2], [[1, 2, 3], [1, 2]])
    with pytest.raises(ConfigError, match="mode='x'"):
        model(images, mode='x')
