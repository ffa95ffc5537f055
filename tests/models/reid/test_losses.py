"""Mathematics and limits of the losses."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from osar_plugin.models.reid.losses import (
    TripletLoss,
    clip_loss,
    hard_pairs,
    modality_prototypes,
    orthogonality_loss,
    pairwise_distance,
    triplet_loss,
    weighted_triplet_loss,
)
from osar_plugin.models.reid.structure import (
    gradient_energy,
    structure_consistency_loss,
    structure_descriptor,
)
from osar_plugin.utils.errors import ConfigError, DataFormatError

LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
MODALITY = torch.tensor([0, 1, 1, 0, 0, 1, 0, 0])  # identity 2: optical only


def features(seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, 5, generator=generator, dtype=dtype)


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    'soft triplet': lambda x: triplet_loss(x, LABELS),
    'margin triplet': lambda x: triplet_loss(x, LABELS, 0.3),
    'weighted triplet': lambda x: weighted_triplet_loss(x, LABELS),
    'orthogonality': lambda x: orthogonality_loss(x, x.roll(1, 0) + 1),
    'clip': lambda x: clip_loss(x[:4], x[4:], x.new_tensor(1.3)),
    'structure mse': lambda x: structure_consistency_loss(
        x, LABELS, MODALITY, 'mse'),
    'structure squared': lambda x: structure_consistency_loss(
        x, LABELS, MODALITY, 'squared'),
    'structure euclidean': lambda x: structure_consistency_loss(
        x, LABELS, MODALITY, 'euclidean'),
}


@pytest.mark.parametrize('name', LOSSES)
def test_gradient(name: str) -> None:
    assert gradcheck(LOSSES[name], features().requires_grad_())


@pytest.mark.parametrize('difference', ['forward', 'central'])
def test_gradient_of_the_descriptor(difference: str) -> None:
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(
        2, 4, 3, 6, generator=generator, dtype=torch.float64)
    assert gradcheck(lambda m: structure_descriptor(m, difference),
                     maps.requires_grad_())


@pytest.mark.parametrize('name', [n for n in LOSSES if 'clip' not in n])
def test_order_in_the_batch_does_not_matter(
        name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    order = torch.randperm(8, generator=torch.Generator().manual_seed(3))
    x = features()
    if name == 'orthogonality':
        y = x.roll(1, 0) + 1
        torch.testing.assert_close(
            orthogonality_loss(x, y), orthogonality_loss(x[order], y[order]))
        return
    expected = LOSSES[name](x)
    monkeypatch.setattr(f'{__name__}.LABELS', LABELS[order])
    monkeypatch.setattr(f'{__name__}.MODALITY', MODALITY[order])
    torch.testing.assert_close(LOSSES[name](x[order]), expected)


def test_hard_pairs_against_loops() -> None:
    x = features()
    positive, negative, valid = hard_pairs(x, LABELS)
    assert valid.all()
    for i in range(8):
        gaps = [(float((x[i] - x[j]).norm()), int(LABELS[j])) for j in
                range(8)]
        same = [g for g, label in gaps if label == LABELS[i]]
        other = [g for g, label in gaps if label != LABELS[i]]
        assert math.isclose(positive[i], max(same), rel_tol=1e-9)
        assert math.isclose(negative[i], min(other), rel_tol=1e-9)


def test_weighted_triplet_against_loops() -> None:
    x = features()
    total = 0.
    for i in range(8):
        gaps = [float((x[i] - x[j]).norm()) if i != j else 1e-6
                for j in range(8)]
        own = LABELS.eq(LABELS[i])
        pos = [g for g, same in zip(gaps, own, strict=True) if same]
        neg = [g for g, same in zip(gaps, own, strict=True) if not same]
        up = [math.exp(g) for g in pos]
        down = [math.exp(-g) for g in neg]
        far = sum(g * w for g, w in zip(pos, up, strict=True)) / sum(up)
        near = sum(g * w for g, w in zip(neg, down, strict=True)) / sum(down)
        total += math.log1p(math.exp(far - near))
    assert math.isclose(
        float(weighted_triplet_loss(x, LABELS)), total / 8, rel_tol=1e-6)


def test_prototypes_against_loops() -> None:
    x = features()
    optical, sar, weights = modality_prototypes(x, LABELS, MODALITY)
    for identity in (0, 1):
        rows = identity == LABELS
        for means, sensor in ((optical, 0), (sar, 1)):
            expected = x[rows & (sensor == MODALITY)].mean(0)
            for row in means[rows]:
                torch.testing.assert_close(row, expected)
        assert math.isclose(float(weights[rows].sum()), 1., rel_tol=1e-6)
    assert weights[LABELS == 2].eq(0).all()


@pytest.mark.parametrize('distance, power', [
    ('mse', None), ('squared', 1.), ('euclidean', 0.5)])
def test_structure_distance_against_loops(distance: str,
                                          power: float | None) -> None:
    x = features()
    gaps = []
    for identity in (0, 1):
        rows = identity == LABELS
        gap = (x[rows & (MODALITY == 0)].mean(0)
               - x[rows & (MODALITY == 1)].mean(0)).square()
        gaps.append(gap.mean() if power is None else gap.sum()**power)
    torch.testing.assert_close(
        structure_consistency_loss(x, LABELS, MODALITY, distance),
        torch.stack(gaps).mean())


def test_energy_by_hand() -> None:
    ramp = torch.arange(5.)[None, :, None, None].expand(1, 5, 4, 2)
    torch.testing.assert_close(
        gradient_energy(ramp, 'forward'), torch.ones(1, 2))
    torch.testing.assert_close(
        gradient_energy(ramp, 'central'), torch.full((1, 2), 2.))
    # both directions count
    torch.testing.assert_close(
        gradient_energy(ramp + 3 * ramp.transpose(1, 2)[:, :1, :1]
                        + 3 * torch.arange(4.)[None, None, :, None]),
        torch.full((1, 2), 4.))


def test_descriptor_ignores_contrast() -> None:
    generator = torch.Generator().manual_seed(2)
    maps = torch.rand(2, 6, 4, 16, generator=generator)
    torch.testing.assert_close(
        structure_descriptor(maps), structure_descriptor(40 * maps + 7),
        rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('name', [
    'soft triplet', 'margin triplet', 'weighted triplet', 'structure mse',
    'structure euclidean'])
@pytest.mark.parametrize('case', ['one identity', 'one modality',
                                  'all equal'])
def test_nothing_to_compare(name: str, case: str,
                            monkeypatch: pytest.MonkeyPatch) -> None:
    x = features()
    if case == 'one identity':
        monkeypatch.setattr(f'{__name__}.LABELS', torch.zeros(8).long())
    elif case == 'one modality':
        monkeypatch.setattr(f'{__name__}.MODALITY', torch.zeros(8).long())
    else:
        x = torch.ones_like(x)
    x.requires_grad_()
    loss = LOSSES[name](x)
    (gradient, ) = torch.autograd.grad(loss, x)  # in the graph
    assert torch.isfinite(loss) and torch.isfinite(gradient).all()
    empty = (case == 'one identity') if 'triplet' in name else (
        case == 'one modality')
    if empty and name != 'margin triplet':
        assert float(loss.detach()) == 0.
        assert gradient.eq(0).all()


def test_half_precision_inputs_are_widened() -> None:
    """Under autocast the distance of a feature to itself must stay 0."""
    x = 10 * features(dtype=torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        distance = pairwise_distance(x, x)
        loss = triplet_loss(x.bfloat16(), LABELS)
    assert distance.dtype == torch.float32 and loss.dtype == torch.float32
    torch.testing.assert_close(distance, pairwise_distance(x, x))
    assert distance.diagonal().max() < 0.1  # 2 in bfloat16


def test_bad_arguments() -> None:
    with pytest.raises(ConfigError, match='weighted=True has no margin'):
        TripletLoss(margin=0.3, weighted=True)
    with pytest.raises(DataFormatError, match=r'labels \(B,\)'):
        triplet_loss(features(), LABELS[:3])
    with pytest.raises(ConfigError, match="'cosine'"):
        structure_consistency_loss(features(), LABELS, MODALITY, 'cosine')
    with pytest.raises(ConfigError, match="'sobel'"):
        gradient_energy(torch.zeros(1, 4, 4, 1), 'sobel')
    with pytest.raises(DataFormatError, match='central difference'):
        gradient_energy(torch.zeros(1, 2, 4, 1), 'central')
    with pytest.raises(DataFormatError, match='must agree'):
        orthogonality_loss(features(), features()[:, :3])
