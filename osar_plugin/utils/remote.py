"""Checkpoints behind addresses: downloaded whole, checked, then read.

Makes MMEngine's loaders safe: whatever address a config gives, the file is
on the disk before it is read, and is read by :func:`.read_checkpoint`.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import torch
from mmengine.logging import print_log
from mmengine.runner.checkpoint import (
    CheckpointLoader,
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)

from ..compat import require
from ..io import atomic_write
from ..version import __version__
from .errors import CheckpointError, UnsafeCheckpointError
from .loading import read_checkpoint
from .names import did_you_mean, nearest
from .plain import MARK

# The convention of torch.hub: `resnet50-0676ba61.pth` begins its SHA-256
# with 0676ba61. OpenMMLab ends some names in a date instead.
_HASH = re.compile(r'-([0-9a-f]{8,64})\.[^.]+$')
_DATE = re.compile(r'20\d\d[01]\d[0-3]\d')
_BLOCK = 2**20
_TIMEOUT = 60.  # seconds without a byte
_WEB = ('http://', 'https://')
_ADDRESS = re.compile(r'[\w+.-]{2,}://|s3:')


def fetch_checkpoint(address: str) -> Path:
    """Download a checkpoint, unless it is there already.

    The file goes to ``torch.hub``'s folder for checkpoints, where PyTorch
    and MMEngine look for it too, and has its name there only once it is
    complete. Where the name carries a checksum (``name-<sha256>.pth``, eight
    digits or more), it is compared, also for a file that was there before.
    Of several processes on a machine one downloads and the others wait.

    Args:
        address: ``http://`` or ``https://``; the last part of its path is
            the name of the file.

    Returns:
        Path of the file.

    Raises:
        CheckpointError: If it cannot be downloaded whole.
    """
    name = urlsplit(address).path.rpartition('/')[2]
    if name in ('', '.', '..'):
        raise CheckpointError(
            f'The address {address!r} does not end in the name of a file. '
            'Give that of the checkpoint itself.')
    folder = Path(torch.hub.get_dir(), 'checkpoints')
    path = folder / name
    try:
        if _is_there(path):
            return path
        folder.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(path):
            if not _is_there(path):
                _download(address, path)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CheckpointError(
            f'{address!r} cannot be downloaded to {str(folder)!r} '
            f'({_reason(error)}). Download it where you can, and put it '
            'there under that name, or give the path of the file in place '
            'of the address.') from error
    return path


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Let one process of this machine past; the others wait for it."""
    lock = path.with_name(f'.{path.name}.lock')
    with open(lock, 'w', encoding='utf-8') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            # Some network disks know no locks. Then each process downloads
            # a file of its own, and the last one's stays.
            print_log(f'{lock} cannot be locked.', logger='current',
                      level=logging.DEBUG)
        try:
            yield
        finally:
            # Who waits for it has opened it, and finds the checkpoint next.
            lock.unlink(missing_ok=True)


def _is_there(path: Path) -> bool:
    """Whether a file is there and has the checksum of its name."""
    if not path.is_file():
        return False
    expected = _checksum_in(path.name)
    if expected is None:
        return True
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest().startswith(expected):
        return True
    print_log(
        f'{path} does not have the checksum of its name; it is downloaded '
        'again.', logger='current', level=logging.WARNING)
    return False


def _checksum_in(name: str) -> str | None:
    found = _HASH.search(name)
    return None if not found or _DATE.fullmatch(found[1]) else found[1]


def _download(address: str, path: Path) -> None:
    request = Request(
        address, headers={'User-Agent': f'osar_plugin/{__version__}'})
    with urlopen(request, timeout=_TIMEOUT) as response:
        if response.headers.get_content_type() == 'text/html':
            raise ConnectionError('the server sends a web page')
        length = response.headers.get('Content-Length')
        size = f'{int(length) / 2**20:.1f} MiB' if length else 'unknown size'
        print_log(f'Downloading {address} ({size}) to {path}.',
                  logger='current')
        with atomic_write(path, 'wb') as file:
            received, digest = _copy(response, file, length)
            if length and received != int(length):
                raise ConnectionError(
                    f'the connection ended after {received} of {length} '
                    'bytes')
            expected = _checksum_in(path.name)
            if expected and not digest.startswith(expected):
                raise ConnectionError(
                    f'the SHA-256 of what came is {digest}, where the name '
                    f'says {expected}...')


