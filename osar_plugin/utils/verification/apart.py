"""Work on untrusted files in processes of their own.

A decoder that is fed damaged bytes may bring its whole process down. Here
the process that dies is told apart from the others, the file that it was at
is known, and the work goes on without it. (``concurrent.futures`` gives all
work up when one process dies.)
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from ..errors import ConfigError

Job = TypeVar('Job')
Result = TypeVar('Result')

# Jobs that a process is sent at once; answers come one by one.
_CHUNK = 16


@dataclass(frozen=True)
class Crash:
    """How a process ended that died on a job.

    Attributes:
        code: Exit status; below zero, the signal that killed it.
    """

    code: int

    def __str__(self) -> str:
        if self.code >= 0:
            return f'ended with status {self.code}'
        try:
            name = signal.Signals(-self.code).name
        except ValueError:
            name = f'signal {-self.code}'
        hint = ', perhaps out of memory' if name == 'SIGKILL' else ''
        return f'was ended by {name}{hint}'


@dataclass
class _Worker:
    process: BaseProcess
    link: Connection
    jobs: deque[int] = field(default_factory=deque)


def available_cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_apart(
        function: Callable[[Job], Result], jobs: Sequence[Job],
        workers: int | None = None
) -> Generator[tuple[int, Result | Crash], None, None]:
    """Call a function on every job, in other processes.

    Args:
        function: At module level, or a partial of such.
        jobs: Its arguments.
        workers: Number of processes, None for one per CPU; 0 works in this
            process, without any protection.

    Yields:
        Index of the job, and the result or the crash on it, in the order
        in which they come.

    Raises:
        ConfigError: If ``workers`` is negative.
        RuntimeError: If the function raises; with its traceback.
    """
    workers = available_cpus() if workers is None else workers
    if workers < 0:
        raise ConfigError(
            f'workers={workers}: expected a number of processes, or 0 to '
            'work in this one.')
    if workers == 0:
        for index, job in enumerate(jobs):
            yield index, function(job)
        return
    team = _Team(function, jobs)
    try:
        yield from team.run(min(workers, len(jobs)))
    finally:
        team.stop()


class _Team:
    """The processes of one call of :func:`map_apart`."""

    def __init__(
            self, function: Callable[[Any], Any],
            jobs: Sequence[Any]) -> None:
        # A fork needs no guarded main module, and starts at once.
        self._context: Any = multiprocessing.get_context(
            'fork' if sys.platform == 'linux' else 'spawn')
        self._function = function
        self._jobs = jobs
        self._todo = deque(range(len(jobs)))
        self._workers: list[_Worker] = []

    def run(self, workers: int) -> Iterator[tuple[int, Any]]:
        """Yield the results until there is nothing left to do."""
        for _ in range(workers):
            if self._todo:
                self._start()
        while self._workers:
            links = [worker.link for worker in self._workers]
            ready = wait(links)
            for worker in list(self._workers):
                if worker.link in ready:
                    yield from self._answer(worker)

    def stop(self) -> None:
        """End all processes, whatever they are at."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            self._end(worker)
        self._workers = []

    def _start(self) -> None:
        link, other = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(self._function, other), daemon=True)
        process.start()
        # Only the process itself may hold its end: when it dies, ours must
        # see the end of the stream.
        other.close()
        worker = _Worker(process, link)
        self._workers.append(worker)
        self._send(worker)

    def _send(self, worker: _Worker) -> None:
        """Give the next jobs, or the end of work."""
        # Small parts towards the end, so that all finish together.
        share = len(self._todo) // (2 * len(self._workers)) + 1
        number = min(_CHUNK, share, len(self._todo))
        worker.jobs.extend(self._todo.popleft() for _ in range(number))
        # If it died, reading from it says so.
        with suppress(BrokenPipeError, ConnectionResetError):
            worker.link.send([self._jobs[index] for index in worker.jobs])

    def _answer(self, worker: _Worker) -> Iterator[tuple[int, Any]]:
        try:
            done, result = worker.link.recv()
        except (EOFError, ConnectionResetError):
            yield from self._bury(worker)
            return
        if not done:
            raise RuntimeError(f'in a worker process:\n{result}')
        yield worker.jobs.popleft(), result
        if not worker.jobs:
            if self._todo:
                self._send(worker)
            else:
                self._workers.remove(worker)
                worker.process.kill()
                self._end(worker)

    def _bury(self, worker: _Worker) -> Iterator[tuple[int, Any]]:
        """Report the job that a process died on; replace the process."""
        self._workers.remove(worker)
        self._end(worker)
        index = worker.jobs.popleft()
        self._todo.extendleft(reversed(worker.jobs))
        if self._todo:
            self._start()
        yield index, Crash(worker.process.exitcode or 0)

    def _end(self, worker: _Worker) -> None:
        # Killed, not terminated: a fork has this process's handler of
        # SIGTERM until its body begins, and would live on.
        worker.process.join()
        worker.link.close()


def _work(function: Callable[[Any], Any], link: Connection) -> None:
    """Body of a process: answer jobs until the other side is gone."""
    # Ctrl-C reaches all processes of a terminal; the parent answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Decoders in C complain there, without the name of the file. Of a crash
    # the parent tells.
    faulthandler.disable()
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)
    parent = multiprocessing.parent_process()
    ends: list[Any] = [link] if parent is None else [link, parent.sentinel]
    while link in wait(ends):
        try:
            jobs = link.recv()
        except EOFError:
            return
        for job in jobs:
            try:
                answer = True, function(job)
            except Exception:
                answer = False, traceback.format_exc()
            link.send(answer)
