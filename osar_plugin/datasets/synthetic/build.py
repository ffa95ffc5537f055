"""Writing a set whole or not at all, on one or more processes.

A set is rendered into a hidden folder beside its final place and renamed
when it is complete. ``demo_world.json`` next to the sets says what they
were made from, so that a finished set can be used again.
"""
from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...utils.errors import OSARError

#: Grows whenever the same settings give other bytes.
WORLD_VERSION = 2
STAMP = 'demo_world.json'
Job = TypeVar('Job')
Settings = TypeVar('Settings')


class WorldError(OSARError):
    """The demo world cannot be written as asked; the text says why."""


def stream(seed: int, *key: int) -> np.random.SeedSequence:
    """An independent random stream for each key under one seed."""
    return np.random.SeedSequence(seed, spawn_key=key)


def encode(image: NDArray[Any], kind: str) -> bytes:
    """An image file in memory, free of dates and comments.

    Args:
        image: (H, W, 3) or (H, W) uint8, or (H, W) float32.
        kind: Pillow's name of the format, 'TIFF' or 'PNG'.
    """
    file = BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def run_jobs(
    function: Callable[[Job], None], jobs: Sequence[Job], workers: int,
    label: str,
) -> None:
    """Call ``function`` on every job, with a progress bar on a terminal.

    Args:
        function: A module level function, so that it can be sent to
            another process. Results must depend on the job only.
        jobs: What to do; order of execution is not defined.
        workers: Number of processes; 1 stays in this one.
        label: Text of the progress bar.

    Raises:
        WorldError: If a worker process died.
    """
    from rich.console import Console
    from rich.progress import Progress, TimeElapsedColumn
    console = Console(stderr=True)
    bar = Progress(
        *Progress.get_default_columns(), TimeElapsedColumn(),
        console=console, disable=not console.is_terminal)
    if workers == 1 or len(jobs) < 2:
        with bar:
            for job in bar.track(jobs, description=label):
                function(job)
        return
    context = multiprocessing.get_context(
        'fork' if sys.platform == 'linux' else 'spawn')
    with ProcessPoolExecutor(workers, context) as pool:
        # Everything is submitted before the bar starts its thread: a
        # process must not be forked while another thread holds a lock.
        futures = [pool.submit(function, job) for job in jobs]
        try:
            with bar:
                for future in bar.track(
                        as_completed(futures), total=len(futures),
                        description=label):
                    _result(future)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _result(future: Future[None]) -> None:
    from concurrent.futures.process import BrokenProcessPool
    try:
        future.result()
    except BrokenProcessPool as error:
        raise WorldError(
            'a worker process died (out of memory?); nothing was written. '
            'Try fewer --workers') from error


@contextmanager
def whole_folder(target: Path, force: bool) -> Iterator[Path]:
    """A folder to render into that becomes ``target`` at the end.

    Args:
        target: The final place.
        force: Replace a folder that is there and not empty.

    Yields:
        A hidden folder beside ``target``; removed if the block fails.

    Raises:
        WorldError: If ``target`` is in the way or cannot be written.
    """
    refuse_to_overwrite(target, force)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target)
        part = target.with_name(f'.{target.name}.partial-{os.getpid()}')
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
    except OSError as error:
        raise WorldError(
            f'cannot write to {target.parent}: {error.strerror}; choose a '
            'folder that you may write to') from error
    try:
        yield part
        old = target.with_name(f'.{target.name}.old-{os.getpid()}')
        if target.exists():
            target.rename(old)
        part.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError):
            raise WorldError(
                f'writing {target} failed: {error}; nothing was '
                'kept') from error
        raise


def refuse_to_overwrite(target: Path, force: bool) -> None:
    """Raise :class:`WorldError` if ``target`` holds something."""
    if target.exists() and not target.is_dir():
        raise WorldError(f'{target} is a file, not a folder')
    if not force and target.is_dir() and any(target.iterdir()):
        raise WorldError(
            f'{target} is not empty and was not made with these settings; '
            'give --force to replace it or choose another folder')


