r"""One step of CoDe-MAE pre-training: speed, memory, and what costs what.

    python tools/benchmark/codemae.py
    python tools/benchmark/codemae.py --device cuda --batch 128 --dtypes bf16
    python tools/benchmark/codemae.py --tiny --steps 1

Times forward, backward and the update of the published model (iTPN-B, two
decoders of 8 blocks, distillation, contrast; the teacher's features are
given), and its parts one by one. Each row is a fresh process, so its peak
memory is its own. The plain form gives the same losses the obvious way: the
sensors go through the encoder one after the other, every unit is predicted
and masked afterwards, attention is written out, the optimizer updates tensor
by tensor. The rate of matrix products is measured in the same process: it
says how much of the machine a step uses, and how much others left of it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from osar_plugin.models.pretraining.masking import Masking
from osar_plugin.registry import MODELS
from osar_plugin.utils.config import load_config
from osar_plugin.utils.devices import has_bfloat16
from osar_plugin.utils.measuring import (
    in_fresh_process,
    median_seconds,
    peak_bytes,
)

ROOT = Path(__file__).resolve().parents[2]
DTYPES = {'fp32': None, 'bf16': torch.bfloat16, 'fp16': torch.float16}
FORMS = ('plain', 'ours', 'ours, checkpointed')
TINY: dict[str, Any] = {
    'backbone.arch': dict(
        embed_dim=64, mlp_depths=(1, 1), depth=4, num_heads=4),
    'backbone.fpn_dim': 32, 'decoder.dim': 64, 'decoder.depth': 2,
    'decoder.num_heads': 4, 'distillation.num_heads': 4,
    'contrast.num_heads': 4}


def build(args: argparse.Namespace) -> Any:
    """The published model in the form that is asked for."""
    cfg = load_config(ROOT / 'configs/codemae_ospretrain.py')
    changes: dict[str, Any] = {
        'teacher': dict(type='osar_plugin.PrecomputedTeacher', dim=1024),
        'init_cfg': None}
    changes.update(TINY if args.tiny else {})
    if args.form == 'plain':
        changes.update({'backbone.attention': 'plain',
                        'decoder.attention': 'plain'})
    if args.form.endswith('checkpointed'):
        changes.update({f'{part}.with_cp': True for part in (
            'backbone', 'decoder', 'distillation')})
    model = dict(cfg.model.to_dict())
    for path, value in changes.items():
        node, *rest = path.split('.')
        if rest:
            model[node] = dict(model[node], **{rest[0]: value})
        else:
            model[node] = value
    torch.manual_seed(0)
    return MODELS.build(model).to(args.device).train()


def make_batch(args: argparse.Namespace) -> dict[str, Tensor]:
    """Random images, as the preprocessor would give them."""
    generator = torch.Generator().manual_seed(0)
    shape = (args.batch, 3, 224, 224)
    batch = dict(
        rgb=torch.randn(shape, generator=generator),
        sar=torch.randn(args.batch, 1, 224, 224, generator=generator
                        ).expand(-1, 3, -1, -1),
        teacher=torch.randn(args.batch, 196, 1024, generator=generator),
        noise=torch.rand(args.batch, 196, generator=generator))
    return {k: v.to(args.device) for k, v in batch.items()}


def plain_loss(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """The same losses the obvious way."""
    ids = model.draw(batch, (14, 14))
    taps = (model.backbone.first_main + model.distillation.tap_block(
        model.backbone.depth), )
    visible, tapped = [], []
    for name in ('rgb', 'sar'):
        units = model.backbone.embed(batch[name], name)
        out = model.backbone.trunk(units, (14, 14), ids.keep, taps)
        visible.append(model.embedding['shared'](model.backbone.pyramid(out)))
        tapped.append(out.taps[taps[0]])
    both = torch.cat(visible)
    mask, keep = ids.repeat(2).mask(), ids.repeat(2).keep
    total: Any = model.contrast(*visible)
    for part in (model.reconstruction, model.degraded):
        error = (part.predict(both, keep) - part.targets(batch)).square()
        total = total + (error.mean(-1) * mask).sum() / mask.sum()
    return total + sum(model.distillation(
        visible[0], tapped[0], batch['teacher'], ids.keep).values())


def loss_of(model: Any, batch: dict[str, Tensor], form: str) -> Tensor:
    """Total loss of a batch."""
    if form == 'plain':
        return plain_loss(model, batch)
    losses = model(batch, mode='loss')
    return sum(v for k, v in losses.items()  # type: ignore[return-value]
               if k.startswith('loss'))


def parts_of(model: Any, batch: dict[str, Tensor]
             ) -> dict[str, Callable[[], Tensor]]:
    """What a step consists of, each with a scalar to go back from."""
    with torch.no_grad():
        encoded = model.encode(batch)
    visible = encoded.visible.detach().float().requires_grad_()
    tapped = encoded.tapped.detach().float().requires_grad_()
    ids: Masking = encoded.masking
    half = len(batch['rgb'])

    def encoder() -> Tensor:
        out = model.encode(batch)
        return out.visible.float().square().mean()

    def distill() -> Tensor:
        return sum(model.distillation(
            visible[:half], tapped[:half], batch['teacher'],
            ids.keep[:half]).values())

    return {
        'encoder': encoder,
        'self decoder': lambda: model.reconstruction(
            visible, ids.keep, ids.masked, batch),
        'cross decoder': lambda: model.degraded(
            visible, ids.keep, ids.masked, batch),
        'OKD heads': distill,
        'CCL': lambda: model.contrast(*visible.chunk(2))}


def seconds(function: Callable[[], Any], args: argparse.Namespace) -> float:
    """Median of a call, after one that is not counted."""
    return median_seconds(function, args.steps, args.device, args.clock)


def matmul_rate(args: argparse.Namespace) -> float:
    """GFLOP/s of one large matrix product in the row's precision."""
    side = 512 if args.tiny else (8192 if args.device != 'cpu' else 2048)
    dtype = DTYPES[args.dtype] or torch.float32
    a, b = (torch.randn(side, side, device=args.device, dtype=dtype)
            for _ in range(2))
    return 2 * side**3 / seconds(lambda: a @ b, args) / 1e9


