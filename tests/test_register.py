"""tools/register.py"""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from rectangles import rectangles

from osar_plugin.utils.geometry import similarity

rasterio = pytest.importorskip('rasterio', reason='needs the extra geo')
from rasterio.transform import Affine  # noqa: E402

TOOL = 'register.py'
SIZE = (150, 180)
TRUE = similarity(2., 1.02, (4., -3.), (90., 75.))
PLACE = Affine(2, 0, 450000, 0, -2, 5400000)


def truth(fixed, moving) -> np.ndarray:
    """A method for --method that knows the answer."""
    return TRUE


def shifted(fixed, moving) -> np.ndarray:
    """A method that is wrong."""
    return np.array([[1., 0, 15], [0, 1, 9]])


def write(path: Path, image: np.ndarray, **profile) -> Path:
    with rasterio.open(
            path, 'w', driver='GTiff', count=1, height=image.shape[0],
            width=image.shape[1], dtype=image.dtype, crs='EPSG:32632',
            transform=PLACE, **profile) as file:
        file.write(image, 1)
    return path


@pytest.fixture
def pair(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    image = rectangles(SIZE, 0, longest=40)
    moving = cv2.warpAffine(image, TRUE, SIZE[::-1])
    return (write(tmp_path / 'f.tif', image),
            write(tmp_path / 'm.tif', moving), image)


def names(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob('*')
            if p.is_file()}


def test_all_outputs(run_tool, pair, tmp_path) -> None:
    fixed, moving, image = pair
    more = write(tmp_path / 'vh.tif', np.arange(
        150 * 180, dtype=np.float32).reshape(SIZE), nodata=-1)
    out = tmp_path / 'out'
    ended = run_tool(
        TOOL, fixed, moving, '-o', out / 'o.tif', '--method',
        'test_register:truth', '--apply', more, '--report',
        out / 'report.json', '--pictures', out / 'pictures')
    assert ended.code == 0, ended.err
    assert '64 of 64 tie points agree' in ended.out
    assert 'by georeference' in ended.out and '(4.' in ended.out
    assert names(out) == {
        'o.tif', 'vh_registered.tif', 'report.json',
        *(f'pictures/{name}.png' for name in (
            'checkerboard', 'overlay', 'flow', 'certainty'))}
    report = json.loads((out / 'report.json').read_text())
    assert report['ok'] and report['outputs'] == [
        str(out / 'o.tif'), str(out / 'vh_registered.tif')]
    np.testing.assert_allclose(
        report['matrix_fixed_to_moving'], TRUE, atol=1e-9)
    with rasterio.open(out / 'o.tif') as file:
        assert file.transform == PLACE
        assert np.abs(file.read(1).astype(float) - image)[
            12:-12, 12:-12].mean() < 5
    with rasterio.open(out / 'vh_registered.tif') as file:
        # A ramp: its values say which pixel was read.
        x, y = TRUE @ [100, 60, 1]
        assert abs(file.read(1)[60, 100] - (180 * y + x)) < 0.1
        assert (file.dtypes, file.nodata) == (('float32',), -1)
    overlay = cv2.imread(str(out / 'pictures/overlay.png'))[12:-12, 12:-12]
    assert np.abs(overlay[..., 0].astype(float) - overlay[..., 2]).mean() < 8


def test_a_failed_registration(run_tool, pair, tmp_path) -> None:
    out = tmp_path / 'out'
    arguments = (TOOL, *pair[:2], '-o', out / 'o.tif', '--method',
                 'test_register:shifted')
    ended = run_tool(*arguments, '--pictures', out, '--apply', pair[1],
                     '--report', out / 'report.json')
    assert ended.code == 1
    assert 'registration failed' in ended.err
    assert names(out) == {'report.json'}
    report = json.loads((out / 'report.json').read_text())
    assert not report['ok'] and report['reason'] in ended.err
    assert 'matrix_fixed_to_moving' not in report
    # Who trusts the method may say so.
    assert run_tool(*arguments, '--no-check').code == 0


@pytest.mark.parametrize('more, match', [
    (['--way', 'geotransform', '--transform', 'tps'], 'geotransform'),
    (['--method', 'sfit'], 'sift'),
    (['--overview', '3'], 'overview'),
    (['--apply', 'a/x.tif', 'b/x.tif'], 'written twice'),
    (['-o', 'o.xyz'], 'must end in'),
    (['-o', 'f.tif/o.tif'], 'cannot be written'),
    (['-o', 'm.tif'], 'also an input'),
    (['--report', 'f.tif'], 'also an input'),
    (['--moving-crs', 'EPSG:32633', '--align', 'georeference', '-o',
      'o.tif', '--fixed-bands', '4'], 'bands')])
def test_bad_arguments(run_tool, pair, tmp_path, monkeypatch, more,
                       match) -> None:
    monkeypatch.chdir(tmp_path)
    before = names(tmp_path)
    ended = run_tool(TOOL, 'f.tif', 'm.tif', '-o', 'o.tif', *more)
    assert ended.code == 2
    assert match in ended.err and 'Traceback' not in ended.err
    assert names(tmp_path) == before


def test_bad_files(run_tool, pair, tmp_path) -> None:
    out = tmp_path / 'o.tif'
    line = write(tmp_path / 'line.tif', np.zeros((1, 180), np.uint8))
    cases = ((pair[0], line, 'at least 16 x 16'),
             (pair[0], tmp_path / 'none.tif', 'no such file'))
    for fixed, moving, match in cases:
        ended = run_tool(TOOL, fixed, moving, '-o', out)
        assert ended.code == 2 and match in ended.err
        assert not out.exists()


@pytest.mark.slow
def test_a_large_scene_in_bounded_memory(run_python, tmp_path) -> None:
    """A smaller stand-in for 10,000 x 10,000."""
    ended = run_python(
        'tools/benchmark/register_scene.py', '--size', '3000',
        '--max-tiles', '9', '--folder', tmp_path)
    assert ended.code == 0, ended.err
    result = json.loads(ended.out)
    assert result['rmse_px'] < 0.5
    # Of 9 million pixels, the descriptors alone would be 180 MiB.
    assert result['peak_mib'] < 1024