def _remove_stale(target: Path) -> None:
    """Remove what a killed run left an hour or more ago."""
    for part in target.parent.glob(f'.{target.name}.partial-*'):
        owner = part.name.rpartition('-')[2]
        try:
            os.kill(int(owner), 0)
        except ProcessLookupError:
            if time.time() - part.stat().st_mtime > 3600:
                shutil.rmtree(part, ignore_errors=True)
        except (ValueError, OSError):
            continue


def write_set(
    out: Path, name: str, settings: dict[str, Any],
    render: Callable[[Path], None], force: bool = False,
) -> bool:
    """Render one set, or find it finished.

    Args:
        out: Folder of all sets; the stamp lies in it.
        name: Folder of this set inside ``out``.
        settings: Everything its bytes depend on; plain JSON values.
        render: Writes the set into the folder it is given.
        force: Render even if the folder holds something.

    Returns:
        True if it was rendered, False if the finished set was kept.

    Raises:
        WorldError: If the set cannot be written.
    """
    target = out / name
    wanted = {'version': WORLD_VERSION, **settings}
    known = read_stamp(out)
    entry = known.get(name, {})
    if (not force and entry.get('settings') == wanted
            and entry.get('files') == count_files(target)):
        return False
    with whole_folder(target, force) as part:
        render(part)
        files = count_files(part)
        # The old stamp goes first: it must never vouch for new files.
        if known.pop(name, None) is not None:
            _write_stamp(out, known)
    known[name] = {'settings': wanted, 'files': files}
    _write_stamp(out, known)
    return True


@dataclass(frozen=True)
class SetWriter(Generic[Settings]):
    """``write_...`` of a set: writes it, or keeps it if it is there.

    Attributes:
        name: Folder of the set inside the demo world.
        settings: Class of its settings, a dataclass; its defaults are those
            of the set.
        render: Writes the set into an empty folder, from settings and with
            a number of processes.
    """

    name: str
    settings: type[Settings]
    render: Callable[[Path, Settings, int], None]

    def __call__(self, out: Path, settings: Settings | None = None,
                 workers: int = 1, force: bool = False) -> bool:
        """Write ``out/name``, or keep it if it has these settings.

        Args:
            out: Folder of the demo world.
            settings: Size and seed; the defaults if None.
            workers: Number of processes.
            force: Replace what is there.

        Returns:
            True if it was rendered, False if it was there already.

        Raises:
            WorldError: If it cannot be written.
        """
        chosen = self.settings() if settings is None else settings
        return write_set(
            out, self.name, asdict(chosen),  # type: ignore[call-overload]
            lambda root: self.render(root, chosen, workers), force)


def count_files(folder: Path) -> int:
    """Number of files below a folder, 0 if it does not exist."""
    return sum(len(files) for _, _, files in os.walk(folder))


def read_stamp(out: Path) -> dict[str, Any]:
    """The sets that the stamp in ``out`` knows; empty without a stamp.

    Raises:
        WorldError: If the stamp cannot be read.
    """
    path = out / STAMP
    try:
        known = json.loads(path.read_text(encoding='utf-8'))['sets']
    except FileNotFoundError:
        return {}
    except NotADirectoryError as error:
        raise WorldError(f'{out} is a file, not a folder') from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WorldError(
            f'{path} is not a stamp of a demo world ({error}); move it '
            'away or choose another folder') from error
    return dict(known)


def _write_stamp(out: Path, known: dict[str, Any]) -> None:
    text = json.dumps({'sets': known}, indent=2, sort_keys=True) + '\n'
    fresh = out / f'.{STAMP}.{os.getpid()}'
    fresh.write_text(text, encoding='utf-8')
    os.replace(fresh, out / STAMP)
