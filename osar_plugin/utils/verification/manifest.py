"""Manifests: the SHA-256 of every file of a folder, in a text file.

The format is the one of ``sha256sum``, a line for each file in the order of
their paths, so that a manifest can be checked without this package::

    cd ROOT && sha256sum --check --quiet sha256sums.txt

A manifest that was downloaded is as little to be trusted as the files that
came with it: :func:`read_manifest` takes nothing but paths below the folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from osar_plugin.io import atomic_write

from ..errors import ConfigError, DataFormatError, DatasetNotFoundError

MANIFEST = 'sha256sums.txt'
_CURE = 'Get the manifest again, or write a new one of files that you trust.'

# A line, its end taken off. A backslash before it all says that the path is
# escaped; the space or star before the path is coreutils' mode, text or
# binary, which are the same.
_LINE = re.compile(
    rb'(?P<escaped>\\?)(?P<digest>[0-9a-fA-F]+) [ *](?P<path>.+)', re.DOTALL)
_ESCAPES = {b'\\\\': b'\\', b'\\n': b'\n', b'\\r': b'\r'}
_ESCAPED = re.compile(rb'\\.?', re.DOTALL)
_OTHER_HASHES = {32: 'MD5', 40: 'SHA-1', 96: 'SHA-384', 128: 'SHA-512'}


def write_manifest(path: str | Path, digests: Mapping[str, bytes]) -> None:
    """Write a manifest, whole or not at all.

    Args:
        path: The file to write.
        digests: Path relative to the folder, with ``/``, to SHA-256.

    Raises:
        ConfigError: If the file cannot be written.
    """
    rows = sorted((os.fsencode(name), digests[name]) for name in digests)
    try:
        with atomic_write(path, 'wb') as file:
            for name, digest in rows:
                file.write(_line(name, digest))
    except OSError as error:
        raise ConfigError(
            f'{path}: the manifest cannot be written ({error.strerror}). '
            'Give another place for it with -o; it need not lie beside the '
            'files.') from error


def _line(name: bytes, digest: bytes) -> bytes:
    # A bare dash is the standard input to coreutils.
    name = b'./-' if name == b'-' else name
    escaped = name
    for code, plain in _ESCAPES.items():
        escaped = escaped.replace(plain, code)
    mark = b'\\' if escaped != name else b''
    return mark + digest.hex().encode() + b'  ' + escaped + b'\n'


def read_manifest(path: str | Path) -> dict[str, bytes]:
    """Read a manifest, also one that ``sha256sum`` wrote.

    Args:
        path: The file.

    Returns:
        Path relative to the folder to SHA-256, in the order of the file.

    Raises:
        DatasetNotFoundError: If there is no such file.
        DataFormatError: If a line is no line of a manifest, leads out of the
            folder, names a file twice or is cut off; names the line.
    """
    path = Path(path)
    digests: dict[str, bytes] = {}
    try:
        with path.open('rb') as file:
            for number, line in enumerate(file, start=1):
                where = f'{path}, line {number}'
                name, digest = _parse(line, where)
                if name in digests:
                    raise DataFormatError(
                        f'{where}: {shown(name)} is listed a second time. '
                        f'{_CURE}')
                digests[name] = digest
    except FileNotFoundError as error:
        raise DatasetNotFoundError(
            f'{path}: no such manifest. Check the path, or write one with: '
            'python tools/verify_dataset.py write ROOT') from error
    except OSError as error:
        raise DataFormatError(
            f'{path}: the manifest cannot be read ({error.strerror}). Check '
            'the path and its permissions.') from error
    if not digests:
        raise DataFormatError(f'{path}: the manifest is empty. {_CURE}')
    return digests


def _parse(line: bytes, where: str) -> tuple[str, bytes]:
    """Path and digest of a line with its end."""
    if not line.endswith(b'\n'):
        raise DataFormatError(
            f'{where}: has no line end, so the manifest is cut off here. '
            f'{_CURE}')
    if line.endswith(b'\r\n'):
        raise DataFormatError(
            f'{where}: ends in CR and LF; LF alone is expected. Convert the '
            'manifest, for example with dos2unix.')
    match = _LINE.fullmatch(line[:-1])
    if match is None:
        raise DataFormatError(
            f'{where}: {shown(line[:-1][:60])} is no line of a manifest; '
            'expected 64 hexadecimal digits, two spaces and a path. '
            f'{_CURE}')
    size = len(match['digest'])
    if size != 64:
        other = _OTHER_HASHES.get(size)
        raise DataFormatError(
            f'{where}: a checksum of {size} digits'
            f'{f", as {other} has," if other else ""} where SHA-256 has 64. '
            f'{_CURE}')
    name = match['path']
    if match['escaped']:
        name = _ESCAPED.sub(lambda code: _unescape(code[0], where), name)
    return _relative(name, where), bytes.fromhex(match['digest'].decode())


def _unescape(code: bytes, where: str) -> bytes:
    if code not in _ESCAPES:
        raise DataFormatError(
            f'{where}: the path has the escape {shown(code)}; \\\\, \\n and '
            f'\\r are known. {_CURE}')
    return _ESCAPES[code]


def _relative(name: bytes, where: str) -> str:
    """Check that a path stays in its folder; drop ``./`` before it."""
    parts = [part for part in name.split(b'/') if part not in (b'', b'.')]
    if name.startswith(b'/') or b'..' in parts or b'\0' in name or not parts:
        raise DataFormatError(
            f'{where}: the path {shown(name)} leads out of the folder of the '
            'manifest; a relative path without ".." is expected. '
            f'{_CURE}')
    return os.fsdecode(b'/'.join(parts))


def shown(name: str | bytes) -> str:
    r"""A file name as it can be printed on one line.

    Line ends, escape sequences of terminals and bytes that are no UTF-8
    appear as ``\n``, ``\x1b``, ``\xff``. A backslash stays one.
    """
    raw = name if isinstance(name, bytes) else os.fsencode(name)
    text = raw.decode('utf-8', 'backslashreplace')
    return ''.join(
        sign if sign.isprintable() else
        sign.encode('unicode_escape').decode() for sign in text)
