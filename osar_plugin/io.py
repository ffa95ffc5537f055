"""Images in and out, and files that appear whole or not at all."""

from __future__ import annotations

import os
import struct
import tempfile
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import (
    Image,
    ImageFile,
    TiffImagePlugin,
    UnidentifiedImageError,
)

from .compat import require
from .utils.errors import (
    ConfigError,
    CorruptImageError,
    DataFormatError,
    DatasetNotFoundError,
    OSARError,
)
from .utils.integrity import PNG_MAGIC, TIFF_MAGIC, check_whole

# What Pillow's plug-ins let through for damaged files.
_DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError,
    EOFError, struct.error, zlib.error, Image.DecompressionBombError)


@contextmanager
def atomic_write(path: str | Path, mode: str = 'w') -> Iterator[IO]:
    """Open a file that takes its name only once it is complete.

    The content goes to a temporary file in the same folder, is flushed to
    the disk and then renamed over ``path``. If the body raises, nothing is
    left behind and an earlier file of that name stays as it was.

    Args:
        path: The file to write; its folder is made where missing.
        mode: ``'w'`` (UTF-8 text) or ``'wb'``.

    Yields:
        The open file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f'.{path.name}.', suffix='.tmp')
    try:
        encoding = None if 'b' in mode else 'utf-8'
        newline = None if 'b' in mode else ''
        with os.fdopen(
                handle, mode, encoding=encoding, newline=newline) as file:
            # mkstemp makes files private; give what `open` would have given.
            os.chmod(name, 0o666 & ~_umask())
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
        sync_folder(path.parent)
    except BaseException:
        if os.path.exists(name):
            os.unlink(name)
        raise


def sync_folder(folder: str | Path) -> None:
    """Flush the names in a folder to the disk.

    A renamed file survives a killed process without it, but not a power
    cut. File systems that cannot do this for folders are left alone.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def _umask() -> int:
    """The process's umask; reading it means setting it for a moment."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_optical(path: str | Path) -> np.ndarray:
    """Read an optical image as 8-bit RGB.

    8-bit files of any colour mode give exactly what Pillow's
    ``convert('RGB')`` gives; alpha is dropped. Deeper files (16 or 32 bit,
    float) would come out of Pillow cut off at 255 or at their high byte, so
    they are scaled linearly such that the largest value of the image
    becomes 255; values below zero become 0.

    Args:
        path: PNG, JPEG, TIFF or whatever Pillow reads.

    Returns:
        (H, W, 3) uint8, channels red, green, blue.

    Raises:
        DatasetNotFoundError: If there is no such file.
        CorruptImageError: If it cannot be decoded whole.
        DataFormatError: If it has neither 1 nor 3 bands, or holds NaN or
            infinity.
    """
    image = decode(path)
    if image.dtype != np.uint8:
        _count_nonfinite(image, path, cure='Replace them before use.')
        top = float(image.max())
        scaled = image.astype(np.float64) * (255.0 / top if top > 0 else 0.0)
        image = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    return image


def read_sar(path: str | Path, nonfinite: str = 'raise') -> np.ndarray:
    """Read a SAR image in its own range.

    Nothing is scaled: 8, 16 and 32-bit integers and floats come back as
    float32 with the values of the file, negative ones (decibels) included.
    Three equal channels, as in SAR saved by image viewers, are one channel.

    Args:
        path: TIFF, PNG, ... with 1 or 3 bands of any depth.
        nonfinite: What to do with NaN and infinity: ``'raise'``, or
            ``'zero'`` to read them as 0, i.e. no return.

    Returns:
        (H, W) float32, or (H, W, 3) if the three channels differ.

    Raises:
        DatasetNotFoundError: If there is no such file.
        CorruptImageError: If it cannot be decoded whole.
        DataFormatError: If it has neither 1 nor 3 bands, or holds NaN or
            infinity and ``nonfinite='raise'``.
    """
    if nonfinite not in ('raise', 'zero'):
        raise ConfigError(
            f'nonfinite={nonfinite!r} is not known: use "raise" or "zero".')
    image = decode(path)
    if image.ndim == 3 and (image == image[:, :, :1]).all():
        image = image[:, :, 0]
    image = image.astype(np.float32)
    if nonfinite == 'zero':
        return np.where(np.isfinite(image), image, np.float32(0))
    _count_nonfinite(
        image, path,
        cure='Fill them in the file, or read them as 0 with '
        "nonfinite='zero' (an argument of osar_plugin.LoadOpticalOrSAR and "
        'of osar_plugin.io.read_sar).')
    return image


def _count_nonfinite(
        image: np.ndarray, path: str | Path, cure: str) -> None:
    """Raise if the image holds NaN or infinity."""
    if image.dtype.kind != 'f':
        return
    count = int(image.size - np.isfinite(image).sum())
    if count:
        raise DataFormatError(
            f'{path}: {count} of {image.size} values are NaN or infinite; '
            f'finite values are expected. {cure}')


def decode(path: str | Path) -> np.ndarray:
    """Decode a file whole.

    Returns:
        (H, W) or (H, W, 3) in the depth of the file.

    Raises:
        DatasetNotFoundError: If there is no such file.
        CorruptImageError: If it cannot be decoded whole.
        DataFormatError: If it is no picture of 1 or 3 bands.
    """
    path = Path(path)
    return decode_bytes(_read_bytes(path), path)


def read_indices(path: str | Path) -> np.ndarray:
    """Read a map of classes: the numbers that the file holds.

    Palettes give their indices, not their colours, and samples of 1, 2 or 4
    bits are not stretched to 255, as pictures are.

    Returns:
        (H, W), or (H, W, 3) of a picture, in the depth of the file.

    Raises:
        DatasetNotFoundError: If there is no such file.
        CorruptImageError: If it cannot be decoded whole.
        DataFormatError: If it has neither 1 nor 3 bands.
    """
    path = Path(path)
    return decode_bytes(_read_bytes(path), path, indices=True)


def read_bands(path: str | Path, count: int) -> np.ndarray:
    """Read the first bands of a TIFF, whatever its bands are said to be.

    Pillow knows no TIFF of three or more bands that are not called colours,
    of five or more, or of four that lie one after the other; GDAL does.

    Args:
        path: The file.
        count: Bands to read.

    Returns:
        (H, W, count) in the depth of the file.

    Raises:
        DatasetNotFoundError: If there is no such file.
        CorruptImageError: If it cannot be decoded whole.
        MissingDependencyError: Without the package rasterio.
    """
    path = Path(path)
    data = _read_bytes(path)
    try:
        check_whole(data)
    except _DECODE_ERRORS as error:
        raise _corrupt(path, error, data) from error
    rasterio = require('rasterio', 'geo')
    unplaced = require('rasterio.errors', 'geo').NotGeoreferencedWarning
    try:
        with warnings.catch_warnings():
            # Tiles have no place on Earth.
            warnings.simplefilter('ignore', unplaced)
            with rasterio.MemoryFile(data) as memory, memory.open() as file:
                bands = file.read(list(range(1, count + 1)))
    except (*_DECODE_ERRORS, rasterio.errors.RasterioError) as error:
        raise _corrupt(path, error, data) from error
    return np.ascontiguousarray(bands.transpose(1, 2, 0))


class TiffSamples(NamedTuple):
    """What the header of a TIFF says of a pixel.

    Attributes:
        bands: Samples of a pixel, alpha included.
        bits: Of each.
        kind: 1 unsigned, 2 signed, 3 float, 5 and 6 complex.
        colours: Red, green and blue lie beside each other, as Pillow
            expects them.
    """

    bands: int
    bits: int
    kind: int
    colours: bool


def tiff_samples(path: str | Path) -> TiffSamples | None:
    """The samples of a TIFF; None of other files and unreadable headers."""
    try:
        data = Path(path).read_bytes()
        if data[:4] not in TIFF_MAGIC:
            return None
        tags = _tiff_tags(data)
    except _DECODE_ERRORS:
        return None
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1, ))
    kind = tags.get(TiffImagePlugin.SAMPLEFORMAT, (1, ))
    # 2 is RGB, 6 YCbCr.
    colours = tags.get(
        TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) in (2, 6) and tags.get(
            TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 1
    return TiffSamples(
        int(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)), int(bits[0]),
        int(kind[0]), colours)


def decode_bytes(data: bytes, path: str | Path,
                 indices: bool = False) -> np.ndarray:
    """Decode the content of a file, see :func:`decode`.

    Args:
        data: The whole file.
        path: Its name, for the errors.
        indices: See :func:`read_indices`.
    """
    path = Path(path)
    try:
        check_whole(data)
        layout = _layout(data)
        if layout is not None:
            _check_bands(layout, path)
        if layout is not None and layout.beyond_pillow:
            return _decode_deep(data, layout)
        with _whole_only, Image.open(BytesIO(data)) as image:
            # `open` reads the header only; decoding happens here.
            image.load()
            array = (_pillow_indices(image, data) if indices
                     else _pillow_array(image))
    except OSARError:
        raise
    except _DECODE_ERRORS as error:
        raise _corrupt(path, error, data) from error
    if layout is not None and layout.bits == 32 and array.dtype == np.int32:
        # Pillow has no unsigned 32-bit mode and hands over the raw words.
        return array.view(np.uint32) if layout.kind == 1 else array
    return array


def _corrupt(path: Path, error: Exception, data: bytes) -> CorruptImageError:
    return CorruptImageError(
        f'{path}: cannot be decoded ({_reason(error)}). The file '
        f'({len(data)} bytes) is truncated, damaged or no image; copy '
        'or download it again.')


def _reason(error: Exception) -> str:
    """What a decoder says, without the address of our buffer."""
    if isinstance(error, UnidentifiedImageError):
        return 'no image format is recognised'
    return str(error) or type(error).__name__


class _WholeOnly:
    """Has Pillow refuse truncated files even where it was told not to.

    Other packages of a process set this flag of Pillow, for everybody. It
    is put back when the last thread that decodes here is done.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._found = False

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._found = ImageFile.LOAD_TRUNCATED_IMAGES
                ImageFile.LOAD_TRUNCATED_IMAGES = False
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                ImageFile.LOAD_TRUNCATED_IMAGES = self._found


