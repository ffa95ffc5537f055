"""Inputs and weights of the golden files, and models to hold them.

Each tensor is drawn from a generator seeded by the CRC-32 of its official
key name, so a model can only be filled through the converter of official
keys: parity then proves the converter as well.
"""

from __future__ import annotations

import ast
import functools
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

from osar_plugin.registry import MODELS

GOLDENS = Path(__file__).resolve().parents[2] / 'goldens'


@functools.cache
def golden(name: str = 'codemae_pretrain') -> dict[str, np.ndarray]:
    """Arrays of one golden file."""
    with np.load(GOLDENS / f'{name}.npz', allow_pickle=False) as arrays:
        return dict(arrays)


@functools.cache
def official_weights(keys: str = 'keys') -> dict[str, Tensor]:
    """The state dict that the goldens were made with; not to be changed."""
    out = {}
    for entry in golden()[keys].tolist():
        key, shape = entry.split('|')
        generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        value = torch.randn(
            ast.literal_eval(shape), generator=generator) * 0.02
        if key.endswith('.weight') and value.ndim == 1:
            value = value + 1
        out[key] = value
    return out


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def golden_inputs() -> dict[str, Tensor]:
    """Images, noise and the teacher's features of two pairs."""
    return dict(
        rgb=torch.randn(2, 3, 224, 224, generator=seeded(0)),
        noise=torch.rand(2, 196, generator=seeded(1)),
        sar=torch.randn(2, 1, 224, 224, generator=seeded(2)).expand(
            -1, 3, -1, -1),
        teacher=torch.randn(2, 196, 1024, generator=seeded(3)))


def codemae_cfg(**changes: Any) -> dict[str, Any]:
    """CoDe-MAE-B as published, with features from outside."""
    return {**dict(
        type='osar_plugin.CoDeMAE',
        backbone=dict(type='osar_plugin.ITPN', num_outs=3),
        decoder=dict(type='osar_plugin.MaskedDecoder'),
        reconstruction=dict(type='osar_plugin.SelfReconstruction'),
        degraded=dict(type='osar_plugin.DegradedReconstruction'),
        distillation=dict(type='osar_plugin.OpticalDistillation'),
        contrast=dict(type='osar_plugin.PairContrast'),
        teacher=dict(type='osar_plugin.PrecomputedTeacher', dim=1024)),
        **changes}


TINY_ARCH = dict(embed_dim=32, mlp_depths=(1, 1), depth=2, num_heads=2)


def tiny_cfg(**changes: Any) -> dict[str, Any]:
    """The same with some 10^5 weights, for images of 48 x 48 (9 units)."""
    cfg = codemae_cfg(
        backbone=dict(type='osar_plugin.ITPN', arch=TINY_ARCH, num_outs=3,
                      fpn_dim=16, img_size=48),
        decoder=dict(type='osar_plugin.MaskedDecoder', dim=32, depth=1,
                     num_heads=2, img_size=48),
        distillation=dict(type='osar_plugin.OpticalDistillation', depth=1,
                          num_heads=2),
        contrast=dict(type='osar_plugin.PairContrast', num_heads=2),
        teacher=dict(type='osar_plugin.PrecomputedTeacher', dim=8))
    return {**cfg, **changes}


def tiny_inputs(batch: int = 4, seed: int = 0,
                side: int = 48) -> dict[str, Tensor]:
    """A batch for :func:`tiny_cfg`, as the preprocessor gives it."""
    generator = seeded(seed)
    units = (side // 16)**2
    rgb01 = torch.rand(batch, 3, side, side, generator=generator)
    sar01 = torch.rand(batch, 1, side, side, generator=generator)
    return dict(
        rgb01=rgb01, sar01=sar01, rgb=(rgb01 - 0.4) / 0.2,
        sar=((sar01 - 0.3) / 0.2).expand(-1, 3, -1, -1),
        noise=torch.rand(batch, units, generator=generator),
        teacher=torch.randn(batch, units, 8, generator=generator))


def samples(*paired: int) -> list[BaseDataElement]:
    """Data samples that say which of them are pairs."""
    out = []
    for value in paired:
        sample = BaseDataElement()
        sample.paired = value
        out.append(sample)
    return out


def build(cfg: dict[str, Any], seed: int = 0) -> Any:
    """Build and initialise a model."""
    torch.manual_seed(seed)
    model = MODELS.build(cfg)
    model.init_weights()
    return model


def total(losses: dict[str, Tensor]) -> Tensor:
    """The sum that is trained on."""
    return sum(v for k, v in losses.items() if k.startswith('loss'))
