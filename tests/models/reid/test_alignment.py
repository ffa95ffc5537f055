"""The pieces of MOS that need no translator, against the official code."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from recipe import golden
from torch import Tensor
from torch.autograd import gradcheck

from osar_plugin.models.reid.alignment import (
    ModalityAlignmentLoss,
    fuse_views,
    modality_alignment_loss,
    modality_moments,
)
from osar_plugin.utils.errors import ConfigError, DataFormatError

LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3])
MODALITY = torch.tensor([0, 0, 1, 1, 0, 1, 1, 0, 0, 0, 0, 1])


def features() -> Tensor:
    generator = torch.Generator().manual_seed(21)
    return torch.randn(12, 768, generator=generator) * 2 + 0.3


@pytest.mark.parametrize('key, normalize, squared', [
    ('mos_cmal_code', True, False), ('mos_cmal_paper_raw', False, True),
    ('mos_cmal_paper_l2n', True, True)])
def test_goldens(key: str, normalize: bool, squared: bool) -> None:
    value = modality_alignment_loss(
        features(), LABELS, MODALITY, normalize, squared)
    assert math.isclose(value, golden('reid_mos')[key], rel_tol=1e-5)


def test_golden_gradient() -> None:
    x = features().requires_grad_()
    modality_alignment_loss(x, LABELS, MODALITY).backward()
    expected = float(golden('reid_mos')['mos_cmal_code_grad_norm'])
    assert math.isclose(x.grad.norm(), expected, rel_tol=1e-5)


def test_golden_moments_of_the_whole_batch() -> None:
    """The official code also computes them regardless of identity."""
    moments = modality_moments(
        features(), torch.zeros(12).long(), MODALITY)
    value = F.mse_loss(*moments.means) + F.mse_loss(*moments.variances)
    expected = float(golden('reid_mos')['mos_global_code'])
    assert math.isclose(value, expected, rel_tol=1e-5)


def test_golden_fusion() -> None:
    generator = torch.Generator().manual_seed(50)
    query = F.normalize(torch.randn(6, 16, generator=generator), dim=1)
    views = F.normalize(torch.randn(3, 5, 16, generator=generator), dim=2)
    rows = [0, 2, 5]
    query[rows] = fuse_views(query[rows], views, 0.02)
    torch.testing.assert_close(
        query, torch.from_numpy(golden('reid_mos')['mos_fused']))


@pytest.mark.parametrize('squared', [False, True])
def test_gradient(squared: bool) -> None:
    x = features()[:, :6].double().requires_grad_()
    assert gradcheck(lambda y: modality_alignment_loss(
        y, LABELS, MODALITY, squared=squared), x)


def test_limits() -> None:
    x = features().requires_grad_()
    alone = modality_alignment_loss(x, LABELS, torch.zeros(12).long())
    (gradient, ) = torch.autograd.grad(alone, x)
    assert float(alone.detach()) == 0. and gradient.eq(0).all()
    same = torch.ones(12, 4, requires_grad=True)
    equal = modality_alignment_loss(same, LABELS, MODALITY)
    (gradient, ) = torch.autograd.grad(equal, same)
    assert float(equal.detach()) < 1e-6 and gradient.isfinite().all()


@pytest.mark.parametrize('form, key', [
    ('official', 'mos_cmal_code'), ('paper', 'mos_cmal_paper_l2n')])
def test_forms_are_one_argument_apart(form: str, key: str) -> None:
    loss = ModalityAlignmentLoss(form)(features(), LABELS, MODALITY)
    assert math.isclose(loss, 2 * golden('reid_mos')[key], rel_tol=1e-5)
    plain = ModalityAlignmentLoss(form, normalize=False, loss_weight=3.)
    torch.testing.assert_close(
        plain(features(), LABELS, MODALITY), 3 * modality_alignment_loss(
            features(), LABELS, MODALITY, False, form == 'paper'))


def test_bad_arguments() -> None:
    with pytest.raises(ConfigError, match="form='code'.*official, paper"):
        ModalityAlignmentLoss('code')
    with pytest.raises(ConfigError, match=r'tau=1\.5'):
        fuse_views(torch.ones(2, 3), torch.ones(2, 5, 3), 1.5)
    with pytest.raises(DataFormatError, match=r'\(2, 5, 4\)'):
        fuse_views(torch.ones(2, 3), torch.ones(2, 5, 4))
