"""A tiny translator, its config and weights, and images: on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from osar_plugin.registry import MODELS
from osar_plugin.utils.checkpoint import save_weights
from osar_plugin.utils.config import load_config

REPO = Path(__file__).resolve().parents[1]
HOSS_MINI = REPO.parent / 'shared' / 'data' / 'hoss_mini'
SIZE = (24, 16)  # (H, W)

CONFIG = f"""
_base_ = [r'{REPO / 'configs' / 'bbdm_pixel_hoss.py'}']
image_pipeline = [
    dict(type='osar_plugin.LoadOpticalOrSAR'),
    dict(type='osar_plugin.SARDenoise'),
    dict(type='osar_plugin.PillowResize', size={SIZE}),
]
model = dict(
    denoiser=dict(
        model_channels=32, channel_mult=(1, 2), num_res_blocks=1,
        attention_factors=(2, ), head_channels=16),
    sampler=dict(views=3, steps=4),
    init_cfg=None)
train_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(pipeline=[
        dict(type='osar_plugin.PairPipeline', transforms=image_pipeline),
        dict(type='osar_plugin.PairFlip', prob=0.5),
        dict(type='osar_plugin.PackPairInputs'),
    ]))
"""


def write_config(folder: Path, text: str = CONFIG) -> Path:
    """The config file."""
    path = folder / 'tiny_translator.py'
    path.write_text(text, encoding='utf-8')
    return path


def write_weights(folder: Path, config: Path, seed: int = 0,
                  name: str = 'translator.pth') -> Path:
    """Random weights."""
    torch.manual_seed(seed)
    model = MODELS.build(load_config(config).model)
    model.init_weights()
    save_weights(model.state_dict(), folder / name)
    return folder / name


def write_optical(path: Path, seed: int = 0,
                  size: tuple[int, int] = (40, 12), **save: Any) -> Path:
    """A colour image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(
        0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **save)
    return path


def write_sar(path: Path, seed: int = 0,
              size: tuple[int, int] = (30, 10)) -> Path:
    """Speckle as 32-bit floats."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).gamma(1.2, 40., size)
    Image.fromarray(pixels.astype(np.float32)).save(path)
    return path


def write_geotiff(path: Path, size: tuple[int, int] = (40, 30),
                  gcps: bool = False) -> Path:
    """A colour GeoTIFF in UTM 32, needs rasterio."""
    import rasterio
    from rasterio.control import GroundControlPoint
    from rasterio.transform import from_origin

    pixels = np.random.default_rng(5).integers(
        0, 256, (3, *size), dtype=np.uint8)
    place: dict[str, Any] = dict(
        crs='EPSG:32632', transform=from_origin(450000, 5420000, 0.75, 0.75))
    with rasterio.open(
            path, 'w', driver='GTiff', dtype='uint8', count=3,
            height=size[0], width=size[1], photometric='rgb',
            **({} if gcps else place)) as file:
        if gcps:
            file.gcps = [
                GroundControlPoint(row, column, 10 + column, 50 - row)
                for row, column in ((0, 0), (0, 30), (40, 0), (40, 30))
            ], rasterio.crs.CRS.from_epsg(4326)
        file.write(pixels)
    return path
