"""Transforms of pairs for pre-training."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pair_case import write_image
from PIL import Image

from osar_plugin.datasets.pair_statistics import SourceStatistics
from osar_plugin.datasets.transforms import (
    LoadPair,
    PackPretrainInputs,
    PairHorizontalFlip,
    PairRandomResizedCrop,
    PairResize,
    SARContrast,
)
from osar_plugin.datasets.transforms.pretrain_pairs import (
    Box,
    crop_resized,
    decode_8bit,
    draw_box,
)
from osar_plugin.io import decode
from osar_plugin.utils.errors import (
    ConfigError,
    CorruptImageError,
    DataFormatError,
    DatasetNotFoundError,
)

STATS = SourceStatistics((.4, .5, .6), (.1, .2, .3), (.25,), (.125,))


def encoded(pixels, kind='PNG', **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.fixture
def row(tmp_path):
    return dict(
        rgb_path=str(write_image(tmp_path / 'RGB/a.png', 1)),
        sar_path=str(write_image(tmp_path / 'SAR/a.png', 2, 'SAR')),
        paired=1, source='Mine', stats=STATS, sample_idx=7)


def loaded(paired=1, rgb=(40, 60), sar=(40, 60)):
    """Images whose values tell where they are: the same in both."""
    def ramp(height, width):
        y, x = np.mgrid[:height, :width]
        return (4 * x + 2 * y).astype(np.uint8) if width < 64 else x + y

    first = ramp(*rgb)
    return dict(
        rgb=np.repeat(first[..., None], 3, 2), sar=ramp(*sar),
        paired=paired, stats=STATS)


@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'BMP'])
@pytest.mark.parametrize('shape', [(9, 7, 3), (9, 7), (9, 7, 4)])
def test_decoding_gives_the_pixels(kind, shape):
    pixels = noise(*shape)
    if kind == 'BMP' and len(shape) == 3:
        pixels = pixels[..., :3].copy()
    image = decode_8bit(encoded(pixels, kind), 'x')
    np.testing.assert_array_equal(
        image, pixels[..., :3] if pixels.ndim == 3 else pixels)


def test_decoding_palettes_and_jpeg():
    pixels = noise(16, 16, 3)
    palette = Image.fromarray(pixels).quantize(16)
    file = io.BytesIO()
    palette.save(file, 'PNG')
    np.testing.assert_array_equal(
        decode_8bit(file.getvalue(), 'x'), np.array(palette.convert('RGB')))
    soft = cv2.GaussianBlur(noise(32, 32, 3), (0, 0), 4)
    image = decode_8bit(encoded(soft, 'JPEG', quality=98), 'x')
    assert np.abs(image.astype(int) - soft).mean() < 3


def test_damaged_files():
    data = encoded(noise(30, 30, 3))
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    for damaged in (data[:-20], bytes(flipped), b'', b'no image'):
        with pytest.raises(CorruptImageError, match=r'x\.png'):
            decode_8bit(damaged, 'x.png')
    with pytest.raises(CorruptImageError):
        decode_8bit(encoded(noise(30, 30, 3), 'JPEG')[:-40], 'x.jpg')


@pytest.mark.parametrize('pixels', [
    np.zeros((4, 4), np.uint16), np.zeros((4, 4), np.float32)])
def test_deeper_files_are_refused(pixels):
    kind = 'PNG' if pixels.dtype == np.uint16 else 'TIFF'
    with pytest.raises(DataFormatError, match='8 bit'):
        decode_8bit(encoded(pixels, kind), 'x')


def test_load(row):
    results = LoadPair().transform(dict(row))
    np.testing.assert_array_equal(
        results['rgb'], decode(row['rgb_path']))
    np.testing.assert_array_equal(
        results['sar'], decode(row['sar_path']))
    assert results['sar'].ndim == 2


def test_load_one_channel_optical_and_three_channel_sar(row):
    grey = noise(8, 9)
    Path(row['rgb_path']).write_bytes(encoded(grey))
    Path(row['sar_path']).write_bytes(encoded(np.stack([grey] * 3, -1)))
    results = LoadPair().transform(dict(row))
    np.testing.assert_array_equal(
        results['rgb'], np.repeat(grey[..., None], 3, 2))
    np.testing.assert_array_equal(results['sar'], grey)
    Path(row['sar_path']).write_bytes(encoded(noise(8, 9, 3)))
    with pytest.raises(DataFormatError, match='channels of this SAR'):
        LoadPair().transform(dict(row))


def test_load_what_is_not_there(row):
    Path(row['sar_path']).unlink()
    with pytest.raises(DatasetNotFoundError, match=r'SAR.a\.png.*SAR image'):
        LoadPair().transform(dict(row))
    Path(row['sar_path']).mkdir()
    with pytest.raises(CorruptImageError, match='cannot be read'):
        LoadPair().transform(dict(row))
    with pytest.raises(DataFormatError, match='rgb_path'):
        LoadPair().transform({})


def test_boxes_are_of_the_area_and_shape_asked_for():
    np.random.seed(0)
    boxes = np.array([draw_box(300, 400, (.2, 1), (3 / 4, 4 / 3))
                      for _ in range(2000)], float)
    top, left, height, width = boxes.T
    assert (top >= 0).all() and (top + height <= 300).all()
    assert (left >= 0).all() and (left + width <= 400).all()
    area, ratio = height * width / 120_000, width / height
    assert area.min() > .195 and ratio.min() > .73 and ratio.max() < 1.36
    # Uniform but for the shapes that do not fit.
    inside = area[area < .7]
    assert np.histogram(inside, 5, (.2, .7))[0].min() > len(inside) / 7
    assert abs(np.log(ratio[area < .5]).mean()) < .03
    # Everywhere, not in the middle only.
    small = area < .3
    assert left[small].min() < 15 and (left + width)[small].max() > 385


def test_a_shape_that_never_fits_falls_back_to_the_middle():
    assert draw_box(10, 100, (1, 1), (3 / 4, 4 / 3)) == Box(0, 43, 10, 13)
    assert draw_box(100, 10, (1, 1), (3 / 4, 4 / 3)) == Box(43, 0, 13, 10)
    assert draw_box(1, 1, (.2, .2), (1, 1)) == Box(0, 0, 1, 1)


def test_crops_are_cut_then_scaled():
    image, box = noise(60, 80, 3), Box(5, 7, 30, 40)
    part = image[5:35, 7:47]
    np.testing.assert_array_equal(
        crop_resized(image, box, (16, 24), False),
        cv2.resize(part, (24, 16), interpolation=cv2.INTER_CUBIC))
    np.testing.assert_array_equal(
        crop_resized(image, box, (16, 24), True),
        np.array(Image.fromarray(part).resize((24, 16), Image.BICUBIC)))
    np.testing.assert_array_equal(
        crop_resized(image, box, (30, 40), False), part)


def test_a_pair_is_cropped_and_mirrored_together():
    crop, flip = PairRandomResizedCrop(16), PairHorizontalFlip()
    mirrored = set()
    for seed in range(12):
        np.random.seed(seed)
        results = flip.transform(crop.transform(loaded()))
        assert results['rgb'].shape == (16, 16, 3)
        assert results['sar'].shape == (16, 16)
        np.testing.assert_array_equal(
            results['rgb'][..., 0], results['sar'])
        row = results['sar'][8].astype(int)
        mirrored.add(bool(row[3] > row[6]))
    assert mirrored == {True, False}


def test_unpaired_images_are_on_their_own():
    crop, flip = PairRandomResizedCrop(16), PairHorizontalFlip()
    same, flips = 0, set()
    for seed in range(40):
        np.random.seed(seed)
        # The sides may differ in size here.
        results = crop.transform(loaded(0, sar=(50, 30)))
        assert results['sar'].shape == (16, 16)
        results = loaded(0)
        before = [results[side].copy() for side in ('rgb', 'sar')]
        flip.transform(results)
        flips.add(tuple(
            not np.array_equal(results[side], old)
            for side, old in zip(('rgb', 'sar'), before, strict=True)))
        results = crop.transform(loaded(0))
        same += np.array_equal(results['rgb'][..., 0], results['sar'])
    assert same == 0
    assert len(flips) == 4


def test_mirroring_is_exact():
    results = loaded()
    before = results['rgb'].copy()
    PairHorizontalFlip(1.0).transform(results)
    np.testing.assert_array_equal(results['rgb'], before[:, ::-1])
    untouched = PairHorizontalFlip(0.0).transform(loaded())
    np.testing.assert_array_equal(untouched['rgb'], before)


def test_pairs_of_unequal_size():
    for step in (PairRandomResizedCrop(16), PairHorizontalFlip()):
        with pytest.raises(DataFormatError, match='60 x 40.*61 x 40'):
            step.transform(loaded(sar=(40, 61)))


def test_images_below_the_size_are_magnified():
    results = PairRandomResizedCrop(32).transform(
        loaded(rgb=(5, 6), sar=(5, 6)))
    assert results['rgb'].shape == (32, 32, 3)


def test_resize_shows_everything():
    results = PairResize((10, 15)).transform(loaded())
    np.testing.assert_array_equal(
        results['sar'], cv2.resize(
            loaded()['sar'], (15, 10), interpolation=cv2.INTER_CUBIC))


def test_features_of_the_teacher_forbid_crop_and_flip():
    teacher = np.zeros((4, 2), np.float16)
    for step in (PairRandomResizedCrop(16), PairHorizontalFlip()):
        with pytest.raises(ConfigError, match='PairResize'):
            step.transform(dict(loaded(), teacher=teacher))
    kept = PairHorizontalFlip(0).transform(dict(
        PairResize(16).transform(loaded()), teacher=teacher))
    packed = PackPretrainInputs().transform(kept)
    assert packed['inputs']['teacher'].dtype == torch.float16
    assert packed['inputs']['teacher'].shape == (4, 2)


def test_pack(row):
    results = LoadPair().transform(dict(row))
    packed = PackPretrainInputs().transform(results)
    assert set(packed['inputs']) == {'rgb', 'sar'}
    rgb, sar = packed['inputs']['rgb'], packed['inputs']['sar']
    assert rgb.dtype == sar.dtype == torch.uint8
    assert rgb.shape == (3, 20, 24) and sar.shape == (1, 20, 24)
    np.testing.assert_array_equal(
        rgb.permute(1, 2, 0).numpy(), results['rgb'])
    sample = packed['data_samples']
    assert sample.paired == 1 and sample.source == 'Mine'
    assert sample.rgb_mean == STATS.rgb_mean
    assert sample.sar_std == STATS.sar_std
    # Where hooks look for the names of a batch.
    assert sample.metainfo['rgb_img_path'] == row['rgb_path']
    assert sample.metainfo['sar_img_path'] == row['sar_path']
    assert sample.sample_idx == 7


@pytest.mark.parametrize('arguments', [
    dict(size=0), dict(size=(16,)), dict(size='16'), dict(size=(16, 2.5)),
    dict(scale=(0, 1)), dict(scale=(.5, 1.5)), dict(scale=(1, .2)),
    dict(ratio=(2, 1)), dict(ratio=(0, 1)), dict(scale=(.2, .5, 1))])
def test_bad_arguments(arguments):
    with pytest.raises(ConfigError):
        PairRandomResizedCrop(**arguments)


def test_contrast_of_sar_about_its_mean():
    torchvision = pytest.importorskip('torchvision')
    image = noise(24, 32)
    np.random.seed(3)
    results = SARContrast(0.5).transform(dict(sar=image, rgb=None))
    np.random.seed(3)
    factor = np.random.uniform(0.5, 1.5)
    peer = torchvision.transforms.functional.adjust_contrast(
        Image.fromarray(image), factor)
    np.testing.assert_array_equal(results['sar'], np.array(peer))
    assert abs(results['sar'].astype(int) - image).max() > 5
    assert results['rgb'] is None
    with pytest.raises(ConfigError, match='contrast'):
        SARContrast(1.5)


def test_bad_probability():
    for prob in (-.1, 1.1, float('nan')):
        with pytest.raises(ConfigError, match='prob'):
            PairHorizontalFlip(prob)


@pytest.mark.parametrize('step', [
    PairRandomResizedCrop(8), PairHorizontalFlip(), PackPretrainInputs()])
def test_missing_keys_are_named(step):
    for key in ('rgb', 'sar', 'paired'):
        results = loaded()
        del results[key]
        with pytest.raises(DataFormatError, match=key):
            step.transform(results)
