"""The demo config trains, saves, loads and tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bright_case import write_bright
from mmengine.runner import Runner
from mmengine.structures import PixelData

from osar_plugin.datasets.bright import CLASSES, PALETTE
from osar_plugin.engine.damage_visualization import UNKNOWN, draw_sample
from osar_plugin.registry import MODELS
from osar_plugin.structures import DamageDataSample
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


def test_tool_draws_and_writes(data, tmp_path, run_tool, monkeypatch) -> None:
    """tools/test.py --show-dir: the maps that were predicted, beside truth."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'tiny.py').write_text(
        f"_base_ = ['{CONFIGS}/demo/codemae_bright.py']\n"
        'model = dict(encoder=dict(arch=dict(embed_dim=32, depth=2), '
        'fpn_dim=16), channels=8, inference=dict(window=32, stride=32))\n')
    ended = run_tool(
        'test.py', 'tiny.py', 'untrained', '--data-root', data, '--out',
        'out', '--show-dir', 'shown')
    assert ended.code == 0, ended.err[-800:]
    figures = json.loads((tmp_path / 'out/results.json').read_text())
    assert 0 <= figures['bright/mIoU'] <= 100
    assert (tmp_path / 'out/damage.json').is_file()
    names = (data / 'test_set.txt').read_text().split()
    pictures = {path.stem for path in (tmp_path / 'shown').glob('*.png')}
    assert pictures and pictures <= set(names)


def test_panels_show_the_maps() -> None:
    labels = torch.arange(4).repeat_interleave(8).expand(1, 24, 32)
    truth = torch.where(labels == 2, 255, labels)
    sample = DamageDataSample(metainfo=dict(image_id='one'))
    sample.pred_damage = PixelData(data=labels.to(torch.uint8))
    sample.gt_damage = PixelData(data=truth.to(torch.uint8))
    panels = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            'osar_plugin.engine.damage_visualization.draw_assessment',
            lambda given, *_: panels.extend(given))
        draw_sample(torch.full((3, 24, 32), 7, dtype=torch.uint8),
                    torch.full((1, 24, 32), 9, dtype=torch.uint8), sample,
                    CLASSES, PALETTE)
    assert [panel.title for panel in panels] == [
        'before, optical', 'after, SAR', 'predicted', 'true']
    assert (panels[0].image == 7).all() and (panels[1].image == 9).all()
    for state, colour in enumerate(PALETTE):
        place = (5, state * 8 + 3)
        assert tuple(panels[2].image[place]) == colour
        assert tuple(panels[3].image[place]) == (
            UNKNOWN if state == 2 else colour)
