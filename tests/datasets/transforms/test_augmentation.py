"""Augmentation: the pixels of torchvision on Pillow, the chances of timm."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from mmengine.registry import TRANSFORMS, DefaultScope
from PIL import Image
from scipy import stats

from osar_plugin.compat import require
from osar_plugin.datasets.transforms import (
    ColorJitter,
    PadRandomCrop,
    PillowResize,
    RandomErasing,
)
from osar_plugin.datasets.transforms.augmentation import jitter, pad_crop
from osar_plugin.utils.errors import ConfigError, DataFormatError

MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope='module')
def functional():
    pytest.importorskip('scipy')
    try:
        return require('torchvision.transforms.functional', 'reid')
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture
def image():
    rng = np.random.default_rng(3)
    smooth = np.cumsum(rng.normal(0, 9, (70, 41, 3)), axis=0) + 128
    return np.clip(smooth, 0, 255).astype(np.uint8)


@pytest.mark.parametrize('shape', [(256, 128), (37, 20), (300, 90)])
@pytest.mark.parametrize('interpolation', ['bilinear', 'bicubic'])
def test_resize_is_torchvision(functional, image, shape, interpolation):
    want = np.array(functional.resize(
        Image.fromarray(image), list(shape),
        interpolation=functional.InterpolationMode(interpolation)))
    got = PillowResize(shape, interpolation)(dict(img=image))['img']
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize('order', list(itertools.permutations(range(4))))
def test_jitter_is_torchvision(functional, image, order):
    rng = np.random.default_rng(sum(order[:2]))
    factors = [*rng.uniform(0.6, 1.4, 3), rng.uniform(-0.5, 0.5)]
    changes = (
        functional.adjust_brightness, functional.adjust_contrast,
        functional.adjust_saturation, functional.adjust_hue)
    want = Image.fromarray(image)
    for index in order:
        want = changes[index](want, factors[index])
    got = jitter(Image.fromarray(image), order, factors)
    np.testing.assert_array_equal(np.array(got), np.array(want))


def test_jitter_draws_orders_and_factors_evenly():
    np.random.seed(0)
    transform = ColorJitter(0.2, 0.3, 0.4)
    draws = [transform.draw() for _ in range(2400)]
    orders = [tuple(order) for order, _ in draws]
    counts = [orders.count(p) for p in itertools.permutations(range(4))]
    assert stats.chisquare(counts).pvalue > 1e-3
    for index, half in enumerate((0.2, 0.3, 0.4)):
        factors = [factors[index] for _, factors in draws]
        assert stats.kstest(
            factors, 'uniform', (1 - half, 2 * half)).pvalue > 1e-3
    assert all(factors[3] is None for _, factors in draws)


def test_jitter_off_changes_nothing(image):
    got = ColorJitter(0, 0, 0, 0)(dict(img=image.copy()))['img']
    np.testing.assert_array_equal(got, image)


def test_jitter_changes_and_follows_the_numpy_seed(image):
    outs = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        outs.append(ColorJitter()(dict(img=image.copy()))['img'])
    np.testing.assert_array_equal(outs[0], outs[1])
    assert (outs[0] != outs[2]).any() and (outs[0] != image).any()


@pytest.mark.parametrize(('top', 'left'), [(0, 0), (20, 20), (3, 17)])
def test_crop_is_torchvision(functional, image, top, left):
    padded = functional.pad(Image.fromarray(image), 10, fill=0)
    want = functional.crop(padded, top, left, 70, 41)
    got = pad_crop(image, (70, 41), 10, 0, top, left)
    np.testing.assert_array_equal(got, np.array(want))
    assert got.flags['C_CONTIGUOUS']


def test_crop_reaches_every_offset_evenly():
    # Each pixel holds its own place, so the crop tells its offset.
    rows, columns = np.mgrid[:64, :48]
    image = np.stack([rows, columns, rows * 0 + 1], -1).astype(np.uint8)
    np.random.seed(0)
    tops, lefts = np.zeros(21, int), np.zeros(21, int)
    transform = PadRandomCrop((64, 48), 10)
    for _ in range(3000):
        crop = transform(dict(img=image))['img']
        assert crop.shape == (64, 48, 3)
        tops[int(crop[32, 24, 0]) - 32 + 10] += 1
        lefts[int(crop[32, 24, 1]) - 24 + 10] += 1
    assert stats.chisquare(tops).pvalue > 1e-3
    assert stats.chisquare(lefts).pvalue > 1e-3


def test_crop_larger_than_the_image():
    with pytest.raises(DataFormatError, match=r'b\.tif.*Resize'):
        PadRandomCrop((64, 48), 2)(dict(
            img=np.zeros((50, 50, 3), np.uint8), img_path='b.tif'))


def erased_boxes(transform, count, height=256, width=128):
    """Draw boxes: (n, 4) of top, left, rows, columns."""
    return np.array([transform.draw(height, width) for _ in range(count)])


def reference_boxes(rng, count, height=256, width=128):
    """The same distribution by rejection, all draws at once."""
    area = rng.uniform(0.02, 1 / 3, 4 * count) * height * width
    aspect = np.exp(rng.uniform(np.log(0.3), -np.log(0.3), 4 * count))
    rows = np.round(np.sqrt(area * aspect))
    columns = np.round(np.sqrt(area / aspect))
    fits = (rows < height) & (columns < width)
    return rows[fits][:count], columns[fits][:count]


def test_erased_boxes_have_the_distribution_of_the_recipe():
    np.random.seed(5)
    boxes = erased_boxes(RandomErasing(), 4000)
    top, left, rows, columns = boxes.T
    assert (top >= 0).all() and (top + rows <= 256).all()
    assert (left >= 0).all() and (left + columns <= 128).all()
    share = rows * columns / (256 * 128)
    assert share.min() > 0.018 and share.max() < 0.345
    assert share.min() < 0.03 and share.max() > 0.3
    want = reference_boxes(np.random.default_rng(6), 4000)
    assert stats.ks_2samp(rows, want[0]).pvalue > 1e-3
    assert stats.ks_2samp(columns, want[1]).pvalue > 1e-3
    # Tall and flat boxes are equally likely where both fit.
    small = share < 0.1
    aspect = np.log(rows[small] / columns[small])
    assert abs(aspect.mean()) < 4 * aspect.std() / math.sqrt(small.sum())
    # Even over the places a box of its size can take.
    assert stats.kstest(
        (top + np.random.uniform(size=4000)) / (257 - rows),
        'uniform').pvalue > 1e-3


def test_erasing_probability_and_noise():
    np.random.seed(7)
    image = np.full((64, 32, 3), 40, np.uint8)
    transform = RandomErasing(prob=0.2)
    noise, erased = [], 0
    for _ in range(1500):
        got = transform(dict(img=image))['img']
        assert got.dtype == np.float32
        changed = (got != 40).all(axis=2)
        if changed.any():
            erased += 1
            rows, columns = np.nonzero(changed)
            # One full rectangle.
            assert changed.sum() == (
                np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            noise.append((got[changed] / 255 - MEAN) / STD)
    assert (image == 40).all()
    assert stats.binomtest(erased, 1500, 0.2).pvalue > 1e-3
    values = np.concatenate(noise)
    assert values.min() < -3 and values.max() > 3  # not clipped
    for channel in values.T:
        assert stats.kstest(channel[:20000], 'norm').pvalue > 1e-3
    assert np.abs(np.corrcoef(values.T) - np.eye(3)).max() < 0.02


def test_erasing_off_and_box_that_never_fits():
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    got = RandomErasing(prob=0)(dict(img=image))['img']
    np.testing.assert_array_equal(got, image.astype(np.float32))
    transform = RandomErasing(prob=1, area=(1.0, 1.0), aspect=(1.0, 1.0))
    np.testing.assert_array_equal(
        transform(dict(img=image))['img'], image.astype(np.float32))


def test_flip_is_found_under_our_scope_from_any_scope(image):
    for scope in ('mmengine', 'osar_plugin', 'mmdet'):
        with DefaultScope.overwrite_default_scope(scope):
            flip = TRANSFORMS.build(
                dict(type='osar_plugin.RandomFlip', prob=1.0))
        got = flip(dict(img=image.copy(), img_shape=image.shape[:2]))['img']
        np.testing.assert_array_equal(got, image[:, ::-1])


def test_float_sar_is_sent_to_the_sar_transform():
    image = np.zeros((4, 4), np.float32)
    for transform in (PillowResize(), ColorJitter()):
        with pytest.raises(DataFormatError, match='SARToUint8'):
            transform(dict(img=image))


@pytest.mark.parametrize(('kind', 'arguments'), [
    (PillowResize, dict(interpolation='cubic')),
    (ColorJitter, dict(hue=0.6)), (ColorJitter, dict(contrast=-1)),
    (PadRandomCrop, dict(padding=-1)),
    (RandomErasing, dict(prob=1.5)), (RandomErasing, dict(area=(0.5, 0.1))),
])
def test_arguments(kind, arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        kind(**arguments)


def test_boxes_reach_the_last_row_and_column():
    np.random.seed(8)
    transform = RandomErasing(area=(0.25, 0.25), aspect=(1.0, 1.0))
    places = {tuple(transform.draw(4, 4)) for _ in range(300)}
    assert places == set(itertools.product(range(3), range(3), [2], [2]))
