"""osar_plugin/models/damage/lovasz.py"""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from osar_plugin.models.damage.lovasz import jaccard_weights, lovasz_softmax
from osar_plugin.utils.errors import DataFormatError


def case(seed: int = 0, classes: int = 4) -> tuple:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, 5, 6, generator=generator,
                         dtype=torch.float64)
    labels = torch.randint(0, classes, (2, 5, 6), generator=generator)
    return logits, labels


def by_the_paper(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Class by class, pixel by pixel: sum of errors times loss steps."""
    losses = []
    keep = [(b, y, x) for b, y, x in torch.cartesian_prod(
        *(torch.arange(n) for n in labels.shape)).tolist()
        if labels[b, y, x] != 255]
    for c in range(logits.shape[1]):
        pixels = []
        for b, y, x in keep:
            p = float(logits[b, :, y, x].softmax(0)[c])
            own = int(labels[b, y, x]) == c
            pixels.append((abs(float(own) - p), own))
        total = sum(own for _, own in pixels)
        if not total:
            continue
        pixels.sort(reverse=True)
        loss, before, hits, others = 0., 0., total, 0
        for error, own in pixels:
            hits, others = hits - own, others + (not own)
            now = 1 - hits / (total + others)
            loss, before = loss + error * (now - before), now
        losses.append(loss)
    return sum(losses) / len(losses)


@pytest.mark.parametrize('seed', range(3))
def test_equals_the_definition(seed) -> None:
    logits, labels = case(seed)
    labels[0, :2] = 255
    assert float(lovasz_softmax(logits, labels)) == pytest.approx(
        by_the_paper(logits, labels), rel=1e-10)


def test_only_classes_that_are_present() -> None:
    logits, labels = case()
    labels.clamp_(max=1)
    assert float(lovasz_softmax(logits, labels)) == pytest.approx(
        by_the_paper(logits, labels), rel=1e-10)


def test_gradient() -> None:
    logits, labels = case(3)
    labels[1, 0] = 255
    logits.requires_grad_()
    assert gradcheck(lambda x: lovasz_softmax(x, labels), (logits, ))
    lovasz_softmax(logits, labels).backward()
    assert (logits.grad[1, :, 0] == 0).all()
    assert (logits.grad[0].abs().sum(0) > 0).all()


def test_a_perfect_map_costs_nothing() -> None:
    _, labels = case()
    logits = 200. * torch.nn.functional.one_hot(labels, 4).movedim(-1, 1)
    assert float(lovasz_softmax(logits, labels)) == pytest.approx(0)


def test_nothing_to_compare() -> None:
    logits, labels = case()
    logits.requires_grad_()
    loss = lovasz_softmax(logits, torch.full_like(labels, 255))
    loss.backward()
    assert float(loss) == 0
    assert (logits.grad == 0).all()


def test_weights_add_up() -> None:
    """The loss of all errors at 1 is that of the empty intersection: 1."""
    foreground = torch.rand(3, 1000) < torch.tensor([[.5], [.01], [.99]])
    weights = jaccard_weights(foreground)
    torch.testing.assert_close(
        weights.sum(1), torch.ones(3, dtype=torch.float64))


def test_large_maps_keep_their_precision() -> None:
    """Differences of float32 losses near 1 would lose this gradient."""
    foreground = torch.zeros(1, 2**21, dtype=torch.bool)
    foreground[0, :2**20] = True
    weights = jaccard_weights(foreground)
    assert weights[0, 0] == pytest.approx(2**-20, rel=1e-12)
    assert weights[0, 2**20:].sum() == pytest.approx(0, abs=1e-12)


def test_half_precision_is_widened() -> None:
    logits, labels = case()
    low = logits.to(torch.bfloat16)
    loss = lovasz_softmax(low, labels)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(
        float(lovasz_softmax(low.double(), labels)), rel=1e-5)


def test_bad_shapes() -> None:
    logits, labels = case()
    with pytest.raises(DataFormatError, match=r'\(B, C, H, W\)'):
        lovasz_softmax(logits, labels[:, 1:])
