r"""Sampling of the translator: speed, memory, and quality by steps.

    python tools/benchmark/translation.py
    python tools/benchmark/translation.py --quality configs/demo/bbdm_hoss.py \
        work_dirs/bbdm_hoss --data-root data/demo

Speed: the network of a config with random weights, which cost what trained
ones cost. The plain form is one view at a time in float32, 200 steps, weights
in the usual order. Each row is a fresh process, so its peak memory is its
own. A few steps are measured; what 10 to 200 steps take is extrapolated from
them (encoding + first step, which all views of an image share + the other
steps + decoding) and marked so. --whole S runs S steps of the fastest form
and of the plain one and prints both numbers. A CPU that only emulates
bfloat16 gets no rows with it.

Quality: the structural score of a trained translator by number of steps, of
all views against real SAR (tools/analysis/evaluate_translation.py).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from osar_plugin.apis.translation import PRESETS, prepare_for_inference
from osar_plugin.models.translation import SamplerSettings
from osar_plugin.registry import MODELS
from osar_plugin.utils.config import load_config
from osar_plugin.utils.devices import has_bfloat16
from osar_plugin.utils.errors import ConfigError
from osar_plugin.utils.measuring import in_fresh_process, peak_bytes

ROOT = Path(__file__).resolve().parents[2]
EVALUATE = ROOT / 'tools' / 'analysis' / 'evaluate_translation.py'

# name: (views at once, bfloat16, channels last)
PLAIN = 'plain: K 1, fp32'
FORMS = {
    PLAIN: (1, False, False),
    'K 1, fp32, channels last': (1, False, True),
    'K 1, bf16': (1, True, False),
    'K 1, bf16, channels last': (1, True, True),
    'K 5, fp32': (5, False, False),
    'K 5, fp32, channels last': (5, False, True),
    'K 5, bf16': (5, True, False),
    'K 5, bf16, channels last': (5, True, True),
}


class Clock:
    """Seconds in parts of a model, by name of its method."""

    def __init__(self, model: Any, device: str) -> None:
        self.device = device
        self.seconds: dict[str, list[float]] = {}
        self.cpu: dict[str, list[float]] = {}
        for name in ('encode', 'denoiser', 'decode'):
            self._watch(model, name)

    def now(self) -> float:
        """Seconds, once the device is done."""
        if self.device != 'cpu':
            torch.cuda.synchronize()
        return time.perf_counter()

    def _watch(self, model: Any, name: str) -> None:
        part = getattr(model, name)
        inner = part.forward if isinstance(part, torch.nn.Module) else part

        def timed(*args: Any, **kwargs: Any) -> Any:
            start, cpu = self.now(), time.process_time()
            out = inner(*args, **kwargs)
            self.seconds.setdefault(name, []).append(self.now() - start)
            self.cpu.setdefault(name, []).append(time.process_time() - cpu)
            return out

        if isinstance(part, torch.nn.Module):
            part.forward = timed  # type: ignore[method-assign]
        else:
            setattr(model, name, timed)


def build(form: str, args: argparse.Namespace) -> tuple[Any, Any]:
    """The model in a form, and the type it runs in."""
    _, half, channels_last = FORMS[form]
    torch.manual_seed(0)
    model = MODELS.build(load_config(args.config).model)
    dtype = torch.bfloat16 if half else None
    prepare_for_inference(model, torch.device(args.device), dtype)
    if not channels_last:
        model.to(memory_format=torch.contiguous_format)
        model.denoiser.channels_last = False
    if args.cuda_compile:
        # Inside of what the clock watches.
        model.denoiser.unet.compile(dynamic=False)
    return model, dtype


def measure(form: str, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of encoding, of a step and of decoding; GiB at the most."""
    torch.set_num_threads(args.threads)
    views, *_ = FORMS[form]
    model, dtype = build(form, args)
    clock = Clock(model, args.device)
    images = torch.rand(
        args.images, 3, *args.size, device=args.device) * 2 - 1
    steps = args.child_whole or args.steps + 2

    def run(count: int) -> float:
        settings = SamplerSettings(views, max(count, 3))
        start = clock.now()
        with torch.inference_mode(), torch.autocast(
                args.device, dtype or torch.bfloat16,
                enabled=dtype is not None):
            model.translate(images, settings=settings)
        return clock.now() - start

    run(3)  # libraries set themselves up, compilation happens
    clock.seconds.clear()
    total = run(steps)
    parts = clock.seconds
    encode, decode = sum(parts['encode']), sum(parts['decode'])
    # The first step sees each image once, the others each view.
    first, *others = parts['denoiser']
    count = len(parts['denoiser'])
    # Noise and the arithmetic of the bridge.
    rest = (total - encode - decode - sum(parts['denoiser'])) / count
    return dict(
        views=views * args.images, steps=count, total=total, encode=encode,
        decode=decode, first=first, network=min(others),
        cpu=min(clock.cpu['denoiser'][1:]), rest=rest,
        # Of a machine with other work the fastest step says most.
        step=min(others) + rest, memory=peak_bytes(args.device) / 2**30)


def rate(row: dict[str, Any], steps: int) -> float:
    """Views per second at so many steps, extrapolated."""
    seconds = (row['encode'] + row['first'] + row['rest']
               + (steps - 1) * row['step'] + row['decode'])
    return row['views'] / seconds


def child(form: str, args: argparse.Namespace,
          whole: int = 0) -> dict[str, Any]:
    """Run one measurement in a fresh process."""
    command = [
        '--child', form, '--config', args.config, '--device', args.device,
        '--threads', args.threads, '--steps', args.steps, '--images',
        args.images, '--size', *args.size, '--child-whole', whole]
    if args.cuda_compile:
        command.append('--cuda-compile')
    result: dict[str, Any] = in_fresh_process(__file__, *command)
    return result