def _copy(source: Any, target: IO[bytes], length: str | None
          ) -> tuple[int, str]:
    """Copy to a file; show progress where somebody watches.

    Returns:
        Bytes received and their SHA-256.
    """
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress

    digest, received = hashlib.sha256(), 0
    with Progress(
            *Progress.get_default_columns(), DownloadColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task('', total=int(length) if length else None)
        while block := source.read(_BLOCK):
            target.write(block)
            digest.update(block)
            received += len(block)
            progress.update(task, completed=received)
    return received, digest.hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f'the server answers {error.code} {error.reason}'
    return str(getattr(error, 'reason', None) or error) or (
        type(error).__name__)


def use_safe_loading() -> None:
    """Let MMEngine read checkpoints through :func:`.read_checkpoint`.

    The stock loader of one stack falls back to full unpickling, that of the
    other cannot read MMEngine's own files with today's PyTorch. Holds for
    this process, whoever asks: ``load_from``, ``resume``, ``init_cfg`` of
    any module, inferencers. Called by the tools and by every model of this
    package when it is built; calling it again does no harm.

    What addresses name (``https://``, ``torchvision://``, ``open-mmlab://``,
    ``mmcls://``) is downloaded by :func:`fetch_checkpoint` first. Stores
    whose files cannot be checked (``s3://``, ``petrel://``, ``pavi://``) are
    refused. Texts of configs in checkpoints are left out, because MMEngine
    would run them: an inferencer needs a config beside its weights.
    """
    loaders: dict[Callable[..., Any], list[str]] = {
        load_from_local: [''],
        load_from_http: list(_WEB),
        load_from_torchvision: ['modelzoo://', 'torchvision://'],
        load_from_openmmlab: ['open-mmlab://', 'openmmlab://'],
        load_from_mmcls: ['mmcls://'],
        # The prefixes of MMEngine, which takes them as patterns.
        load_from_unchecked: [
            'pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://'],
    }
    for loader, prefixes in loaders.items():
        CheckpointLoader.register_scheme(
            prefixes=prefixes, loader=loader, force=True)


# The names of the loaders matter: MMEngine's log says what follows
# `load_from_`.
def load_from_local(filename: str, map_location: Any = None) -> Any:
    """Read a file of this machine."""
    if _ADDRESS.match(filename):
        return load_from_unchecked(filename)
    content = read_checkpoint(filename, map_location or 'cpu')
    return _without_code(content, filename)


def load_from_http(filename: str, map_location: Any = None) -> Any:
    """Download a file and read it."""
    path = fetch_checkpoint(filename)
    return _without_code(
        read_checkpoint(path, map_location or 'cpu'), path)


def _without_code(content: dict[str, Any], path: str | Path
                  ) -> dict[str, Any]:
    """Leave out the texts of configs.

    They are Python: MMEngine runs ``meta['config']`` when it resumes, and
    the other two when an inferencer is given weights and no config.
    """
    hub = content.get('message_hub')
    info = hub.get('runtime_info') if isinstance(hub, Mapping) else None
    meta = content.get('meta')
    for part in (meta, hub, info):
        # Nobody writes that, and there a text would stay out of sight.
        if isinstance(part, Mapping) and MARK in part:
            raise UnsafeCheckpointError(
                f'{str(path)!r} is refused: a part of it is marked as a '
                f'{part[MARK]!r} where a training writes plain dicts. Ask '
                'its author for safetensors.')
    for part, names in ((meta, ('config', 'cfg')), (info, ('cfg',))):
        if isinstance(part, dict):
            for name in names:
                part.pop(name, None)
    return content


def load_from_torchvision(filename: str, map_location: Any = None) -> Any:
    """Read weights that torchvision names."""
    require('torchvision', 'reid')
    table = get_torchvision_models()
    return load_from_http(_look_up(filename, table), map_location)


def load_from_openmmlab(filename: str, map_location: Any = None) -> Any:
    """Read weights that MMEngine names, or the user's own table."""
    table = dict(get_external_models())
    for old, new in get_deprecated_model_names().items():
        if new in table:
            table.setdefault(old, table[new])
    target = _look_up(filename, table)
    if target.startswith(_WEB):
        return load_from_http(target, map_location)
    # The user's own table may name files beside it.
    return load_from_local(
        os.path.join(_mmengine_home(), target), map_location)


def load_from_mmcls(filename: str, map_location: Any = None) -> Any:
    """Read the backbone of a classifier that MMEngine names."""
    content = load_from_http(
        _look_up(filename, get_mmcls_models()), map_location)
    weights = content.get('state_dict', content)
    return dict(state_dict={
        key.removeprefix('backbone.'): value
        for key, value in weights.items() if key.startswith('backbone.')})


def load_from_unchecked(filename: str, map_location: Any = None) -> Any:
    """Refuse stores from which files would be read as they come."""
    raise CheckpointError(
        f'{filename!r} is in a store whose files cannot be checked before '
        'they are read. Download it yourself and give the path of the file; '
        'http:// and https:// addresses are downloaded.')


def _look_up(filename: str, table: Mapping[str, str]) -> str:
    scheme, _, name = filename.partition('://')
    if name not in table:
        raise CheckpointError(
            f'{filename!r}: MMEngine knows no weights {name!r} for '
            f'{scheme}://.{did_you_mean(nearest(name, table))} Use one of '
            f'its {len(table)} names, or the path or the address of a file.')
    return table[name]


def _mmengine_home() -> str:
    """Where MMEngine looks for the user's own table of weights."""
    cache = os.getenv('XDG_CACHE_HOME', '~/.cache')
    return os.path.expanduser(
        os.getenv('MMENGINE_HOME', os.path.join(cache, 'mmengine')))
