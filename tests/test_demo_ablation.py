"""The ablation's driver: what it runs, what it keeps, what it refuses."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TOOL = 'benchmark/demo_ablation.py'
FIGURES = {f'{p}/{f}': 10. for p in ('ALL', 'O2S', 'S2O')
           for f in ('mAP', 'R1')}


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands of the tools, which are not run but leave what they would."""
    done: list[list[str]] = []

    def pretend(command: list[str], **_: Any) -> None:
        done.append(command[1:])
        options = dict(zip(command, command[1:], strict=False))
        work_dir = Path(options['--work-dir'])
        if 'train.py' in command[1]:
            curves = work_dir / '1' / 'vis_data'
            curves.mkdir(parents=True)
            (curves / 'scalars.json').write_text(json.dumps(FIGURES))
            (work_dir / 'epoch_24.pth').write_text('weights')
            (work_dir / 'last_checkpoint').write_text('gone/epoch_24.pth')
            return
        tau, = (float(word.partition('=')[2]) for word in command
                if word.startswith('custom_hooks.0.tau='))
        row = dict(mAP=100 * tau, R1=100 * tau)
        (Path(options['--out']) / 'results.json').write_text(
            json.dumps(dict(ALL=row, O2S=row, S2O=row)))

    monkeypatch.setattr(subprocess, 'run', pretend)
    return done


def test_rows_of_mos(commands: list[list[str]], tmp_path: Path,
                     run_tool: Callable[..., Any]) -> None:
    """Three trainings a seed; the views join what the third has trained."""
    weights = tmp_path / 'bridge.pth'
    weights.write_text('weights')
    arguments = (
        '--table', 'mos', '--seeds', '0', '1', '--translator', weights,
        '--tau', '0.02', '0.3', '--views', '5', '--work-dir', tmp_path)
    ended = run_tool(TOOL, *arguments)
    assert ended.code == 0, ended.err
    trained = [c[1] for c in commands if c[0] == 'tools/train.py']
    assert trained == 2 * [
        f'configs/demo/{name}.py'
        for name in ('transoss_hoss', 'mos_denoising_hoss', 'mos_hoss')]
    tested = [c for c in commands if c[0] == 'tools/test.py']
    assert [c[2] for c in tested] == [
        str(tmp_path / f'mos_hoss_seed{seed}') for seed in (0, 0, 1, 1)]
    for command in tested:
        assert f'custom_hooks.0.translator.checkpoint={weights}' in command
        assert 'custom_hooks.0.views=5' in command
    assert '| + CMAL | 10.0 ± 0.0 |' in ended.out
    assert '| + CDGF, tau 0.02, K 5 | 2.0 ± 0.0 |' in ended.out
    assert '| + CDGF, tau 0.3, K 5 | 30.0 ± 0.0 |' in ended.out
    # Nothing is done twice, until the translator is another.
    count = len(commands)
    assert run_tool(TOOL, *arguments).out == ended.out
    assert len(commands) == count
    weights.write_text('other weights')
    assert run_tool(TOOL, *arguments).code == 0
    assert [c[0] for c in commands[count:]] == ['tools/test.py'] * 4


@pytest.mark.parametrize('arguments, words', [
    (['--rows', 'CDGF'], "--rows 'CDGF'"),
    (['--rows', '+ CDGF'], 'needs --translator FILE'),
    (['--translator', 'no.pth'], "No checkpoint at 'no.pth'")])
def test_refused_before_anything_is_trained(
        arguments: list[str], words: str, commands: list[list[str]],
        run_tool: Callable[..., Any]) -> None:
    ended = run_tool(TOOL, '--table', 'mos', *arguments)
    assert ended.code == 2
    assert words in ended.err and commands == []
