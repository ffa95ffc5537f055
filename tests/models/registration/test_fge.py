"""FGE: the published numbers, its switches, its kernels."""

from __future__ import annotations

import pytest
import torch
from soma_case import close, filled, golden, randn

from osar_plugin.models.registration.fge import (
    FGE,
    ChannelReconstruction,
    DirectionalFilters,
    SpatialReconstruction,
    sobel_kernels,
)
from osar_plugin.utils.errors import ConfigError


@pytest.mark.parametrize(('name', 'module'), [
    ('sru16_0', SpatialReconstruction), ('cru16_0', ChannelReconstruction),
    ('gradfilter16_0', DirectionalFilters)])
def test_published_parts(name, module):
    close(filled(module(16))(randn(0, 2, 16, 12, 16)), name)


def test_published_numbers():
    out = filled(FGE(64))(randn(0, 2, 64, 12, 16)).detach()
    close(out[:, ::3], 'fge64_0')
    assert float(out.mean()) == pytest.approx(-0.0077585, abs=1e-6)
    assert float(out.std()) == pytest.approx(1.253784, abs=1e-5)


@pytest.mark.parametrize(('channels', 'count'), [
    (64, 304_841), (256, 4_859_681)])
def test_published_sizes(channels, count):
    model = FGE(channels)
    assert sum(p.numel() for p in model.parameters()) == count


def test_kernels():
    """Of the release's eight four are distinct up to sign; steered all."""
    nearest, steered = (sobel_kernels(k) for k in ('nearest', 'steered'))
    x = torch.tensor([[-1., 0, 1], [-2, 0, 2], [-1, 0, 1]])
    assert torch.equal(nearest[0], x) and torch.equal(nearest[1], x)
    assert torch.equal(nearest[7], -x)
    assert torch.equal(nearest[2], torch.tensor(
        [[0., 1, 2], [-1, 0, 1], [-2, -1, 0]]))
    for k in (3, 4, 5):
        assert torch.equal(nearest[k], torch.tensor(
            [[1., 2, 1], [0, 0, 0], [-1, -2, -1]]))
    assert torch.equal(nearest[6], torch.tensor(
        [[2., 1, 0], [1, 0, -1], [0, -1, -2]]))
    torch.testing.assert_close(steered[4], x.T)
    distance = torch.cdist(steered.flatten(1), steered.flatten(1))
    assert distance[~torch.eye(8, dtype=torch.bool)].min() > 1


def test_kernels_start_the_filters():
    for kind in ('nearest', 'steered'):
        filters = DirectionalFilters(16, kind)
        for branch, kernel in zip(
                filters.branches, sobel_kernels(kind), strict=True):
            assert branch.weight.shape == (8, 16, 3, 3)
            assert torch.equal(branch.weight, kernel.expand(8, 16, 3, 3))


def test_switches():
    x = randn(0, 2, 64, 12, 16)
    whole = filled(FGE(64))
    outs = [whole(x)]
    for switches in (dict(with_filter=False), dict(with_attention=False),
                     dict(with_filter=False, with_attention=False)):
        model = filled(FGE(64, **switches))
        names = set(model.state_dict())
        assert any(n.startswith('md_gradient') for n in names) == (
            switches.get('with_filter', True))
        assert any('_att.' in n for n in names) == (
            switches.get('with_attention', True))
        outs.append(model(x))
    for i, a in enumerate(outs):
        for b in outs[:i]:
            assert not torch.allclose(a, b, atol=1e-2)


def test_gradients():
    model = filled(FGE(8)).double()
    # Away from 0, where the gate and the rectifier have a corner.
    x = randn(3, 1, 8, 4, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(
        model, x, eps=1e-7, atol=1e-4, fast_mode=True)


@pytest.mark.parametrize('arguments', [
    dict(channels=12), dict(channels=0),
    dict(channels=16, kernel_init='sobel')])
def test_bad_arguments(arguments):
    with pytest.raises(ConfigError):
        FGE(**arguments)


def test_goldens_are_there():
    assert len(golden()) == 11
