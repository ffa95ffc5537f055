"""Readers: every depth and band count, and files that are no good."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageFile

from osar_plugin.io import atomic_write, decode, read_optical, read_sar
from osar_plugin.utils.errors import (
    ConfigError,
    CorruptImageError,
    DataFormatError,
    DatasetNotFoundError,
)

_KINDS = {'u': 1, 'i': 2, 'f': 3, 'c': 6}


def write_tiff(path, image, order='<', big=False, extra=None):
    """Write an uncompressed one-strip TIFF of any sample type."""
    image = np.atleast_3d(image)
    height, width, bands = image.shape
    image = image.astype(image.dtype.newbyteorder(order))
    bits = image.dtype.itemsize * 8
    tags = [
        (256, 4, [width]), (257, 4, [height]), (258, 3, [bits] * bands),
        (259, 3, [1]), (262, 3, [2 if bands == 3 else 1]), (273, 4, [0]),
        (277, 3, [bands]), (278, 4, [height]), (279, 4, [image.nbytes]),
        (284, 3, [1])]
    if extra is not None:
        tags.append((338, 3, [extra]))
    tags.append((339, 3, [_KINDS[image.dtype.kind]] * bands))
    head, count, offset, step = (
        (16, 'Q', 'Q', 20) if big else (8, 'H', 'I', 12))
    room = 8 if big else 4
    spare = head + struct.calcsize(count) + step * len(tags) + room
    # Long values go behind the directory, then the pixels.
    values = [
        struct.pack(order + {3: 'H', 4: 'I'}[kind] * len(items), *items)
        for _, kind, items in tags]
    start = spare + sum(len(v) for v in values if len(v) > room)
    directory = struct.pack(order + count, len(tags))
    tail = b''
    for (tag, kind, items), value in zip(tags, values, strict=True):
        if tag == 273:
            value = struct.pack(order + 'I', start)
        if len(value) > room:
            place = struct.pack(order + offset, spare + len(tail))
            tail += value
        else:
            place = value.ljust(room, b'\0')
        directory += struct.pack(
            order + 'HH' + offset, tag, kind, len(items)) + place
    directory += struct.pack(order + offset, 0)
    magic = b'II' if order == '<' else b'MM'
    header = (
        magic + struct.pack(order + 'HHHQ', 43, 8, 0, 16) if big
        else magic + struct.pack(order + 'HI', 42, 8))
    path.write_bytes(header + directory + tail + image.tobytes())
    return path


def ramp(dtype, bands=1, low=0, high=None):
    """(9, 7[, bands]) values over the range of the type, channels unequal."""
    if high is None:
        high = 1e5 if np.dtype(dtype).kind == 'f' else np.iinfo(dtype).max
    image = np.linspace(low, high, 63 * bands).astype(dtype)
    image = image.reshape(9, 7, bands)
    return image[:, :, 0] if bands == 1 else image


DEPTHS = [
    np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32,
    np.float32, np.float64]


@pytest.mark.parametrize('bands', [1, 3])
@pytest.mark.parametrize('dtype', DEPTHS)
def test_sar_keeps_the_values_of_every_depth(tmp_path, dtype, bands):
    if np.dtype(dtype) == np.uint32 and bands == 3:
        pytest.skip('neither Pillow nor OpenCV reads 3 x uint32')
    low = 0 if np.dtype(dtype).kind == 'u' else -50
    image = ramp(dtype, bands, low=low)
    got = read_sar(write_tiff(tmp_path / 'x.tif', image))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, image.astype(np.float32))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_three_equal_channels_are_one(tmp_path, dtype):
    image = ramp(dtype)
    path = write_tiff(
        tmp_path / 'x.tif', np.repeat(image[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(read_sar(path), image.astype(np.float32))


@pytest.mark.parametrize(
    ('order', 'big'), [('<', False), ('>', False), ('<', True)])
@pytest.mark.parametrize('dtype', [np.uint16, np.float32])
def test_byte_orders_and_bigtiff(tmp_path, order, big, dtype):
    image = ramp(dtype)
    path = write_tiff(tmp_path / 'x.tif', image, order, big)
    np.testing.assert_array_equal(read_sar(path), image.astype(np.float32))


def test_sixteen_bit_colour_keeps_its_low_byte(tmp_path):
    # Pillow would give the high byte: 0 and 1 here.
    image = ramp(np.uint16, 3, high=300)
    path = write_tiff(tmp_path / 'x.tif', image)
    assert read_sar(path).max() == 300
    optical = read_optical(path)
    assert optical.max() == 255 and len(np.unique(optical)) > 100
    np.testing.assert_allclose(optical, image * (255 / 300), atol=0.51)


def test_sixteen_bit_png(tmp_path):
    image = ramp(np.uint16, high=4000)
    Image.fromarray(image).save(tmp_path / 'x.png')
    np.testing.assert_array_equal(
        read_sar(tmp_path / 'x.png'), image.astype(np.float32))
    cv2 = pytest.importorskip('cv2')
    colour = ramp(np.uint16, 3, high=4000)
    cv2.imwrite(str(tmp_path / 'c.png'), colour[:, :, ::-1])
    np.testing.assert_array_equal(
        read_sar(tmp_path / 'c.png'), colour.astype(np.float32))


@pytest.mark.parametrize(
    'mode', ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK', 'YCbCr'])
def test_optical_is_what_pillow_converts(tmp_path, mode):
    rng = np.random.default_rng(0)
    image = Image.fromarray(
        rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).convert(mode)
    path = tmp_path / ('x.jpg' if mode in ('CMYK', 'YCbCr') else 'x.png')
    image.save(path)
    want = np.array(Image.open(path).convert('RGB'))
    got = read_optical(path)
    assert got.dtype == np.uint8 and got.shape == (20, 30, 3)
    np.testing.assert_array_equal(got, want)


def test_optical_alpha_of_tiff_is_dropped(tmp_path):
    image = ramp(np.uint8, 4)
    path = write_tiff(tmp_path / 'x.tif', image, extra=2)
    # Photometric "RGB" is needed for Pillow to see colour in four samples.
    data = bytearray(path.read_bytes())
    entry = data.index(struct.pack('<HHI', 262, 3, 1)) + 8
    data[entry] = 2
    path.write_bytes(bytes(data))
    np.testing.assert_array_equal(read_optical(path), image[:, :, :3])


@pytest.mark.parametrize('read', [read_optical, read_sar])
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
@pytest.mark.parametrize('bands', [2, 4, 5])
def test_band_counts_that_are_no_picture(tmp_path, read, dtype, bands):
    path = write_tiff(tmp_path / 'bands.tif', ramp(dtype, bands), extra=0)
    with pytest.raises(DataFormatError) as error:
        read(path)
    message = str(error.value)
    assert 'bands.tif' in message and f'{bands} bands' in message
    assert 'gdal_translate -b 1' in message


def test_complex_samples(tmp_path):
    path = write_tiff(tmp_path / 'slc.tif', np.ones((4, 4), np.complex64))
    with pytest.raises(DataFormatError, match=r'slc\.tif.*complex'):
        read_sar(path)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_nan_sar_names_file_count_and_cure(tmp_path, bad):
    image = ramp(np.float32)
    image[2, 3:5] = bad
    path = write_tiff(tmp_path / 'nan.tif', image)
    with pytest.raises(DataFormatError) as error:
        read_sar(path)
    message = str(error.value)
    assert 'nan.tif' in message and '2 of 63' in message
    assert "nonfinite='zero'" in message
    got = read_sar(path, nonfinite='zero')
    image[2, 3:5] = 0
    np.testing.assert_array_equal(got, image)
    with pytest.raises(DataFormatError, match='2 of 63'):
        read_optical(path)


def test_unknown_nonfinite(tmp_path):
    with pytest.raises(ConfigError, match='nonfinite'):
        read_sar(tmp_path / 'x.tif', nonfinite='ignore')


def _encoded(kind):
    """Bytes of an image large enough to be cut anywhere."""
    rng = np.random.default_rng(1)
    buffer = io.BytesIO()
    if kind == 'float tif':
        Image.fromarray(
            rng.random((64, 48), dtype=np.float32)).save(buffer, 'TIFF')
    elif kind == 'lzw tif':
        Image.fromarray(rng.integers(0, 9, (64, 48), dtype=np.uint8)).save(
            buffer, 'TIFF', compression='tiff_lzw')
    else:
        Image.fromarray(
            rng.integers(0, 256, (64, 48, 3), dtype=np.uint8)).save(
                buffer, kind.upper())
    return buffer.getvalue()


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('read', [read_optical, read_sar])
@pytest.mark.parametrize('keep', [0.0, 0.02, 0.3, 0.9])
@pytest.mark.parametrize(
    'kind', ['tiff', 'float tif', 'lzw tif', 'png', 'jpeg'])
def test_truncated(tmp_path, read, kind, keep):
    data = _encoded(kind)
    path = tmp_path / 'cut.tif'
    path.write_bytes(data)
    read(path)
    path.write_bytes(data[:int(keep * len(data))])
    with pytest.raises(CorruptImageError) as error:
        read(path)
    assert 'cut.tif' in str(error.value)


@pytest.mark.parametrize('kind', ['tiff', 'lzw tif', 'png', 'jpeg', 'bmp'])
def test_truncated_where_pillow_was_told_to_read_on(
        tmp_path, monkeypatch, kind):
    monkeypatch.setattr(ImageFile, 'LOAD_TRUNCATED_IMAGES', True)
    data = _encoded(kind)
    path = tmp_path / 'cut.img'
    path.write_bytes(data[:len(data) * 2 // 3])
    with pytest.raises(CorruptImageError, match=r'cut\.img'):
        decode(path)
    # The flag belongs to somebody else.
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_png_whose_tail_is_zeros(tmp_path):
    # Pillow and OpenCV give pixels for it.
    data = _encoded('png')
    path = tmp_path / 'zeros.png'
    path.write_bytes(data[:-100] + bytes(100))
    with pytest.raises(CorruptImageError, match=r'zeros\.png.*IDAT'):
        read_optical(path)


@pytest.mark.parametrize('keep', [0.3, 0.9])
def test_truncated_beyond_pillow(tmp_path, keep):
    path = write_tiff(tmp_path / 'cut.tif', ramp(np.uint16, 3))
    data = path.read_bytes()
    path.write_bytes(data[:int(keep * len(data))])
    with pytest.raises(CorruptImageError, match=r'cut\.tif'):
        read_sar(path)


@pytest.mark.filterwarnings('ignore')
def test_damaged_bytes_never_escape_as_other_errors(tmp_path):
    rng = np.random.default_rng(2)
    data = _encoded('float tif')
    path = tmp_path / 'bad.tif'
    for _ in range(200):
        wrong = bytearray(data)
        # The directory is at one of the ends; hit both.
        for index in rng.integers(0, 200, 3):
            wrong[index if rng.random() < 0.5 else -index - 1] = \
                rng.integers(256)
        path.write_bytes(bytes(wrong))
        try:
            read_sar(path)
        except (CorruptImageError, DataFormatError) as error:
            assert 'bad.tif' in str(error)


def test_no_image_no_file_no_permission(tmp_path):
    (tmp_path / 'note.tif').write_text('not an image')
    with pytest.raises(
            CorruptImageError, match=r'note\.tif.*no image format'):
        read_sar(tmp_path / 'note.tif')
    with pytest.raises(DatasetNotFoundError, match=r'gone\.tif.*data_root'):
        read_optical(tmp_path / 'gone.tif')
    (tmp_path / 'folder.tif').mkdir()
    with pytest.raises(CorruptImageError, match=r'folder\.tif'):
        read_optical(tmp_path / 'folder.tif')


def test_atomic_write_is_whole_or_nothing(tmp_path):
    path = tmp_path / 'new' / 'x.txt'
    with atomic_write(path) as file:
        file.write('first')
        assert not path.exists()
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write('half')
        raise RuntimeError
    assert path.read_text() == 'first'
    assert [item.name for item in path.parent.iterdir()] == ['x.txt']
