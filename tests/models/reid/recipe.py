"""Weights and inputs of the golden files, and models to hold them.

Each tensor is drawn from a generator seeded by the CRC-32 of its official
key name, so a model can only be filled through the converter of official
keys: parity then proves the converter as well.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from osar_plugin.registry import MODELS
from osar_plugin.structures import ReIDDataSample

GOLDENS = Path(__file__).resolve().parents[2] / 'goldens'
MODALITY = (0, 1, 0, 1, 1, 0, 1, 0)
LABELS = (5, 5, 5, 5, 200, 200, 200, 200)
WIDTH_HEIGHT = ((41, 203), (33, 150), (60, 310), (47, 233), (25, 118),
                (38, 170), (29, 131), (52, 240))


def golden(name: str) -> dict[str, np.ndarray]:
    """Arrays of one golden file."""
    with np.load(GOLDENS / f'{name}.npz', allow_pickle=False) as arrays:
        return dict(arrays)


def official_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of an official state dict."""
    table = json.loads((GOLDENS / 'official_keys.json').read_text())
    return {key: tuple(shape) for key, shape in table[name].items()}


def official_weights(name: str) -> dict[str, Tensor]:
    """The state dict that the goldens were made with."""
    out = {}
    for key, shape in official_shapes(name).items():
        if key.endswith('num_batches_tracked'):
            out[key] = torch.zeros(shape, dtype=torch.long)
            continue
        seed = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        value = torch.randn(shape, generator=seed) * 0.02
        if key.endswith('running_var'):
            value = value.abs() + 1
        elif key.endswith('.weight') and value.ndim == 1:
            value = value + 1
        out[key] = value
    return out


def batch() -> tuple[Tensor, list[ReIDDataSample], Tensor, Tensor]:
    """Images (8, 3, 256, 128), samples, modality (8,), size (8, 3)."""
    seed = torch.Generator().manual_seed(20260313)
    images = torch.randn(8, 3, 256, 128, generator=seed)
    rows = []
    for (w, h), modality in zip(WIDTH_HEIGHT, MODALITY, strict=True):
        scale = 1.0 if modality else 0.75
        w, h = w * scale, h * scale
        rows.append([(w / 93 - 0.434) / 0.031, (h / 427 - 0.461) / 0.031,
                     h / w])
    size = torch.tensor(rows)
    samples = make_samples(LABELS, MODALITY, size)
    return images, samples, torch.tensor(MODALITY), size


def make_samples(labels: Any, modality: Any,
                 size: Tensor) -> list[ReIDDataSample]:
    """Data samples of a batch."""
    samples = []
    for label, sensor, vector in zip(labels, modality, size, strict=True):
        sample = ReIDDataSample()
        sample.label, sample.pid = int(label), int(label)
        sample.modality, sample.size = int(sensor), vector
        samples.append(sample)
    return samples


def model_cfg(name: str,
              drop_path_rate: float = 0.,
              num_classes: int = 361,
              **backbone: Any) -> dict[str, Any]:
    """Config of ``'sdfnet'`` or ``'transoss'``; full size by default."""
    sdfnet = name == 'sdfnet'
    dim = backbone.get('embed_dim', 768)
    cfg: dict[str, Any] = dict(
        type='osar_plugin.SDFNet' if sdfnet else 'osar_plugin.TransOSS',
        backbone=dict(
            type='osar_plugin.VisionTransformer',
            drop_path_rate=drop_path_rate,
            **{'modality_token': sdfnet, **backbone}),
        neck=dict(type='osar_plugin.ClassTokenNeck'),
        head=dict(
            type='osar_plugin.IdentityHead',
            in_channels=dim,
            num_classes=num_classes,
            test_feature='after' if sdfnet else 'before',
            loss_id=dict(type='osar_plugin.IdentityLoss'),
            loss_triplet=dict(type='osar_plugin.TripletLoss')))
    if sdfnet:
        depth = backbone.get('depth', 12)
        cfg['neck'] = dict(type='osar_plugin.DisentangledNeck',
                           embed_dim=dim)
        cfg['structure'] = dict(
            type='osar_plugin.StructureConsistency', layer=depth // 2)
        cfg['loss_orth'] = dict(type='osar_plugin.OrthogonalityLoss')
    return cfg


TINY = dict(
    img_size=(32, 16), patch_size=8, embed_dim=24, depth=2, num_heads=2)


def tiny_cfg(name: str, **kwargs: Any) -> dict[str, Any]:
    """A model of a few thousand weights for images of 32 x 16."""
    return model_cfg(name, num_classes=6, **{**TINY, **kwargs})


def build(cfg: dict[str, Any], seed: int = 0) -> Any:
    """Build and initialise a model."""
    torch.manual_seed(seed)
    model = MODELS.build(cfg)
    model.init_weights()
    return model


def tiny_batch(seed: int = 0,
               labels: Any = (0, 0, 0, 0, 1, 1, 1, 1),
               modality: Any = MODALITY
               ) -> tuple[Tensor, list[ReIDDataSample], Tensor, Tensor]:
    """Like :func:`batch`, for tiny models."""
    generator = torch.Generator().manual_seed(seed)
    count = len(labels)
    images = torch.randn(count, 3, 32, 16, generator=generator)
    size = torch.randn(count, 3, generator=generator)
    return (images, make_samples(labels, modality, size),
            torch.tensor(modality), size)
