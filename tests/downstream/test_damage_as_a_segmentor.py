"""DamageFormer with the metrics and hooks of MMSegmentation."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest
from bright_case import write_bright
from downstream import needs
from mmengine.config import Config
from mmengine.runner import Runner

import osar_plugin.registry  # noqa: F401 - readies torchvision on a CPU
from osar_plugin.utils.config import load_config, set_data_root

needs('mmseg')

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


def small(root: Path, work_dir: Path) -> Config:
    """The example, two steps of a thin model."""
    cfg = load_config(CONFIGS / 'examples/mmseg_damageformer.py')
    cfg.model.encoder.update(
        arch=dict(embed_dim=32, mlp_depths=(1, 1), depth=2, num_heads=2),
        img_size=64, fpn_dim=16, with_cp=False)
    cfg.model.update(channels=8, init_cfg=None, inference=dict(
        mode='slide', window=32, stride=32))
    set_data_root(cfg, str(root))
    for name in ('train', 'val', 'test'):
        cfg[f'{name}_dataloader'].update(
            num_workers=0, persistent_workers=False)
    cfg.train_dataloader.batch_size = 2
    cfg.train_dataloader.dataset.pipeline[2].size = 32
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 2
    cfg.default_hooks.visualization.interval = 1
    cfg.work_dir, cfg.experiment_name = str(work_dir), uuid.uuid4().hex
    cfg.visualizer.name = cfg.experiment_name
    return cfg


def test_metric_and_pictures_of_mmseg(tmp_path: Path) -> None:
    root = write_bright(tmp_path / 'bright', size=(48, 64))
    cfg = small(root, tmp_path / 'run')
    assert cfg.default_scope == 'mmseg'
    Runner.from_cfg(cfg).train()
    log = next((tmp_path / 'run').glob('*/vis_data/scalars.json'))
    figures = next(
        row for row in map(json.loads, log.read_text().splitlines())
        if 'mIoU' in row)
    # mmseg rounds to two digits.
    assert figures['mIoU'] == pytest.approx(
        figures['bright/mIoU'], abs=0.006)
    assert figures['aAcc'] == pytest.approx(figures['bright/OA'], abs=0.006)
    assert figures['bright/OA'] > 0
    drawn = list((tmp_path / 'run').glob('*/vis_data/vis_image/val_*.png'))
    assert drawn
