"""Scenes as GeoTIFFs, and a DamageFormer small enough to run over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from osar_plugin.registry import MODELS

rasterio = pytest.importorskip('rasterio', reason='needs the extra geo')
from rasterio.transform import Affine  # noqa: E402

SIZE = (110, 150)
PLACE = Affine(0.5, 0, 500000, 0, -0.5, 4000000)
CONFIG = """
model = dict(
    type='osar_plugin.DamageFormer',
    encoder=dict(
        type='osar_plugin.ITPN',
        arch=dict(embed_dim=32, mlp_depths=(1, 1), depth=2, num_heads=2),
        img_size=64, fpn_dim=16, num_outs=4, pool='max'),
    channels=16,
    inference=dict(mode='slide', window=64, stride=48))
default_scope = 'osar_plugin'
"""


def write_config(folder: Path) -> Path:
    path = folder / 'tiny_damage.py'
    path.write_text(CONFIG)
    return path


def write_weights(folder: Path, seed: int = 0) -> Path:
    """Random weights whose maps have every class."""
    from osar_plugin.utils.config import load_config

    model = MODELS.build(load_config(write_config(folder)).model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(0.2 * torch.randn(value.shape, generator=generator))
        # As often one class as another.
        pre, post = (torch.from_numpy(x.copy()) for x in images())
        inputs = model.eval().data_preprocessor(dict(inputs=dict(
            pre=[pre.permute(2, 0, 1)], post=[post[None]])))['inputs']
        middle = model.predict_logits(**inputs)[0].flatten(1).mean(1)
        model.clf_1.bias -= middle[:2]
        model.clf_2.bias -= middle[2:]
    path = folder / 'tiny_damage.pth'
    torch.save(model.state_dict(), path)
    return path


def write(path: Path, image: np.ndarray, **profile: Any) -> Path:
    """An image (H, W) or (H, W, C) as a GeoTIFF."""
    bands = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    profile = dict(dict(crs='EPSG:32637', transform=PLACE), **profile)
    with rasterio.open(
            path, 'w', driver='GTiff', count=len(bands),
            height=bands.shape[1], width=bands.shape[2],
            dtype=bands.dtype, **profile) as file:
        file.write(bands)
    return path


def images(seed: int = 0, size: tuple[int, int] = SIZE
           ) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of noise, (H, W, 3) and (H, W) uint8."""
    rng = np.random.default_rng(seed)
    small = [-(-side // 10) for side in size]
    pre, post = (
        np.kron(rng.integers(0, 256, (*small, c)), np.ones((10, 10, 1)))
        for c in (3, 1))
    pre, post = (x[:size[0], :size[1]].astype(np.uint8) for x in (pre, post))
    return pre, post[..., 0]


def write_pair(folder: Path, **profile: Any) -> tuple[Path, Path]:
    pre, post = images()
    return (write(folder / 'pre.tif', pre, **profile),
            write(folder / 'post.tif', post, **profile))
