"""Time and memory of the benchmarks."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
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
