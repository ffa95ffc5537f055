"""A tiny translator and a tiny re-identification model, on disk."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from PIL import Image
from torch import Tensor

from osar_plugin.registry import MODELS
from osar_plugin.utils.checkpoint import save_weights
from osar_plugin.utils.config import load_config

REPO = Path(__file__).resolve().parents[2]

TRANSLATOR = """
default_scope = 'osar_plugin'
model = dict(
    type='osar_plugin.BrownianBridgeTranslator',
    denoiser=dict(
        type='osar_plugin.BridgeUNet',
        in_channels=3,
        context_channels=3,
        model_channels=32,
        channel_mult=(1, 2),
        num_res_blocks=1,
        attention_factors=(2, ),
        head_channels=16),
    condition='source',
    sampler=dict(views=9, steps=4))
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
    dataset=dict(
        type='osar_plugin.HOSSPairs',
        data_root='data/hoss',
        pipeline=[
            dict(
                type='osar_plugin.PairPipeline',
                transforms=[
                    dict(type='osar_plugin.LoadOpticalOrSAR'),
                    dict(type='osar_plugin.SARDenoise'),
                    dict(type='osar_plugin.PillowResize', size=(16, 8)),
                ]),
            dict(type='osar_plugin.PackPairInputs'),
        ]))
"""

# configs/mos_hoss.py on so few weights that a test runs it.
SHRUNK: dict[str, Any] = {
    'model.backbone.img_size': (32, 16),
    'model.backbone.patch_size': 8,
    'model.backbone.embed_dim': 24,
    'model.backbone.depth': 2,
    'model.backbone.num_heads': 2,
    'model.head.in_channels': 24,
    'model.head.num_classes': 4,
    'model.init_cfg': None,
    'test_dataloader.dataset.pipeline.3.size': (32, 16),
    'test_dataloader.num_workers': 0,
    'test_dataloader.batch_size': 3,
}


def write_hoss(root: Path) -> Path:
    """A test split as noise: 2 ships, a chip for each sensor and side."""
    rng = np.random.default_rng(0)
    for side, seq in (('query', 1), ('bounding_box_test', 3)):
        folder = root / 'HOSS' / side
        folder.mkdir(parents=True)
        for pid in (4, 5):
            for name, channels in (('RGB', 3), ('SAR', 1)):
                pixels = rng.integers(0, 256, (24, 48, channels), np.uint8)
                Image.fromarray(pixels.squeeze()).save(
                    folder / f'{pid:04d}_s{seq:02d}c1_{name}.tif')
    return root


def write_translator(folder: Path, seed: int = 0,
                     text: str = TRANSLATOR) -> tuple[Path, Path]:
    """Config and random weights of a translator."""
    config, weights = folder / 'bridge.py', folder / f'bridge_{seed}.pth'
    config.write_text(text, encoding='utf-8')
    torch.manual_seed(seed)
    save_weights(
        MODELS.build(load_config(config).model).state_dict(), weights)
    return config, weights


def write_reid(folder: Path) -> Path:
    """Random weights of the shrunk model, so large that images differ."""
    cfg = load_config(REPO / 'configs' / 'mos_hoss.py', SHRUNK)
    torch.manual_seed(1)
    state = {
        key: torch.randn_like(value) * 0.3 if value.ndim > 1 else value
        for key, value in MODELS.build(cfg.model).state_dict().items()}
    save_weights(state, folder / 'mos.pth')
    return folder / 'mos.pth'


@HOOKS.register_module(force=True)
class KeepFeatures(Hook):
    """Keeps what the metric was given; it runs behind the metric."""

    def __init__(self) -> None:
        self.features: dict[tuple[str, bool], Tensor] = {}

    def after_test_iter(self, runner: Any, batch_idx: int,
                        data_batch: Any = None, outputs: Any = None) -> None:
        for s in outputs:
            self.features[s.img_path, s.is_query] = s.feature.clone()

    def after_val_iter(self, runner: Any, batch_idx: int,
                       data_batch: Any = None, outputs: Any = None) -> None:
        self.after_test_iter(runner, batch_idx, data_batch, outputs)


def evaluate(work_dir: Path, data: Path, weights: Path,
             hook: dict[str, Any] | None, launcher: str = 'none',
             options: dict[str, Any] | None = None, **more: Any
             ) -> tuple[dict[tuple[str, bool], Tensor], Runner]:
    """Features as the metric sees them, by path and side."""
    cfg = load_config(
        REPO / 'configs' / 'mos_hoss.py', {**SHRUNK, **(options or {})})
    cfg.test_dataloader.dataset.data_root = str(data)
    cfg.work_dir, cfg.load_from = str(work_dir), str(weights)
    cfg.experiment_name = uuid.uuid4().hex
    cfg.custom_hooks = [dict(type='mmengine.KeepFeatures')]
    if hook is not None:
        cfg.custom_hooks.append(
            dict(type='osar_plugin.PseudoSARHook', **hook))
    for name in ('train', 'val'):
        for part in ('dataloader', 'cfg', 'evaluator'):
            cfg.pop(f'{name}_{part}', None)
    cfg.pop('optim_wrapper'), cfg.pop('param_scheduler')
    cfg.launcher = launcher
    cfg.update(more)
    runner = Runner.from_cfg(cfg)
    runner.test()
    keep, = (h for h in runner.hooks if isinstance(h, KeepFeatures))
    return keep.features, runner
