"""Inputs and weights of the golden file, and models to hold them."""

from __future__ import annotations

import ast
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

GOLDENS = Path(__file__).resolve().parents[2] / 'goldens'


def golden() -> dict[str, np.ndarray]:
    """Arrays of the golden file."""
    with np.load(GOLDENS / 'bbdm.npz', allow_pickle=False) as arrays:
        return dict(arrays)


def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x0, y, noise, a network's output, (4, 3, 8, 8) each, and t (4,)."""
    generator = torch.Generator().manual_seed(33)
    x0, y, noise, prediction = (
        torch.randn(4, 3, 8, 8, generator=generator) for _ in range(4))
    return x0, y, noise, prediction, torch.tensor([0, 1, 500, 999])


def official_weights(name: str, prefix: str = '') -> dict[str, Tensor]:
    """State dict of ``'unet_tiny'`` or ``'vq_tiny'`` as the goldens had it.

    Each tensor comes from a generator seeded by its official key, so a model
    of ours can only be filled through the converter.
    """
    out = {}
    for entry in sorted(golden()[f'{name}_keys'].tolist()):
        key, shape = entry.split('|')
        generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        value = torch.randn(
            ast.literal_eval(shape), generator=generator) * 0.05
        if key.endswith('.weight') and value.ndim == 1:
            value = value + 1
        out[prefix + key] = value
    return out


def draws(seed: int, count: int, *shape: int) -> list[Tensor]:
    """Standard normal tensors of one generator."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


UNET_TINY: dict[str, Any] = dict(
    in_channels=3, context_channels=3, model_channels=32, channel_mult=(1, 2),
    num_res_blocks=1, attention_factors=(2, ), head_channels=16)
VQ_TINY: dict[str, Any] = dict(
    channels=32, channel_mult=(1, 2), num_res_blocks=1, latent_channels=3,
    codes=64)


def translator_cfg(latent: bool = False, **kwargs: Any) -> dict[str, Any]:
    """A translator of some 10^5 weights; by default on pixels."""
    denoiser = dict(UNET_TINY, type='osar_plugin.BridgeUNet')
    cfg: dict[str, Any] = dict(
        type='osar_plugin.BrownianBridgeTranslator',
        denoiser=denoiser,
        condition='source',
        sampler=dict(views=3, steps=4))
    if latent:
        cfg['denoiser'] = dict(denoiser, context_channels=0)
        cfg['codec'] = dict(VQ_TINY, type='osar_plugin.VQCodec')
        cfg['condition'] = 'none'
    return {**cfg, **kwargs}
