r"""Registration methods on the same stored pairs: accuracy, speed, memory.

    python tools/benchmark/registration.py \
        --protocol protocols/srif_hard.json --data-root data/srif \
        --methods cfog sift orb ecc phase my_package.roma:match \
        --json results.json --markdown results.md

Methods: identity, cfog, cfog-plain (two rounds of the plain recipe), sift,
orb, ecc, ecc-raw, phase, soma, soma-alone (no other matcher goes on from its
result), and module:function of any callable that osar_plugin.CallableMatcher
takes. All go through one estimator: an affine, unless --transform says
otherwise; --transform flow scores dense methods on their flow. A registration
that was reported as failed counts as failed, so that a method is not paid for
guessing; --trust-all scores whatever transform there is.

Each method runs in a process of its own, whose peak memory is printed. Speed
is measured on the pairs themselves and on the first of them resized to 256
and 512 pixels, matching and estimation together, reading files aside.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from osar_plugin.apis.registration import METHODS as API_METHODS
from osar_plugin.apis.registration import build_matcher
from osar_plugin.datasets.registration_protocol import (
    Protocol,
    RenderedPair,
    read_protocol,
    render,
    resize,
)
from osar_plugin.evaluation.registration import (
    AUC_THRESHOLDS,
    DEFINITION,
    FAILED,
    THRESHOLDS,
    PairErrors,
    pair_errors,
    summarise_pairs,
)
from osar_plugin.io import atomic_write
from osar_plugin.models.registration.estimate import TRANSFORMS, estimate
from osar_plugin.models.registration.match import MatchSettings
from osar_plugin.utils import launch
from osar_plugin.utils.errors import ConfigError
from osar_plugin.utils.measuring import in_fresh_process, peak_bytes
from osar_plugin.utils.names import did_you_mean, nearest

# Beside those of osar_plugin.apis.registration, what build_matcher takes.
METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    'identity': ('osar_plugin.models.registration.baselines:identity', {}),
    'cfog-plain': ('cfog', dict(rounds=2, smooth=1.2, threshold=3.)),
    'ecc-raw': ('ecc', dict(gradient=False)),
    'soma-alone': ('soma', dict(refine=None))}
COLUMNS = [*(f'CMR@{t}' for t in THRESHOLDS), 'mean_rmse', 'failure_rate',
           'median_rmse', 'mean_epe', *(f'AUC@{t}' for t in AUC_THRESHOLDS)]


def build(method: str) -> Any:
    """A matcher by name, or of a function that the user brings.

    Raises:
        ConfigError: If the name is not known or its model is not given.
    """
    if method in METHODS:
        return build_matcher(*METHODS[method])
    name, _, rest = method.partition('=')
    if name == 'soma' and rest:
        model, _, checkpoint = rest.rpartition('@')
        if not model or not checkpoint:
            raise ConfigError(
                f'method {method!r} names no trained model: write '
                'soma=CONFIG@CHECKPOINT, e.g. '
                'soma=configs/soma_sen12.py@work_dirs/soma/epoch_40.pth.')
        return build_matcher(name, dict(model=model, checkpoint=checkpoint))
    if ':' not in method and method not in API_METHODS:
        names = [*API_METHODS, *METHODS]
        raise ConfigError(
            f'method {method!r} is not known: use {", ".join(names)} (soma '
            'or soma=CONFIG@CHECKPOINT), or module:function of your own.'
            + did_you_mean(nearest(method, names)))
    return build_matcher(method)


def register(matcher: Any, pair: RenderedPair, args: argparse.Namespace
             ) -> tuple[Any, float]:
    """The flow of a pair, None if it failed, and seconds."""
    size = pair.flow.shape[1:]
    # max_shift is meant for 256 pixels, as the presets are.
    settings = MatchSettings(
        args.max_shift * max(size) / 256, pair.fixed_valid,
        pair.moving_valid, max_angle=args.max_angle)
    start = time.perf_counter()
    match = matcher.match(pair.fixed, pair.moving, settings)
    found = estimate(match, args.transform, size)
    usable = found.matrix is not None and (found.ok or args.trust_all)
    flow = found.flow(size) if usable else None
    return flow, time.perf_counter() - start


def resized(pair: RenderedPair, side: int) -> RenderedPair:
    """A pair at another size, for timing."""
    size = (side, side)
    fixed_valid, moving_valid = (
        resize(mask.astype(np.float32), size) > 0.999
        for mask in (pair.fixed_valid, pair.moving_valid))
    flow = np.zeros((2, *size), np.float32)
    return RenderedPair(
        pair.name, resize(pair.fixed, size), resize(pair.moving, size),
        fixed_valid, moving_valid, flow, np.ones(size, bool))


def speed(matcher: Any, pairs: list[RenderedPair], side: int,
          args: argparse.Namespace) -> float:
    """Pairs per second at a size."""
    scaled = [resized(pair, side) for pair in pairs]
    register(matcher, scaled[0], args)
    seconds = [register(matcher, pair, args)[1] for pair in scaled]
    return len(seconds) / sum(seconds)


def measure(method: str, args: argparse.Namespace) -> dict[str, Any]:
    """All figures of a method."""
    torch.set_num_threads(args.threads)
    import cv2

    cv2.setNumThreads(args.threads)
    protocol: Protocol = read_protocol(args.protocol)
    matcher = build(method)
    records = protocol.pairs[:args.limit or None]
    errors: dict[str, dict[str, PairErrors]] = dict(all={}, masked={})
    first: list[RenderedPair] = []
    for record in records:
        pair = render(record, protocol.size, args.data_root)
        if len(first) < args.timed:
            first.append(pair)
        flow, _ = register(matcher, pair, args)
        for area, valid in (('all', None), ('masked', pair.valid)):
            errors[area][record.name] = FAILED if flow is None else \
                pair_errors(flow, pair.flow, valid)
    rates = {str(side): speed(matcher, first, side, args)
             for side in args.sizes}
    return dict(
        figures={area: summarise_pairs(list(found.values()))
                 for area, found in errors.items()},
        pairs_per_second=rates, peak_mib=peak_bytes() / 2**20,
        errors={area: {name: list(e) for name, e in found.items()}
                for area, found in errors.items()})


def child(method: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run a method in a fresh process."""
    command = ['--child', method]
    for flag in ('protocol', 'data_root', 'transform', 'max_shift',
                 'max_angle', 'limit', 'threads', 'timed'):
        command += [f'--{flag.replace("_", "-")}', str(getattr(args, flag))]
    command += ['--sizes', *map(str, args.sizes)]
    command += ['--trust-all'] if args.trust_all else []
    result: dict[str, Any] = in_fresh_process(__file__, *command)
    return result


