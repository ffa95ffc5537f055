"""The driver of the demo's fine-tuning: what it runs, keeps and refuses."""

from __future__ import annotations

import json
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest

from osar_plugin.utils.config import load_config

TOOL = 'benchmark/demo_finetuning.py'


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Trainings that are not run but leave the curves of one."""
    done: list[list[str]] = []

    def pretend(command: list[str], **_: Any) -> None:
        done.append(command[1:])
        options = dict(zip(command, command[1:], strict=False))
        curves = Path(options['--work-dir']) / '1/vis_data'
        curves.mkdir(parents=True, exist_ok=True)
        better = any('init_cfg.checkpoint' in word for word in command)
        (curves / 'scalars.json').write_text(json.dumps({
            'coco/bbox_mAP_50': .5 + better / 4, 'mIoU': 40. + better}))

    monkeypatch.setattr(subprocess, 'run', pretend)
    return done


def test_both_starts(commands, tmp_path, run_tool):
    weights = tmp_path / 'epoch_60.pth'
    weights.write_text('weights')
    arguments = ('--tasks', 'detection', 'segmentation', '--seeds', '0', '1',
                 '--pretrained', weights, '--work-dir', tmp_path / 'runs',
                 '--data-root', tmp_path)
    ended = run_tool(TOOL, *arguments)
    assert ended.code == 0, ended.err
    assert len(commands) == 8
    assert '| detection (coco/bbox_mAP_50) | 50.0 ± 0.0 | 75.0 ± 0.0 |' in (
        ended.out)
    assert '| segmentation (mIoU) | 40.0 ± 0.0 | 41.0 ± 0.0 |' in ended.out
    assert commands[0][1].endswith('configs/demo/codemae_detection.py')
    assert str(tmp_path / 'Detection/DIOR') in commands[0]
    assert f'model.backbone.init_cfg.checkpoint={weights}' in commands[1]
    assert run_tool(TOOL, *arguments).out == ended.out
    assert len(commands) == 8
    weights.write_text('other weights')
    assert run_tool(TOOL, *arguments).code == 0
    assert len(commands) == 12


def test_the_recipes_decay(commands, tmp_path, run_tool):
    weights = tmp_path / 'epoch_60.pth'
    weights.write_text('weights')
    ended = run_tool(
        TOOL, '--tasks', 'segmentation', '--seeds', '3', '--starts',
        'pretrained', 'decayed', '--pretrained', weights, '--work-dir',
        tmp_path / 'runs', '--data-root', tmp_path)
    assert ended.code == 0, ended.err
    plain, decayed = commands
    rate = 'optim_wrapper.paramwise_cfg.decay_rate=0.85'
    assert rate in decayed and rate not in plain
    for command in commands:
        assert f'model.backbone.init_cfg.checkpoint={weights}' in command
        assert 'train_cfg.max_iters=1000' in command
    assert '| task | pretrained | decayed |' in ended.out


def test_configs_and_folders_are_there(repo):
    """Of each task: its demo config says that folder and that figure."""
    for task in runpy.run_path(str(
            repo / 'tools' / TOOL), run_name='tool')['TASKS'].values():
        text = (repo / f'configs/demo/{task.config}.py').read_text()
        assert f"data/demo/{task.data}'" in text
        if task.start == 'model.init_cfg':
            assert 'init_cfg' in load_config(
                repo / f'configs/demo/{task.config}.py').model


@pytest.mark.parametrize(('arguments', 'words'), [
    (('--tasks', 'detektion'), "'detection'"),
    (('--tasks', 'damage'), '--pretrained FILE'),
    (('--pretrained', 'gone.pth'), 'gone.pth')])
def test_refused_before_anything_runs(commands, run_tool, arguments, words):
    ended = run_tool(TOOL, *arguments)
    assert ended.code == 2 and words in ended.err
    assert not commands
