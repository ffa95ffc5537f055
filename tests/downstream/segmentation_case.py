"""Segmentors shrunk, and LoveDA trees of a few tiles."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from osar_plugin.datasets.synthetic import (
    SegmentationSettings,
    write_segmentation,
)
from osar_plugin.utils.config import load_config

REPO = Path(__file__).resolve().parents[2]
REAL = REPO.parent / 'shared/data/loveda'
CONFIGS = REPO / 'configs'
NAMES = ('codemae_loveda', 'codemae_loveda_val', 'hivit_loveda',
         'vit_loveda')
ARCHS: dict[str, dict[str, Any]] = {
    'osar_plugin.ITPN': dict(
        embed_dim=32, mlp_depths=(1, 1), depth=2, num_heads=2),
    'osar_plugin.HiViT': dict(
        embed_dim=32, depths=(1, 1, 4), num_heads=2),
    'osar_plugin.DenseViT': dict(embed_dim=32, depth=2, num_heads=2)}


def read(name: str) -> Config:
    return load_config(CONFIGS / f'{name}.py')


def thin(model: Any, crop: int) -> None:
    """The same segmentor with few channels, for small crops."""
    backbone = model.backbone
    backbone.update(
        arch=ARCHS[backbone.type], img_size=crop, init_cfg=None)
    channels = [8, 16, 32, 32]
    if backbone.type != 'osar_plugin.HiViT':
        backbone.fpn_dim = 16
        channels = [16] * 4
    model.decode_head.update(in_channels=channels, channels=16)
    model.auxiliary_head.update(in_channels=channels[2], channels=16)
    model.data_preprocessor.size = (crop, crop)


def shrink(cfg: Config, crop: int) -> Config:
    """Two steps of a thin segmentor on small crops."""
    thin(cfg.model, crop)
    if cfg.model.test_cfg.mode == 'slide':
        cfg.model.test_cfg.update(
            crop_size=(crop, crop), stride=(crop, crop))
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if not cfg.get(key):
            continue
        cfg[key].update(num_workers=0, persistent_workers=False)
        for step in cfg[key].dataset.pipeline:
            if step.type == 'mmengine.RandomResize':
                step.update(scale=(2 * crop, crop), ratio_range=(1, 1.5))
            elif step.type == 'mmseg.RandomCrop':
                step.crop_size = (crop, crop)
            elif step.type == 'mmengine.Resize':
                step.scale = (2 * crop, 2 * crop)
    cfg.optim_wrapper.type = 'mmengine.OptimWrapper'
    for name in ('loss_scale', 'dtype'):
        cfg.optim_wrapper.pop(name, None)
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 2
    cfg.log_level = 'ERROR'
    return cfg


def point_at(cfg: Config, root: Path) -> Config:
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if cfg.get(key):
            cfg[key].dataset.data_root = str(root)
    return cfg


def runner_of(cfg: Config, work_dir: Path) -> Runner:
    cfg = cfg.copy()
    cfg.work_dir, cfg.experiment_name = str(work_dir), uuid.uuid4().hex
    return Runner.from_cfg(cfg)


def demo_tiles(out: Path) -> Path:
    """Tiles of the demo world in the published layout."""
    write_segmentation(out, SegmentationSettings(
        train=8, val=6, test=6, size=64))
    return out / 'LoveDA'


def real_tiles(root: Path) -> Path:
    """The three real tiles in the layout of MMSegmentation's converter."""
    for part in ('img_dir', 'ann_dir'):
        for split, numbers in (('train', '01'), ('val', '2'), ('test', '2')):
            folder = root / part / split
            if (part, split) == ('ann_dir', 'test'):
                continue
            folder.mkdir(parents=True)
            for number in numbers:
                (folder / f'{number}.png').symlink_to(
                    REAL / part / f'{number}.png')
    return root
