"""Letting SIGTERM end a tool the way an error does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def orderly_termination() -> Iterator[None]:
    """Turn SIGTERM into ``SystemExit`` for the length of a ``with`` block.

    Python's default ends the process at once; as an exception the signal
    passes through every ``finally``, so that half-written files are removed
    and child processes are ended. The status is 128 + 15, as a shell would
    report it. The handler before is put back at the end. Outside of the main
    thread, where Python delivers no signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
