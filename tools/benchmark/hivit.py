r"""What masking saves in the trunk of CoDe-MAE: forward and backward.

    python tools/benchmark/hivit.py
    python tools/benchmark/hivit.py --batch 64 --device cuda --dtypes bf16

Times the trunk and the pyramid of iTPN-B at several mask ratios. The ratio
to no masking shows whether masked units cost anything: 0.25 would be no cost
at all for linear layers, and less for attention. All figures of a table come
from one run on one machine; compare rows, not tables.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from osar_plugin.models.backbones import ITPN, HiViT
from osar_plugin.utils.measuring import median_seconds

MODELS: dict[str, Callable[[], Any]] = {
    'itpn-base': lambda: ITPN(modality='rgb', num_outs=3),
    'itpn-base trunk': lambda: ITPN(modality='rgb', num_outs=1),
    'hivit-base': HiViT,
    'hivit-tiny': lambda: HiViT('tiny'),
}
DTYPES = {'fp32': None, 'bf16': torch.bfloat16}


def step(model: Any, images: torch.Tensor, keep: torch.Tensor | None,
         dtype: torch.dtype | None) -> None:
    """One forward and backward pass; gradients are dropped."""
    device = images.device.type
    with torch.autocast(
            device, dtype) if dtype else contextlib.nullcontext():
        output = model.trunk(model.embed(images), (14, 14), keep)
        loss = output.tokens.float().square().mean()
        if getattr(model, 'num_outs', 1) > 1:
            for level in model.pyramid(output):
                loss = loss + level.float().square().mean()
    loss.backward()
    model.zero_grad(set_to_none=True)


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch', type=int, default=4, help='images')
    parser.add_argument(
        '--steps', type=int, default=5, help='steps that are counted')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--clock', choices=('wall', 'cpu'), default='wall',
        help='cpu: time of this process, for machines that others use')
    parser.add_argument('--models', nargs='+', choices=MODELS,
                        default=['itpn-base', 'itpn-base trunk'])
    parser.add_argument(
        '--dtypes', nargs='+', choices=DTYPES,
        help='default: fp32, and bf16 on a GPU')
    parser.add_argument('--ratios', nargs='+', type=float,
                        default=[0., 0.5, 0.75], help='masked share')
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    args = parse_args()
    dtypes = args.dtypes or (['fp32'] if args.device == 'cpu' else DTYPES)
    torch.manual_seed(0)
    images = torch.randn(args.batch, 3, 224, 224, device=args.device)
    order = torch.rand(args.batch, 196, device=args.device).argsort(1)
    lines = [
        f'224 x 224, batch {args.batch}, {args.device}, '
        f'{torch.get_num_threads()} threads, {args.clock} time, median of '
        f'{args.steps}',
        '| model | precision | masked | forward + backward ms | ratio |',
        '|---|---|--:|--:|--:|']
    for name in args.models:
        model = MODELS[name]().to(args.device).train()
        for precision in dtypes:
            whole = None
            for ratio in args.ratios:
                keep = order[:, :int(196 * (1 - ratio))] if ratio else None
                spent = 1000 * median_seconds(
                    partial(step, model, images, keep, DTYPES[precision]),
                    args.steps, args.device, args.clock)
                whole = whole or spent
                lines.append(f'| {name} | {precision} | {ratio:g} '
                             f'| {spent:.1f} | {spent / whole:.2f} |')
        del model
    sys.stdout.write('\n'.join(lines) + '\n')


if __name__ == '__main__':
    main()
