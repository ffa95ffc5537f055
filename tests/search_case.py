"""A tiny model, its config and weights, and chips to search: on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from osar_plugin.registry import MODELS
from osar_plugin.utils.checkpoint import save_weights
from osar_plugin.utils.config import load_config

REPO = Path(__file__).resolve().parents[1]
HOSS_MINI = REPO.parent / 'shared' / 'data' / 'hoss_mini' / 'HOSS'

CONFIG = f"""
_base_ = [r'{REPO / 'configs' / 'sdfnet_hoss.py'}']
_pipeline = [
    dict(type='osar_plugin.LoadOpticalOrSAR'),
    dict(type='osar_plugin.ShipSize'),
    dict(type='osar_plugin.SARToUint8'),
    dict(type='osar_plugin.PillowResize', size=(32, 16)),
    dict(type='osar_plugin.PackReIDInputs'),
]
_loader = dict(batch_size=8, num_workers=0, persistent_workers=False)
model = dict(
    backbone=dict(
        img_size=(32, 16), patch_size=8, embed_dim=24, depth=2, num_heads=2),
    neck=dict(embed_dim=24),
    structure=dict(layer=1),
    head=dict(in_channels=24, num_classes=4),
    init_cfg=None)
val_dataloader = dict(**_loader, dataset=dict(pipeline=_pipeline))
test_dataloader = val_dataloader
"""


class Bomb:
    """A pickle that makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mknod, (str(self.path),)


def write_config(folder: Path, text: str = CONFIG) -> Path:
    """The config file."""
    path = folder / 'tiny.py'
    path.write_text(text, encoding='utf-8')
    return path


def write_weights(folder: Path, config: Path, seed: int = 0,
                  name: str = 'weights.pth') -> Path:
    """Random weights, large enough that chips differ clearly."""
    torch.manual_seed(seed)
    model = MODELS.build(load_config(config).model)
    state = {
        key: torch.randn_like(value) * 0.3
        if value.ndim > 1 else value
        for key, value in model.state_dict().items()}
    save_weights(state, folder / name)
    return folder / name


def write_chip(path: Path, seed: int, **save: Any) -> Path:
    """A chip of its own size; SAR as float TIFF unless 8-bit is needed."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = 30 + seed % 7, 10 + seed % 5
    if 'SAR' in path.name:
        image = rng.gamma(1.2, 40.0, (height, width)).astype(np.float32)
        if path.suffix != '.tif':
            image = np.clip(image, 0, 255).astype(np.uint8)
    else:
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(image).save(path, **save)
    return path


def write_gallery(folder: Path, ids: int = 5) -> Path:
    """For each identity an optical and a SAR chip, some in a sub-folder."""
    for pid in range(1, ids + 1):
        sub = 'more' if pid % 2 else ''
        for shift, sensor in enumerate(('RGB', 'SAR')):
            write_chip(folder / sub / f'{pid:04d}_s01c1_{sensor}.tif',
                       10 * pid + shift)
    return folder
