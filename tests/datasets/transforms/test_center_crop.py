"""CenterCropPad against torchvision."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import osar_plugin.registry  # noqa: F401 - readies torchvision
from osar_plugin.datasets.transforms import CenterCropPad, center_crop_pad
from osar_plugin.registry import TRANSFORMS
from osar_plugin.utils.errors import ConfigError

torchvision = pytest.importorskip('torchvision.transforms')


def chip(height: int, width: int) -> np.ndarray:
    """Without a zero, so that padding shows."""
    rng = np.random.default_rng(height * 1000 + width)
    return rng.integers(1, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize('height, width', [
    (512, 512), (128, 128), (129, 131), (130, 133), (64, 64), (63, 65),
    (88, 127), (127, 1), (200, 51), (51, 201), (129, 126)])
@pytest.mark.parametrize('size', [(128, 128), (65, 100)])
def test_the_pixels_are_torchvisions(height, width, size):
    image = chip(height, width)
    expected = np.asarray(
        torchvision.CenterCrop(size)(Image.fromarray(image)))
    sample = CenterCropPad(size).transform(dict(img=image))
    assert (sample['img'] == expected).all()
    assert sample['img'].shape[:2] == sample['img_shape'] == size
    assert sample['img'].dtype == np.uint8
    assert (center_crop_pad(image[:, :, 0], size) == expected[..., 0]).all()


@pytest.mark.parametrize('side', [70, 101, 300])
def test_the_published_pipeline(side):
    """Behind it, the resizing of the configs is torchvision's as well."""
    mmcv = pytest.importorskip('mmcv')
    image = chip(side, side + 1)
    expected = np.asarray(torchvision.Compose([
        torchvision.CenterCrop(128), torchvision.Resize(224)])(
            Image.fromarray(image)))
    cropped = TRANSFORMS.build(dict(
        type='osar_plugin.CenterCropPad', crop_size=128))(dict(img=image))
    actual = mmcv.imresize(
        cropped['img'], (224, 224), interpolation='bilinear',
        backend='pillow')
    assert (actual == expected).all()


def test_bad_sizes():
    for size in (0, (128, -1)):
        with pytest.raises(ConfigError, match='crop_size'):
            CenterCropPad(size)
    assert repr(CenterCropPad(128)) == 'CenterCropPad(crop_size=(128, 128))'
