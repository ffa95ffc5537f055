"""A small network and small trees for the tools on pre-trained networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from osar_plugin.registry import MODELS
from osar_plugin.utils.config import load_config

DEMO = Path(__file__).resolve().parents[1] / (
    'configs/demo/codemae_ospretrain.py')


def write_config(folder: Path) -> Path:
    """The demo's config with a network of 2 attention blocks."""
    path = folder / 'tiny.py'
    path.write_text(f"""
_base_ = [{str(DEMO)!r}]
model = dict(
    backbone=dict(arch=dict(embed_dim=32, depth=2, num_heads=2), fpn_dim=16),
    decoder=dict(dim=32, depth=1, num_heads=2), contrast=dict(num_heads=2))
train_dataloader = dict(
    batch_size=4, dataset=dict(
        data_root={str(folder / 'data')!r}, statistics=None))
""")
    return path


def build_model(config: Path, seed: int = 0) -> Any:
    """The config's model, initialised."""
    torch.manual_seed(seed)
    model = MODELS.build(load_config(config).model)
    model.init_weights()
    return model


def write_scenes(root: Path, classes: int = 3, each: int = 12) -> None:
    """Stripes whose width is the class, in both sensors, and lists."""
    rng = np.random.default_rng(0)
    lines: list[str] = []
    for number in range(classes * each):
        label = number % classes
        stripes = (np.arange(64) // 2**(1 + label) % 2) * 120 + 40
        image = np.broadcast_to(stripes, (64, 64)) + rng.integers(
            0, 40, (64, 64))
        names = []
        for side, pixels in (('rgb', image[..., None].repeat(3, 2)),
                             ('sar', image)):
            names.append(f'{side}/{number}.png')
            path = root / names[-1]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
        lines.append(f'{" ".join(names)} {label}')
    half = len(lines) // 2
    for name, part in (('train', lines[:half]), ('test', lines[half:])):
        (root / f'scenes_{name}.txt').write_text('\n'.join(part))
    (root / 'classes.txt').write_text(
        ''.join(f'width{i}\n' for i in range(classes)))
    side = dict(mean=[.4, .4, .4], std=[.2, .2, .2])
    (root / 'statistics.json').write_text(json.dumps(dict(
        format='osar_plugin pair statistics', version=1, sources=dict(
            Stripes=dict(rgb=side, sar=dict(mean=[.4], std=[.2]))))))