def head(args: argparse.Namespace, count: int) -> str:
    """What the table shows, and its first two lines."""
    protocol = read_protocol(args.protocol)
    area = 'over all pixels' if args.area == 'all' else (
        'over the pixels both images show')
    names = ['method', *COLUMNS, *(f'pairs/s {s}' for s in args.sizes),
             'peak MiB']
    return (f'{protocol.name}: {count} pairs of {protocol.size[0]} x '
            f'{protocol.size[1]}, {args.transform}, rotations to '
            f'{args.max_angle:g} degrees, {args.threads} thread(s).\n'
            f'{DEFINITION.format(area=area)}\n\n| '
            + ' | '.join(names) + ' |\n|---|'
            + '--:|' * (len(names) - 1) + '\n')


def line(method: str, row: dict[str, Any], args: argparse.Namespace) -> str:
    """A line of the table."""
    figures = row['figures'][args.area]
    cells = [method]
    for name in COLUMNS:
        value = figures[name]
        digits = 2 if name.startswith(('mean', 'median')) else 1
        cells.append(f'{value:.{digits}f}' if math.isfinite(value)
                     else 'failed' if math.isinf(value) else '-')
    cells += [f'{row["pairs_per_second"][str(s)]:.1f}' for s in args.sizes]
    cells.append(f'{row["peak_mib"]:.0f}')
    return '| ' + ' | '.join(cells) + ' |\n'


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--protocol', required=True, help='JSON of the test pairs')
    add('--data-root', required=True, help='folder its paths are relative to')
    add('--methods', nargs='+',
        default=['identity', 'cfog', 'sift', 'orb', 'ecc', 'phase'])
    add('--transform', choices=TRANSFORMS, default='affine')
    add('--area', choices=('all', 'masked'), default='masked',
        help='pixels that count in the table; --json has both')
    add('--max-shift', type=float, default=28.,
        help='displacement to be expected, pixels of a 256-pixel image')
    add('--max-angle', type=float, default=0.,
        help='rotation to be expected, degrees, of methods that can try some')
    add('--trust-all', action='store_true',
        help='score transforms that were reported as failed, too')
    add('--limit', type=int, default=0, help='first so many pairs; 0: all')
    add('--sizes', nargs='*', type=int, default=[256, 512],
        help='sides to measure the speed at')
    add('--timed', type=int, default=3, help='pairs that speed is taken of')
    add('--threads', type=int, default=1)
    add('--json', metavar='FILE', help='write all figures and errors, too')
    add('--markdown', metavar='FILE', help='write the table, too')
    add('--child', help=argparse.SUPPRESS)
    return parser.parse_args()


def finite(value: Any) -> Any:
    """The same content with None where JSON has no number."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def main() -> None:
    """Measure and print."""
    args = parse_args()
    if args.limit < 0 or args.timed < 1 or args.threads < 1 or any(
            side < 32 for side in args.sizes):
        raise ConfigError(
            f'--limit {args.limit}, --timed {args.timed}, --threads '
            f'{args.threads}, --sizes {args.sizes}: at least 0, 1, 1 and '
            '32.')
    if args.child:
        sys.stdout.write(
            '\n' + json.dumps(measure(args.child, args)) + '\n')
        return
    for method in args.methods:
        build(method)  # a mistyped name ends it before an hour has passed
    count = len(read_protocol(args.protocol).pairs[:args.limit or None])
    table = head(args, count)
    sys.stdout.write(table)
    rows = {}
    for method in args.methods:
        rows[method] = child(method, args)
        text = line(method, rows[method], args)
        table += text
        sys.stdout.write(text)
        sys.stdout.flush()
    if args.json:
        content = dict(protocol=Path(args.protocol).name, pairs=count,
                       transform=args.transform, methods=rows)
        with atomic_write(args.json) as file:
            json.dump(finite(content), file, indent=1)
    if args.markdown:
        with atomic_write(args.markdown) as file:
            file.write(table)


if __name__ == '__main__':
    launch.run(main)
