"""Weights, inputs and goldens of SOMA; a small model.

Every tensor is drawn from a generator seeded by the CRC-32 of its name, so
that a module with other than the official names cannot reach the goldens.
"""

from __future__ import annotations

import functools
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from osar_plugin.models.registration.geometry import matrix_to_flow
from osar_plugin.registry import MODELS

GOLDENS = Path(__file__).resolve().parents[2] / 'goldens'
THETA = torch.tensor([[[1.05, .03, .1], [-.02, .97, -.05]],
                      [[.98, -.05, -.08], [.04, 1.02, .06]]])


@functools.cache
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDENS / 'soma.npz', allow_pickle=False) as arrays:
        return dict(arrays)


def close(actual: Tensor, name: str) -> None:
    torch.testing.assert_close(
        actual.detach(), torch.from_numpy(golden()[name]), rtol=0.,
        atol=1e-5)


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    seed = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    value = torch.randn(shape, generator=seed) * 0.02
    one = name.endswith('running_var') or (
        name.endswith('.weight') and len(shape) == 1)
    return value + 1 if one else value


def filled(module: nn.Module) -> Any:
    """Put the golden weights into a module of the release."""
    module.load_state_dict({
        k: weight(k, tuple(v.shape)) if v.is_floating_point() else v
        for k, v in module.state_dict().items()})
    return module.eval()


def randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TINY: dict[str, Any] = dict(
    type='osar_plugin.SOMA',
    encoder=dict(
        type='osar_plugin.TwoBranchEncoder', width=8, depths=(1, 1, 1, 1),
        fge=dict(), fge_strides=(2, 8), gradient_stem=True, norm='GN'),
    matcher=dict(
        type='osar_plugin.GLAM', coarse_channels=16, stages=[
            dict(stride=8, affine=True, channels=8, widths=(8, 8, 8),
                 radius=2, deformable=True),
            dict(stride=2, channels=8, widths=(8, 8, 8), radius=1)]),
    loss=dict(type='osar_plugin.SOMALoss', match=0.1))


def tiny(seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    cfg = {**TINY, **{k: {**TINY.get(k, {}), **v} if isinstance(v, dict)
                      else v for k, v in changes.items()}}
    return MODELS.build(cfg)


def batch(count: int = 2, size: tuple[int, int] = (64, 96)
          ) -> dict[str, Any]:
    """Pairs as the pipeline packs them: the truth is an affine."""
    rng = np.random.default_rng(0)
    affine = torch.tensor([[1.02, 0.03, -2.], [-0.03, 0.98, 3.]])
    inputs: dict[str, list[Tensor]] = dict(fixed=[], moving=[])
    samples = []
    for _ in range(count):
        inputs['fixed'].append(torch.from_numpy(
            rng.integers(0, 256, (3, *size), np.uint8)))
        inputs['moving'].append(torch.from_numpy(
            rng.gamma(2, 40, (1, *size)).astype(np.float32)))
        sample = BaseDataElement(
            metainfo=dict(fixed_modality=0, moving_modality=1))
        sample.gt_flow = matrix_to_flow(affine, size)
        sample.gt_valid = torch.ones(size, dtype=torch.bool)
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)
