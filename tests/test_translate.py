"""tools/translate.py"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from translation_case import (
    CONFIG,
    write_config,
    write_geotiff,
    write_optical,
    write_sar,
    write_weights,
)

from osar_plugin.apis import OpticalToSARInferencer

TOOL = 'translate.py'


@pytest.fixture(scope='module')
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp('case')
    config = write_config(folder)
    return config, write_weights(folder, config)


@pytest.fixture
def translate(run_tool, case, tmp_path):
    def run(*inputs, config=case[0], weights=case[1], out='out'):
        return run_tool(
            TOOL, *inputs, '-o', tmp_path / out, '--config', config,
            '--checkpoint', weights, '--device', 'cpu', '--amp', 'off')

    return run


@pytest.fixture
def chips(tmp_path) -> Path:
    folder = tmp_path / 'chips'
    write_optical(folder / '0001_s01c1_RGB.tif', 1)
    write_optical(folder / 'more' / 'b.png', 2, (20, 20))
    write_sar(folder / '0001_s01c1_SAR.tif')
    return folder


def files(folder: Path) -> dict[str, float]:
    """Names below a folder and when they were last written."""
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns
            for p in sorted(folder.rglob('*')) if p.is_file()}


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == 'L'
        return np.asarray(image)


def test_folder(translate, chips, tmp_path, case) -> None:
    ended = translate(chips, '--sar', chips)
    assert ended.code == 0, ended.err
    assert '2 images translated, 0 kept' in ended.out
    out = tmp_path / 'out'
    names = [f'{stem}_sar_{k}.png' for stem in (
        '0001_s01c1_RGB', 'more/b') for k in range(3)]
    assert list(files(out)) == sorted([*names, 'contact_sheet.png'])
    expected = OpticalToSARInferencer(*case, 'cpu', False)(chips)
    for name, view in zip(
            names, [v for r in expected for v in r.views], strict=True):
        assert np.abs(read(out / name) - view.astype(int)).max() <= 1
    with Image.open(out / 'contact_sheet.png') as sheet:
        with_real = sheet.size
    translate(chips, out='other')
    with Image.open(tmp_path / 'other' / 'contact_sheet.png') as sheet:
        assert sheet.width < with_real[0]


def test_what_is_whole_is_kept(translate, chips, tmp_path) -> None:
    translate(chips)
    out = tmp_path / 'out'
    before = files(out)
    picture = (out / 'contact_sheet.png').read_bytes()
    ended = translate(chips)
    assert '0 images translated, 2 kept' in ended.out
    after = files(out)
    assert {k: v for k, v in after.items() if 'sheet' not in k} == {
        k: v for k, v in before.items() if 'sheet' not in k}
    assert (out / 'contact_sheet.png').read_bytes() == picture

    def again(*flags, **options):
        ended = translate(chips, *flags, **options)
        return ended.out.split(' images translated')[0].splitlines()[-1]

    # One view is missing, one cut off, one of another image.
    missing = out / '0001_s01c1_RGB_sar_1.png'
    content = missing.read_bytes()
    missing.unlink()
    assert again() == '1'
    assert missing.read_bytes() == content
    missing.write_bytes(content[:-20])
    assert again() == '1'
    missing.write_bytes((out / 'more' / 'b_sar_1.png').read_bytes())
    assert again() == '1'
    # A picture of the right size that does not say what it is.
    Image.fromarray(read(missing)).save(missing)
    assert again() == '1'
    assert missing.read_bytes() == content
    assert again() == '0'
    # Another image under the same name, other settings, and by force.
    write_optical(chips / '0001_s01c1_RGB.tif', 9)
    assert again() == '1'
    assert again('--steps', '5') == '2'
    assert again('--steps', '5') == '0'
    assert again('--steps', '5', '--force') == '2'
    # Fewer views are there already.
    assert again('--steps', '5', '--views', '2') == '0'


def test_other_weights_are_other_views(translate, chips, tmp_path,
                                       case) -> None:
    translate(chips)
    other = write_weights(tmp_path, case[0], seed=4)
    assert '2 images translated' in translate(chips, weights=other).out


def test_bad_images_are_listed(translate, chips, tmp_path) -> None:
    broken = write_optical(chips / 'broken.png', 3)
    broken.write_bytes(broken.read_bytes()[:100])
    ended = translate(
        chips, chips / '0001_s01c1_SAR.tif', tmp_path / 'none.png')
    assert ended.code == 1
    assert '2 images translated, 0 kept from before, 3 failed' in ended.out
    lines = [x for x in ended.out.splitlines() if x.startswith('failed: ')]
    assert 'broken.png' in lines[0]
    assert '0001_s01c1_SAR.tif is a SAR image by its name' in lines[1]
    assert '--modality optical' in lines[1]
    assert 'none.png: no such file' in lines[2]
    assert (tmp_path / 'out' / 'more' / 'b_sar_2.png').is_file()
    assert not list((tmp_path / 'out').glob('broken*'))
    forced = translate(chips / '0001_s01c1_SAR.tif', '--modality', 'optical')
    assert forced.code == 0


def test_geotiff(translate, tmp_path, monkeypatch) -> None:
    rasterio = pytest.importorskip('rasterio', reason='needs the extra geo')
    source = write_geotiff(tmp_path / 'scene.tif', (70, 40))
    for flags in ((), ('--tile', )):
        ended = translate(source, *flags)
        assert ended.code == 0, ended.err
        assert '1 images translated' in ended.out
        with rasterio.open(source) as one:
            for k in range(3):
                with rasterio.open(
                        tmp_path / 'out' / f'scene_sar_{k}.tif') as two:
                    assert two.count == 1 and two.dtypes == ('uint8', )
                    assert (two.crs, two.transform, two.shape) == (
                        one.crs, one.transform, one.shape)
        assert '0 images translated, 1 kept' in translate(
            source, *flags).out
    monkeypatch.setitem(sys.modules, 'rasterio', None)
    ended = translate(source, weights='not even looked for')
    assert ended.code == 2 and 'osar_plugin[geo]' in ended.err


def test_a_killed_run_leaves_nothing_half_done(
        case, chips, tmp_path, run_tool, monkeypatch) -> None:
    """Stopped at its second file, and started again."""
    import osar_plugin.io as io
    real, calls = os.replace, []

    def stop(source, target):
        if str(target).endswith('.png'):
            calls.append(target)
            if len(calls) == 2:
                raise KeyboardInterrupt
        real(source, target)

    flags = (chips, '-o', tmp_path / 'out', '--config', case[0],
             '--checkpoint', case[1], '--amp', 'off', '--batch-size', '1')
    with monkeypatch.context() as patch:
        patch.setattr(io.os, 'replace', stop)
        with pytest.raises(KeyboardInterrupt):
            run_tool(TOOL, *flags)
    assert list(files(tmp_path / 'out')) == ['0001_s01c1_RGB_sar_0.png']
    ended = run_tool(TOOL, *flags)
    assert ended.code == 0
    assert '2 images translated, 0 kept' in ended.out


@pytest.mark.parametrize('flags, words', [
    (['--batch-size', '0'], '--batch-size 0'),
    (['--max-rows', '0'], '--max-rows 0'),
    (['--steps', '2'], 'steps=2'), (['--views', '0'], 'views=0')])
def test_bad_flags(translate, chips, tmp_path, flags, words) -> None:
    ended = translate(chips, *flags)
    assert ended.code == 2 and words in ended.err
    assert not (tmp_path / 'out').exists()


def test_a_preset_beyond_the_schedule(translate, chips, tmp_path) -> None:
    config = write_config(tmp_path, CONFIG.replace(
        'model = dict(', 'model = dict(schedule=dict(num_timesteps=100),'))
    ended = translate(chips, '--preset', 'official', config=config)
    assert ended.code == 2 and 'steps=200' in ended.err


def test_bad_paths(translate, chips, tmp_path) -> None:
    ended = translate(chips, out='chips/out')
    assert ended.code == 2 and 'lies in the input folder' in ended.err
    write_optical(chips / 'more' / 'b.jpg', 2)
    ended = translate(chips)
    assert ended.code == 2 and 'would both write' in ended.err
    ended = translate(tmp_path / 'nothing')
    assert ended.code == 1 and 'no such file' in ended.out
    assert not (tmp_path / 'out').exists()
