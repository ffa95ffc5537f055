"""A progress bar for tools that start processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

_REFRESH = 0.1  # seconds between two drawings


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr; nothing where that is no terminal.

    Args:
        label: Text in front of it.

    Yields:
        A function to call with what is done and the total.
    """
    console = Console(stderr=True)
    # Drawn from here, not from a thread: processes are forked meanwhile.
    bar = Progress(
        *Progress.get_default_columns(), TimeElapsedColumn(),
        console=console, disable=not console.is_terminal, transient=True,
        auto_refresh=False)
    task = bar.add_task(label, total=None)
    drawn = 0.0

    def show(done: int, total: int) -> None:
        nonlocal drawn
        now = time.monotonic()
        if now - drawn >= _REFRESH or done == total:
            bar.update(task, completed=done, total=total, refresh=True)
            drawn = now

    with bar:
        yield show
