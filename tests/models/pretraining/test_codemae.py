"""How the parts of CoDe-MAE behave together."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from codemae import (
    TINY_ARCH,
    build,
    codemae_cfg,
    samples,
    seeded,
    tiny_cfg,
    tiny_inputs,
    total,
)
from torch import Tensor

from osar_plugin.models.pretraining.contrast import gather_keys, pair_contrast
from osar_plugin.models.pretraining.masking import (
    draw_noise,
    random_masking,
)
from osar_plugin.models.pretraining.teachers import Apart, Teacher
from osar_plugin.registry import MODELS
from osar_plugin.utils.errors import ConfigError, DataFormatError

OBJECTIVES = ('reconstruction', 'degraded', 'distillation', 'contrast')
NAMES = dict(zip(OBJECTIVES, (
    'loss_self', 'loss_cross', 'loss_distill', 'loss_contrast'),
    strict=True))


def without(*objectives: str) -> dict[str, Any]:
    changes: dict[str, Any] = dict.fromkeys(objectives)
    if 'distillation' in objectives:
        changes['teacher'] = None
    return tiny_cfg(**changes)


def gradients(model: Any) -> dict[str, Tensor | None]:
    return {k: p.grad for k, p in model.named_parameters()}


@pytest.mark.parametrize('name', OBJECTIVES)
def test_each_objective_alone(name: str) -> None:
    """One entry for it; every weight that is there takes part."""
    model = build(without(*(o for o in OBJECTIVES if o != name)))
    losses = model(tiny_inputs(), samples(1, 1, 1, 1), mode='loss')
    assert [k for k in losses if k.startswith('loss')] == [NAMES[name]]
    losses[NAMES[name]].backward()
    unused = {k for k, g in gradients(model).items() if g is None}
    assert unused == set()


def test_losses_of_parts_do_not_depend_on_the_others() -> None:
    whole = build(tiny_cfg())
    expected = whole(tiny_inputs(), mode='loss')
    for name in OBJECTIVES:
        one = build(without(*(o for o in OBJECTIVES if o != name)))
        one.load_state_dict({k: v for k, v in whole.state_dict().items()
                             if k in one.state_dict()})
        loss = one(tiny_inputs(), mode='loss')[NAMES[name]]
        torch.testing.assert_close(loss, expected[NAMES[name]])


@pytest.mark.parametrize('share', [True, False])
def test_unpaired_batch(share: bool) -> None:
    """What compares the sensors counts nothing and stays in the graph."""
    model = build(tiny_cfg(share_decoders=share))
    paired = model(tiny_inputs(), samples(1, 1, 1, 1), mode='loss')
    losses = model(tiny_inputs(), samples(1, 1, 0, 1), mode='loss')
    for name, loss in losses.items():
        if name in ('loss_cross', 'loss_contrast'):
            assert loss == 0
            assert paired[name] > 0
        else:
            assert torch.equal(loss, paired[name])
    total(losses).backward()
    for name, grad in gradients(model).items():
        assert grad is not None, name
        if name.startswith(('degraded.', 'contrast.')):
            assert not grad.any(), name


def test_separate_decoders_see_their_own_sensor() -> None:
    model = build(tiny_cfg(share_decoders=False, contrast=None))
    assert set(model.embedding) == {'rgb', 'sar'}
    inputs = tiny_inputs()
    model.reconstruction.decoders['sar'].pred.bias.data += 1
    with torch.no_grad():
        first = model.reconstruct(inputs)
        model.reconstruction.decoders['sar'].pred.bias.data -= 1
        second = model.reconstruct(inputs)
    change = (first['self'] - second['self']).abs().amax((1, 2))
    assert (change[:4] == 0).all()
    assert (change[4:] > 0.9).all()


def test_separate_decoders_equal_shared_ones_of_equal_weights() -> None:
    shared, separate = build(tiny_cfg()), build(
        tiny_cfg(share_decoders=False))
    source = shared.state_dict()
    separate.load_state_dict({
        key: source[key.replace('.rgb.', '.shared.').replace(
            '.sar.', '.shared.')] for key in separate.state_dict()})
    first = shared(tiny_inputs(), mode='loss')
    second = separate(tiny_inputs(), mode='loss')
    for name, loss in first.items():
        torch.testing.assert_close(second[name], loss)


def test_loss_equals_the_one_with_a_mask() -> None:
    """Only masked units are predicted; the official sum says the same."""
    model = build(tiny_cfg())
    inputs = tiny_inputs()
    losses = model(inputs, mode='loss')
    panels = model.reconstruct(inputs)
    mask = panels['masking'].mask()
    for name in ('self', 'cross'):
        error = (panels[name] - panels[f'{name}_target']).square().mean(-1)
        expected = (error * mask).sum() / mask.sum()
        torch.testing.assert_close(losses[f'loss_{name}'], expected)


def test_masked_pixels_do_not_reach_the_encoder() -> None:
    model = build(tiny_cfg())
    inputs = tiny_inputs()
    with torch.no_grad():
        before = model.encode(inputs)
        for row, unit in enumerate(before.masking.masked[:4, 0].tolist()):
            y, x = unit // 3 * 16, unit % 3 * 16
            inputs['rgb'][row, :, y:y + 16, x:x + 16] += 5
        after = model.encode(inputs)
        assert torch.equal(before.visible, after.visible)
        for row, unit in enumerate(before.masking.keep[:4, 0].tolist()):
            y, x = unit // 3 * 16, unit % 3 * 16
            inputs['rgb'][row, :, y:y + 16, x:x + 16] += 5
        assert not torch.allclose(
            before.visible, model.encode(inputs).visible)


def test_both_images_of_a_pair_share_their_mask() -> None:
    keep = build(tiny_cfg()).encode(tiny_inputs()).masking.keep
    assert torch.equal(keep[:4], keep[4:])
    assert not torch.equal(keep[0], keep[1])


def test_masking_is_drawn_anew_and_from_a_generator() -> None:
    model = build(tiny_cfg())
    inputs = tiny_inputs()
    del inputs['noise']
    draws = [model.draw(inputs, (3, 3)).keep for _ in range(5)]
    assert any(not torch.equal(draws[0], other) for other in draws)
    first, second = (draw_noise(2, 9, generator=seeded(3)) for _ in 'ab')
    assert torch.equal(first, second)
    masking = random_masking(first, 0.75)
    order = torch.cat([masking.keep, masking.masked], dim=1)
    assert torch.equal(order.gather(1, masking.restore),
                       torch.arange(9).expand(2, -1))


def test_mask_token_is_added_as_often_as_asked() -> None:
    decoder = build(dict(
        type='osar_plugin.MaskedDecoder', dim=32, depth=1, num_heads=2,
        img_size=48, mask_copies=3))
    visible = torch.randn(2, 2, 32, generator=seeded(0))
    keep = torch.tensor([[0, 4], [8, 1]])
    filled = decoder.fill(visible, keep) - decoder.pos_embed
    torch.testing.assert_close(filled[0, [0, 4]], visible[0])
    torch.testing.assert_close(filled[1, [8, 1]], visible[1])
    torch.testing.assert_close(
        filled[0, 5], 3 * decoder.mask_token[0, 0])


def test_decoder_predicts_what_is_wanted() -> None:
    decoder = build(dict(
        type='osar_plugin.MaskedDecoder', dim=32, depth=2, num_heads=2,
        img_size=48, out_dim=5))
    visible = torch.randn(2, 2, 32, generator=seeded(0))
    keep = torch.tensor([[0, 4], [8, 1]])
    wanted = torch.tensor([[3, 7, 1], [2, 0, 8]])
    everything = decoder(visible, keep)
    some = decoder(visible, keep, wanted)
    for row in range(2):
        torch.testing.assert_close(some[row], everything[row, wanted[row]])


def test_checkpointing_changes_nothing() -> None:
    plain = build(tiny_cfg())
    cfg = tiny_cfg()
    for part in ('backbone', 'decoder', 'distillation'):
        cfg[part]['with_cp'] = True
    saving = build(cfg)
    results = []
    for model in (plain, saving):
        model.train()
        losses = model(tiny_inputs(), mode='loss')
        total(losses).backward()
        results.append((losses, gradients(model)))
    for first, second in zip(*results, strict=True):
        assert first.keys() == second.keys()
        for key, value in first.items():
            torch.testing.assert_close(second[key], value)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    """Losses are float32 and near; gradients are finite."""
    model = build(tiny_cfg())
    expected = model(tiny_inputs(), mode='loss')
    with torch.autocast('cpu', dtype):
        losses = model(tiny_inputs(), mode='loss')
    for name, loss in losses.items():
        assert loss.dtype == torch.float32, name
        torch.testing.assert_close(
            loss, expected[name], rtol=2e-2, atol=2e-2)
    total(losses).backward()
    assert all(torch.isfinite(g).all() for g in gradients(model).values()
               if g is not None)


def test_compiles_without_a_break() -> None:
    model = build(tiny_cfg())
    inputs = tiny_inputs()
    expected = model.loss(inputs)
    compiled = torch.compile(
        lambda batch: model.loss(batch), fullgraph=True, backend='eager')
    for name, loss in compiled(inputs).items():
        torch.testing.assert_close(loss, expected[name])


def test_contrast_gradients() -> None:
    generator = seeded(1)
    rows = [torch.randn(3, 4, generator=generator).double().requires_grad_()
            for _ in range(4)]
    assert torch.autograd.gradcheck(
        lambda a, b, c, d: pair_contrast(a, b, c, d, 0.5), rows)


def test_contrast_by_hand() -> None:
    """Two pairs, one of them confused with the other."""
    rgb = torch.tensor([[1., 0], [0, 1]])
    sar = torch.tensor([[1., 0], [1, 0]])
    loss = pair_contrast(rgb, sar, rgb, sar, temperature=1.)
    # Both optical rows see two equal SAR rows; the second SAR row prefers
    # the wrong optical one by e.
    log = torch.tensor([2.]).log()
    e = torch.tensor(1.).exp()
    backward = ((1 + 1 / e).log() + (1 + e).log()) / 2
    torch.testing.assert_close(loss, ((log + backward) / 2)[0])


def test_conditioning_leaves_the_tokens_alone() -> None:
    """CCL compares sums with the cross attention, vanilla plain means."""
    vanilla = build(dict(type='osar_plugin.PairContrast', dim=8,
                         conditioned=False))
    assert not list(vanilla.parameters())
    rgb, sar = (torch.randn(2, 3, 8, generator=seeded(i)) for i in (0, 1))
    z_rgb, _ = vanilla.describe(rgb, sar)
    torch.testing.assert_close(
        z_rgb, torch.nn.functional.normalize(rgb.mean(1), dim=-1))
    conditioned = build(dict(type='osar_plugin.PairContrast', dim=8,
                             num_heads=2))
    first, _ = conditioned.describe(rgb, sar)
    second, _ = conditioned.describe(rgb, sar.flip(0))
    assert not torch.allclose(first, second)


def test_one_process_gathers_nothing() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    assert gather_keys(x, 'official') is x
    assert gather_keys(x, 'differentiable') is x


class Weighty(Teacher):
    """A teacher with a weight, which looks at how it is used."""

    dim = 8

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, inputs: Any) -> Tensor:
        assert not torch.is_grad_enabled()
        assert not self.training
        assert not self.weight.requires_grad
        return inputs['teacher'] * self.weight[0]


def test_teacher_is_not_part_of_the_model() -> None:
    model = build(tiny_cfg())
    expected = total(model(tiny_inputs(), mode='loss'))
    keys = set(model.state_dict())
    model.teacher = Apart(Weighty())
    model.train()
    assert set(model.state_dict()) == keys
    weight = model.teacher.teacher.weight
    assert not any(p is weight for p in model.parameters())
    loss = total(model(tiny_inputs(), mode='loss'))
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert weight.grad is None
    assert copy.deepcopy(model).teacher is model.teacher


def test_only_optical_tokens_are_distilled() -> None:
    model = build(without('reconstruction', 'degraded', 'contrast'))
    inputs = tiny_inputs()
    expected = model(inputs, mode='loss')['loss_distill']
    inputs['sar'] = inputs['sar'] + 1
    torch.testing.assert_close(
        model(inputs, mode='loss')['loss_distill'], expected)


def test_tensor_mode_gives_tokens_of_whole_images() -> None:
    model = build(tiny_cfg()).eval()
    inputs = tiny_inputs()
    tokens = model(inputs)
    assert tokens['rgb'].shape == tokens['sar'].shape == (4, 9, 32)
    torch.testing.assert_close(
        tokens['sar'], model.extract_feat(inputs['sar'], 'sar'))


def test_hivit_mae_of_sar_with_mgf() -> None:
    model = build(dict(
        type='osar_plugin.HiViTMAE',
        modality='sar',
        target='mgf',
        backbone=dict(
            type='osar_plugin.HiViT', rpe=False, img_size=48,
            arch=dict(embed_dim=32, depths=(1, 1, 2), num_heads=2)),
        decoder=dict(
            type='osar_plugin.MaskedDecoder', dim=32, depth=1, num_heads=2,
            img_size=48, mask_copies=1)))
    losses = model(tiny_inputs(), mode='loss')
    losses['loss_self'].backward()
    assert all(g is not None for g in gradients(model).values())
    assert model.decoder.pred.out_features == 3 * 256
    assert model(tiny_inputs()).shape == (4, 9, 32)
    with pytest.raises(DataFormatError, match="modality='sar'"):
        model(dict(rgb=tiny_inputs()['rgb']), mode='loss')


def bad(**changes: Any) -> dict[str, Any]:
    return {**tiny_cfg(), **changes}


@pytest.mark.parametrize(('changes', 'words'), [
    (dict(mask_ratio=1.0), 'mask_ratio'),
    (dict(mask_ratio=0.95), 'leaves none of 9 units'),
    (dict(teacher=None), 'needs a teacher'),
    (dict(distillation=None), 'nothing would'),
    (dict.fromkeys((*OBJECTIVES, 'teacher')), 'no objective'),
    (dict(backbone=dict(type='osar_plugin.ITPN', arch=TINY_ARCH,
                        img_size=48, num_outs=1)), 'pyramid'),
    (dict(backbone=dict(type='osar_plugin.ITPN', arch=TINY_ARCH,
                        img_size=48, modality='rgb')), 'both patch'),
    (dict(contrast=dict(type='osar_plugin.PairContrast', dim=64)),
     'dim=64.*have 32'),
    (dict(distillation=dict(type='osar_plugin.OpticalDistillation',
                            teacher_dim=16)), 'teacher_dim=16.*have 8'),
    (dict(degraded=dict(type='osar_plugin.DegradedReconstruction',
                        target='edges')), "target='edges'"),
    (dict(degraded=dict(type='osar_plugin.DegradedReconstruction',
                        reduction='mode')), "reduction='mode'"),
    (dict(contrast=dict(type='osar_plugin.PairContrast', num_heads=2,
                        gather='sum')), "gather='sum'"),
    (dict(decoder=dict(type='osar_plugin.MaskedDecoder', dim=30)), '30'),
    (dict(decoder=dict(type='osar_plugin.MaskedDecoder', dim=32,
                       num_heads=2, img_size=50)), 'img_size=50'),
])
def test_parts_that_do_not_fit(changes: dict[str, Any],
                               words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        MODELS.build(bad(**changes))


def test_a_decoder_is_needed() -> None:
    with pytest.raises(ConfigError, match='MaskedDecoder'):
        MODELS.build(dict(type='osar_plugin.SelfReconstruction'))


@pytest.mark.parametrize(('change', 'words'), [
    (lambda x: x.pop('sar'), 'expected rgb and sar'),
    (lambda x: x.update(sar=x['sar'][:2]), 'same\\s+shape'),
    (lambda x: x.update(noise=x['noise'][:, :8]), 'expected \\(4, 9\\)'),
    (lambda x: x.update(teacher=x['teacher'][:, :4]), 'patches of 16'),
    (lambda x: x.update(teacher=x['teacher'][..., :4]), 'teacher_dim'),
    (lambda x: x.update(teacher=x['teacher'][0]), 'B, L, channels'),
    (lambda x: x.pop('teacher'), 'teacher_features'),
    (lambda x: x.update(rgb=x['rgb'][..., :32], sar=x['sar'][..., :32]),
     'decoder.img_size'),
])
def test_batches_that_do_not_fit(change: Any, words: str) -> None:
    model = build(tiny_cfg())
    inputs = tiny_inputs()
    change(inputs)
    with pytest.raises(DataFormatError, match=words):
        model(inputs, mode='loss')


def test_sides_that_are_no_multiple_of_16() -> None:
    model = build(tiny_cfg(reconstruction=None, degraded=None))
    inputs = tiny_inputs()
    for name in ('rgb', 'sar'):
        inputs[name] = inputs[name][..., :40]
    with pytest.raises(DataFormatError, match='multiples of 16'):
        model(inputs, mode='loss')


def test_other_misuse() -> None:
    model = build(tiny_cfg())
    with pytest.raises(ConfigError, match="mode='train'"):
        model(tiny_inputs(), mode='train')
    with pytest.raises(DataFormatError, match="no 'paired'"):
        model(tiny_inputs(), [object()] * 4, mode='loss')
    with pytest.raises(DataFormatError, match='rgb and sar'):
        model(torch.zeros(1, 3, 48, 48), mode='loss')


def test_defaults_are_the_published_recipe() -> None:
    """What a config that leaves arguments out gets."""
    model = MODELS.build(codemae_cfg(
        backbone=tiny_cfg()['backbone'],
        decoder=tiny_cfg()['decoder'],
        contrast=dict(type='osar_plugin.PairContrast', num_heads=2)))
    assert model.mask_ratio == 0.75
    assert model.contrast.temperature == 0.07
    assert model.contrast.gather == 'official'
    assert model.contrast.conditioned
    assert model.degraded.reduction == 'channel'
    assert len(model.distillation.aux_blocks) == 2
    assert model.distillation.tap_block(24) == 18
