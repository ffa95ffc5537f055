"""Images in and out, and files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


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
    except BaseException:
        if os.path.exists(name):
            os.unlink(name)
        raise


def _umask() -> int:
    """The process's umask; reading it means setting it for a moment."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
