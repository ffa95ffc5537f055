"""tools/analysis/show_denoising.py on chips of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TOOL = 'analysis/show_denoising.py'


@pytest.fixture
def chips(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for pid in range(3):
        image = rng.gamma(1.2, 40., (60, 14)).astype(np.float32)
        Image.fromarray(image).save(tmp_path / f'000{pid}_s01c1_SAR.tif')
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(
        tmp_path / '0000_s01c1_RGB.tif')
    return tmp_path


def test_sheet(chips: Path, run_tool) -> None:
    ended = run_tool(TOOL, chips, chips / 'a.png', '--rows', '2')
    assert ended.code == 0, ended.err
    with Image.open(chips / 'a.png') as picture:
        assert picture.width == 1500 and picture.height > 300
        assert len(np.unique(np.asarray(picture.convert('L')))) > 100
    first = (chips / 'a.png').read_bytes()
    run_tool(TOOL, chips, chips / 'a.png', '--rows', '2')
    assert (chips / 'a.png').read_bytes() == first
    # The share changes what is shown.
    run_tool(TOOL, chips, chips / 'a.png', '--rows', '2', '--alpha', '30')
    assert (chips / 'a.png').read_bytes() != first


@pytest.mark.parametrize('flags, words', [
    (['--alpha', '100'], 'alpha=100'), (['--rows', '0'], '--rows 0')])
def test_bad_flags(chips: Path, run_tool, flags, words) -> None:
    ended = run_tool(TOOL, chips, chips / 'a.png', *flags)
    assert ended.code and words in ended.err
    assert not (chips / 'a.png').exists()


def test_bad_paths(tmp_path: Path, chips: Path, run_tool) -> None:
    ended = run_tool(TOOL, tmp_path / 'none', tmp_path / 'a.png')
    assert ended.code and 'no SAR image' in ended.err
    ended = run_tool(TOOL, chips, tmp_path / 'a.jpg')
    assert ended.code and 'is a .png' in ended.err