_whole_only = _WholeOnly()


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DatasetNotFoundError(
            f'{path}: no such file. Check the path, and data_root in the '
            'config.') from error
    except OSError as error:
        raise CorruptImageError(f'{path}: cannot be read ({error}).') \
            from error


def _pillow_array(image: Image.Image) -> np.ndarray:
    """The pixels of a loaded image, without alpha."""
    if image.mode in ('L', 'I', 'F') or image.mode.startswith('I;16'):
        array = np.array(image)
        return array.astype(array.dtype.newbyteorder('='), copy=False)
    return np.array(
        image.convert('L' if image.mode in ('1', 'LA', 'La') else 'RGB'))


def _pillow_indices(image: Image.Image, data: bytes) -> np.ndarray:
    """The numbers of a loaded image, as the file has them."""
    if image.mode not in ('1', 'L', 'P'):
        return _pillow_array(image)
    array = np.array(image).astype(np.uint8)
    bits, inverted = 8, False
    if data.startswith(PNG_MAGIC):
        bits = data[24]
    elif data[:4] in TIFF_MAGIC:
        tags = _tiff_tags(data)
        bits = int(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1, ))[0])
        # 0: white is zero, which Pillow turns round.
        inverted = tags.get(
            TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 1) == 0
    top = 2**bits - 1
    if image.mode == 'L':
        array //= 255 // top  # Pillow stretches 2 and 4 bits
    return top - array if inverted and image.mode != 'P' else array


