"""tools/assess_damage.py, and its benchmark"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from damage_scene_case import (
    rasterio,
    write,
    write_config,
    write_pair,
    write_weights,
)
from PIL import Image

TOOL = 'assess_damage.py'
SHUGUANG = Path(__file__).resolve().parents[3] / (
    'shared/data/opt_sar_change/shuguang')


@pytest.fixture(scope='module')
def model(tmp_path_factory) -> list:
    folder = tmp_path_factory.mktemp('model')
    return ['--config', write_config(folder), '--checkpoint',
            write_weights(folder)]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob('*') if path.is_file()}


def test_all_outputs(run_tool, model, tmp_path) -> None:
    pre, post = write_pair(tmp_path)
    out = tmp_path / 'out'
    ended = run_tool(
        TOOL, pre, post, '-o', out / 'd.tif', *model, '--building',
        out / 'b.png', '--picture', out / 'p.png', '--table', out / 't.json',
        '--blend', 'ramp', '--min-pixels', '5', '--device', 'cpu')
    assert ended.code == 0, ended.err
    assert names(out) == {'d.tif', 'b.png', 'p.png', 't.json'}
    states = json.loads((out / 't.json').read_text())['states']
    for row in states:
        assert f'{row["state"]}: {row["buildings"]} buildings' in ended.out
    with rasterio.open(out / 'd.tif') as file:
        assert file.crs.to_epsg() == 32637
        assert (file.read(1) == 3).sum() * 0.25 == pytest.approx(
            states[2]['map_area'], rel=1e-3)


def test_options_reach_the_model(run_tool, model, tmp_path) -> None:
    pre, post = write_pair(tmp_path)
    maps = []
    for name, options in (
            ('a.tif', ()), ('b.tif', ('--mask-by-building', )),
            ('c.tif', ('--window', '96', '--stride', '96'))):
        assert run_tool(TOOL, pre, post, '-o', tmp_path / name, *model,
                        '--device', 'cpu', *options).code == 0
        with rasterio.open(tmp_path / name) as file:
            maps.append(file.read(1))
    assert (maps[0] != maps[1]).any() and (maps[0] != maps[2]).any()


@pytest.mark.parametrize('change, match', [
    (lambda a: [a[1], a[0], *a[2:]], 'swapped'),
    (lambda a: [*a, '--picture', 'p.jpg'], 'picture='),
    (lambda a: [*a, '--window', '100'], 'multiple of 32'),
    (lambda a: [*a, '--post-range', '2', '1'], 'the smaller one first'),
    (lambda a: [a[0], 'none.tif', *a[2:]], 'no such file'),
    (lambda a: [*a, '--checkpoint', 'none.pth'], 'none.pth'),
    (lambda a: [*a, '--config', 'none.py'], 'none.py')])
def test_bad_arguments(run_tool, model, tmp_path, monkeypatch, change,
                       match) -> None:
    write_pair(tmp_path)
    monkeypatch.chdir(tmp_path)
    ended = run_tool(TOOL, *change(
        ['pre.tif', 'post.tif', '-o', 'out.tif', *model]))
    assert ended.code == 2
    assert match in ended.err and 'Traceback' not in ended.err
    assert names(tmp_path) == {'pre.tif', 'post.tif'}


def test_real_pair(run_tool, model, tmp_path) -> None:
    """Shuguang: 921 x 593 pixels, the optical image taken for the older."""
    if not SHUGUANG.is_dir():
        pytest.skip('real pair not there: ../shared/data/opt_sar_change')
    with Image.open(SHUGUANG / 'shuguang_2.bmp') as image:
        pre = write(tmp_path / 'pre.tif', np.array(image.convert('RGB')))
    with Image.open(SHUGUANG / 'shuguang_1.bmp') as image:
        post = write(tmp_path / 'post.tif', np.array(image.convert('L')))
    ended = run_tool(
        TOOL, pre, post, '-o', tmp_path / 'd.tif', *model, '--picture',
        tmp_path / 'p.png', '--window', '256', '--stride', '224',
        '--device', 'cpu')
    assert ended.code == 0, ended.err
    with rasterio.open(tmp_path / 'd.tif') as file:
        assert file.shape == (593, 921)
        assert set(np.unique(file.read(1))) <= {0, 1, 2, 3}
    with Image.open(tmp_path / 'p.png') as picture:
        assert picture.width > 2 * 921


def test_benchmark(run_python) -> None:
    """A small scene through the measuring process."""
    ended = run_python(
        'tools/benchmark/assess_damage.py', '--size', '160', '--window',
        '96', '--stride', '64')
    assert ended.code == 0, ended.err
    result = json.loads(ended.out)
    assert result['seconds'] > 0 and result['peak_mib'] < 1500
