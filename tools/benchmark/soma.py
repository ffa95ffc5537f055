"""Speed of both forms of GLAM on the same features.

    python tools/benchmark/soma.py --sizes 256 512 --markdown soma.md

Features are random, of the channels of the published encoder; seconds are
the fastest of some rounds after one that is not counted, without gradients.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from osar_plugin.io import atomic_write
from osar_plugin.models.registration import GLAM, ReleasedGLAM
from osar_plugin.models.registration.deform import compiled
from osar_plugin.models.registration.glam_released import CHANNELS
from osar_plugin.utils import launch
from osar_plugin.utils.errors import ConfigError


def features(size: int, seed: int, device: str) -> dict[int, torch.Tensor]:
    """One pyramid by stride."""
    generator = torch.Generator().manual_seed(seed)
    return {
        stride: torch.randn(
            1, channels, size // stride, size // stride,
            generator=generator).to(device)
        for stride, channels in CHANNELS.items()}


@torch.no_grad()
def seconds(model: torch.nn.Module, size: int, rounds: int,
            device: str) -> float:
    """Fastest of some rounds."""
    pair = [features(size, seed, device) for seed in (0, 1)]
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        model(*pair)
        if device != 'cpu':
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--sizes', nargs='+', type=int, default=[256, 512])
    add('--rounds', type=int, default=3)
    add('--threads', type=int, default=2)
    add('--device', default='cpu')
    add('--markdown', metavar='FILE', help='write the table, too')
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    args = parse_args()
    if args.rounds < 1 or args.threads < 1 or any(
            size < 64 or size % 32 for size in args.sizes):
        raise ConfigError(
            f'--sizes {args.sizes}, --rounds {args.rounds}, --threads '
            f'{args.threads}: multiples of 32 from 64 on, and at least 1.')
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    models = [ReleasedGLAM().to(args.device).eval(),
              GLAM(CHANNELS).to(args.device).eval()]
    table = (f'{args.device}, {args.threads} thread(s), deformable '
             f'convolution: {"mmcv" if compiled() else "PyTorch"}\n\n'
             '| size | released, s | corrected, s | ratio |\n'
             '|--:|--:|--:|--:|\n')
    sys.stdout.write(table)
    for size in args.sizes:
        slow, fast = (seconds(model, size, args.rounds, args.device)
                      for model in models)
        line = f'| {size} | {slow:.2f} | {fast:.2f} | {slow / fast:.1f} |\n'
        table += line
        sys.stdout.write(line)
        sys.stdout.flush()
    if args.markdown:
        with atomic_write(args.markdown) as file:
            file.write(table)


if __name__ == '__main__':
    launch.run(main)
