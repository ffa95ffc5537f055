"""Start-up time: what this package adds to importing MMEngine and MMCV.

Each run is a fresh interpreter that imports mmengine and mmcv first. Times
are those of the processor (``--wall``: of the clock), which other work on the
machine hardly changes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

_PROGRAM = """
import json, sys, time
now = getattr(time, sys.argv[1])
times = {}
def lap(name, start):
    times[name] = now() - start
t = now(); import mmengine, mmcv; lap('mmengine and mmcv', t)
t = now(); import osar_plugin; lap('import osar_plugin', t)
t = now()
import osar_plugin.registry as registry
lap('osar_plugin.registry', t)
from mmengine.registry import Registry
t = now()
for value in list(vars(registry).values()):
    if isinstance(value, Registry) and value.scope == 'osar_plugin':
        value.import_from_location()
lap('all registries', t)
print(json.dumps(times))
"""


def measure(runs: int, clock: str) -> dict[str, list[float]]:
    """Seconds of each step, one entry per run.

    Args:
        runs: Their number.
        clock: Name of a function of :mod:`time`.
    """
    times: dict[str, list[float]] = {}
    # One run more, to have the files in the system's cache.
    for run in range(runs + 1):
        done = subprocess.run(
            [sys.executable, '-c', _PROGRAM, clock], check=True,
            stdout=subprocess.PIPE)
        for name, seconds in json.loads(done.stdout).items():
            if run:
                times.setdefault(name, []).append(seconds)
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--runs', type=int, default=5)
    parser.add_argument(
        '--json', action='store_true', help='all runs, as JSON')
    parser.add_argument(
        '--wall', action='store_true', help='time of the clock')
    args = parser.parse_args()
    times = measure(
        args.runs, 'perf_counter' if args.wall else 'process_time')
    if args.json:
        sys.stdout.write(json.dumps(times) + '\n')
        return
    sys.stdout.write('| step | median, s | least, s | most, s |\n'
                     '| --- | ---: | ---: | ---: |\n')
    for name, seconds in times.items():
        sys.stdout.write(f'| {name} | {statistics.median(seconds):.3f} '
                         f'| {min(seconds):.3f} | {max(seconds):.3f} |\n')


if __name__ == '__main__':
    main()
