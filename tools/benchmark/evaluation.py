"""Evaluation: seconds and memory as the gallery grows, and against torchreid.

Features are drawn, about ten gallery entries for each query, half of each
modality. Ours gives ALL, ALL-xcam, O2S and S2O from the features; torchreid
gives ALL, from the features and from its own distance matrix. Each
measurement is a fresh process, so its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from osar_plugin.compat import require
from osar_plugin.evaluation import (
    Labels,
    Task,
    evaluate_distances,
    evaluate_features,
    make_tasks,
)
from osar_plugin.evaluation.ranking import (
    prepare_features,
    squared_distances,
)
from osar_plugin.utils.errors import ConfigError
from osar_plugin.utils.measuring import in_fresh_process, peak_bytes

_PROTOCOLS = ('ALL', 'ALL-xcam', 'O2S', 'S2O')


def draw(num_query: int, num_gallery: int,
         channels: int) -> tuple[Tensor, Tensor, Labels]:
    """Features around a centre for each identity, and what they are of.

    Written in place and in parts, so that drawing them needs no more memory
    than holding them.
    """
    generator = torch.Generator().manual_seed(0)
    ids = max(1, num_gallery // 10)
    centres = torch.randn(ids, channels, generator=generator)
    sides, pids, modality = [], [], []
    for num in (num_query, num_gallery):
        pids.append(torch.randint(ids, (num, ), generator=generator))
        modality.append(torch.randint(2, (num, ), generator=generator))
        features = torch.empty(num, channels)
        for rows in torch.arange(num).split(4096):
            part = features[int(rows[0]):int(rows[-1]) + 1]
            torch.randn(part.shape, generator=generator, out=part)
            part.mul_(3).add_(centres[pids[-1][rows]])
        sides.append(features)
    return sides[0], sides[1], Labels(*pids, *modality)


def lap(function: Any, *args: Any, **kwargs: Any) -> tuple[float, Any]:
    """Seconds of one call, and its result."""
    start = time.perf_counter()
    result = function(*args, **kwargs)
    return time.perf_counter() - start, result


def tasks_of(labels: Labels, names: Sequence[str]) -> list[Task]:
    """The protocols, from the modalities in the labels."""
    if labels.query_cameras is None or labels.gallery_cameras is None:
        raise ConfigError('The labels hold no modality.')
    return make_tasks(names, labels.query_cameras, labels.gallery_cameras)


def ours(query: Tensor, gallery: Tensor, labels: Labels,
         memory: int, repeats: int) -> dict[str, Any]:
    """Our figures of all protocols."""
    tasks = tasks_of(labels, _PROTOCOLS)
    times = []
    for _ in range(repeats):
        seconds, results = lap(
            evaluate_features, query, gallery, labels, tasks, memory=memory)
        times.append(seconds)
    return dict(
        seconds=float(np.median(times)),
        figures={name: r.summary() for name, r in results.items()})


def ours_from_distances(
        query: Tensor, gallery: Tensor, labels: Labels,
        memory: int, repeats: int) -> dict[str, Any]:
    """Our figures of ALL from a distance matrix."""
    tasks = tasks_of(labels, ['ALL'])
    distances = squared_distances(
        prepare_features(query), prepare_features(gallery))
    times = []
    for _ in range(repeats):
        seconds, results = lap(
            evaluate_distances, distances, labels, tasks, memory=memory)
        times.append(seconds)
    return dict(
        seconds=float(np.median(times)),
        figures={name: r.summary() for name, r in results.items()})


def torchreids(query: Tensor, gallery: Tensor, labels: Labels,
               memory: int, repeats: int) -> dict[str, Any]:
    """Figures of torchreid for ALL: cameras apart, so that none is removed."""
    torchreid = require('torchreid', 'reid')
    first, distances = lap(
        lambda: torchreid.metrics.compute_distance_matrix(
            torch.nn.functional.normalize(query),
            torch.nn.functional.normalize(gallery)).numpy())
    second, (cmc, mean_ap) = lap(
        torchreid.metrics.evaluate_rank, distances,
        labels.query_pids.numpy(), labels.gallery_pids.numpy(),
        np.zeros(len(query)), np.ones(len(gallery)))
    figures = {f'R{k}': 100 * float(cmc[k - 1]) for k in (1, 5, 10)}
    return dict(
        seconds=first + second, seconds_rank=second,
        figures=dict(ALL=dict(mAP=100 * float(mean_ap), **figures)))


_KINDS = {
    'ours': ours, 'ours-distances': ours_from_distances,
    'torchreid': torchreids
}


def child(args: argparse.Namespace) -> None:
    """One measurement, to standard output as the last line."""
    torch.set_num_threads(args.threads)
    query, gallery, labels = draw(
        args.child_size[0], args.child_size[1], args.channels)
    before = peak_bytes()
    # Libraries load and set up on the first call.
    evaluate_features(
        query[:8], gallery[:64],
        Labels(labels.query_pids[:8], labels.gallery_pids[:64]),
        [Task('ALL', torch.ones(8).bool(), torch.ones(64).bool())])
    result = _KINDS[args.child](
        query, gallery, labels, args.memory * 2**20, args.repeats)
    used = peak_bytes()
    result.update(peak=used / 2**30, above=(used - before) / 2**30)
    sys.stdout.write('\n' + json.dumps(result) + '\n')


def measure(kind: str, size: tuple[int, int],
            args: argparse.Namespace) -> dict[str, Any]:
    """Run one measurement in a fresh process."""
    repeats = args.repeats if size[0] * size[1] <= 10**8 else 1
    result = in_fresh_process(
        __file__, '--child', kind, '--child-size', '{}x{}'.format(*size),
        '--threads', args.threads, '--memory', args.memory, '--channels',
        args.channels, '--repeats', repeats)
    return dict(kind=kind, size='{}x{}'.format(*size), **result)


def difference(name: str, peer: float, own: float) -> float:
    """Points between two figures; torchreid has ranks in float32."""
    if name.startswith('R'):
        return float(abs(np.float32(peer / 100) - np.float32(own / 100)))
    return abs(peer - own)


def compare(rows: list[dict[str, Any]]) -> list[str]:
    """Ratios to torchreid and the largest difference in any figure."""
    lines = []
    by_key = {(row['kind'], row['size']): row for row in rows}
    for (kind, size), peer in by_key.items():
        if kind != 'torchreid':
            continue
        whole, rank = by_key['ours', size], by_key['ours-distances', size]
        gaps = [max(
            difference(name, value, row['figures']['ALL'][name])
            for name, value in peer['figures']['ALL'].items())
            for row in (whole, rank)]
        lines.append(
            f'{size}: from features {peer["seconds"] / whole["seconds"]:.1f} '
            'times as fast as torchreid (four rows of the table against '
            'one), from a distance matrix '
            f'{peer["seconds_rank"] / rank["seconds"]:.1f} times; memory '
            f'above the features 1 : {peer["above"] / whole["above"]:.1f}; '
            f'largest difference of a figure {gaps[0]:.1e} points from '
            f'features, {gaps[1]:.1e} from a distance matrix (torchreid '
            'breaks ties at random).')
    return lines


def _size(text: str) -> tuple[int, int]:
    query, gallery = text.split('x')
    return int(query), int(gallery)


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--sizes', nargs='+', type=_size, metavar='QxG',
        default=[(2000, 20000), (6000, 60000), (20000, 200000)])
    parser.add_argument(
        '--peer-sizes', nargs='*', type=_size, metavar='QxG',
        default=[(2000, 20000)],
        help='sizes at which torchreid runs too; it needs over 20 bytes for '
        'each of Q x G')
    parser.add_argument('--channels', type=int, default=768)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument(
        '--memory', type=int, default=256, help='MiB of a distance block')
    parser.add_argument(
        '--repeats', type=int, default=3,
        help='runs of ours up to 10^8 distances; the median counts')
    parser.add_argument(
        '--json', action='store_true', help='everything, as JSON')
    parser.add_argument('--child', choices=_KINDS, help=argparse.SUPPRESS)
    parser.add_argument(
        '--child-size', type=_size, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    args = parse_args()
    if args.child:
        child(args)
        return
    jobs = [('ours', size) for size in args.sizes]
    for size in args.peer_sizes:
        jobs += [('ours', size)] if size not in args.sizes else []
        jobs += [('ours-distances', size), ('torchreid', size)]
    rows = []
    if not args.json:
        sys.stdout.write(
            '| size | what | seconds | peak, GiB | above the features, GiB '
            '|\n| --- | --- | ---: | ---: | ---: |\n')
    for kind, size in jobs:
        row = measure(kind, size, args)
        rows.append(row)
        if not args.json:
            sys.stdout.write(
                f'| {row["size"]} | {kind} | {row["seconds"]:.2f} '
                f'| {row["peak"]:.2f} | {row["above"]:.2f} |\n')
            sys.stdout.flush()
    if args.json:
        sys.stdout.write(json.dumps(rows, indent=2) + '\n')
        return
    sys.stdout.write('\n' + ''.join(line + '\n' for line in compare(rows)))


if __name__ == '__main__':
    main()
