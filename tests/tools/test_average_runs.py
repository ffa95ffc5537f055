"""tools/analysis/average_runs.py."""

from __future__ import annotations

import json
import math

import pytest

TOOL = 'analysis/average_runs.py'


def write_run(folder, values, started='1'):
    curves = folder / started / 'vis_data/scalars.json'
    curves.parent.mkdir(parents=True)
    rows = [dict(lr=1e-3, loss=2., time=1., iter=9, step=9)]
    rows += [{'accuracy/top1': value, 'time': 1., 'data_time': .5,
              'step': step} for step, value in values.items()]
    curves.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return folder


def test_last_and_best(tmp_path, run_tool):
    runs = [write_run(tmp_path / '0', {5: 40., 10: 60., 15: 50.}),
            write_run(tmp_path / '1', {5: 40., 10: 30., 15: 35.})]
    ended = run_tool(TOOL, *runs)
    assert ended.code == 0, ended.err
    spreads = [math.sqrt(2) * half for half in (7.5, 10)]
    assert ended.out.splitlines()[2] == (
        f'| accuracy/top1 | 2 | 42.50 ± {spreads[0]:.2f} | '
        f'50.00 ± {spreads[1]:.2f} |')
    ended = run_tool(TOOL, *runs, '--smaller')
    assert '| 35.00 ± 7.07 |' in ended.out


def test_a_run_that_was_resumed(tmp_path, run_tool):
    write_run(tmp_path / '0', {5: 40., 10: 99.})
    write_run(tmp_path / '0', {10: 60., 15: 50.}, started='2')
    ended = run_tool(TOOL, tmp_path / '0')
    assert '| 1 | 50.00 ± 0.00 | 60.00 ± 0.00 |' in ended.out


def test_runs_of_different_lengths(tmp_path, run_tool):
    runs = [write_run(tmp_path / '0', {5: 40., 10: 60.}),
            write_run(tmp_path / '1', {5: 40.})]
    ended = run_tool(TOOL, *runs)
    assert ended.code == 0 and 'different numbers' in ended.err


@pytest.mark.parametrize('extra, text', [
    ((), 'no evaluation'), (('--figures', 'mIoU'), 'mIoU')])
def test_what_is_refused(tmp_path, run_tool, extra, text):
    (tmp_path / 'empty').mkdir()
    run = write_run(tmp_path / '0', {5: 40.}) if extra else tmp_path / 'empty'
    ended = run_tool(TOOL, run, *extra)
    assert ended.code == 2 and text in ended.err, ended.err
