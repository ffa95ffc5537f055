"""The files of a folder, and what each of them is like."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from osar_plugin.io import decode_bytes

from ..errors import CorruptImageError, DataFormatError, OSARError
from ..integrity import image_format
from .findings import Finding
from .manifest import MANIFEST, shown

# What the suffix of an image says about its content.
SUFFIXES = {
    '.tif': 'TIFF', '.tiff': 'TIFF', '.png': 'PNG', '.jpg': 'JPEG',
    '.jpeg': 'JPEG', '.bmp': 'BMP', '.gif': 'GIF', '.webp': 'WebP',
    '.jp2': 'JPEG 2000'}
_PART = 1 << 20


class Listing(NamedTuple):
    """Files below a folder, and what was in the way of listing them."""

    names: list[str]
    findings: list[Finding]


def list_files(root: Path, skip: Path | None) -> Listing:
    """Files below a folder, sorted, and links and folders in the way."""
    listing = Listing([], [])
    skipped = {os.path.abspath(root / MANIFEST)}
    if skip is not None:
        skipped.add(os.path.abspath(skip))
    _walk(str(root), '', (os.path.realpath(root),), skipped, listing)
    listing.names.sort(key=os.fsencode)
    return listing


def _walk(
        folder: str, prefix: str, above: tuple[str, ...], skipped: set[str],
        listing: Listing) -> None:
    """Collect a folder; ``above`` are the real paths that lead to it."""
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        listing.findings.append(Finding(
            'unreadable', prefix.rstrip('/') or '.',
            f'the folder cannot be listed ({error.strerror})'))
        return
    for entry in entries:
        name = prefix + entry.name
        if entry.name.startswith('.'):
            continue
        if not _is_folder(entry):
            if os.path.abspath(entry.path) not in skipped:
                listing.names.append(name)
            continue
        real = os.path.realpath(entry.path)
        if real in above:
            listing.findings.append(Finding(
                'loop', name, f'links to {shown(os.readlink(entry.path))}'))
            continue
        _walk(entry.path, f'{name}/', (*above, real), skipped, listing)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # `inspect` meets the same error, and reports it


def is_image(name: str) -> bool:
    """Whether the suffix is one of an image."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


class Facts(NamedTuple):
    """What a process finds out about a file.

    Attributes:
        path: Relative to the folder.
        size: Bytes.
        digest: SHA-256; None if it could not be read.
        problems: Kind and text of each.
        pixels: SHA-256 of the pixels if asked for, and if they differ.
    """

    path: str
    size: int = 0
    digest: bytes | None = None
    problems: tuple[tuple[str, str], ...] = ()
    pixels: bytes | None = None


def inspect(root: str, name: str, decode: bool, pixels: bool) -> Facts:
    """Read a file once: its checksum, and what its pixels are like."""
    path = os.path.join(root, name)
    try:
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):
            # Opening a pipe would wait for ever.
            return _unreadable(name, 'not a regular file')
        if not is_image(name):
            return Facts(name, *_digest(path))
        with open(path, 'rb') as file:
            data = file.read()
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileNotFoundError) and os.path.islink(path):
            reason = f'a link to {shown(os.readlink(path))}: not there'
        return _unreadable(name, reason)
    except MemoryError:
        return _unreadable(name, 'more memory is needed than there is')
    facts = Facts(name, len(data), hashlib.sha256(data).digest())
    if not data:
        return facts._replace(problems=(('empty', '0 bytes'), ))
    problems, same = _look(name, data, decode, pixels)
    return facts._replace(problems=tuple(problems), pixels=same)


def _unreadable(name: str, reason: str) -> Facts:
    return Facts(name, problems=(('unreadable', reason), ))


def _digest(path: str) -> tuple[int, bytes]:
    """Size and SHA-256 of a file of any size."""
    sha, size = hashlib.sha256(), 0
    with open(path, 'rb') as file:
        while part := file.read(_PART):
            sha.update(part)
            size += len(part)
    return size, sha.digest()


def _look(
        name: str, data: bytes, decode: bool,
        pixels: bool) -> tuple[list[tuple[str, str]], bytes | None]:
    """Problems of an image, and the checksum of its pixels."""
    problems = []
    real = image_format(data[:16])
    suffix = os.path.splitext(name)[1]
    if real is not None and real != SUFFIXES[suffix.lower()]:
        problems.append(('suffix', f'{real} in a file named {suffix}'))
    if not decode:
        return problems, None
    try:
        image = decode_bytes(data, name)
    except (OSARError, MemoryError) as error:
        return [*problems, _failure(error, name)], None
    if not image.size:
        return [*problems, ('empty', f'an image of {_shape(image)}')], None
    if image.dtype.kind == 'f':
        bad = int(image.size - np.isfinite(image).sum())
        if bad:
            problems.append((
                'nonfinite', f'{bad} of {image.size} values are NaN or '
                'infinite'))
    if (image == image[:1, :1]).all():
        value = np.unique(image[0, 0]).tolist()
        problems.append((
            'constant', f'all {_shape(image)} pixels are '
            f'{value[0] if len(value) == 1 else image[0, 0].tolist()}'))
        # Blank images are alike without being copies.
        return problems, None
    return problems, _pixel_digest(image) if pixels else None


def _failure(error: BaseException, name: str) -> tuple[str, str]:
    """Kind and text of an image that was not decoded."""
    # The first sentence is what was found; the cure is the kind's.
    text = str(error).removeprefix(f'{name}: ').partition('. ')[0]
    if isinstance(error, CorruptImageError):
        return 'undecodable', text
    if isinstance(error, DataFormatError):
        return 'unsupported', text
    return 'undecodable', text or 'more memory is needed than there is'


def _shape(image: np.ndarray) -> str:
    return f'{image.shape[1]} x {image.shape[0]}'


def _pixel_digest(image: np.ndarray) -> bytes:
    """SHA-256 of size and values, grey in three channels being grey."""
    if image.ndim == 3 and (image == image[:, :, :1]).all():
        image = image[:, :, 0]
    sha = hashlib.sha256(f'{image.dtype.str} {image.shape}'.encode())
    sha.update(np.ascontiguousarray(image).data)
    return sha.digest()
