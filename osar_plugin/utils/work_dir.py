"""What a training left in its work dir: checkpoints to resume from, litter.

A run can end at any moment. Its last checkpoint may then be cut off, older
or newer than the one that the file ``last_checkpoint`` points to, and the
pointer may name a folder that has since been moved.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import struct
import time
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

from mmengine.logging import print_log

from .errors import CheckpointError
from .loading import is_archive, read_checkpoint, read_meta

POINTER = 'last_checkpoint'

# What zipfile and zlib say of damaged archives.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError,
    RuntimeError, ValueError, KeyError, IndexError)
# The hook's temporary files carry the process that writes them...
_OF_PROCESS = re.compile(r'\..+\.([1-9]\d{0,6})\.tmp')
# ... those of `atomic_write` eight random characters. Other programs' files
# may look like that, so that only names of checkpoints count.
_RANDOM = re.compile(
    r'\.(epoch_|iter_|best_|last_checkpoint).*\.[a-z0-9_]{8}\.tmp')
_HOUR = 3600.


class _Progress(NamedTuple):
    """How far a training was when it wrote a checkpoint.

    Attributes:
        iteration: Iterations done.
        saved: Time of saving, which sorts as a string; '' if unknown.
    """

    iteration: int
    saved: str


def checkpoint_file(path: str | Path) -> Path:
    """The checkpoint that a user names, by its file or by its work dir.

    Args:
        path: A checkpoint file, or the folder of a training; of that the
            newest whole one, see :func:`find_checkpoint`.

    Returns:
        A file that is there.

    Raises:
        CheckpointError: If there is none.
    """
    place = Path(path).expanduser()
    found = find_checkpoint(place) if place.is_dir() else place
    if found is not None and found.is_file():
        return found
    missing = 'in the folder' if place.is_dir() else 'at'
    pointer = place / 'last_checkpoint'
    gone = f' It names {pointer.read_text("utf-8").strip()}, which is ' \
        'not there.' if pointer.is_file() else ''
    raise CheckpointError(
        f'No checkpoint {missing} {str(path)!r}.{gone} Give a checkpoint '
        'file, or the work dir of a training.')


def find_checkpoint(work_dir: str | Path) -> Path | None:
    """The newest whole checkpoint that a training left in its work dir.

    Candidates are ``epoch_*.pth``, ``iter_*.pth`` and the file that
    ``last_checkpoint`` points to, looked for by its name in the work dir
    first, which may have been moved or copied, then where the pointer says.
    The newest one has the most iterations, as its ``meta`` says; the number
    in a file name counts epochs in one and iterations in another. A run that
    was started anew in a used work dir is behind the files of the run before
    it: files with more iterations than the one pointed to, but saved before
    it, are passed over.

    Whole means that the archive's structure and all its checksums are right,
    and that the content can be read. Whatever is passed over is named in a
    warning.

    Args:
        work_dir: The folder that a training wrote to.

    Returns:
        The checkpoint to resume from, None if there is no candidate. A
        folder (DeepSpeed's form) is returned unread if the pointer names it.

    Raises:
        CheckpointError: If there are candidates, but no whole one; the
            message names them.
    """
    work_dir = Path(work_dir).expanduser()
    pointed = _pointed(work_dir)
    if pointed is not None and pointed.is_dir():
        return pointed
    candidates = sorted(
        path for kind in ('epoch', 'iter')
        for path in work_dir.glob(f'{kind}_*.pth') if path.is_file())
    if pointed is not None and pointed not in candidates:
        candidates.append(pointed)
    faults: dict[Path, str] = {}
    found = {}
    for path in candidates:
        try:
            found[path] = _progress(path)
        except CheckpointError as error:
            _pass_over(path, str(error), faults)
    newest = sorted(
        found, key=lambda path: (found[path], path == pointed), reverse=True)
    for path in newest:
        if pointed in found and _is_of_earlier_run(
                found[path], found[pointed]):
            fault = f'it is of a run before that of {pointed}.'
        else:
            fault = _damage(path)
        if not fault:
            return path
        _pass_over(path, fault, faults)
    if faults:
        named = ' '.join(f'{path}: {fault}' for path, fault in faults.items())
        raise CheckpointError(
            f'No checkpoint in {str(work_dir)!r} can be resumed from. '
            f'{named} Put a copy of a whole one there, or begin anew in '
            'another work dir.')
    return None


def _pointed(work_dir: Path) -> Path | None:
    """The file or folder that the pointer names, if it is there."""
    try:
        text = (work_dir / POINTER).read_text(
            encoding='utf-8', errors='replace').strip()
        if not text:
            return None
        named = Path(text)
        for path in (work_dir / named.name, named):
            if path.name and path.exists():
                return path
    except (OSError, ValueError):
        return None  # no pointer, or none that names a path
    print_log(
        f'{work_dir / POINTER} points to {text!r}, which is not on this '
        f'machine; looking for other checkpoints in {work_dir}.',
        logger='current', level=logging.WARNING)
    return None


def _progress(path: Path) -> _Progress:
    """How far the training was, from a look at the file's ``meta``."""
    meta = read_meta(path)
    iteration = meta.get('iter')
    if not isinstance(iteration, int):
        raise CheckpointError(
            f'{str(path)!r} has no meta.iter: it holds weights, but is not '
            'of a training.')
    saved = meta.get('time')
    return _Progress(iteration, saved if isinstance(saved, str) else '')


def _is_of_earlier_run(one: _Progress, pointed: _Progress) -> bool:
    return one.iteration > pointed.iteration and bool(
        one.saved and one.saved < pointed.saved)


def _damage(path: Path) -> str:
    """What is wrong with a checkpoint's bytes; empty if nothing is."""
    try:
        if not is_archive(path):
            read_checkpoint(path)  # has no checksums
            return ''
        with zipfile.ZipFile(path) as archive:
            member = archive.testzip()
    except CheckpointError as error:
        return str(error)
    except _DAMAGE as error:
        return f'{type(error).__name__}: {error}.'
    return '' if member is None else f'the checksum of {member} is wrong.'


def _pass_over(path: Path, fault: str, faults: dict[Path, str]) -> None:
    faults[path] = fault
    print_log(
        f'{path} is passed over: {fault}', logger='current',
        level=logging.WARNING)


def clean_leftovers(folder: str | Path) -> list[Path]:
    """Remove temporary files of checkpoints that killed processes left.

    ``.<name>.<process id>.tmp`` goes if no such process lives on this
    machine, or if it is this one (to be called before anything is written).
    ``.<name>.<eight characters>.tmp`` goes if it has the name of a
    checkpoint or of the pointer and is older than an hour.

    Args:
        folder: Where checkpoints are written; need not exist.

    Returns:
        What was removed. What could not be is named in a warning.
    """
    removed = []
    for path in sorted(Path(folder).expanduser().glob('.*.tmp')):
        try:
            if not _is_leftover(path):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
            removed.append(path)
        except FileNotFoundError:
            pass  # whoever it belonged to has finished with it
        except OSError as error:
            print_log(
                f'{path}, left by a run that was killed, cannot be removed '
                f'({error.strerror}). Delete it when the folder can be '
                'written.', logger='current', level=logging.WARNING)
    return removed


def _is_leftover(path: Path) -> bool:
    of_process = _OF_PROCESS.fullmatch(path.name)
    if of_process:
        process = int(of_process[1])
        return process == os.getpid() or not _is_alive(process)
    return bool(_RANDOM.fullmatch(path.name)) and (
        time.time() - path.lstat().st_mtime > _HOUR)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return True
