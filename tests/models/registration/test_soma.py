"""SOMA as a model: preparation, encoder, losses, predictions, matcher."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from soma_case import TINY, batch, randn, tiny

from osar_plugin.models.registration import (
    MatchSettings,
    RegistrationPreprocessor,
    SOMAMatcher,
    TwoBranchEncoder,
)
from osar_plugin.models.registration.cfog import orientation_channels
from osar_plugin.models.registration.geometry import matrix_to_flow
from osar_plugin.models.registration.pyramid import orientated_gradients
from osar_plugin.models.registration.soma import affine_of_flow
from osar_plugin.registry import MODELS
from osar_plugin.utils.config import load_config
from osar_plugin.utils.errors import ConfigError, DataFormatError

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'


def test_step_learns():
    """Every weight has a gradient, and a few steps lower the loss."""
    model, data = tiny(), batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    totals = []
    for _ in range(6):
        total, log = model.parse_losses(
            model(**model.data_preprocessor(data, True), mode='loss'))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total))
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    assert all(np.isfinite(totals)) and totals[-1] < totals[0]
    assert {'loss_warp', 'loss_match', 'loss_update', 'rmse'} <= set(log)


def test_predictions_do_not_depend_on_the_batch():
    model, data = tiny().eval(), batch(3)
    together = model.test_step(data)
    for i in (0, 2):
        single = batch(3)
        alone, = model.test_step(dict(
            inputs={k: v[i:i + 1] for k, v in single['inputs'].items()},
            data_samples=single['data_samples'][i:i + 1]))
        torch.testing.assert_close(
            alone.pred_flow, together[i].pred_flow, atol=1e-2, rtol=1e-3)
    sample = together[0]
    assert sample.pred_flow.shape == (2, 64, 96) and sample.pred_ok
    assert sample.pred_certainty.shape == (64, 96)
    assert sample.pred_affine.dtype == torch.float64
    assert 0 <= sample.pred_certainty.min() <= sample.pred_certainty.max() <= 1


def test_odd_sizes_are_padded_and_cut():
    model = tiny().eval()
    data = batch(1, (70, 101))
    out, = model.test_step(data)
    assert out.pred_flow.shape == (2, 70, 101)
    with pytest.raises(DataFormatError, match='multiples of 32'):
        model(**model.data_preprocessor(data), mode='loss')


def test_uncertain_pairs_fail():
    model = tiny(min_certainty=0.9).eval()
    assert not model.test_step(batch(1))[0].pred_ok
    # Before training every logit is 0, so half certain.
    assert tiny(min_certainty=0.45).eval().test_step(batch(1))[0].pred_ok


def test_affine_of_a_flow():
    truth = np.array([[1.05, 0.1, -4.], [-0.08, 0.96, 6.]])
    flow = torch.from_numpy(matrix_to_flow(truth, (50, 70))).float()
    sure = torch.ones(50, 70)
    flow[:, :20, :20] += 30.
    sure[:20, :20] = 0.
    found = affine_of_flow(flow, sure)
    np.testing.assert_allclose(found.numpy(), truth, atol=1e-3)


# ------------------------------------------------------------- preparation


def test_preparation():
    prepare = RegistrationPreprocessor(
        optical_mean=(0.5, 0.5, 0.5), optical_std=(0.25, 0.25, 0.25))
    data = batch(2, (70, 90))
    optical = data['inputs']['fixed'][0]
    sar = data['inputs']['moving'][0]
    hole = torch.ones(70, 90, dtype=torch.bool)
    hole[10:20, 10:20] = False
    data['data_samples'][0].moving_valid = hole
    sar[:, 10:20, 10:20] = 1e9  # no data may hold anything
    out = prepare(data)['inputs']
    assert out['fixed'].shape == out['moving'].shape == (2, 3, 96, 96)
    assert out['modalities'] == (0, 1) and out['sizes'] == [(70, 90)] * 2
    torch.testing.assert_close(
        out['fixed'][0, :, :70, :90], (optical / 255 - 0.5) / 0.25)
    values = sar[0][hole].numpy()
    low, high = np.percentile(values, (0.5, 99.5))
    expected = np.clip((values - low) / (high - low), 0, 1)
    found = out['moving'][0, :, :70, :90][:, hole]
    for channel in found:
        np.testing.assert_allclose(channel, expected, atol=1e-5)
    mask = out['moving_valid'][0, 0]
    assert torch.equal(mask[:70, :90], hole)
    assert not mask[70:].any() and not mask[:, 90:].any()
    # What has no data is as bright as the rest on average.
    fill = out['moving'][0, 0][~mask]
    np.testing.assert_allclose(fill, expected.mean(), atol=1e-5)


def test_fixed_range():
    data = batch(1)
    out = RegistrationPreprocessor(value_range=200.)(data)['inputs']
    torch.testing.assert_close(
        out['moving'][0], (data['inputs']['moving'][0] / 200).expand(
            3, -1, -1))


def broken(kind):
    data = batch(2)
    inputs, samples = data['inputs'], data['data_samples']
    if kind == 'nan':
        inputs['moving'][1][0, 3, 4] = float('nan')
    elif kind == 'channels':
        inputs['fixed'][0] = inputs['fixed'][0][:2]
    elif kind == 'type':
        inputs['fixed'][0] = inputs['fixed'][0].int()
    elif kind == 'mixed':
        samples[1].set_metainfo(dict(fixed_modality=1))
    elif kind == 'modality':
        for sample in samples:
            sample.set_metainfo(dict(moving_modality=7))
    elif kind == 'mask':
        samples[0].fixed_valid = torch.ones(3, 4)
    elif kind == 'count':
        inputs['moving'].pop()
    elif kind == 'empty':
        inputs['fixed'][0] = inputs['fixed'][0][:, :0]
    elif kind == 'packed':
        data = dict(inputs=inputs['fixed'])
    return data


@pytest.mark.parametrize('kind', [
    'nan', 'channels', 'type', 'mixed', 'modality', 'mask', 'count', 'empty',
    'packed'])
def test_bad_batches(kind):
    with pytest.raises(DataFormatError):
        RegistrationPreprocessor()(broken(kind))


def test_bad_truth():
    model = tiny()
    data = model.data_preprocessor(batch())
    del data['data_samples'][1].gt_flow
    with pytest.raises(DataFormatError, match='gt_flow'):
        model(**data, mode='loss')
    with pytest.raises(ConfigError, match='mode'):
        model(**data, mode='train')


@pytest.mark.parametrize('changes', [
    dict(encoder=dict(fge_strides=(2, 4, 8))), dict(encoder=dict(last=8)),
    dict(encoder=dict(norm='LN')), dict(encoder=dict(width=12)),
    dict(encoder=dict(depths=(1, 1))), dict(min_certainty=2.),
    dict(loss=dict(warp=-1.)),
    dict(data_preprocessor=dict(type='osar_plugin.RegistrationPreprocessor',
                                percentiles=(50, 50)))])
def test_bad_arguments(changes):
    with pytest.raises(ConfigError):
        tiny(**changes)


# ----------------------------------------------------------------- encoder


def test_gradients_are_those_of_cfog():
    image = randn(0, 48, 40).abs()
    expected = orientation_channels(image.numpy())
    found = orientated_gradients(image[None, None])[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_names_are_torchvisions():
    """161 tensors of ResNet-50 without its classifier, counters aside."""
    from osar_plugin.models.registration.pyramid import ResNetPyramid
    net = ResNetPyramid(3, 64, (3, 4, 6, 3), 'BN')
    keys = net.state_dict()
    assert sum(p.numel() for p in net.parameters()) == 23_508_032
    assert len(list(net.parameters())) == 159
    for key, shape in (('layer1.0.downsample.0.weight', (256, 64, 1, 1)),
                       ('layer4.2.bn3.running_var', (2048, )),
                       ('layer3.5.conv2.weight', (256, 256, 3, 3))):
        assert tuple(keys[key].shape) == shape
    assert net.channels == {2: 64, 4: 256, 8: 512, 16: 1024, 32: 2048}


def small_encoder(**changes):
    torch.manual_seed(0)
    return TwoBranchEncoder(**{**dict(
        width=8, depths=(1, 1, 1, 1), fge=dict()), **changes})


def test_branches_share_nothing_but_dino():
    dino = dict(type='osar_plugin.DINOv2', img_size=56, num_registers=2,
                arch=dict(embed_dim=16, depth=1, num_heads=2))
    model = small_encoder(dino=dino).eval()
    x = randn(1, 2, 3, 64, 96)
    optical, sar = (model(x, modality) for modality in (0, 1))
    for stride in (1, 2, 4, 8, 16, 32):
        assert optical[stride].shape == (
            2, model.out_channels[stride], 64 // stride, 96 // stride)
        assert torch.equal(optical[stride], sar[stride]) == (
            stride in (1, 16))
    assert not any(p.requires_grad for p in model.dino.parameters())
    model.train()
    assert not model.dino.training
    # The paper's: bilinear, 14 pixels for 16, as the images are.
    resized = torch.nn.functional.interpolate(
        x, (56, 84), mode='bilinear', align_corners=False)
    torch.testing.assert_close(optical[16], model.dino(resized)[0])


def test_frozen_norms():
    model = small_encoder().train()
    assert not model.branches['sar'].net.bn1.training
    assert model.branches['sar'].fge['2'].md_gradient.norm.training
    assert small_encoder(
        frozen_norm=False).train().branches['sar'].net.bn1.training


def test_pretrained_resnet(tmp_path):
    donor = small_encoder().branches['optical'].net
    path = tmp_path / 'resnet.pth'
    torch.save({**donor.state_dict(), 'fc.weight': torch.zeros(2, 2)}, path)
    model = small_encoder(pretrained=str(path), gradient_stem=True)
    model.init_weights()
    for branch in model.branches.values():
        net = branch.net
        assert torch.equal(net.layer4[0].conv3.weight,
                           donor.layer4[0].conv3.weight)
        assert torch.equal(net.conv1.weight[:, :3], donor.conv1.weight)
        assert float(net.conv1.weight[:, 3:].abs().max()) == 0


# ----------------------------------------------------------------- matcher


def test_matcher():
    rng = np.random.default_rng(0)
    fixed = rng.integers(0, 256, (70, 90, 3)).astype(np.uint8)
    moving = rng.gamma(2, 30, (80, 100))
    for size in (None, 64, 128):
        match = SOMAMatcher(tiny(), size=size).match(fixed, moving)
        assert match.ok and match.flow.shape == (2, 70, 90)
        assert match.certainty.shape == (70, 90)
        assert len(match.points_fixed) == len(match.score) > 0
    flat = SOMAMatcher(tiny()).match(fixed, np.ones((64, 64)))
    assert not flat.ok and 'moving' in flat.reason
    unsure = SOMAMatcher(tiny(min_certainty=0.9)).match(fixed, moving)
    assert not unsure.ok and 'certain' in unsure.reason
    with pytest.raises(DataFormatError):
        SOMAMatcher(tiny()).match(fixed, moving, MatchSettings(
            fixed_valid=np.ones((3, 3), bool)))
    with pytest.raises(ConfigError):
        SOMAMatcher(tiny(), fixed='radar')


def test_matcher_sees_colour_and_masks():
    """A mask changes what is found; so does colour that grey would hide."""
    rng = np.random.default_rng(0)
    fixed = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    moving = rng.gamma(2, 30, (64, 64)).astype(np.float32)
    matcher = SOMAMatcher(tiny())
    first = matcher.match(fixed, moving).flow
    valid = np.ones((64, 64), bool)
    valid[:, 40:] = False
    masked = matcher.match(fixed, moving, MatchSettings(moving_valid=valid))
    assert not np.allclose(first, masked.flow, atol=1e-2)
    assert np.array_equal(first, matcher.match(fixed, moving).flow)


# ----------------------------------------------------------------- configs


def test_configs_build():
    """The demo; its training is that of every config."""
    cfg = load_config(CONFIGS / 'demo/soma_sen12.py')
    model = MODELS.build(cfg.model)
    assert sum(p.numel() for p in model.parameters()) * 4 < 20e6
    data = batch(1, (128, 128))
    total, _ = model.parse_losses(
        model(**model.data_preprocessor(data, True), mode='loss'))
    assert total.isfinite()


@pytest.mark.parametrize(('name', 'changes'), [
    ('no_filter', {'encoder.fge.with_filter': False}),
    ('no_attention', {'encoder.fge.with_attention': False}),
    ('affine_only', {'matcher.with_flow': False,
                     'encoder.fge_strides': (4, 8)}),
    ('flow_only', {'matcher.with_affine': False})])
def test_ablations_change_one_thing(name, changes):
    base = load_config(CONFIGS / 'soma_sen12.py').to_dict()
    own = load_config(CONFIGS / f'ablation/soma_{name}_sen12.py').to_dict()
    for path, value in changes.items():
        node, known = own['model'], base['model']
        *parents, last = path.split('.')
        for key in parents:
            node, known = node[key], known[key]
        assert node.pop(last) == value != known.pop(last, None)
    assert own == base


def test_recipe_of_the_release():
    cfg = load_config(CONFIGS / 'soma_released_sen12.py')
    assert cfg.model.matcher.type == 'osar_plugin.ReleasedGLAM'
    assert not cfg.model.loss.mask and cfg.model.loss.match == 0
    assert cfg.model.encoder.dino_raw and cfg.model.encoder.norm == 'BN'
    assert cfg.train_dataloader.batch_size == 4
    assert cfg.train_dataloader.dataset.fixed == 'sar'
    assert cfg.train_dataloader.dataset.pipeline[1].ranges == 'soma_released'
    assert cfg.optim_wrapper.optimizer.lr == 5e-5
    assert cfg.optim_wrapper.paramwise_cfg.custom_keys.encoder.lr_mult == 0.5
    assert cfg.optim_wrapper.clip_grad.max_norm == 1.
    # 0.2, 0.4, ... 1 in the first five epochs.
    warm = cfg.param_scheduler[0]
    assert (warm.start_factor, warm.end) == (0.2, 4)


def test_tiny_is_not_changed():
    assert TINY['loss']['match'] == 0.1