class _Layout(NamedTuple):
    """Sample layout of a TIFF or PNG, as its header states it.

    Attributes:
        bands: Samples per pixel, without alpha.
        bits: Bits per sample.
        kind: TIFF sample format: 1 unsigned, 2 signed, 3 float, 5 and 6
            complex.
    """

    bands: int
    bits: int
    kind: int

    @property
    def beyond_pillow(self) -> bool:
        """Whether Pillow refuses it or hands over less than the file has.

        Pillow keeps the high byte only of 16-bit colour, takes signed bytes
        for unsigned ones, and knows no 64-bit samples.
        """
        return (
            (self.bands == 3 and self.bits != 8) or self.bits == 64
            or (self.kind == 2 and (self.bits == 8 or self.bands == 3)))


def _layout(data: bytes) -> _Layout | None:
    """Read the sample layout; None where Pillow can be trusted anyway."""
    if data.startswith(PNG_MAGIC) and len(data) > 25:
        bits, colour = data[24], data[25]
        if bits == 16:
            return _Layout(3 if colour & 2 else 1, bits, 1)
        return None
    if data[:4] not in TIFF_MAGIC:
        return None
    tags = _tiff_tags(data)
    bands = int(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1))
    extra = tags.get(TiffImagePlugin.EXTRASAMPLES, ())
    if bands in (2, 4) and extra and extra[-1] in (1, 2):
        bands -= 1  # 1 and 2 mean alpha; 0 is a band of unstated meaning
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
    kind = tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))
    return _Layout(bands, int(bits[0]), int(kind[0]))


def _tiff_tags(data: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Tags of the first image of a TIFF."""
    header = data[:16 if data[2] == 0x2b else 8]
    tags = TiffImagePlugin.ImageFileDirectory_v2(header)
    file = BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    return tags


def _check_bands(layout: _Layout, path: Path) -> None:
    """Refuse band counts and sample kinds that are no picture."""
    if layout.kind in (5, 6):
        raise DataFormatError(
            f'{path}: holds complex samples; amplitude is expected. Write '
            'the absolute values to a one-band file first.')
    # Four colour samples without alpha are CMYK or four spectral bands.
    if layout.bands not in (1, 3):
        raise DataFormatError(
            f'{path}: has {layout.bands} bands; 1 or 3 are expected. Keep '
            'one band (or the three to show), for example with: '
            'gdal_translate -b 1 in.tif out.tif')


def _decode_deep(data: bytes, layout: _Layout) -> np.ndarray:
    """Decode with OpenCV what Pillow would cut or refuse."""
    import cv2  # 80 ms, and needed for rare files only

    try:
        array = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise OSError(str(error)) from error
    if array is None:
        raise OSError(
            f'{layout.bands} bands of {layout.bits} bits that neither Pillow '
            'nor OpenCV reads')
    if array.ndim == 3:
        array = array[:, :, :layout.bands]
        array = array[:, :, ::-1] if layout.bands == 3 else array[:, :, 0]
    return np.ascontiguousarray(array)
