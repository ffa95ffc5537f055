"""Files of the release, both ways."""

from __future__ import annotations

import pytest
import torch
from soma_case import batch, randn, tiny

from osar_plugin.models.registration import SOMAMatcher
from osar_plugin.models.registration.official import (
    from_official,
    is_official,
    to_official,
)
from osar_plugin.registry import MODELS
from osar_plugin.utils.checkpoint import load_checkpoint
from osar_plugin.utils.errors import CheckpointMismatchError, ConfigError

RELEASED = dict(
    type='osar_plugin.SOMA',
    encoder=dict(
        type='osar_plugin.TwoBranchEncoder', width=8, depths=(1, 1, 1, 1),
        fge=dict(), dino=dict(
            type='osar_plugin.DINOv2', img_size=56, num_registers=2,
            arch=dict(embed_dim=16, depth=1, num_heads=2))),
    matcher=dict(type='osar_plugin.ReleasedGLAM', reduce_channels=8),
    loss=dict(type='osar_plugin.SOMALoss', mask=False,
              detach_certainty=False))


def released(seed: int):
    torch.manual_seed(seed)
    return MODELS.build(RELEASED)


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_there_and_back(tmp_path, prefix):
    donor, model = released(0), released(1)
    content = to_official(donor)
    assert is_official(content)
    content = {part: {prefix + k: v for k, v in weights.items()}
               for part, weights in content.items()}
    path = tmp_path / 'best.pth'
    torch.save({**content, 'epoch': 3}, path)
    report = load_checkpoint(model, path)
    assert report.missing == report.unexpected == []
    for key, value in donor.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key
    flows = [m.eval().test_step(batch(1, (64, 64)))[0].pred_flow
             for m in (donor, model)]
    assert torch.equal(*flows)


def test_names_of_the_release():
    content = to_official(released(0))
    encoder, matcher = content['encoder'], content['matcher']
    for key in ('opt_encoder.resnet_opt.net.layer1.0.conv1.weight',
                'sar_encoder.resnet_sar.net.bn1.running_mean',
                'opt_encoder.fgeset.2.md_gradient.branches.7.weight',
                'sar_encoder.fgeset.8.sc.1.sru.gn.weight',
                'dino_model.blocks.0.ls1.gamma',
                'opt_encoder.dino_model.register_tokens',
                'sar_encoder.dino_model.pos_embed',
                'opt_encoder.resnet_opt.net.fc.weight'):
        assert key in encoder, key
    for key in ('reducer_16_1.reduce.0.weight',
                'reducer_32_2.reduce.1.running_var',
                'coarse_matcher.regressor.6.bias',
                'fine_matcher_8.encoder.stage5.2.defconv.weight',
                'fine_matcher_4.theta_decoder.2.weight',
                'fine_matcher_4.flow_decoder.2.bias',
                'fine_matcher_1.disp_emb.weight',
                'fine_matcher_2.out_conv.0.weight'):
        assert key in matcher, key
    assert not any(k.startswith('encoder') for k in encoder)
    assert set(from_official(content)) == set(released(0).state_dict())


def test_release_into_another_model():
    with pytest.raises(CheckpointMismatchError, match='ReleasedGLAM'):
        tiny().load_state_dict(to_official(released(0)), strict=False)
    with pytest.raises(ConfigError, match='GLAM'):
        to_official(tiny())


def test_our_files(tmp_path):
    donor, model = tiny(0), tiny(1)
    path = tmp_path / 'ours.pth'
    torch.save(dict(state_dict=donor.state_dict()), path)
    assert load_checkpoint(model, path).missing == []
    x = randn(0, 1, 3, 64, 64)
    assert torch.equal(donor.eval().encoder(x, 1)[32],
                       model.eval().encoder(x, 1)[32])


def test_matcher_refuses_an_incomplete_file(tmp_path):
    weights = dict(tiny(0).state_dict())
    path = tmp_path / 'ours.pth'
    torch.save(weights, path)
    matcher = SOMAMatcher(tiny(1), str(path))
    assert torch.equal(matcher.model.state_dict()['matcher.stages.0.disp_emb'
                                                  '.weight'],
                       weights['matcher.stages.0.disp_emb.weight'])
    del weights['matcher.stages.0.disp_emb.weight']
    torch.save(weights, path)
    with pytest.raises(CheckpointMismatchError, match='disp_emb'):
        SOMAMatcher(tiny(1), str(path))
