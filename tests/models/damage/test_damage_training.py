"""The demo config trains, saves, loads and tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bright_case import write_bright
from mmengine.runner import Runner

from osar_plugin.registry import MODELS
from osar_plugin.utils.checkpoint import read_checkpoint
from osar_plugin.utils.config import load_config, set_data_root
from osar_plugin.utils.launch import prepare_runtime

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_bright(tmp_path_factory.mktemp('bright'), size=(48, 64))


def config(data: Path, work_dir: Path, name: str = 'demo/codemae_bright',
           **changes: Any) -> Any:
    cfg = load_config(CONFIGS / f'{name}.py')
    cfg.merge_from_dict({
        'train_dataloader.batch_size': 2, 'train_cfg.max_iters': 2,
        'train_cfg.val_interval': 2, 'default_hooks.logger.interval': 1,
        'default_hooks.checkpoint.interval': 1,
        'model.encoder.arch.embed_dim': 32, 'model.encoder.arch.depth': 2,
        'model.encoder.fpn_dim': 16, 'model.channels': 8,
        'model.inference': dict(mode='slide', window=32, stride=32),
        'work_dir': str(work_dir), 'visualizer.name': str(work_dir),
        'train_dataloader.dataset.pipeline.1.size': 32, **changes})
    set_data_root(cfg, str(data))
    prepare_runtime(cfg, 'none')
    return cfg


def scalars(work_dir: Path) -> list[dict]:
    """Lines of the newest log."""
    path = sorted(work_dir.glob('*/vis_data/scalars.json'))[-1]
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_trains_saves_loads_tests(data, tmp_path) -> None:
    cfg = config(data, tmp_path / 'run')
    Runner.from_cfg(cfg).train()
    rows = scalars(tmp_path / 'run')
    losses = [row for row in rows if 'loss' in row]
    assert len(losses) == 2
    parts = ('building_ce', 'damage_ce', 'damage_lovasz', 'building_lovasz')
    for row in losses:
        assert row['loss'] == pytest.approx(
            sum(row[f'loss_{part}'] for part in parts), rel=1e-4)
    valued = next(row for row in rows if 'bright/mIoU' in row)
    assert 0 <= valued['bright/mIoU'] <= 100
    assert list((tmp_path / 'run').glob('best_bright_mIoU_iter_2*'))
    # Loaded and tested again, the figures of a split are the same.
    again = config(data, tmp_path / 'test',
                   load_from=str(tmp_path / 'run/iter_2.pth'),
                   **{'test_dataloader.dataset.split': 'val'})
    figures = Runner.from_cfg(again).test()
    assert figures['bright/mIoU'] == pytest.approx(valued['bright/mIoU'])
    assert not MODELS.build(again.model).load_state_dict(read_checkpoint(
        tmp_path / 'run/iter_2.pth')['state_dict']).missing_keys
