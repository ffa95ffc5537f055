"""Optical images and labels of BRIGHT in every layout that GDAL writes."""

from __future__ import annotations

import numpy as np
import pytest
from damage_scene_case import rasterio, write
from PIL import Image

from osar_plugin.datasets.bright import PALETTE
from osar_plugin.datasets.transforms.damage import read_labels, read_pre
from osar_plugin.utils.errors import CorruptImageError, DataFormatError


@pytest.mark.parametrize('count', [3, 4, 5])
@pytest.mark.parametrize('options', [
    dict(photometric='minisblack', interleave='pixel'),
    dict(photometric='minisblack', interleave='band'),
    dict(photometric='rgb', interleave='band'),
    dict(photometric='rgb', interleave='pixel', compress='deflate'),
    dict(photometric='minisblack', interleave='pixel', compress='lzw')])
def test_bands_of_any_layout(tmp_path, count, options) -> None:
    bands = np.random.default_rng(0).integers(
        0, 256, (40, 48, count), np.uint8)
    path = write(tmp_path / 'pre.tif', bands, **options)
    np.testing.assert_array_equal(read_pre(path), bands[..., :3])


@pytest.mark.parametrize('options', [
    dict(photometric='minisblack'), dict(photometric='rgb')])
def test_damaged_bands_of_any_layout(tmp_path, options) -> None:
    """Cut short, and with the data of a strip destroyed."""
    path = tmp_path / 'pre.tif'
    write(path, np.random.default_rng(0).integers(
        0, 256, (40, 48, 5), np.uint8), compress='deflate', **options)
    whole = path.read_bytes()
    path.write_bytes(whole[:-200])
    with pytest.raises(CorruptImageError, match='pre.tif'):
        read_pre(path)
    middle = len(whole) // 2
    path.write_bytes(
        whole[:middle] + bytes(200) + whole[middle + 200:])
    with pytest.raises(CorruptImageError, match='pre.tif'):
        read_pre(path)


@pytest.mark.parametrize('bands', [
    np.zeros((40, 48, 4), np.uint16), np.zeros((40, 48, 2), np.uint8),
    np.zeros((40, 48, 3), np.uint16)])
def test_optical_images_that_are_refused(tmp_path, bands) -> None:
    with pytest.raises(DataFormatError, match='-b 1 -b 2 -b 3'):
        read_pre(write(tmp_path / 'pre.tif', bands))


LABELS = np.random.default_rng(1).choice(
    [0, 1, 2, 3], (40, 48)).astype(np.uint8)


@pytest.mark.parametrize('kind', [
    'uint8', 'int8', 'uint16', 'int16', 'uint32', 'int32', 'int64',
    'uint64'])
def test_labels_of_any_depth(tmp_path, kind) -> None:
    labels = LABELS.copy()
    if kind != 'int8':
        labels[0] = 255
    path = write(tmp_path / 'labels.tif', labels.astype(kind))
    found = read_labels(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize('bits, photometric', [
    (1, 'minisblack'), (1, 'miniswhite'), (2, 'minisblack'),
    (4, 'minisblack'), (8, 'miniswhite')])
def test_labels_are_not_stretched(tmp_path, bits, photometric) -> None:
    labels = np.minimum(LABELS, 2**bits - 1)
    path = write(tmp_path / 'labels.tif', labels, nbits=bits,
                 photometric=photometric)
    np.testing.assert_array_equal(read_labels(path), labels)


def test_labels_with_colours(tmp_path) -> None:
    """As this package writes them, and as PNG."""
    path = tmp_path / 'labels.tif'
    with rasterio.open(
            path, 'w', driver='GTiff', count=1, height=40, width=48,
            dtype='uint8', nodata=255, photometric='palette') as file:
        file.write_colormap(1, {
            i: (*colour, 255) for i, colour in enumerate(PALETTE)})
        file.write(LABELS[None])
    np.testing.assert_array_equal(read_labels(path), LABELS)
    image = Image.fromarray(LABELS, 'P')
    image.putpalette(np.array(PALETTE, np.uint8).tobytes())
    for bits in (2, 8):
        image.save(tmp_path / 'labels.png', bits=bits)
        np.testing.assert_array_equal(
            read_labels(tmp_path / 'labels.png'), LABELS)


@pytest.mark.parametrize('labels, match', [
    (LABELS.astype(np.float32), 'float32'),
    (LABELS.astype(np.int16) - 1, r'values \[-1\]'),
    (LABELS.astype(np.uint16) + 256, r'values \[256')])
def test_labels_that_are_refused(tmp_path, labels, match) -> None:
    with pytest.raises(DataFormatError, match=match) as caught:
        read_labels(write(tmp_path / 'labels.tif', labels))
    assert 'one scale' not in str(caught.value)
    assert 'destroyed' in str(caught.value)
