"""Damage that the decoders of images pass over.

Pillow stops reading once it has its pixels and keeps the warnings of the
libraries below it to itself, so a PNG whose second half is zeros, a JPEG
that was cut off or a TIFF whose compressed strips fail their checksum may
come out as a picture. What the formats themselves say about being whole is
checked here, on the bytes of a file, in a small part of the time that
decoding takes.

Pixels without any checksum (JPEG, uncompressed or LZW TIFF, BMP) can change
without a trace; only a checksum of the file tells, see
:mod:`osar_plugin.utils.verification`.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

PNG_MAGIC = b'\x89PNG\r\n\x1a\n'
JPEG_MAGIC = b'\xff\xd8\xff'
# Classic TIFF in both byte orders, and BigTIFF in the one that Pillow reads.
TIFF_MAGIC = (b'II\x2a\x00', b'MM\x00\x2a', b'II\x2b\x00')

# Anything that starts with it is an image of this kind, whatever its name.
_MAGIC = {
    PNG_MAGIC: 'PNG', JPEG_MAGIC: 'JPEG', b'BM': 'BMP', b'GIF8': 'GIF',
    b'\x00\x00\x00\x0cjP  \r\n': 'JPEG 2000',
    **dict.fromkeys((*TIFF_MAGIC, b'MM\x00\x2b'), 'TIFF')}

# A marker of JPEG: 0xff and neither a stuffed zero nor a filling 0xff.
_MARKER = re.compile(rb'\xff([^\x00\xff])')
_EOI, _SOS, _RST = 0xd9, 0xda, range(0xd0, 0xd8)
# Markers that stand alone, without a length.
_BARE = {0x01, 0xd8, *_RST}

# Bytes of the TIFF types 1 to 18; 14 and 15 are not in use.
_TIFF_SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)
_COMPRESSION, _DEFLATE = 259, (8, 32946)
_CHUNKS = ((273, 279), (324, 325))  # offsets and sizes: of strips, of tiles
_PRIVATE = 32768
_PART = 1 << 20


class DamageError(ValueError):
    """An image file that says of itself that it is not whole."""


def image_format(head: bytes) -> str | None:
    """The format that the first bytes of a file show; None if unknown."""
    if head[:4] == b'RIFF' and head[8:12] == b'WEBP':
        return 'WebP'
    return next(
        (name for magic, name in _MAGIC.items() if head.startswith(magic)),
        None)


def check_whole(data: bytes) -> None:
    """Check what a PNG, JPEG or TIFF file says about being whole.

    Other formats pass.

    Args:
        data: The whole file.

    Raises:
        DamageError: With what is wrong.
    """
    if data.startswith(PNG_MAGIC):
        _check_png(data)
    elif data.startswith(JPEG_MAGIC):
        _check_jpeg(data)
    elif data.startswith(TIFF_MAGIC):
        _check_tiff(data)


def _check_png(data: bytes) -> None:
    """Checksum of every chunk, up to the one that ends the image.

    Layout: PNG specification (ISO/IEC 15948), section 5.3.
    """
    view = memoryview(data)
    place = len(PNG_MAGIC)
    while place + 12 <= len(data):
        size = int.from_bytes(view[place:place + 4], 'big')
        name = data[place + 4:place + 8]
        end = place + 8 + size
        if end + 4 > len(data):
            raise DamageError(
                f'its chunk {_name(name)} at byte {place} ends behind the '
                'end of the file')
        if zlib.crc32(view[place + 4:end]) != int.from_bytes(
                view[end:end + 4], 'big'):
            raise DamageError(
                f'its chunk {_name(name)} at byte {place} fails its checksum')
        if name == b'IEND':
            return
        place = end + 4
    raise DamageError('it ends before its last chunk, IEND')


def _name(chunk: bytes) -> str:
    return repr(chunk)[1:]


def _check_jpeg(data: bytes) -> None:
    """Restart markers in their order, and the marker that ends the image.

    Layout: ITU-T T.81, annex B.
    """
    place, restarts = 2, 0
    in_scan = False
    while match := _MARKER.search(data, place):
        code = match[1][0]
        place = match.end()
        if code == _EOI:
            if not in_scan:
                raise DamageError('it ends before its pixels begin')
            return
        if in_scan and code in _RST:
            if code - _RST[0] != restarts % 8:
                raise DamageError(
                    f'restart marker {code - _RST[0]} at byte {place - 2} '
                    f'stands where {restarts % 8} should')
            restarts += 1
        elif code not in _BARE:
            place += int.from_bytes(data[place:place + 2], 'big')
            if code == _SOS:
                in_scan, restarts = True, 0
    raise DamageError('it ends before its end marker')


def _check_tiff(data: bytes) -> None:
    """The first directory, and the checksums of deflated strips or tiles.

    Layout: TIFF 6.0, section 2; BigTIFF has 8-byte counts and offsets.
    """
    order = '<' if data[:1] == b'I' else '>'
    tags = dict(_directory(data, order))
    if _number(tags.get(_COMPRESSION), order) not in _DEFLATE:
        return
    for offsets, sizes in _CHUNKS:
        if offsets in tags and sizes in tags:
            for start, size in zip(
                    _numbers(tags[offsets], order),
                    _numbers(tags[sizes], order), strict=False):
                _check_deflated(data, start, size)


def _directory(
        data: bytes, order: str) -> Iterator[tuple[int, tuple[int, bytes]]]:
    """Tag, and type and raw value, of each entry of the first directory."""
    big = data[2] == 0x2b or data[3] == 0x2b
    head, count, word = (8, 'Q', 'Q') if big else (4, 'H', 'I')
    try:
        place, = struct.unpack_from(order + word, data, head)
        number, = struct.unpack_from(order + count, data, place)
    except struct.error:
        raise DamageError('its directory lies behind its end') from None
    place += struct.calcsize(count)
    room = struct.calcsize(word)
    step = 4 + 2 * room
    if place + number * step + room > len(data):
        raise DamageError('it ends inside its directory')
    for entry in range(place, place + number * step, step):
        tag, kind, items = struct.unpack_from(
            order + 'HH' + word, data, entry)
        width = _TIFF_SIZES[kind] if kind < len(_TIFF_SIZES) else 0
        start = entry + 4 + room
        if width * items > room:
            start, = struct.unpack_from(order + word, data, start)
            if start + width * items > len(data) and tag < _PRIVATE:
                raise DamageError(
                    f'the value of its tag {tag} lies behind its end')
        yield tag, (kind, data[start:start + width * items])


def _numbers(value: tuple[int, bytes], order: str) -> tuple[int, ...]:
    """Whole numbers of a value; none if it is of another type."""
    kind, raw = value
    letter = {1: 'B', 3: 'H', 4: 'I', 16: 'Q'}.get(kind)
    if letter is None:
        return ()
    return struct.unpack(
        f'{order}{len(raw) // struct.calcsize(letter)}{letter}', raw)


def _number(value: tuple[int, bytes] | None, order: str) -> int | None:
    numbers = _numbers(value, order) if value else ()
    return numbers[0] if numbers else None


def _check_deflated(data: bytes, start: int, size: int) -> None:
    """Inflate a strip to its end, where its checksum is.

    libtiff stops at the last pixel, which comes before the checksum.
    """
    if not size:  # sparse files leave empty tiles out
        return
    if start + size > len(data):
        raise DamageError(f'its strip at byte {start} lies behind its end')
    stream = zlib.decompressobj()
    rest = data[start:start + size]
    try:
        while rest and not stream.eof:
            # In parts: what a hostile strip inflates to is not kept.
            stream.decompress(rest, _PART)
            rest = stream.unconsumed_tail
    except zlib.error as error:
        raise DamageError(f'its strip at byte {start}: {error}') from error
    if not stream.eof:
        raise DamageError(f'its strip at byte {start} is cut off')
