"""Loading, ship size and 8-bit SAR, against the official numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from osar_plugin.datasets.transforms import (
    LoadOpticalOrSAR,
    PillowResize,
    SARToUint8,
    ShipSize,
    scale_by_max,
    scale_by_percentiles,
)
from osar_plugin.utils.errors import ConfigError, DataFormatError

GOLDEN = np.load(
    Path(__file__).parents[2] / 'goldens' / 'reid_data.npz')


def sar(image, **kwargs):
    return dict(img=image, modality=1, img_path='a/chip_SAR.tif', **kwargs)


def test_official_eight_bit_values():
    image = GOLDEN['sar_image']
    np.testing.assert_array_equal(
        scale_by_max(image), GOLDEN['sar_u8_transoss'])
    np.testing.assert_array_equal(
        scale_by_percentiles(image), GOLDEN['sar_u8_mos'])


@pytest.mark.parametrize(('mode', 'key'), [
    ('max', 'sar_u8_transoss'), ('percentile', 'sar_u8_mos')])
def test_sar_becomes_three_equal_channels(mode, key):
    got = SARToUint8(mode=mode)(sar(GOLDEN['sar_image']))['img']
    assert got.dtype == np.uint8 and got.shape == (61, 23, 3)
    for channel in range(3):
        np.testing.assert_array_equal(got[:, :, channel], GOLDEN[key])


def test_official_test_tensor_and_training_pixels(tmp_path):
    path = tmp_path / '0001_s01c1_SAR.tif'
    Image.fromarray(GOLDEN['sar_image']).save(path)
    results = LoadOpticalOrSAR()(dict(img_path=str(path), modality=1))
    assert results['ori_shape'] == (61, 23)
    results = SARToUint8()(results)
    test = PillowResize((256, 128), 'bilinear')(dict(results))
    assert test['img_shape'] == test['img'].shape[:2] == (256, 128)
    assert results['img'].shape == (61, 23, 3)
    tensor = test['img'].transpose(2, 0, 1).astype(np.float32) / 255
    mean = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
    std = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]
    np.testing.assert_array_equal(
        ((tensor - mean) / std)[:, ::8, ::8], GOLDEN['sar_val_tensor_sub'])
    train = PillowResize((256, 128), 'bicubic')(dict(results))
    np.testing.assert_array_equal(
        train['img'][::8, ::8, 0], GOLDEN['sar_train_resize_u8_sub'])


def test_official_size_vectors():
    transform = ShipSize()
    for (width, height), modality, want in zip(
            GOLDEN['raw_wh'].tolist(), GOLDEN['modality'].tolist(),
            GOLDEN['img_wh'], strict=True):
        # The pixel size of the file counts, not that of the resized image.
        got = transform(dict(
            ori_shape=(height, width), img_shape=(256, 128),
            modality=modality))['size']
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, want)


def test_size_constants_are_arguments():
    got = ShipSize(
        gsd=(0.5, 2.0), limits=(10, 100), means=(0, 0), scales=(1, 1))(
            dict(ori_shape=(50, 10), modality=1))['size']
    np.testing.assert_allclose(got, [2.0, 1.0, 5.0])


def test_optical_passes_the_sar_transform(tmp_path):
    image = np.random.default_rng(0).integers(
        0, 256, (9, 7, 3), dtype=np.uint8)
    path = tmp_path / 'x.png'
    Image.fromarray(image).save(path)
    results = LoadOpticalOrSAR()(dict(img_path=str(path), modality=0))
    results = SARToUint8()(results)
    np.testing.assert_array_equal(results['img'], image)


def test_unequal_channels_are_scaled_together():
    image = np.stack([np.full((4, 4), v, np.float32) for v in (1, 2, 4)], -1)
    got = SARToUint8()(sar(image))['img']
    np.testing.assert_array_equal(got[0, 0], [63, 127, 255])


def test_negative_values_become_black():
    image = np.array([[-5, 0, 5, 10]], np.float32)
    np.testing.assert_array_equal(scale_by_max(image), [[0, 0, 127, 255]])


@pytest.mark.parametrize('mode', ['max', 'percentile'])
def test_all_zero_sar(mode):
    image = np.zeros((5, 4), np.float32)
    with pytest.raises(DataFormatError) as error:
        SARToUint8(mode=mode)(sar(image))
    message = str(error.value)
    assert 'a/chip_SAR.tif' in message and 'zero everywhere' in message
    assert 'strict=False' in message
    got = SARToUint8(mode=mode, strict=False)(sar(image))['img']
    assert got.shape == (5, 4, 3) and got.dtype == np.uint8 and not got.any()


def test_decibels_need_the_percentile_mode():
    image = np.linspace(-30, -5, 20, dtype=np.float32).reshape(5, 4)
    with pytest.raises(DataFormatError, match='decibels'):
        SARToUint8()(sar(image))
    got = SARToUint8(mode='percentile')(sar(image))['img']
    assert got.min() == 0 and got.max() >= 254


def test_files_that_are_eight_bit_already():
    transform = SARToUint8(as_is=['.PNG'])
    image = np.array([[3, 100]], np.float32)
    results = transform(dict(sar(image), img_path='x_SAR.png'))
    np.testing.assert_array_equal(results['img'][..., 0], [[3, 100]])
    assert transform(sar(image))['img'].max() == 255
    with pytest.raises(DataFormatError, match=r'x_SAR\.png.*as_is'):
        transform(dict(sar(image * 9), img_path='x_SAR.png'))


@pytest.mark.parametrize('arguments', [
    dict(mode='log'), dict(low=50, high=50), dict(low=-1), dict(high=101)])
def test_arguments_of_the_sar_transform(arguments):
    with pytest.raises(ConfigError):
        SARToUint8(**arguments)


@pytest.mark.parametrize(('transform', 'results', 'key'), [
    (LoadOpticalOrSAR(), dict(img_path='x'), 'modality'),
    (LoadOpticalOrSAR(), dict(modality=0), 'img_path'),
    (SARToUint8(), dict(modality=1), 'img'),
    (SARToUint8(), dict(img=0), 'modality'),
    (ShipSize(), dict(modality=1), 'ori_shape'),
    (PillowResize(), dict(), 'img'),
])
def test_missing_keys_are_named(transform, results, key):
    with pytest.raises(DataFormatError) as error:
        transform(results)
    assert repr(key) in str(error.value)
    assert type(transform).__name__ in str(error.value)


def test_unknown_modality():
    with pytest.raises(DataFormatError, match=r'2.*neither 0 .* nor 1'):
        LoadOpticalOrSAR()(dict(img_path='x.tif', modality=2))
    with pytest.raises(ConfigError, match='nonfinite'):
        LoadOpticalOrSAR(nonfinite='skip')
