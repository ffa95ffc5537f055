"""The neck of the classifiers."""

from __future__ import annotations

import pytest
import torch
from hierarchical_case import TINY_ITPN, randn
from torch.nn import functional as F

from osar_plugin.models.backbones import ITPN
from osar_plugin.models.backbones.pooling import MeanPoolNeck
from osar_plugin.registry import MODELS
from osar_plugin.utils.errors import ConfigError, DataFormatError


def test_mean_then_norm():
    neck = MODELS.build(dict(type='osar_plugin.MeanPoolNeck', dim=6))
    with torch.no_grad():
        neck.fc_norm.weight.copy_(randn(1, 6))
        neck.fc_norm.bias.copy_(randn(2, 6))
    tokens = randn(0, 3, 8, 6)
    found, = neck(tokens)
    torch.testing.assert_close(found, F.layer_norm(
        tokens.mean(1), (6, ), randn(1, 6), randn(2, 6), 1e-6))
    # The same as a map of 2 x 4 patches.
    as_map = tokens.transpose(1, 2).unflatten(2, (2, 4))
    torch.testing.assert_close(neck((tokens, as_map))[0], found)
    assert set(neck.state_dict()) == {'fc_norm.weight', 'fc_norm.bias'}


def test_epsilon_counts():
    """Tokens as small as this tell 1e-6 from 1e-5."""
    tokens = 1e-3 * randn(0, 3, 8, 6)
    found, = MeanPoolNeck(6)(tokens)
    torch.testing.assert_close(
        found, F.layer_norm(tokens.mean(1), (6, ), eps=1e-6))
    assert (found - F.layer_norm(tokens.mean(1), (6, ))).abs().max() > 0.01


def test_batch_norm_without_weights():
    neck = MeanPoolNeck(6, batch_norm=True)
    assert {k for k in neck.state_dict() if 'batch' in k} == {
        'batch_norm.running_mean', 'batch_norm.running_var',
        'batch_norm.num_batches_tracked'}
    assert neck.batch_norm.eps == 1e-6
    found, = neck(randn(0, 16, 5, 6))
    torch.testing.assert_close(found.mean(0), torch.zeros(6), atol=1e-6,
                               rtol=0)
    torch.testing.assert_close(found.std(0, unbiased=False), torch.ones(6),
                               atol=1e-4, rtol=0)


@pytest.mark.parametrize('out', ['tokens', 'map'])
def test_behind_the_backbone(out):
    settings = {k: v for k, v in TINY_ITPN.items() if k != 'fpn_dim'}
    torch.manual_seed(0)
    backbone = ITPN(modality='rgb', num_outs=1, out=out, **settings)
    features, = MeanPoolNeck(32)(backbone(randn(0, 2, 3, 64, 64)))
    assert features.shape == (2, 32)
    features.sum().backward()


def test_bad_input():
    with pytest.raises(ConfigError, match='dim=0'):
        MeanPoolNeck(0)
    with pytest.raises(ConfigError, match='norm_eps'):
        MeanPoolNeck(4, norm_eps=0.)
    for shape in ((2, 8, 5), (2, 6), (2, 5, 3, 3)):
        with pytest.raises(DataFormatError, match='takes tokens'):
            MeanPoolNeck(6)(torch.zeros(shape))
    neck = MeanPoolNeck(6, batch_norm=True)
    with pytest.raises(DataFormatError, match='drop_last'):
        neck(torch.zeros(1, 4, 6))
    assert neck.eval()(torch.zeros(1, 4, 6))[0].shape == (1, 6)