class Trainer:
    """A model, its batch and its optimizer, in one precision.

    Args:
        args: Of the row.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.model, self.batch = build(args), make_batch(args)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), 1e-4, betas=(0.9, 0.95),
            weight_decay=0.05,
            **(dict(foreach=False) if args.form == 'plain'
               else dict(fused=True)))
        self.loss: Any = loss_of

    def precision(self) -> Any:
        """The context of the forward pass."""
        dtype = DTYPES[self.args.dtype]
        return (torch.autocast(self.args.device, dtype) if dtype
                else contextlib.nullcontext())

    def step(self) -> Tensor:
        """Forward, backward and update; the loss."""
        with self.precision():
            value: Tensor = self.loss(self.model, self.batch, self.args.form)
        value.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return value.detach()

    def alone(self, part: Callable[[], Tensor]) -> None:
        """Forward and backward of a part."""
        with self.precision():
            value = part()
        value.backward()
        self.model.zero_grad(set_to_none=True)

    def parts(self) -> dict[str, float]:
        """Seconds of each part."""
        with self.precision():
            parts = parts_of(self.model, self.batch)
        return {name: seconds(partial(self.alone, part), self.args)
                for name, part in parts.items()}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """One row: the whole step, its parts, peak memory, rates."""
    trainer = Trainer(args)
    with FlopCounterMode(display=False) as counter:
        first = float(trainer.step())
    if args.compile:
        trainer.loss = torch.compile(loss_of)
    whole = seconds(trainer.step, args)
    row = dict(
        form=args.form, dtype=args.dtype, loss=first, seconds=whole,
        peak_gib=peak_bytes(args.device) / 2**30, matmul=matmul_rate(args),
        gflops=counter.get_total_flops() / 1e9)
    if args.form != 'plain':
        row['parts'] = trainer.parts()
    return row


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--batch', type=int, default=4, help='pairs')
    parser.add_argument(
        '--steps', type=int, default=5, help='steps that are counted')
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--clock', choices=('wall', 'cpu'), default='wall',
        help='cpu: time of this process, for machines that others use')
    parser.add_argument(
        '--dtypes', nargs='+', choices=DTYPES, default=['fp32', 'bf16'])
    parser.add_argument('--forms', nargs='+', choices=FORMS, default=FORMS)
    parser.add_argument('--threads', type=int, help='of PyTorch')
    parser.add_argument(
        '--compile', action='store_true', help='torch.compile the losses')
    parser.add_argument(
        '--tiny', action='store_true', help='a tiny model, to try the tool')
    parser.add_argument('--json', type=Path, help='write the rows here too')
    parser.add_argument('--row', nargs=2, metavar=('FORM', 'DTYPE'),
                        help=argparse.SUPPRESS)
    return parser.parse_args()


def table(rows: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """The rows for a terminal and for Markdown."""
    images = 2 * args.batch
    slow = args.device == 'cpu' and not has_bfloat16()
    lines = [
        f'{args.batch} pairs of 224 x 224, {args.device}, {args.clock} time, '
        f'median of {args.steps}' + (
            '; this CPU has no instructions for bfloat16' if slow else ''),
        '| form | precision | loss | s/step | images/s | ratio | peak GiB '
        '| GFLOP | share of matmul rate |', '|---|---|--:|--:|--:|--:|--:'
        '|--:|--:|']
    for row in rows:
        # Ratio to the first row: the plain form in the first precision.
        share = row['gflops'] / row['seconds'] / row['matmul']
        lines.append(
            f'| {row["form"]} | {row["dtype"]} | {row["loss"]:.5f} '
            f'| {row["seconds"]:.3f} | {images / row["seconds"]:.2f} '
            f'| {rows[0]["seconds"] / row["seconds"]:.2f} '
            f'| {row["peak_gib"]:.2f} | {row["gflops"]:.0f} '
            f'| {share:.2f} of {row["matmul"]:.0f} GFLOP/s |')
    names = next((list(r['parts']) for r in rows if 'parts' in r), [])
    lines += ['', f'| seconds alone | precision | {" | ".join(names)} |',
              f'|---|---|{"--:|" * len(names)}']
    for row in rows:
        if 'parts' in row:
            values = ' | '.join(f'{row["parts"][n]:.3f}' for n in names)
            lines.append(f'| {row["form"]} | {row["dtype"]} | {values} |')
    return '\n'.join(lines)


def main() -> None:
    """Print the tables."""
    args = parse_args()
    if args.row:
        args.form, args.dtype = args.row
        if args.threads:
            torch.set_num_threads(args.threads)
        sys.stdout.write(json.dumps(measure(args)) + '\n')
        return
    rows = [in_fresh_process(__file__, *sys.argv[1:], '--row', form, dtype)
            for dtype in args.dtypes for form in args.forms]
    sys.stdout.write(table(rows, args) + '\n')
    if args.json:
        from osar_plugin.io import atomic_write

        with atomic_write(args.json) as file:
            json.dump(rows, file, indent=2)


if __name__ == '__main__':
    from osar_plugin.utils import launch

    launch.run(main)
