"""Weights, inputs and goldens of the hierarchical backbones.

Every tensor is drawn from a generator seeded by the CRC-32 of its name, so
that a model with other than the official names cannot reach the goldens.
"""

from __future__ import annotations

import functools
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

GOLDENS = Path(__file__).resolve().parents[2] / 'goldens'
TINY_ITPN: dict[str, Any] = dict(
    arch=dict(embed_dim=32, mlp_depths=(1, 2), depth=3, num_heads=2),
    img_size=64, fpn_dim=16)
TINY_HIVIT: dict[str, Any] = dict(
    arch=dict(embed_dim=32, depths=(1, 1, 4), num_heads=2), img_size=64)
# Features are of size 5; float32 on another machine.
CLOSE = dict(rtol=0., atol=1e-4)


@functools.cache
def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """The golden tensor of a name."""
    seed = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    value = torch.randn(shape, generator=seed) * 0.02
    if len(shape) == 1 and name.endswith('.weight'):
        value = value + 1
    return value


def filled(model: Any) -> Any:
    """Put the golden weights into a model."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weight(name, tuple(parameter.shape)))
    return model.eval()


def golden(name: str) -> dict[str, np.ndarray]:
    """Arrays of one golden file."""
    with np.load(GOLDENS / f'{name}.npz', allow_pickle=False) as arrays:
        return dict(arrays)


def randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def images() -> Tensor:
    """The two images (2, 3, 224, 224) of most goldens."""
    return randn(0, 2, 3, 224, 224)


def close(actual: Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(
        actual.detach(), torch.from_numpy(np.asarray(expected)), **CLOSE)


def stats_close(actual: Tensor, expected: np.ndarray) -> None:
    """[sum, mean of magnitudes, std, min, max] of a whole array."""
    x = actual.detach().double()
    found = torch.stack(
        [x.sum() / x.numel(), x.abs().mean(), x.std(), x.min(),
         x.max()])
    wanted = torch.from_numpy(expected.copy())
    wanted[0] /= x.numel()
    torch.testing.assert_close(found, wanted, rtol=0., atol=2e-5)


def classify(tokens: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Pooled features and logits behind ``fc_norm`` and ``head``."""
    dim = tokens.shape[-1]
    pooled = nn.functional.layer_norm(
        tokens.mean(dim=1), (dim, ), weight('fc_norm.weight', (dim, )),
        weight('fc_norm.bias', (dim, )), 1e-6)
    logits = pooled @ weight('head.weight', (classes, dim)).T
    return pooled, logits + weight('head.bias', (classes, ))


def started(model: Any, seed: int = 0) -> Any:
    """Random weights, none of them zero."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0., 0.2)
    return model
