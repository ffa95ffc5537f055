"""Time and memory of the benchmarks."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def peak_bytes(device: str = 'cpu') -> int:
    """Most memory in use so far: of this process, or of its GPU."""
    if device != 'cpu':
        return torch.cuda.max_memory_allocated()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes, Linux KiB.
    return used if sys.platform == 'darwin' else used * 1024


def median_seconds(function: Callable[[], Any], steps: int,
                   device: str = 'cpu', clock: str = 'wall') -> float:
    """Median of a call, after one that is not counted.

    Args:
        function: What is timed.
        steps: Calls that are counted.
        device: Where it computes; a GPU is waited for.
        clock: ``'wall'``, or ``'cpu'``: time of this process, for machines
            that others use.
    """
    now = time.process_time if clock == 'cpu' else time.perf_counter
    spent = []
    for index in range(steps + 1):
        start = now()
        function()
        if device != 'cpu':
            torch.cuda.synchronize()
        if index:
            spent.append(now() - start)
    return statistics.median(spent)


def in_fresh_process(script: str | Path, *arguments: object) -> Any:
    """What a script measures in a process of its own.

    The most memory in use is known of whole processes only, and what one
    measurement leaves behind (caches, threads) would reach the next one.

    Args:
        script: Python file whose last printed line is JSON.
        arguments: Its command line.

    Returns:
        What that line says.

    Raises:
        SystemExit: With the script's exit status if it fails; it has said
            on stderr what is wrong.
    """
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout.strip().splitlines()[-1])
