"""Checkpoints without unpickling: the one place that reads them.

A pickle can run code while it is read. Everything here reads ``.safetensors``
or goes through PyTorch's restricted unpickler (``weights_only=True``). For
the types that files of MMEngine and NumPy name, it gets stand-ins that only
keep what they are given (:mod:`.stand_ins`); nothing that the file chooses
is called. Files that need more are refused.
"""

from __future__ import annotations

import pickle
import pickletools
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import CheckpointError, UnsafeCheckpointError
from .stand_ins import ADMITTED, Refused, resolve

CURE = ('Convert it where you trust it (`torch.load`, then save the plain '
        'state dict as .safetensors) or ask its author for safetensors.')


# Beside its own types; only for the messages on files that it cannot list.
_KNOWN_TO_PYTORCH = {
    'collections.OrderedDict', 'collections.Counter', '_codecs.encode',
    'builtins.bytearray', 'builtins.set', 'builtins.complex'}
# PyTorch keeps what it admits in one place for the whole process.
_LOCK = threading.Lock()


def read_checkpoint(path: str | Path,
                    map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a checkpoint without running anything that it contains.

    Args:
        path: A ``.safetensors`` file, or one written by ``torch.save``.
        map_location: Device of the tensors, as in ``torch.load``.

    Returns:
        What was saved; for safetensors, ``dict(state_dict=...)``.

    Raises:
        CheckpointError: If the file is missing, truncated or no checkpoint.
        UnsafeCheckpointError: If its pickle asks for other types than
            plain data; the message names them.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(
            f'There is no checkpoint {str(path)!r}. Check the path; what '
            'an address names is to be downloaded first.')
    if path.suffix == '.safetensors':
        content: Any = dict(state_dict=_read_safetensors(path))
    else:
        content = _read_pickle(path, map_location)
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f'{str(path)!r} holds a {type(content).__name__}, not a dict of '
            'tensors. Save a state dict.')
    return dict(content)


def read_meta(path: str | Path) -> dict[str, Any]:
    """Read what a training says of itself in its checkpoint.

    Tensors stay on the disk, where the file's format (PyTorch's since
    version 1.6) lets them.

    Args:
        path: See :func:`read_checkpoint`.

    Returns:
        The checkpoint's ``meta``, empty where it has none.

    Raises:
        CheckpointError: See :func:`read_checkpoint`.
    """
    path = Path(path).expanduser()
    if path.suffix != '.safetensors' and path.is_file() and is_archive(path):
        content: Any = _read_pickle(path, 'cpu', mmap=True)
    else:
        content = read_checkpoint(path)
    meta = content.get('meta') if isinstance(content, Mapping) else None
    return dict(meta) if isinstance(meta, Mapping) else {}


def is_archive(path: Path) -> bool:
    """Whether PyTorch will take a file for one of its zip archives."""
    with open(path, 'rb') as file:
        return file.read(4) == b'PK\x03\x04'


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f'{str(path)!r} is no whole safetensors file ({error}). Copy or '
            'download it again.') from error


@contextmanager
def _stand_ins_only() -> Iterator[None]:
    """Admit the stand-ins, and nothing that others have admitted.

    A program may have told PyTorch to trust ``getattr`` or a class for its
    own files; that must not hold for these.
    """
    serialization = torch.serialization
    with _LOCK:
        others = serialization.get_safe_globals()
        serialization.clear_safe_globals()
        try:
            with serialization.safe_globals(ADMITTED):
                yield
        finally:
            serialization.add_safe_globals(others)


def _read_pickle(path: Path, map_location: Any, mmap: bool = False) -> Any:
    content = _unpickle(path, map_location, mmap)
    try:
        return resolve(content)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise CheckpointError(
            f'{str(path)!r} holds something that is not as MMEngine and '
            f'NumPy save it ({type(error).__name__}: {_first(error)}). '
            f'{CURE}') from error


def _unpickle(path: Path, map_location: Any, mmap: bool) -> Any:
    try:
        with _stand_ins_only():
            return torch.load(
                path, map_location=map_location, weights_only=True,
                mmap=mmap)
    except (pickle.UnpicklingError, Refused) as error:
        wanted = _foreign_globals(path)
        if wanted is None:
            raise CheckpointError(
                f'{str(path)!r} is no whole checkpoint ({_first(error)}). '
                'Copy or download it again.') from error
        names = ', '.join(wanted) or _first(error)
        raise UnsafeCheckpointError(
            f'{str(path)!r} is refused: its pickle asks for {names}, which '
            f'could run code. {CURE}') from error
    except torch.OutOfMemoryError:
        raise  # the device's fault, not the file's
    except Exception as error:  # damaged bytes raise about everything
        raise CheckpointError(
            f'{str(path)!r} cannot be read as a checkpoint '
            f'({_first(error)}). Copy or download it again.') from error


def _foreign_globals(path: Path) -> list[str] | None:
    """Names outside the admitted ones; None if the file is not whole."""
    if not is_archive(path):
        return _pickled_names(path)
    try:
        with _stand_ins_only():
            return sorted(
                torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # the file is broken: whatever the parser says of it
        return None


def _pickled_names(path: Path) -> list[str] | None:
    """Read the names from the bytes of a pickle, executing nothing.

    For the formats that PyTorch cannot list: its own before version 1.6
    (several pickles in a row) and plain ones.
    """
    names, strings = set(), ['', '']
    try:
        with open(path, 'rb') as file:
            while file.peek(1):  # type: ignore[attr-defined]
                for code, value, _ in pickletools.genops(file):
                    if code.name == 'GLOBAL':
                        names.add(str(value).replace(' ', '.'))
                    elif code.name == 'STACK_GLOBAL':
                        names.add('.'.join(strings[-2:]))
                    elif isinstance(value, str):
                        strings.append(value)
    except (ValueError, EOFError, UnicodeError):
        pass  # behind the pickles follow the tensors' bytes
    known = {name for _, name in ADMITTED} | _KNOWN_TO_PYTORCH
    foreign = {
        name for name in names if not name.startswith('torch.')
        and name.replace('__builtin__.', 'builtins.') not in known}
    return sorted(foreign) or None


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
