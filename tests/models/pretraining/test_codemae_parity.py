"""The published numbers, through the official key names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from codemae import (
    build,
    codemae_cfg,
    golden,
    golden_inputs,
    official_weights,
    total,
)
from torch import nn

from osar_plugin.models.pretraining.masking import random_masking
from osar_plugin.models.pretraining.official import (
    CODEMAE,
    HIVIT_MAE,
    to_official,
)
from osar_plugin.registry import MODELS

LOSSES = dict(
    loss_self='self_loss', loss_cross='cross_loss',
    distill_main='distill_main', distill_aux='distill_aux',
    loss_contrast='contrastive')


@pytest.fixture(scope='module')
def model() -> Any:
    """CoDe-MAE-B with the weights of the goldens."""
    model = MODELS.build(codemae_cfg())
    model.load_state_dict(official_weights(), strict=False)
    assert not model.load_report.missing
    assert not model.load_report.unexpected
    return model.eval()


@pytest.fixture(scope='module')
def stepped(model: Any) -> tuple[Any, dict[str, float]]:
    """The model after a backward pass, and its losses."""
    losses = model(golden_inputs(), mode='loss')
    total(losses).backward()
    losses['total'] = total(losses)
    return model, {k: float(v.detach()) for k, v in losses.items()}


@pytest.fixture(scope='module')
def encoded(model: Any) -> tuple[Any, Any]:
    """What encoder and pyramid give."""
    x = golden_inputs()
    with torch.no_grad():
        masking = model.draw(x, (14, 14)).repeat(2)
        units = torch.cat([model.backbone.embed(x['rgb'], 'rgb'),
                           model.backbone.embed(x['sar'], 'sar')])
        trunk = model.backbone.trunk(units, (14, 14), masking.keep)
        return model.backbone.pyramid(trunk), model.encode(x)


def thin(tokens: torch.Tensor, channels: int) -> np.ndarray:
    """As the stored arrays are thinned."""
    step = 5 if tokens.shape[1] == 49 else 7
    return tokens[:, ::step, ::channels][..., ::2].detach().numpy()


def close(actual: np.ndarray, name: str, atol: float = 2e-4) -> None:
    expected = golden()[name]
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


def test_losses(stepped: tuple[Any, dict[str, float]]) -> None:
    _, losses = stepped
    expected = golden()
    for name, key in LOSSES.items():
        assert losses[name] == pytest.approx(float(expected[key]), rel=1e-5)
    assert losses['loss_distill'] == pytest.approx(
        losses['distill_main'] + losses['distill_aux'])
    assert losses['total'] == pytest.approx(
        float(expected['total_loss']), rel=1e-5)


def test_gradient_norms(stepped: tuple[Any, dict[str, float]]) -> None:
    model, _ = stepped
    grads = to_official(
        {k: p.grad for k, p in model.named_parameters()}, CODEMAE)
    expected = golden()
    names = [k for k in expected if k.startswith('gradnorm/')]
    assert len(names) == 10
    for name in names:
        norm = float(grads[name.removeprefix('gradnorm/')].norm())
        assert norm == pytest.approx(float(expected[name]), rel=1e-4)


def test_masking() -> None:
    masking = random_masking(golden_inputs()['noise'], 0.75)
    expected = golden()
    np.testing.assert_array_equal(masking.keep, expected['ids_keep'])
    np.testing.assert_array_equal(masking.mask(), expected['mask'])
    assert masking.keep[0, :6].tolist() == [28, 50, 34, 154, 4, 126]


def test_encoder(encoded: tuple[Any, Any]) -> None:
    levels, out = encoded
    close(thin(out.tokens, 4), 'tokens_c4')
    close(thin(out.visible, 4), 'distill_c4')
    close(thin(levels[0][:, :, 0, 0], 2), 'level16_c2')
    close(thin(levels[1][:, :, 0, 1], 4), 'level8_00_c4')
    close(thin(levels[2][:, :, 1, 2], 4), 'level4_12_c4')


def test_positions_of_masked_images(model: Any) -> None:
    keep = torch.arange(8)[None]
    table = model.backbone.positions((14, 14), keep)
    close(table[0, :, :16].detach().numpy(),
          'pos_embed_used_when_masked_first8', atol=1e-6)


def test_heads_and_decoders(model: Any, encoded: tuple[Any, Any]) -> None:
    _, out = encoded
    with torch.no_grad():
        close(thin(model.distillation.auxiliary(out.tapped), 4), 'aux_c4')
        rgb, sar = model.contrast.describe(*out.visible.chunk(2))
        close(rgb.numpy(), 'ccl_rgb')
        close(sar.numpy(), 'ccl_sar')
        panels = model.reconstruct(golden_inputs())
    close(thin(panels['self'], 16), 'self_pred_c16')
    close(thin(panels['cross'], 8), 'cross_pred_c8')


def test_cross_targets_are_swapped(model: Any) -> None:
    """The cross loss hardly sees it: 3e-5."""
    target = model.degraded.targets(golden_inputs())
    optical, sar = target[0, 0, :4], target[2, 0, :4]
    np.testing.assert_allclose(
        optical, [-1.153757, 1.048464, -1.450088, -1.231248], atol=2e-6)
    np.testing.assert_allclose(
        sar, [.594104, -1.267620, -.533029, .573819], atol=2e-6)


def test_epsilon_of_norms(model: Any) -> None:
    """The losses hardly see it."""
    for name, part in model.named_modules():
        if isinstance(part, nn.LayerNorm):
            expected = 1e-5 if name.startswith('contrast.') else 1e-6
            assert part.eps == expected, name


def test_cross_decoder_is_as_deep_as_the_other(model: Any) -> None:
    """The official number of its layers is a switch only."""
    assert len(model.degraded.decoders['shared'].blocks) == 8
    assert len(model.reconstruction.decoders['shared'].blocks) == 8


def test_official_keys_come_back(model: Any) -> None:
    official = official_weights()
    back = to_official(model.state_dict(), CODEMAE)
    assert back.keys() == official.keys()
    assert all(torch.equal(back[k], v) for k, v in official.items())


def test_hivit_mae() -> None:
    model = MODELS.build(dict(
        type='osar_plugin.HiViTMAE',
        backbone=dict(type='osar_plugin.HiViT', arch='base', rpe=False),
        decoder=dict(type='osar_plugin.MaskedDecoder', depth=6,
                     mask_copies=1)))
    official = official_weights('mae_keys')
    model.load_state_dict(official, strict=False)
    assert not model.load_report.missing
    back = to_official(model.state_dict(), HIVIT_MAE)
    assert back.keys() == official.keys()
    x = golden_inputs()
    inputs = dict(rgb=x['rgb'], noise=x['noise'])
    with torch.no_grad():
        loss = model(inputs, mode='loss')['loss_self']
        panels = model.reconstruct(inputs)
        latent = model.encode(x['rgb'], panels['masking'])
        trunk = model.backbone.trunk(
            model.backbone.embed(x['rgb']), (14, 14),
            panels['masking'].keep)
    expected = golden()
    assert float(loss) == pytest.approx(float(expected['mae_loss']), rel=1e-5)
    np.testing.assert_array_equal(
        panels['masking'].keep, expected['mae_ids_keep'])
    np.testing.assert_array_equal(
        panels['masking'].mask(), expected['mae_mask'])
    close(trunk.tokens[:, ::5, ::8].numpy(), 'mae_stage3_tokens')
    close(latent[0, ::5, ::8][:, ::4].numpy(), 'mae_latent_s0')
    close(panels['self'][0, ::7, ::8][:, ::2].numpy(), 'mae_pred_s0_every8')


def test_initialisation() -> None:
    """Sin-cos tables, small mask tokens, biases at zero."""
    from codemae import tiny_cfg
    model = build(tiny_cfg())
    state = model.state_dict()
    table = model.reconstruction.decoders['shared'].pos_embed
    # Column first: a step to the right changes the first half alone.
    assert torch.equal(table[0, 0, 16:], table[0, 1, 16:])
    assert torch.equal(table[0, 0, :16], table[0, 3, :16])
    assert torch.equal(state['backbone.absolute_pos_embed'], table)
    token = state['degraded.decoders.shared.mask_token']
    assert 0 < float(token.std()) < 0.04
    for name, value in state.items():
        if name.endswith('.bias') and 'patch_embed' not in name:
            assert not value.any(), name
