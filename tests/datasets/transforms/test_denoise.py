"""Denoising of SAR, by hand and against the released code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from osar_plugin.datasets.transforms import (
    LoadOpticalOrSAR,
    SARDenoise,
    SARToUint8,
    truncate_lowest,
)
from osar_plugin.utils.errors import ConfigError, DataFormatError

GOLDEN = np.load(
    Path(__file__).parents[2] / 'goldens' / 'reid_data.npz')


def sar(image):
    return dict(img=image, modality=1, img_path='a/chip_SAR.tif')


def test_released_form():
    got = SARDenoise()(sar(GOLDEN['sar_image']))['img']
    assert got.shape == (61, 23, 3)
    for channel in range(3):
        np.testing.assert_array_equal(
            got[:, :, channel], GOLDEN['sar_u8_mos'])
    same = SARToUint8(mode='percentile')(sar(GOLDEN['sar_image']))['img']
    np.testing.assert_array_equal(got, same)


def test_paper_form_by_hand():
    """20 % of ten values: 0 and 1 go, 2 becomes 0 and 12 becomes 255."""
    image = np.array([[7, 0, 12, 3, 4], [1, 5, 6, 2, 8]], np.float32)
    expected = [[int(255 * (p - 2) / 10) if p > 2 else 0 for p in row]
                for row in image.tolist()]
    assert truncate_lowest(image, 20.).tolist() == expected
    # The released form cuts between the order statistics 1 and 2, at 1.8.
    official = SARDenoise('official', 20.)(sar(image))['img'][:, :, 0]
    assert official[1, 3] == int(255 * 0.2 / 10.2)


def test_the_share_is_rounded_down_and_not_by_accident():
    image = np.arange(100, dtype=np.float32).reshape(10, 10)
    for alpha, lowest in ((0., 0), (7., 7), (7.9, 7), (99., 99), (29., 29)):
        got = truncate_lowest(image, alpha)
        zero = (got == 0).sum()
        if lowest == 99:  # a single value is left: nothing to stretch
            assert zero == 100
            continue
        # Everything up to and with p_min, and what is cut below 1.
        step = 255 / (99 - lowest)
        assert zero == lowest + 1
        assert got.ravel()[lowest + 1] == int(step)


def test_equal_values_end_alike():
    image = np.array([1, 1, 1, 1, 2, 5], np.float32)
    assert truncate_lowest(image, 34.).tolist() == [0, 0, 0, 0, 63, 255]


def test_paper_form_shifts_with_the_image():
    """Calibration offsets and gains change nothing."""
    rng = np.random.default_rng(0)
    image = rng.gamma(1.2, 40., (40, 20)).astype(np.float32)
    near = truncate_lowest(image * 3 + 10).astype(int)
    assert np.abs(near - truncate_lowest(image)).max() <= 1


def test_forms_agree_but_for_the_gap_at_the_cut():
    rng = np.random.default_rng(1)
    image = rng.gamma(1.2, 40., (115, 26)).astype(np.float32)
    paper = SARDenoise('paper')(sar(image))['img'].astype(int)
    official = SARDenoise('official')(sar(image))['img'].astype(int)
    assert np.abs(paper - official).max() <= 1
    assert (paper == 0).mean() >= 0.05


def test_real_chips(hoss_mini_root):
    files = sorted((hoss_mini_root / 'HOSS' / 'bounding_box_train').glob(
        '*_SAR.tif'))
    assert files
    for path in files:
        chip = LoadOpticalOrSAR()(dict(img_path=str(path), modality=1))
        plain = SARToUint8()(dict(chip))['img']
        for form in ('official', 'paper'):
            got = SARDenoise(form)(dict(chip))['img']
            # The lowest twentieth is black, and the brightest stay.
            assert (got == 0).mean() >= 0.049
            assert got.max() >= 254
            # Echoes get weaker, and none overtakes another.
            assert (got <= plain).all()
            order = chip['img'].ravel().argsort(kind='stable')
            values = got[..., 0].ravel()[order].astype(int)
            assert (np.diff(values) >= 0).all()


@pytest.fixture
def hoss_mini_root():
    root = Path(__file__).parents[4] / 'shared' / 'data' / 'hoss_mini'
    if not root.is_dir():
        pytest.skip('real chips not there: ../shared/data/hoss_mini')
    return root


def test_optical_is_left_alone():
    image = np.zeros((4, 4, 3), np.uint8)
    results = SARDenoise()(dict(img=image, modality=0))
    assert results['img'] is image


def test_as_is():
    image = np.array([[0, 100], [200, 255]], np.float32)
    results = dict(img=image, modality=1, img_path='x_SAR.png')
    got = SARDenoise('paper', as_is=['.png'])(results)['img']
    np.testing.assert_array_equal(got[:, :, 0], image)


@pytest.mark.parametrize('form', ['official', 'paper'])
@pytest.mark.parametrize('value', [0., 3.])
def test_nothing_to_show(form, value):
    image = np.full((4, 4), value, np.float32)
    with pytest.raises(DataFormatError, match=r'chip_SAR\.tif.*above its'):
        SARDenoise(form)(sar(image))
    assert not SARDenoise(form, strict=False)(sar(image))['img'].any()


@pytest.mark.parametrize('arguments, words', [
    (dict(form='median'), "form='median'.*official, paper"),
    (dict(alpha=100.), 'alpha=100'), (dict(alpha=-1.), 'alpha=-1')])
def test_bad_arguments(arguments, words):
    with pytest.raises(ConfigError, match=words):
        SARDenoise(**arguments)
    if 'alpha' in arguments:
        with pytest.raises(ConfigError, match=words):
            truncate_lowest(np.ones(3), arguments['alpha'])
