"""A tiny DamageFormer and samples for it."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.structures import PixelData

from osar_plugin.registry import MODELS
from osar_plugin.structures import DamageDataSample

TINY_ENCODER: dict[str, Any] = dict(
    type='osar_plugin.ITPN',
    arch=dict(embed_dim=32, mlp_depths=(1, 1), depth=2, num_heads=2),
    img_size=64, fpn_dim=16, num_outs=4, pool='max')


def tiny_cfg(**changes: Any) -> dict[str, Any]:
    """Some 10^5 weights."""
    return {**dict(type='osar_plugin.DamageFormer',
                   encoder=dict(TINY_ENCODER), channels=16), **changes}


def build(cfg: dict[str, Any] | None = None, seed: int = 0) -> Any:
    """Random weights that see their input."""
    model = MODELS.build(cfg or tiny_cfg())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(0.2 * torch.randn(value.shape, generator=generator))
    return model.eval()


def sample(labels: torch.Tensor, **meta: Any) -> DamageDataSample:
    """A sample with (H, W) labels."""
    out = DamageDataSample(metainfo=meta)
    out.gt_damage = PixelData(data=labels.to(torch.uint8)[None])
    return out


def batch(count: int = 2, side: int = 64, seed: int = 0) -> dict[str, Any]:
    """A collated batch of noise."""
    generator = torch.Generator().manual_seed(seed)

    def noise(channels: int, top: int) -> torch.Tensor:
        return torch.randint(
            0, top, (channels, side, side), generator=generator,
            dtype=torch.uint8)

    return dict(
        inputs=dict(pre=[noise(3, 256) for _ in range(count)],
                    post=[noise(1, 256) for _ in range(count)]),
        data_samples=[sample(noise(1, 4)[0]) for _ in range(count)])