def speed(args: argparse.Namespace) -> dict[str, Any]:
    """Measure all forms and print the table."""
    say = sys.stdout.write
    heads = ' | '.join(f'S {s}' for s in args.counts)
    say(f'{args.config}, {args.size[0]} x {args.size[1]}, {args.images} '
        f'images at once, {args.device}, {args.threads} threads, '
        f'{args.steps + 2} steps measured'
        f'{", compiled" if args.cuda_compile else ""}\n\n'
        '| form | network, s/view | CPU s/view | encode, s | decode, s/view '
        f'| peak GiB | views/s, extrapolated: {heads} | times plain at 200 | '
        f'at {min(args.counts)}, times plain at 200 |\n'
        '|---|--:|--:|--:|--:|--:|' + '--:|' * (len(args.counts) + 2)
        + '\n')
    rows: dict[str, Any] = {}
    emulated = args.device == 'cpu' and not has_bfloat16()
    for form in args.forms:
        if emulated and FORMS[form][1]:
            continue
        row = rows[form] = child(form, args)
        base = rate(rows.get(PLAIN, row), 200)
        rates = ' | '.join(f'{rate(row, s):.4f}' for s in args.counts)
        say(f'| {form} | {row["network"] / row["views"]:.3f} '
            f'| {row["cpu"] / row["views"]:.3f} '
            f'| {row["encode"]:.2f} | {row["decode"] / row["views"]:.2f} '
            f'| {row["memory"]:.2f} | {rates} | {rate(row, 200) / base:.2f} '
            f'| {rate(row, min(args.counts)) / base:.1f} |\n')
        sys.stdout.flush()
    best = max(rows, key=lambda form: rate(rows[form], 200))
    for form in (PLAIN, best) if args.whole else ():
        row = child(form, args, args.whole)
        rows[f'{form}, whole'] = row
        say(f'\n{form}, {args.whole} steps in full: '
            f'{row["views"] / row["total"]:.4f} views/s; extrapolated '
            f'{rate(rows.get(form, row), args.whole):.4f}.\n')
    return rows


def quality(args: argparse.Namespace) -> dict[str, Any]:
    """Structural score by number of steps, as a table."""
    say = sys.stdout.write
    config, checkpoint = args.quality
    say('| steps | structure | of S 200 | best view | looks ratio | W1 | '
        'seconds |\n|--:|--:|--:|--:|--:|--:|--:|\n')
    rows: dict[str, Any] = {}
    # The reference first: the others are held against it.
    for steps in sorted({200, *args.counts}, reverse=True):
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable, str(EVALUATE), config, checkpoint, '--steps',
                str(steps), '--out', folder, '--device', args.device]
            for flag in ('data_root', 'limit', 'spacing'):
                value = getattr(args, flag)
                if value is not None:
                    command += [f'--{flag.replace("_", "-")}', str(value)]
            start = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            seconds = time.perf_counter() - start
            found = json.loads(
                Path(folder, 'translation.json').read_text('utf-8'))
        figures = rows[str(steps)] = found['methods']['translator']
        share = figures['structure'] / rows['200']['structure']
        preset = next((f' ({name})' for name, p in PRESETS.items()
                       if p['steps'] == steps), '')
        say(f'| {steps}{preset} | {figures["structure"]:.4f} | {share:.1%} '
            f'| {figures["structure_best"]:.4f} '
            f'| {figures["looks_ratio"]:.2f} | {figures["wasserstein"]:.1f} '
            f'| {seconds:.0f} |\n')
        sys.stdout.flush()
    return rows


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--config', default=str(ROOT / 'configs' / 'bbdm_hoss.py'),
        help='translator to measure the speed of')
    add('--size', nargs=2, type=int, default=(256, 256), metavar=('H', 'W'))
    add('--images', type=int, default=1, help='images at once')
    add('--forms', nargs='+', choices=FORMS, default=list(FORMS))
    add('--counts', nargs='+', type=int, default=[10, 20, 50, 200],
        help='numbers of steps')
    add('--steps', type=int, default=2,
        help='steps to measure, beside the two at the ends')
    add('--whole', type=int, default=0, metavar='S',
        help='also run S steps in full')
    add('--threads', type=int, default=torch.get_num_threads())
    add('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    add('--cuda-compile', action='store_true',
        help='compile the network (on a GPU)')
    add('--quality', nargs=2, metavar=('CONFIG', 'CHECKPOINT'),
        help='structural score by steps of a trained translator instead')
    add('--data-root', help='with --quality: folder of its data set')
    add('--limit', type=int, help='with --quality: images at most')
    add('--spacing', choices=('linear', 'cosine'),
        help='with --quality: how the steps lie')
    add('--json', metavar='FILE', help='write all figures, too')
    add('--child', choices=FORMS, help=argparse.SUPPRESS)
    add('--child-whole', type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    args = parse_args()
    if min(args.counts) < 3 or args.steps < 1 or args.images < 1:
        raise ConfigError(
            f'--counts {args.counts}, --steps {args.steps}, --images '
            f'{args.images}: at least 3, 1 and 1.')
    if args.cuda_compile and args.device == 'cpu':
        raise ConfigError('--cuda-compile needs --device cuda.')
    if args.child:
        sys.stdout.write('\n' + json.dumps(measure(args.child, args)) + '\n')
        return
    rows = quality(args) if args.quality else speed(args)
    if args.json:
        from osar_plugin.io import atomic_write

        with atomic_write(args.json) as file:
            json.dump(rows, file, indent=2)


if __name__ == '__main__':
    from osar_plugin.utils import launch

    launch.run(main)
