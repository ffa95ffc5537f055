"""Speed and memory of SDF-Net: training step and inference.

    python tools/benchmark/reid.py
    python tools/benchmark/reid.py --batch 32 --steps 5 --device cuda

Each row is a fresh process, so that its peak memory is its own. All figures
of a table come from one run on one machine; compare rows, not tables.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from osar_plugin.registry import MODELS
from osar_plugin.structures import ReIDDataSample
from osar_plugin.utils.measuring import in_fresh_process, peak_bytes

# name: (attention, bfloat16)
VARIANTS = {
    'fused attention, fp32': ('fused', False),
    'plain attention, fp32': ('plain', False),
    'fused attention, bf16': ('fused', True),
    'plain attention, bf16': ('plain', True),
}


def build_model(attention: str) -> Any:
    """The published SDF-Net, random weights."""
    return MODELS.build(
        dict(
            type='osar_plugin.SDFNet',
            backbone=dict(
                type='osar_plugin.VisionTransformer',
                modality_token=True,
                attention=attention),
            neck=dict(type='osar_plugin.DisentangledNeck'),
            head=dict(
                type='osar_plugin.IdentityHead',
                test_feature='after',
                loss_id=dict(type='osar_plugin.IdentityLoss'),
                loss_triplet=dict(type='osar_plugin.TripletLoss')),
            structure=dict(type='osar_plugin.StructureConsistency'),
            loss_orth=dict(type='osar_plugin.OrthogonalityLoss')))


def make_batch(count: int, device: str) -> tuple[Any, list[Any]]:
    """Images (B, 3, 256, 128) and samples, 4 of an identity."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, 256, 128, generator=generator)
    samples = []
    for row in range(count):
        sample = ReIDDataSample()
        sample.label, sample.modality = row // 4, row % 2
        sample.size = torch.randn(3, generator=generator)
        samples.append(sample)
    return images.to(device), samples


def step_flops(count: int, training: bool) -> float:
    """Multiply-adds x 2 of the matrix products of ViT-B/16, 131 tokens.

    Per token and block: 12 D^2 products in the linear layers and 2 N D in
    the attention; the tokenizer sees each image twice, once per sensor. A
    backward pass costs two forward ones.
    """
    tokens, dim, depth = 131, 768, 12
    block = tokens * (12 * dim**2 + 2 * tokens * dim)
    forward = 2. * count * (depth * block + 2 * 128 * 768 * dim)
    return forward * (3 if training else 1)


def timed(function: Callable[[], Any], steps: int, device: str) -> float:
    """Median seconds of a call, after one that is not counted."""
    seconds = []
    for index in range(steps + 1):
        start = time.perf_counter()
        function()
        if device != 'cpu':
            torch.cuda.synchronize()
        if index:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Measured FLOP/s of the MLP's matrix product at 32 images."""
    a = torch.randn(32 * 131, 768, device=device, dtype=dtype)
    b = torch.randn(768, 3072, device=device, dtype=dtype)
    seconds = timed(lambda: a @ b, 10, device)
    return 2 * a.shape[0] * a.shape[1] * b.shape[1] / seconds


def measure(variant: str, args: argparse.Namespace) -> dict[str, float]:
    """One row: images per second, memory and share of the matrix rate."""
    attention, half = VARIANTS[variant]
    dtype = torch.bfloat16 if half else torch.float32
    rate = matrix_rate(args.device, dtype)
    model = build_model(attention).to(args.device)
    images, samples = make_batch(args.batch, args.device)
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], 1e-4, 0.9)

    def context() -> Any:
        return torch.autocast(
            args.device, torch.bfloat16) if half else contextlib.nullcontext()

    def infer() -> None:
        with torch.no_grad(), context():
            model(images, samples, mode='predict')

    def train() -> None:
        with context():
            losses = model(images, samples, mode='loss')
        optimizer.zero_grad()
        sum(v for k, v in losses.items() if k.startswith('loss')).backward()
        optimizer.step()

    model.eval()
    inference = timed(infer, args.steps, args.device)
    model.train()
    training = timed(train, args.steps, args.device)
    return dict(
        train_ips=args.batch / training,
        train_share=step_flops(args.batch, True) / training / rate,
        test_ips=args.batch / inference,
        test_share=step_flops(args.batch, False) / inference / rate,
        rate=rate,
        memory=peak_bytes(args.device))


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch', type=int, default=32, help='images')
    parser.add_argument(
        '--steps', type=int, default=3, help='steps that are counted')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--variants', nargs='+', choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument('--one', choices=VARIANTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    args = parse_args()
    if args.one:
        sys.stdout.write(json.dumps(measure(args.one, args)))
        return
    rows = {}
    for variant in args.variants:
        rows[variant] = in_fresh_process(
            __file__, '--one', variant, '--batch', args.batch, '--steps',
            args.steps, '--device', args.device)
    first = next(iter(rows.values()))
    lines = [
        f'SDF-Net, ViT-B/16, 256 x 128, batch {args.batch}, '
        f'{args.device}, {torch.get_num_threads()} threads',
        '| variant | training img/s | ratio | share of matmul rate | '
        'inference img/s | ratio | share | peak GiB | matmul GFLOP/s |',
        '|---|--:|--:|--:|--:|--:|--:|--:|--:|'
    ]
    for variant, row in rows.items():
        lines.append(
            f'| {variant} | {row["train_ips"]:.2f} '
            f'| {row["train_ips"] / first["train_ips"]:.2f} '
            f'| {row["train_share"]:.0%} | {row["test_ips"]:.2f} '
            f'| {row["test_ips"] / first["test_ips"]:.2f} '
            f'| {row["test_share"]:.0%} | {row["memory"] / 2**30:.2f} '
            f'| {row["rate"] / 1e9:.0f} |')
    sys.stdout.write('\n'.join(lines) + '\n')


if __name__ == '__main__':
    main()
