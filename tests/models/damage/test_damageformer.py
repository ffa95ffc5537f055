"""DamageFormer: goldens, losses, checkpoints, inference."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from damage_case import TINY_ENCODER, batch, build, sample, tiny_cfg
from mmengine.optim import build_optim_wrapper

from osar_plugin.models.damage.damageformer import decide
from osar_plugin.models.damage.losses import (
    LOSS_WEIGHTS,
    DamageLogits,
    building_labels,
    damage_losses,
    masked_cross_entropy,
)
from osar_plugin.registry import MODELS
from osar_plugin.utils.checkpoint import load_checkpoint
from osar_plugin.utils.config import load_config
from osar_plugin.utils.errors import (
    CheckpointMismatchError,
    ConfigError,
    DataFormatError,
)

REPO = Path(__file__).resolve().parents[3]
CONFIGS = REPO / 'configs'


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope='module')
def golden() -> dict[str, np.ndarray]:
    path = REPO / 'tests/goldens/damageformer.npz'
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture(scope='module')
def outputs() -> dict[str, torch.Tensor]:
    """Maps and logits of the model of the recipe, on golden weights.

    Each tensor is drawn by the CRC-32 of its name and goes in through the
    loader, so that other names cannot reach the goldens.
    """
    model = MODELS.build(dict(
        load_config(CONFIGS / 'codemae_bright.py').model, init_cfg=None))
    weights = {}
    for name, value in model.named_parameters():
        weights[name] = torch.randn(value.shape, generator=seeded(
            zlib.crc32(name.encode()))) * 0.02
        if value.ndim == 1 and name.endswith('.weight'):
            weights[name] += 1
    model.load_state_dict(dict(model=weights), strict=False)
    model.eval()
    pre = torch.randn(2, 3, 256, 256, generator=seeded(0))
    post = torch.randn(2, 1, 256, 256, generator=seeded(2)).expand(
        -1, 3, -1, -1)
    with torch.no_grad():
        first, fused = model.features(pre, post)
        # As `logits` does; the trunk runs once.
        model.features = lambda *_: (first, fused)
        logits = model.logits(pre, post)
    return dict(first=first, fused=fused, building=logits.building,
                damage=logits.damage)


def test_maps_are_the_published_ones(golden, outputs) -> None:
    for key, expected, strides in (
            ('first', 'fuse1_s8', (4, 16)), ('fused', 'fuse3_s8', (4, 16))):
        channels, space = strides
        np.testing.assert_allclose(
            outputs[key][0, ::channels, ::space, ::space].numpy(),
            golden[expected], rtol=0, atol=2e-4)
    for key, expected in (('building', 'loc_logits_s8'),
                          ('damage', 'dam_logits_s8')):
        # Logits are of size 0.2 to 0.5.
        np.testing.assert_allclose(
            outputs[key][..., ::8, ::8].numpy(), golden[expected], rtol=0,
            atol=2e-5)


def test_losses_are_the_published_ones(golden, outputs) -> None:
    labels = torch.randint(0, 4, (2, 256, 256), generator=seeded(4))
    labels[:, :64] = 0
    found = damage_losses(
        DamageLogits(outputs['building'], outputs['damage']), labels)
    for name, key in (('building_ce', 'ce_loc'), ('damage_ce', 'ce_dam'),
                      ('building_lovasz', 'lovasz_loc'),
                      ('damage_lovasz', 'lovasz_dam')):
        assert float(found[name]) == pytest.approx(
            float(golden[key]), rel=1e-5)
    for preset, total in (('codemae', 4.4926901), ('bright', 2.9123776)):
        weights = LOSS_WEIGHTS[preset]
        assert float(sum(weights[k] * v for k, v in found.items())) == (
            pytest.approx(total, rel=1e-5))


def test_number_of_weights_and_norms() -> None:
    with torch.device('meta'):
        model = MODELS.build(dict(
            load_config(CONFIGS / 'codemae_bright.py').model, init_cfg=None))
    assert sum(p.numel() for p in model.parameters()) == 89_886_982
    eps = {m.eps for m in model.modules()
           if isinstance(m, torch.nn.LayerNorm)}
    assert eps == {1e-6}
    assert model.encoder.pool == 'max'


def test_layer_decay_of_the_recipe() -> None:
    """33 depths; embeddings 0, block i at i + 1, heads the last."""
    cfg = load_config(CONFIGS / 'codemae_bright.py')
    with torch.device('meta'):
        model = MODELS.build(dict(cfg.model, init_cfg=None))
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    rates = {id(p): group['lr'] / 1e-4 for group in optimizer.param_groups
             for p in group['params']}
    named = dict(model.named_parameters())
    for name, scale in (
            ('encoder.patch_embed_sar.proj.weight', 0.005513),
            ('encoder.absolute_pos_embed', 0.005513),
            ('encoder.blocks.0.norm2.weight', 0.006486),
            ('encoder.blocks.31.attn.qkv.weight', 1.),
            ('encoder.align_dim_16tofpn.weight', 1.),
            ('fusion_layer_3.conv1.weight', 1.), ('clf_2.bias', 1.)):
        assert rates[id(named[name])] == pytest.approx(scale, abs=5e-7), name


@pytest.mark.parametrize('name', [
    'codemae_bright_val', 'damageformer_bright', 'demo/codemae_bright'])
def test_configs_build(name) -> None:
    cfg = load_config(CONFIGS / f'{name}.py')
    with torch.device('meta'):
        model = MODELS.build(dict(cfg.model, init_cfg=None))
    if name == 'damageformer_bright':
        assert model.loss_weights == LOSS_WEIGHTS['bright']
        assert model.encoder_post.embed_names == ['patch_embed_sar']
        assert cfg.train_dataloader.dataset.pipeline[1]['size'] == 640


def test_recipe() -> None:
    official, honest = (load_config(CONFIGS / f'{name}.py') for name in (
        'codemae_bright', 'codemae_bright_val'))
    assert official.train_cfg.max_iters * (
        official.train_dataloader.batch_size) == 120_000
    assert official.val_dataloader.dataset.split == 'test'
    assert honest.val_dataloader.dataset.split == 'val'
    assert honest.test_dataloader.dataset.split == 'test'
    assert official.randomness.seed == 729729
    assert official.model.inference == dict(
        mode='slide', window=512, stride=256)


@pytest.mark.parametrize('options', [
    {'optim_wrapper.paramwise_cfg.decay_rat': 0.9},
    {'optim_wrapper.paramwise_cfg.decay_rate': 'much'},
    {'model.inference.windw': 64}, {'model.loss_weights': 3}])
def test_slips_in_the_recipe(options) -> None:
    with pytest.raises(ConfigError):
        cfg = load_config(CONFIGS / 'demo/codemae_bright.py', options)
        MODELS.build(dict(cfg.model, init_cfg=None))


# ------------------------------------------------------------------ losses


def test_ignored_pixels_count_nowhere() -> None:
    generator = seeded(0)
    logits = DamageLogits(
        *(torch.randn(2, c, 8, 8, generator=generator, dtype=torch.float64,
                      requires_grad=True) for c in (2, 4)))
    labels = torch.randint(0, 4, (2, 8, 8), generator=generator)
    labels[0, :4] = 255
    losses = damage_losses(logits, labels)
    sum(losses.values()).backward()
    for part in logits:
        assert (part.grad[0, :, :4] == 0).all()
        assert (part.grad[0, :, 4:] != 0).any()
    other = labels.clone()
    changed = DamageLogits(*(x.detach().clone() for x in logits))
    for part in changed:
        part[0, :, :4] += 7
    for name, value in damage_losses(changed, other).items():
        assert float(value) == pytest.approx(
            float(losses[name].detach())), name


def test_cross_entropy_is_the_usual_one() -> None:
    logits = torch.randn(2, 4, 5, 5, generator=seeded(1))
    labels = torch.randint(0, 4, (2, 5, 5), generator=seeded(2))
    assert float(masked_cross_entropy(logits, labels)) == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-6)


def test_a_batch_without_labels_is_in_the_graph() -> None:
    model = build()
    data = model.data_preprocessor(batch())
    empty = [sample(torch.full((64, 64), 255)) for _ in range(2)]
    losses = model(data['inputs'], empty, 'loss')
    total = sum(losses.values())
    total.backward()
    assert float(total.detach()) == 0
    for name, value in model.named_parameters():
        assert value.grad is not None and (value.grad == 0).all(), name


def test_building_labels() -> None:
    labels = torch.tensor([0, 1, 2, 3, 255])
    assert building_labels(labels).tolist() == [0, 1, 1, 1, 255]
    assert sample(labels[None]).gt_building.data.flatten().tolist() == [
        0, 1, 1, 1, 255]


def test_weights_of_losses() -> None:
    data = batch()
    model = build(tiny_cfg(loss_weights=dict(
        building_ce=0., damage_ce=3., damage_lovasz=1., building_lovasz=1.)))
    found = model(**model.data_preprocessor(data), mode='loss')
    plain = build()(**model.data_preprocessor(data), mode='loss')
    assert set(found) == {f'loss_{name}' for name in LOSS_WEIGHTS['bright']}
    assert float(found['loss_building_ce']) == 0
    assert float(found['loss_damage_ce']) == pytest.approx(
        1.5 * float(plain['loss_damage_ce']))


# ----------------------------------------------------------------- network


def test_each_sensor_has_its_embedding() -> None:
    """In one batch as one after the other."""
    model = build()
    data = model.data_preprocessor(batch())['inputs']
    with torch.no_grad():
        joint = model.features(data['pre'], data['post'])
        twin = MODELS.build(tiny_cfg(encoder_post=dict(TINY_ENCODER))).eval()
        weights = model.state_dict()
        weights.update({
            key.replace('encoder.', 'encoder_post.', 1): value
            for key, value in weights.items() if key.startswith('encoder.')})
        twin.load_state_dict(weights)
        apart = twin.features(data['pre'], data['post'])
        swapped = model.features(data['post'], data['pre'])
    for one, two, three in zip(joint, apart, swapped, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
        assert (one - three).abs().max() > 0.01


def test_buildings_are_seen_before_the_event() -> None:
    model = build()
    data = model.data_preprocessor(batch())['inputs']
    with torch.no_grad():
        one = model.logits(data['pre'], data['post'])
        other = model.logits(data['pre'], data['post'].flip(0))
    torch.testing.assert_close(one.building, other.building, rtol=1e-4,
                               atol=1e-4)
    assert (one.damage - other.damage).abs().max() > 0.01


def test_an_encoder_of_another_kind() -> None:
    """Anything that gives four maps; both images through one."""

    class Pooled(torch.nn.Module):
        def forward(self, x):
            return [torch.nn.functional.avg_pool2d(x, s)
                    for s in (4, 8, 16, 32)]

    model = build(dict(
        type='osar_plugin.DamageFormer', encoder=dict(type=Pooled), channels=8,
        in_channels=(3, 3, 3, 3)))
    out = model(**model.data_preprocessor(batch()), mode='tensor')
    assert out.damage.shape == (2, 4, 64, 64)


def test_checkpointing_changes_nothing() -> None:
    grads = []
    for with_cp in (False, True):
        model = build(tiny_cfg(encoder=dict(TINY_ENCODER, with_cp=with_cp)))
        model.train()
        losses = model(**model.data_preprocessor(batch()), mode='loss')
        sum(losses.values()).backward()
        grads.append(model.encoder.patch_embed_rgb.proj.weight.grad)
    assert grads[0].abs().max() > 0
    torch.testing.assert_close(*grads)


# --------------------------------------------------------------- inference


def predicted(model, data) -> list:
    return model(**model.data_preprocessor(data), mode='predict')


def test_predictions() -> None:
    model = build(tiny_cfg(keep_logits=True))
    found = predicted(model, batch(side=80))
    with torch.no_grad():
        padded = batch(side=80)
        logits = model(**model.data_preprocessor(padded), mode='tensor')
    for i, one in enumerate(found):
        assert one.pred_damage.data.dtype == torch.uint8
        assert one.pred_damage.data.shape == (1, 80, 80)
        assert torch.equal(
            one.pred_damage.data[0].long(),
            one.damage_logits.data.argmax(0))
        assert torch.equal(
            one.pred_building.data[0].long(),
            one.building_logits.data.argmax(0))
        assert one.damage_logits.data.shape == logits.damage[i].shape
        assert one.gt_damage is not None
        assert one.pred_sem_seg is one.pred_damage
        assert one.seg_logits is one.damage_logits


def test_whole_and_slide_agree_on_one_window() -> None:
    whole = build(tiny_cfg(keep_logits=True))
    slide = build(tiny_cfg(keep_logits=True, inference=dict(
        mode='slide', window=64, stride=32)))
    for one, two in zip(predicted(whole, batch()), predicted(
            slide, batch()), strict=True):
        torch.testing.assert_close(
            one.damage_logits.data, two.damage_logits.data)
    # Of more than one window, another answer: attention is global.
    one, two = (predicted(model, batch(1, 96))[0].damage_logits.data
                for model in (whole, slide))
    assert (one - two).abs().max() > 1e-3


def test_masking_by_the_other_head() -> None:
    logits = torch.zeros(6, 1, 2)
    logits[1, 0, 0] = 1  # a building on the left
    logits[4] = 1  # damaged everywhere
    damage, building = decide(logits)
    assert damage.tolist() == [[2, 2]] and building.tolist() == [[1, 0]]
    damage, _ = decide(logits, mask_by_building=True)
    assert damage.tolist() == [[2, 0]]


# ------------------------------------------------------------- checkpoints


def test_official_checkpoints_load(tmp_path) -> None:
    """Under `model` or flat, from several GPUs or one."""
    source = build(seed=1)
    weights = source.state_dict()
    for i, content in enumerate((
            weights, dict(model=weights, epoch=3),
            dict(state_dict={f'module.{k}': v for k, v in weights.items()}))):
        torch.save(content, tmp_path / f'{i}.pth')
        model = MODELS.build(tiny_cfg())
        report = load_checkpoint(model, tmp_path / f'{i}.pth')
        assert not report.missing and not report.unexpected
        for name, value in model.state_dict().items():
            assert torch.equal(value, weights[name]), name


def test_pre_training_fills_the_encoder(tmp_path) -> None:
    """Official and ours; decoders are left out, heads start anew."""
    encoder = build(seed=2).encoder.state_dict()
    files = dict(
        official=dict(model={**encoder, 'mask_token': torch.zeros(1, 1, 4),
                             'decoder_pred.weight': torch.zeros(4, 4)}),
        ours=dict(state_dict={
            **{f'backbone.{k}': v for k, v in encoder.items()},
            'distillation.head.weight': torch.zeros(2)}))
    for name, content in files.items():
        path = tmp_path / f'{name}.pth'
        torch.save(content, path)
        for extra in ({}, dict(encoder_post=dict(TINY_ENCODER))):
            model = MODELS.build(tiny_cfg(init_cfg=dict(
                type='Pretrained', checkpoint=str(path)), **extra))
            model.init_weights()
            for key, value in encoder.items():
                assert torch.equal(model.encoder.state_dict()[key], value)
                if extra:
                    assert torch.equal(
                        model.encoder_post.state_dict()[key], value)
            missing = model.load_report.missing
            assert {k.split('.')[0] for k in missing} == {
                'fusion_layer_1', 'fusion_layer_2', 'fusion_layer_3',
                'clf_1', 'clf_2'}
            with pytest.raises(CheckpointMismatchError, match='not in the'):
                model.load_report.require_complete()


def test_wrong_checkpoints() -> None:
    twin = MODELS.build(tiny_cfg(encoder_post=dict(TINY_ENCODER)))
    model = MODELS.build(tiny_cfg())
    with pytest.raises(CheckpointMismatchError, match='two encoders'):
        model.load_state_dict(twin.state_dict())
    with pytest.raises(CheckpointMismatchError, match='one encoder'):
        twin.load_state_dict(model.state_dict())
    wide = MODELS.build(tiny_cfg(channels=24))
    with pytest.raises(CheckpointMismatchError, match='other shapes'):
        model.load_state_dict(wide.state_dict())
    with pytest.raises(CheckpointMismatchError):
        model.load_state_dict(dict(x=torch.zeros(3)))


# --------------------------------------------------------------- bad input


@pytest.mark.parametrize('changes, match', [
    (dict(encoder=dict(TINY_ENCODER, num_outs=5)), 'num_outs=4'),
    (dict(in_channels=(16, 16)), 'strides 4, 8, 16'),
    (dict(in_channels=(16, 16, 16, 24)), r'maps of \[16, 16, 16, 16\]'),
    (dict(encoder_post=dict(TINY_ENCODER, fpn_dim=24)), 'encoder_post'),
    (dict(encoder=dict(TINY_ENCODER, modality='rgb')), "modality='both'"),
    (dict(encoder_post=dict(TINY_ENCODER, modality='rgb')),
     'encoder_post.modality'),
    (dict(encoder=dict(type='osar_plugin.HiViT', img_size=64, arch=dict(
        embed_dim=32, depths=(1, 1, 2), num_heads=2))), "out='maps'"),
    (dict(loss_weights='code-mae'), 'codemae, bright'),
    (dict(loss_weights=dict(damage_ce=1.)), 'needs exactly'),
    (dict(loss_weights=dict(LOSS_WEIGHTS['bright'], damage_ce=-1.)),
     'damage_ce'),
    (dict(inference=dict(windw=3)), "'window'"),
    (dict(inference=dict(mode='slide', window=300)), 'multiple of 32'),
    (dict(ignore_index=2), 'ignore_index'), (dict(channels=0), 'channels')])
def test_bad_arguments(changes, match) -> None:
    with pytest.raises(ConfigError, match=match):
        MODELS.build(tiny_cfg(**changes))


def test_encoders_that_do_not_say_what_they_give() -> None:
    """Are held to in_channels when they run."""

    class Odd(torch.nn.Module):
        def forward(self, x):
            return [torch.zeros(len(x), 8, 64 // s, 64 // s)
                    for s in (4, 8, 16, 32)]

    data = build().data_preprocessor(batch())['inputs']
    MODELS.register_module('OddDamageEncoder', force=True, module=Odd)
    try:
        model = MODELS.build(tiny_cfg(
            encoder=dict(type='OddDamageEncoder'), in_channels=[8] * 4))
        assert model.logits(**data).damage.shape == (2, 4, 64, 64)
        model = MODELS.build(tiny_cfg(
            encoder=dict(type='OddDamageEncoder'),
            in_channels=[8, 8, 8, 16]))
        with pytest.raises(ConfigError, match=r'\[8, 8, 8, 8\]'):
            model.logits(**data)
    finally:
        MODELS.module_dict.pop('OddDamageEncoder')


def test_bad_modes_and_labels() -> None:
    model = build()
    data = model.data_preprocessor(batch())
    with pytest.raises(ConfigError, match='mode='):
        model(**data, mode='losses')
    with pytest.raises(DataFormatError, match='gt_damage'):
        model(data['inputs'], None, 'loss')
    small = [sample(torch.zeros(32, 32)) for _ in range(2)]
    with pytest.raises(DataFormatError, match=r'\(32, 32\)'):
        model(data['inputs'], small, 'loss')


def change(key: str, value) -> dict:
    data = batch()
    data['inputs'][key] = value(data['inputs'][key])
    return data


@pytest.mark.parametrize('data, match', [
    (dict(inputs=torch.zeros(2, 6, 8, 8)), 'pre and post'),
    (change('post', lambda x: [y.expand(3, -1, -1) for y in x]),
     r'\(1, H, W\)'),
    (change('pre', lambda x: [x[0], x[1][:, :32]]), 'one size'),
    (change('pre', lambda x: [y.float() for y in x]), 'uint8'),
    (change('post', lambda x: [y[:, :32] for y in x]), 'same pixels'),
    (change('post', lambda x: x[:1]), 'same pixels')])
def test_bad_batches(data, match) -> None:
    model = build()
    with pytest.raises(DataFormatError, match=match):
        model.data_preprocessor(data)


def test_normalisation() -> None:
    """Published constants; the SAR channel three times."""
    model = build()
    data = batch()
    inputs = model.data_preprocessor(data)['inputs']
    pre = data['inputs']['pre'][1].float()
    torch.testing.assert_close(
        inputs['pre'][1, 2], (pre[2] - 76.74) / 54.09)
    post = data['inputs']['post'][0].float()
    for channel in range(3):
        torch.testing.assert_close(
            inputs['post'][0, channel], (post[0] - 56.29) / 45.01)


@pytest.mark.parametrize('changes', [
    dict(pre_mean=(1., 2.)), dict(post_std=(0., )),
    dict(post_mean=(1., 2.))])
def test_bad_constants(changes) -> None:
    with pytest.raises(ConfigError):
        MODELS.build(dict(type='osar_plugin.DamagePreprocessor', **changes))
