"""tools/benchmark/translation.py: what it measures and makes of it."""

from __future__ import annotations

import json
import runpy
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from translation_case import SIZE, write_config

TOOL = Path(__file__).resolve().parents[1] / 'tools' / 'benchmark' / (
    'translation.py')


@pytest.fixture(scope='module')
def tool():
    return Namespace(**runpy.run_path(str(TOOL)))


@pytest.mark.parametrize('form, views', [
    ('plain: K 1, fp32', 2), ('K 5, bf16, channels last', 10)])
def test_measurement(tool, tmp_path, form, views, monkeypatch) -> None:
    # This process keeps its threads.
    monkeypatch.setattr(tool.measure.__globals__['torch'],
                        'set_num_threads', lambda count: None)
    args = Namespace(
        config=str(write_config(tmp_path)), device='cpu', size=SIZE,
        images=2, steps=3, threads=1, child_whole=0, cuda_compile=False)
    row = tool.measure(form, args)
    assert (row['views'], row['steps']) == (views, 5)
    # The fastest step stands for all but the first, which is smaller.
    parts = (row['encode'] + row['decode'] + row['first'] + row['rest']
             + row['step'] * (row['steps'] - 1))
    assert 0 < parts <= row['total'] * (1 + 1e-6)
    assert row['step'] == row['network'] + row['rest']
    assert min(row['network'], row['cpu'], row['rest']) > 0
    assert row['memory'] > 0.05
    args.child_whole = 12
    assert tool.measure(form, args)['steps'] == 12


def test_extrapolation(tool) -> None:
    # The first step sees each image once.
    row = dict(views=5, encode=2., first=0.2, rest=0.3, step=0.5, decode=1.)
    assert tool.rate(row, 10) == 5 / 8
    assert tool.rate(row, 200) == 5 / 103


def test_quality_is_held_against_200_steps(tool, tmp_path, monkeypatch,
                                           capsys) -> None:
    """The evaluation is stood in for: this is about the table."""
    calls = []

    def evaluate(command, **_):
        steps = int(command[command.index('--steps') + 1])
        calls.append((steps, command[command.index('--limit') + 1]))
        folder = Path(command[command.index('--out') + 1])
        figures = dict(structure=0.4 - 1 / steps, structure_best=0.5,
                       looks_ratio=1., wasserstein=2.)
        (folder / 'translation.json').write_text(
            json.dumps(dict(methods=dict(translator=figures))))

    monkeypatch.setattr(
        tool.quality.__globals__['subprocess'], 'run', evaluate)
    monkeypatch.setattr(sys, 'argv', [
        'x', '--quality', 'a.py', 'b.pth', '--limit', '3', '--counts', '10',
        '50', '--device', 'cpu'])
    rows = tool.quality(tool.parse_args())
    assert calls == [(200, '3'), (50, '3'), (10, '3')]
    assert rows['10']['structure'] == pytest.approx(0.3)
    out = capsys.readouterr().out
    assert '| 200 (official) | 0.3950 | 100.0% |' in out
    assert '| 10 | 0.3000 | 75.9% |' in out


@pytest.mark.parametrize('flags, words', [
    (['--counts', '2'], '--counts'), (['--steps', '0'], '--steps 0'),
    (['--cuda-compile', '--device', 'cpu'], 'needs --device cuda')])
def test_bad_flags(run_tool, flags, words) -> None:
    ended = run_tool('benchmark/translation.py', *flags)
    assert ended.code == 2 and words in ended.err
