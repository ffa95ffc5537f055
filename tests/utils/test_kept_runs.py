"""What the drivers of ablations share."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path

import pytest

from osar_plugin.utils.errors import CheckpointError, ConfigError
from osar_plugin.utils.kept_runs import (
    choose,
    conditions,
    keep,
    kept,
    last_figures,
    mean_and_spread,
    run_tool,
    spread_table,
)


def test_mean_and_spread() -> None:
    assert mean_and_spread([1., 3.]) == (2., math.sqrt(2))
    assert mean_and_spread([4.]) == (4., 0.)


def test_a_run_is_kept_for_its_conditions_alone(tmp_path: Path) -> None:
    config = tmp_path / 'config.py'
    config.write_text('lr = 1\n')
    (tmp_path / 'demo_world.json').write_text('seed 0')
    first = conditions(config, ['a=1'], tmp_path, 'weights')
    keep(tmp_path / 'result.json', dict(mAP=3.), first)
    assert kept(tmp_path / 'result.json', first)['mAP'] == 3.
    others = [conditions(config, ['a=2'], tmp_path, 'weights'),
              conditions(config, ['a=1'], tmp_path, 'others')]
    (tmp_path / 'demo_world.json').write_text('seed 1')
    others.append(conditions(config, ['a=1'], tmp_path, 'weights'))
    (tmp_path / 'demo_world.json').write_text('seed 0')
    config.write_text('lr = 2\n')
    others.append(conditions(config, ['a=1'], tmp_path, 'weights'))
    assert len({first, *others}) == 5
    for other in others:
        assert kept(tmp_path / 'result.json', other) is None
    assert kept(tmp_path / 'gone.json', first) is None


def test_the_last_evaluation_of_the_last_start(tmp_path: Path) -> None:
    for start, rows in (('1', [dict(mAP=1.)]), ('2', [
            dict(loss=2.), dict(mAP=5.), dict(mAP=7., step=2),
            dict(loss=1.)])):
        folder = tmp_path / start / 'vis_data'
        folder.mkdir(parents=True)
        (folder / 'scalars.json').write_text(
            '\n'.join(map(json.dumps, rows)))
    assert last_figures(tmp_path, 'mAP') == dict(mAP=7., step=2)
    with pytest.raises(CheckpointError, match='hold no mIoU'):
        last_figures(tmp_path, 'mIoU')
    with pytest.raises(CheckpointError, match='hold no mAP'):
        last_figures(tmp_path / 'empty', 'mAP')


def test_table() -> None:
    runs = dict(first=[dict(a=1., b=2.), dict(a=3., b=2.)],
                second=[dict(a=10., b=0.)])
    assert spread_table(runs, ('a', 'b'), 'model').splitlines() == [
        '| model | a | b |', '|---|--:|--:|',
        '| first | 2.0 ± 1.4 | 2.0 ± 0.0 |',
        '| second | 10.0 ± 0.0 | 0.0 ± 0.0 |']


def test_what_is_asked_for() -> None:
    known = dict(first=1, second=2)
    assert choose('--rows', None, known) == ['first', 'second']
    assert choose('--rows', ['second'], known) == ['second']
    with pytest.raises(ConfigError, match="--rows 'secnd'.*'first'.*Did you"):
        choose('--rows', ['first', 'secnd'], known)


def test_a_failed_tool_ends_the_driver(tmp_path: Path) -> None:
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools/bad.py').write_text('import sys; sys.exit(3)')
    (tmp_path / 'tools/good.py').write_text(
        'import sys; open("out", "w").write(sys.argv[1])')
    run_tool(tmp_path, 'good', tmp_path)
    assert (tmp_path / 'out').read_text() == str(tmp_path)
    with pytest.raises(subprocess.CalledProcessError):
        run_tool(tmp_path, 'bad')
