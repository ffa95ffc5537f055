"""What image files say about being whole, and decoders pass over."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from osar_plugin.utils.integrity import (
    DamageError,
    check_whole,
    image_format,
)

REAL = Path(__file__).parents[3] / 'shared' / 'data'
TIFFS = {'raw': None, 'lzw': 'tiff_lzw', 'deflate': 'tiff_adobe_deflate'}


def picture() -> Image.Image:
    """Smooth with some noise, as photographs are."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, 96)[:, None, None]
    return Image.fromarray(
        (ramp + rng.integers(0, 40, (96, 80, 3))).astype(np.uint8))


def encoded(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    if kind in TIFFS:
        picture().save(buffer, 'TIFF', compression=TIFFS[kind])
    else:
        picture().save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return (
        struct.pack('>I', len(body)) + name + body
        + struct.pack('>I', zlib.crc32(name + body)))


@pytest.mark.parametrize('kind', ['png', 'jpeg', *TIFFS])
def test_whole_files_pass(kind):
    data = encoded(kind)
    check_whole(data)
    check_whole(data + b'trailing bytes')
    Image.open(io.BytesIO(data)).load()


@pytest.mark.parametrize('options', [
    dict(progressive=True), dict(restart_marker_blocks=3), dict(quality=100),
    dict(exif=b'Exif\0\0MM\0*\xff\xd9\xff\xd0'),
])
def test_jpeg_kinds_pass(options):
    check_whole(encoded('jpeg', **options))


def test_fill_bytes_before_a_marker_are_no_damage():
    data = encoded('jpeg')
    check_whole(data[:-2] + b'\xff\xff\xff' + data[-2:])


@pytest.mark.parametrize('kind', ['png', 'jpeg', 'deflate'])
@pytest.mark.parametrize('cut', [1, 2, 5, 12, 20, 300])
def test_every_cut_is_seen(kind, cut):
    with pytest.raises(DamageError):
        check_whole(encoded(kind)[:-cut])


@pytest.mark.parametrize('kind', ['png', 'jpeg'])
def test_a_tail_of_zeros_is_seen(kind):
    # What an interrupted download leaves in a file of the final size. The
    # decoders read such a PNG without a word.
    data = encoded(kind)
    half = len(data) // 2
    with pytest.raises(DamageError):
        check_whole(data[:half] + bytes(len(data) - half))


@pytest.mark.parametrize('kind', ['png', 'deflate'])
def test_every_flipped_bit_of_the_pixels_is_seen(kind):
    data = encoded(kind)
    for place in np.random.default_rng(1).integers(500, 9000, 50):
        wrong = bytearray(data)
        wrong[place] ^= 4
        with pytest.raises(DamageError):
            check_whole(bytes(wrong))


def test_png_messages_name_the_chunk():
    data = encoded('png')
    place = data.index(b'IDAT') - 4
    wrong = bytearray(data)
    wrong[place + 20] ^= 1
    with pytest.raises(
            DamageError, match=rf"'IDAT' at byte {place} fails its checksum"):
        check_whole(bytes(wrong))
    with pytest.raises(DamageError, match="'IDAT'.*behind the end"):
        check_whole(data[:place + 30])
    with pytest.raises(DamageError, match='before its last chunk'):
        check_whole(data[:-12])


def test_png_stops_at_its_end():
    # What follows IEND is no chunk any more.
    check_whole(encoded('png') + chunk(b'tEXt', b'x')[:-1])


def test_restart_markers_in_wrong_order():
    data = encoded('jpeg', restart_marker_blocks=3)
    wrong = data.replace(b'\xff\xd2', b'\xff\xd5', 1)
    assert wrong != data
    with pytest.raises(DamageError, match='marker 5 .* where 2 should'):
        check_whole(wrong)


def test_jpeg_that_ends_before_its_pixels():
    with pytest.raises(DamageError, match='before its pixels'):
        check_whole(b'\xff\xd8\xff\xd9')


def directory(
        order: str, big: bool, compression: int, strip: bytes) -> bytes:
    """A TIFF of a strip and a directory behind it, nothing more."""
    magic = b'II' if order == '<' else b'MM'
    head = (magic + struct.pack(order + 'HHH', 43, 8, 0) if big
            else magic + struct.pack(order + 'H', 42))
    word, count = ('Q', 'Q') if big else ('I', 'H')
    start = len(head) + struct.calcsize(word)
    tags = [(259, 3, compression), (273, 4, start), (279, 4, len(strip))]
    data = head + struct.pack(order + word, start + len(strip)) + strip
    data += struct.pack(order + count, len(tags))
    for tag, kind, value in tags:
        data += struct.pack(order + 'HH' + word, tag, kind, 1)
        data += struct.pack(order + {3: 'H', 4: 'I'}[kind], value).ljust(
            8 if big else 4, b'\0')
    return data + bytes(struct.calcsize(word))


@pytest.mark.parametrize('compression', [8, 32946])
@pytest.mark.parametrize(
    ('order', 'big'), [('<', False), ('>', False), ('<', True)])
def test_deflated_strips_of_all_tiffs(order, big, compression):
    strip = zlib.compress(bytes(range(256)) * 10)
    check_whole(directory(order, big, compression, strip))
    with pytest.raises(DamageError, match='incorrect data check'):
        check_whole(directory(
            order, big, compression, strip[:-1] + b'x'))
    with pytest.raises(DamageError, match='cut off'):
        check_whole(directory(order, big, compression, strip[:-2]))
    # Other compressions have no checksum to look at.
    check_whole(directory(order, big, 5, strip[:-1] + b'x'))


@pytest.mark.parametrize('big', [False, True])
def test_tiff_directory_that_is_cut(big):
    data = directory('<', big, 1, b'pixels')
    for cut in (1, 4, 20):
        with pytest.raises(DamageError, match='directory'):
            check_whole(data[:-cut])
    with pytest.raises(DamageError, match='directory lies behind'):
        check_whole(data[:14])


def test_tiff_strip_that_lies_behind_the_end():
    data = directory('<', False, 8, b'')
    where = data.index(struct.pack('<HHI', 279, 4, 1)) + 8
    with pytest.raises(DamageError, match='strip at byte 8 lies behind'):
        check_whole(data[:where] + struct.pack('<I', 9999) + data[where + 4:])


def test_a_strip_that_inflates_to_gigabytes_is_not_kept():
    import tracemalloc
    strip = zlib.compress(bytes(200 << 20), 9)
    data = directory('<', False, 8, strip)
    tracemalloc.start()
    check_whole(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_damage_ends_in_a_few_errors_only():
    # Whatever the bytes: no IndexError, no MemoryError, no endless loop.
    rng = np.random.default_rng(3)
    for kind in ('png', 'jpeg', *TIFFS):
        data = encoded(kind)
        for _ in range(60):
            wrong = bytearray(data)
            for place in rng.integers(0, min(600, len(data)), 4):
                wrong[place if rng.random() < 0.5 else -place - 1] = \
                    rng.integers(256)
            with contextlib.suppress(DamageError):
                check_whole(bytes(wrong))


@pytest.mark.parametrize(
    ('kind', 'name'), [
        ('png', 'PNG'), ('jpeg', 'JPEG'), ('tiff', 'TIFF'), ('bmp', 'BMP'),
        ('gif', 'GIF'), ('webp', 'WebP')])
def test_format_by_content(kind, name):
    assert image_format(encoded(kind)[:16]) == name
    assert image_format(b'# a readme') is None
    assert image_format(b'') is None


def test_real_images_are_whole():
    files = [
        path for path in REAL.rglob('*')
        if path.suffix in ('.png', '.jpg', '.tif')]
    if not files:
        pytest.skip('no real images: ../shared/data')
    for path in files:
        check_whole(path.read_bytes())
