"""tools/benchmark/codemae_ablation.py: its configs, what it keeps."""

from __future__ import annotations

import json
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from osar_plugin.registry import MODELS
from osar_plugin.utils.config import load_config

TOOL = 'benchmark/codemae_ablation.py'
PARTS = ('degraded', 'contrast', 'distillation')


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands of the tools, which leave what they would."""
    done: list[list[str]] = []

    def pretend(command: list[str], **_: Any) -> None:
        done.append(command[1:])
        options = dict(zip(command, command[1:], strict=False))
        if 'train.py' in command[1]:
            folder = Path(options['--work-dir'])
            folder.mkdir(exist_ok=True)
            torch.save(dict(
                state_dict={}, meta=dict(epoch=1, iter=1), optimizer={}),
                folder / 'epoch_1.pth')
            (folder / 'last_checkpoint').write_text(
                str(folder / 'epoch_1.pth'))
        out = Path(options.get('--out', '.'))
        one = [dict(final=dict(accuracy=50.))]
        if 'linear_probe' in command[1]:
            (out / 'linear_probe.json').write_text(json.dumps(dict(
                runs=dict(trained=dict(optical=one, sar=one)))))
        if 'analyse' in command[1]:
            (out / 'summary.json').write_text(json.dumps(dict(
                effective_rank=dict(rgb=3., sar=4.))))

    monkeypatch.setattr(subprocess, 'run', pretend)
    return done


def test_rows(commands, tmp_path, run_tool):
    """One teacher for all rows; nothing is done twice."""
    arguments = ('--work-dir', tmp_path, '--seeds', '0', '1', '--rows',
                 'untrained', 'MAE only', '+ OKD', 'all')
    ended = run_tool(TOOL, *arguments)
    assert ended.code == 0, ended.err
    assert '| all | 50.0 ± 0.0 | 50.0 ± 0.0 | 3.0 ± 0.0 | 4.0' in ended.out
    trained = [Path(c[1]).stem for c in commands if 'train.py' in c[0]]
    assert trained == ['codemae_mae', 'hivit_mae_ospretrain', 'codemae_okd',
                       'codemae_okd-cdr-ccl', 'codemae_mae', 'codemae_okd',
                       'codemae_okd-cdr-ccl']
    count = len(commands)
    assert run_tool(TOOL, *arguments).code == 0
    assert len(commands) == count
    found = load_config(tmp_path / 'codemae_okd.py').model
    assert found.teacher.checkpoint == str(tmp_path / 'teacher/epoch_1.pth')


def test_a_row_has_its_objectives_only(tmp_path):
    """Built with a teacher of its own size."""
    tool = runpy.run_path(str(
        Path(__file__).resolve().parents[1] / 'tools' / TOOL))
    teacher = MODELS.build(load_config(tool['TEACHER']).model)
    torch.save(dict(state_dict=teacher.state_dict()), tmp_path / 't.pth')
    for row, parts in tool['ROWS'].items():
        path = tmp_path / f'{len(parts)}{parts[:1]}.py'
        tool['write_config'](parts, tmp_path / 't.pth', path)
        model = MODELS.build(load_config(path).model)
        there = {name for name in PARTS if getattr(model, name) is not None}
        expected = {dict(cdr='degraded', ccl='contrast',
                         okd='distillation')[part] for part in parts}
        assert there == expected, row
        assert bool(model.teacher) == ('okd' in parts)
    features = model.teacher(dict(
        rgb=torch.rand(2, 3, 64, 64), rgb01=torch.rand(2, 3, 64, 64)))
    assert features.shape == (2, 16, 128)
    torch.testing.assert_close(features.mean(-1), torch.zeros(2, 16),
                               atol=1e-5, rtol=0)


def test_unknown_row(commands, run_tool):
    ended = run_tool(TOOL, '--rows', '+ XYZ')
    assert ended.code == 2 and '+ XYZ' in ended.err and not commands
