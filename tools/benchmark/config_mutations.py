"""What becomes of a training when its config has a mistake in it.

    python tools/benchmark/config_mutations.py --count 500 --seed 0

Takes the shipped configs, shrinks them until an epoch lasts a moment, puts
one seeded mistake into each copy and trains it as tools/train.py does, in a
process of its own with a time limit. Every case must end in an error that
names the key or the value, unless the mistake is harmless: an optional key
dropped, a variable that nothing reads, a value that another config might
well have. Exit status 1 if any does not.
"""

from __future__ import annotations

import argparse
import copy
import gc
import importlib.util
import math
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import mmengine
import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image
from rich.console import Console
from rich.table import Table

import osar_plugin.registry  # noqa: F401
from osar_plugin.utils import launch
from osar_plugin.utils.config_check import RUNNER_KEYS

REPO = Path(__file__).resolve().parents[2]
LIMIT = 60.0  # seconds; most end within one, on a busy machine four
MEMORY = 16 << 30  # bytes of address space of a case
SIDE = 48  # pixels; 3 x 3 patches, the least for a central difference

KINDS = (
    'drop', 'misspelt key', 'misspelt type', 'misspelt scope',
    'misspelt name', 'text', 'number', 'list', 'dict', 'None', 'bool',
    'negative', 'zero', 'huge', 'NaN')
UNCHANGED = 'unchanged'
OUTCOMES = ('clear error', 'error of another package', 'harmless',
            'silently accepted', 'unclear error', 'unclear traceback',
            'hang')
GOOD = OUTCOMES[:3]

# Values of another kind or size that are right all the same, by the last name
# of the key; written down by hand, so that the checks of the package are not
# measured against themselves.
_FINE = {
    # Switches a part off, or leaves the choice to its default.
    'None': {
        'seed', 'load_from', 'visualizer', 'structure', 'loss_orth',
        'loss_id', 'loss_triplet', 'init_cfg', 'data_preprocessor',
        'save_best', 'rule', 'param_scheduler', 'log_processor', 'clip_grad',
        'paramwise_cfg', 'auto_scale_lr', 'default_hooks', 'default_scope',
        'vis_backends'},
    # A quantity that may be nothing.
    'zero': {
        'seed', 'momentum', 'weight_decay', 'padding', 'num_workers',
        'drop_path_rate', 'modality_coef', 'prob', 'brightness', 'contrast',
        'saturation', 'loss_weight', 'warmup', 'lr_mult',
        'opencv_num_threads'},
    # Rarely, for long, or never.
    'huge': {
        'interval', 'max_keep_ckpts', 'val_interval', 'max_epochs', 'total',
        'max_norm'},
    # With optional=True, a missing file is a warning that names it.
    'misspelt name': {'checkpoint'},
    # No schedule, or no hook: the list may be empty.
    'list': {'param_scheduler', 'custom_hooks'},
    # Levels of logging are numbers.
    'number': {'log_level'},
}  # yapf: disable
Place = tuple[Any, ...]


@dataclass(frozen=True)
class Mutation:
    """One mistake.

    Attributes:
        config: The file it is made in, relative to the checkout.
        kind: One of :data:`KINDS`.
        path: Keys and indices down to the place.
        before: What stood there.
        after: What stands there now; the new name of a misspelt key.
    """

    config: str
    kind: str
    path: Place
    before: Any
    after: Any

    @property
    def key(self) -> str:
        """Last name in the path."""
        return next(str(p) for p in reversed(self.path) if isinstance(p, str))

    def __str__(self) -> str:
        if self.kind == UNCHANGED:
            return f'{self.config} ({self.kind})'
        place = '.'.join(map(str, self.path))
        what = {'drop': ' dropped'}.get(
            self.kind, f' = {str(self.after)[:40]!r}'
            if isinstance(self.after, str) else f' = {str(self.after)[:40]}')
        return f'{self.config}: {place}{what} ({self.kind})'


@dataclass
class Ended:
    """How a case ended.

    Attributes:
        outcome: One of :data:`OUTCOMES`.
        message: Its last words.
        seconds: How long it took.
    """

    outcome: str
    message: str
    seconds: float


# ------------------------------------------------------------ small configs


def shipped() -> list[Path]:
    """The re-identification and pre-training configs, without bases."""
    # Those that :func:`small_config` knows how to make small.
    return sorted(
        path for path in (REPO / 'configs').rglob('*.py')
        if not {'_base_', 'examples'} & set(path.parts)
        and path.name.startswith(('sdfnet_', 'transoss_')))


def small_config(path: Path, data: Path) -> dict[str, Any]:
    """A shipped config at a size at which an epoch takes no time.

    Args:
        path: The config.
        data: Folder of :func:`write_data`.
    """
    cfg = Config.fromfile(str(path)).to_dict()
    model = cfg['model']
    model['backbone'].update(
        img_size=(SIDE, SIDE), patch_size=16, embed_dim=32, depth=2,
        num_heads=2)
    if 'embed_dim' in model.get('neck', {}):
        model['neck']['embed_dim'] = 32
    if 'head' in model:
        wide = model['neck'].get('fusion') == 'concat'
        model['head'].update(in_channels=64 if wide else 32, num_classes=4)
    if model.get('structure'):
        model['structure']['layer'] = 1
    for name in ('train', 'val', 'test'):
        loader = cfg.get(f'{name}_dataloader')
        if loader:
            _shrink_loader(loader, data)
    cfg['param_scheduler'].update(total=10, warmup=2)
    cfg['train_cfg'].update(max_epochs=1)
    if cfg.get('val_cfg') is not None:
        cfg['train_cfg'].update(val_interval=1)
    cfg['default_hooks']['checkpoint'].update(interval=1)
    return cfg


def _shrink_loader(loader: dict[str, Any], data: Path) -> None:
    loader.update(batch_size=8, num_workers=0)
    if 'batch_size' in loader['sampler']:
        loader['sampler']['batch_size'] = 8
    loader['dataset']['data_root'] = str(data)
    steps = list(loader['dataset']['pipeline'])
    for step in steps:
        steps += step.get('transforms', [])
        if 'size' in step:
            step['size'] = (SIDE, SIDE)
        if 'padding' in step:
            step['padding'] = 5


def write_data(root: Path) -> None:
    """HOSS and OptiSar_Pair as noise: 4 identities, 2 chips per sensor."""
    rng = np.random.default_rng(0)

    def chip(path: Path, sar: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (24, 48) if sar else (24, 48, 3)
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(path)

    for pid in range(4):
        for folder, first, seqs in (
                ('bounding_box_train', 0, (1, 2)), ('query', 4, (1, )),
                ('bounding_box_test', 4, (3, ))):
            for seq in seqs:
                for name in ('RGB', 'SAR'):
                    chip(root / 'HOSS' / folder /
                         f'{first + pid:04d}_s{seq:02d}c1_{name}.tif',
                         name == 'SAR')
        for part in range(2):
            for name in ('RGB', 'SAR'):
                chip(root / 'OptiSar_Pair' / '0000' /
                     f'sen_{2 * pid + part:06d}_p0_{name}.png', name == 'SAR')


def source(value: Any) -> str:
    """A value as Python text, which the parser of configs takes."""
    if isinstance(value, dict):
        return '{' + ', '.join(
            f'{k!r}: {source(v)}' for k, v in value.items()) + '}'
    if isinstance(value, (list, tuple)):
        inner = ', '.join(map(source, value))
        return f'[{inner}]' if isinstance(value, list) else f'({inner},)'
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    return repr(value)


# ---------------------------------------------------------------- mutations


def sites(node: Any, path: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every place below a config value, with what stands there."""
    if path:
        yield path, node
    if isinstance(node, dict):
        for key, value in node.items():
            yield from sites(value, (*path, key))
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from sites(value, (*path, i))


def _misspell(name: str, rng: random.Random) -> str:
    """Drop, swap, double or change a letter."""
    letters = [i for i, c in enumerate(name) if c.isalpha()]
    while letters:
        i = rng.choice(letters)
        how = rng.randrange(4)
        if how == 0 and len(name) > 1:
            new = name[:i] + name[i + 1:]
        elif how == 1 and i + 1 < len(name):
            new = name[:i] + name[i + 1] + name[i] + name[i + 2:]
        elif how == 2:
            new = name[:i] + name[i] + name[i:]
        else:
            new = name[:i] + rng.choice('abcdefghijklmnop') + name[i + 1:]
        if new != name and new.isidentifier() == name.isidentifier():
            return new
    return name + 'x'


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def replacement(kind: str, path: Place, value: Any,
                rng: random.Random) -> Any:
    """What a mistake of a kind puts in the place of a value.

    Returns:
        The new value, or the value itself where the kind does not apply.
    """
    key = path[-1]
    if kind.startswith('misspelt') and kind != 'misspelt key':
        return _misspelt_value(kind, key, value, rng)
    if key == 'type':
        return value
    new: Any = {
        'text': rng.choice(('abc', '12', 'True', '')), 'number': 7,
        'list': rng.choice(([], [1, 2], ['a'])), 'dict': {'a': 1},
        'None': None, 'bool': rng.random() < 0.5,
        'negative': -7, 'zero': 0, 'huge': 10**12, 'NaN': math.nan,
    }[kind]  # yapf: disable
    if kind in ('negative', 'zero', 'huge', 'NaN'):
        if not _is_number(value):
            return value
        return float(new) if isinstance(value, float) else new
    if kind == 'number' and _is_number(value):
        return value
    same = (
        (kind == 'text', str), (kind == 'list', (list, tuple)),
        (kind == 'dict', dict), (kind == 'bool', bool))
    if any(asked and isinstance(value, cls) for asked, cls in same):
        return value
    return new


def _misspelt_value(kind: str, key: Any, value: Any,
                    rng: random.Random) -> Any:
    if not isinstance(value, str) or not value:
        return value
    scoped = key in ('type', 'constructor') and '.' in value
    if kind == 'misspelt name':
        return value if scoped else _misspell(value, rng)
    if not scoped:
        return value
    scope, _, name = value.partition('.')
    if kind == 'misspelt scope':
        return f'{_misspell(scope, rng)}.{name}'
    return f'{scope}.{_misspell(name, rng)}'


def draw(configs: dict[str, dict[str, Any]], seed: int,
         number: int) -> Mutation:
    """The mistake of one case; kinds take turns.

    Args:
        configs: Small configs by file.
        seed: Seed of the run.
        number: Number of the case.
    """
    rng = random.Random(f'{seed}/{number}')
    kind = KINDS[number % len(KINDS)]
    while True:
        name = rng.choice(sorted(configs))
        cfg = configs[name]
        top = rng.choice(sorted(cfg))
        # A variable of the file, which nothing reads, now and then.
        if top not in RUNNER_KEYS and rng.random() < 0.9:
            continue
        # Half of them anywhere, half evenly over the parts of a config,
        # most of which is data pipelines.
        part = {top: cfg[top]} if rng.random() < 0.5 else {
            k: v for k, v in cfg.items() if k in RUNNER_KEYS}
        path, value = rng.choice(list(sites(part)))
        if kind in ('drop', 'misspelt key'):
            if isinstance(path[-1], str):
                after = None if kind == 'drop' else _misspell(path[-1], rng)
                return Mutation(name, kind, path, value, after)
            continue
        after = replacement(kind, path, value, rng)
        if repr(after) != repr(value):
            return Mutation(name, kind, path, value, after)


def mutated(cfg: dict[str, Any], mutation: Mutation) -> dict[str, Any]:
    """The config with the mistake in it."""
    cfg = copy.deepcopy(cfg)
    if mutation.kind == UNCHANGED:
        return cfg
    *parents, last = mutation.path

    def rebuilt(node: Any, rest: list[Any]) -> Any:
        if rest:
            items = node if isinstance(node, dict) else list(node)
            items[rest[0]] = rebuilt(items[rest[0]], rest[1:])
        else:
            items = node if isinstance(node, dict) else list(node)
            if mutation.kind == 'drop':
                del items[last]
            elif mutation.kind == 'misspelt key':
                items = {
                    mutation.after if k == last else k: v
                    for k, v in node.items()}
            else:
                items[last] = mutation.after
        return tuple(items) if isinstance(node, tuple) else items

    return rebuilt(cfg, parents)


# -------------------------------------------------------------- one process


class _Stop(Hook):
    """End the process once the run is seen to work."""

    priority = 'VERY_LOW'

    def before_train_epoch(self, runner: Any) -> None:
        if runner.epoch:
            sys.exit(0)

    def after_train_iter(self, runner: Any, *args: Any,
                         **kwargs: Any) -> None:
        if runner.iter >= 8:
            sys.exit(0)


class _BriefRunner(Runner):
    """A Runner that builds the parts of a test too, and stops soon."""

    def train(self) -> Any:
        self.register_hook(_Stop())
        if self._test_loop is not None:
            # For the errors that tools/test.py would meet.
            self.build_test_loop(self._test_loop)
        return super().train()


def load_tool() -> ModuleType:
    """tools/train.py with a Runner that stops soon, ready to be forked."""
    spec = importlib.util.spec_from_file_location(
        'train_tool', REPO / 'tools' / 'train.py')
    if spec is None or spec.loader is None:
        raise ImportError('tools/train.py cannot be loaded.')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.Runner = _BriefRunner  # type: ignore[attr-defined]
    # Laying the copies of the config out takes longer than the training.
    mmengine.config.config.FormatCode = (
        lambda text, **options: (text, True))
    for name in ('matplotlib.pyplot', 'torchvision', 'torch._dynamo',
                 'mmengine.utils.dl_utils.collect_env'):
        importlib.import_module(name)
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    return tool


def _child(tool: ModuleType, folder: Path) -> None:
    """Train the config of a folder; never returns."""
    code = 1
    try:
        os.setsid()
        sink = os.open(folder / 'output', os.O_WRONLY | os.O_CREAT)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        sys.argv = ['train.py', str(folder / 'config.py'), '--work-dir',
                    str(folder / 'work')]
        launch.run(tool.main)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Case:
    """A training in a process of its own.

    Args:
        tool: See :func:`load_tool`.
        text: The config.
        folder: Where it may write.
    """

    def __init__(self, tool: ModuleType, text: str, folder: Path) -> None:
        folder.mkdir()
        (folder / 'config.py').write_text(text, encoding='utf-8')
        self.folder = folder
        self.code: int | None = None
        self.started = time.monotonic()
        self.seconds = 0.
        self.pid = os.fork()
        if self.pid == 0:
            _child(tool, folder)

    def ended(self) -> bool:
        """Whether it is over, by itself or by the time limit."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        self.seconds = time.monotonic() - self.started
        if pid:
            self.code = os.waitstatus_to_exitcode(status)
            return True
        if self.seconds > LIMIT:
            self.kill()
            return True
        return False

    def kill(self) -> None:
        """End it, and the workers it has started."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            # It has not got as far as its own group.
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def output(self) -> str:
        """What it has printed."""
        path = self.folder / 'output'
        return path.read_text(errors='replace') if path.is_file() else ''


# ----------------------------------------------------------------- judgment


def names(message: str, mutation: Mutation) -> bool:
    """Whether a message names the key or the value of a mistake."""
    # The list of all arguments would name any.
    head = message.partition(' It takes: ')[0]
    words = {mutation.key}
    if mutation.kind == 'misspelt key':
        words.add(mutation.after)
    if mutation.kind.startswith('misspelt'):
        words |= {str(mutation.before), str(mutation.after)}
    if mutation.kind == 'drop' and isinstance(mutation.before, dict):
        words |= set(mutation.before)
    if any(re.search(rf'(?<![\w]){re.escape(w)}(?![\w])', head, re.I)
           for w in words):
        return True
    shown = repr(mutation.after)
    telling = isinstance(mutation.after, str) or len(shown) > 4
    return bool(mutation.after) and telling and shown in head


def harmless(mutation: Mutation) -> bool:
    """Whether a run may start in spite of a mistake."""
    top, key = mutation.path[0], mutation.path[-1]
    if mutation.kind == 'drop' or top not in RUNNER_KEYS:
        return True
    if top == 'default_hooks' and len(mutation.path) == 2:
        # Only the name of a hook of one's own; or the hook is switched off.
        return mutation.kind in ('misspelt key', 'None')
    return key in _FINE.get(mutation.kind, ())


def judge(case: Case, mutation: Mutation) -> Ended:
    """Sort a finished case into its class."""
    output = case.output()
    if mutation.kind == UNCHANGED:
        good = case.code == 0
        return Ended('harmless' if good else 'unclear error',
                     '' if good else output[-500:], case.seconds)
    lines = [line for line in output.splitlines() if line.strip()]
    last = lines[-1] if lines else ''
    if case.code is None or case.code < 0:
        outcome = 'hang' if case.code is None else 'unclear traceback'
        return Ended(outcome, f'{case.code}: {last}', case.seconds)
    if case.code == 0:
        fine = harmless(mutation)
        return Ended('harmless' if fine else 'silently accepted', '',
                     case.seconds)
    if case.code == launch.EXIT_USER_ERROR:
        message = output.rpartition('\nerror: ')[2].strip()
        good = names(message, mutation)
        return Ended('clear error' if good else 'unclear error', message,
                     case.seconds)
    good = names(last, mutation)
    return Ended('error of another package' if good else 'unclear traceback',
                 last, case.seconds)


def run_cases(mutations: list[Mutation], configs: dict[str, dict[str, Any]],
              folder: Path, jobs: int = 1,
              console: Console | None = None) -> list[Ended | None]:
    """Run and judge cases; what an interruption left out is None.

    Args:
        mutations: The mistakes.
        configs: Small configs by file.
        folder: An existing folder.
        jobs: Processes at a time.
        console: Where to show how far it is.
    """
    tool = load_tool()
    waiting = list(enumerate(mutations))[::-1]
    running: dict[int, Case] = {}
    done: list[Ended | None] = [None] * len(mutations)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                i, mutation = waiting.pop()
                cfg = mutated(configs[mutation.config], mutation)
                text = '\n'.join(f'{k} = {source(v)}' for k, v in cfg.items())
                running[i] = Case(tool, text, folder / f'{i:04d}')
            time.sleep(0.005)
            for i in [i for i, case in running.items() if case.ended()]:
                case = running.pop(i)
                done[i] = judge(case, mutations[i])
                shutil.rmtree(case.folder, ignore_errors=True)
                if console is not None and (i + 1) % 50 == 0:
                    console.log(f'{i + 1} of {len(mutations)}')
    except KeyboardInterrupt:
        if console is not None:
            console.log('Interrupted.')
    finally:
        for case in running.values():
            case.kill()
    return done


# ------------------------------------------------------------------- report


def report(mutations: list[Mutation], done: list[Ended | None],
           console: Console) -> int:
    """Print the table and every bad case; the number of bad ones."""
    counts: Counter[tuple[str, str]] = Counter()
    bad = []
    for mutation, ended in zip(mutations, done, strict=True):
        if ended is not None:
            counts[mutation.kind, ended.outcome] += 1
            if ended.outcome not in GOOD:
                bad.append((mutation, ended))
    table = Table(title='Mistakes in configs')
    table.add_column('mistake')
    for outcome in OUTCOMES:
        table.add_column(outcome, justify='right')
    for kind in (*KINDS, UNCHANGED):
        table.add_row(kind, *(str(counts[kind, o]) for o in OUTCOMES))
    table.add_section()
    table.add_row('all mistakes', *(
        str(sum(counts[k, o] for k in KINDS)) for o in OUTCOMES))
    console.print(table)
    times = sorted(ended.seconds for ended in done if ended is not None)
    if times:
        console.print(
            f'{len(times)} cases; seconds: median '
            f'{times[len(times) // 2]:.2f}, longest {times[-1]:.2f}')
    for mutation, ended in bad:
        console.print(f'{ended.outcome}: {mutation}\n    {ended.message}',
                      markup=False, highlight=False)
    return len(bad)


def main() -> None:
    """Mutate, run, report."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--count', type=int, default=500)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--jobs', type=int, default=1, help='processes at a time')
    parser.add_argument(
        '--unchanged',
        action=argparse.BooleanOptionalAction,
        default=True,
        help='also run each config as it is')
    parser.add_argument(
        '--show', action='store_true', help='print every case')
    args = parser.parse_args()
    console = Console(soft_wrap=True, width=140)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, 'data')
        write_data(data)
        configs = {
            str(path.relative_to(REPO)): small_config(path, data)
            for path in shipped()}
        mutations = [
            draw(configs, args.seed, i) for i in range(args.count)]
        if args.unchanged:
            # Without a mistake, each must start.
            mutations += [
                Mutation(name, UNCHANGED, (), None, None) for name in configs]
        done = run_cases(mutations, configs, Path(folder), args.jobs, console)
    if args.show:
        for mutation, ended in zip(mutations, done, strict=True):
            if ended is not None:
                console.print(
                    f'{ended.outcome}: {mutation}\n    {ended.message}',
                    markup=False, highlight=False)
    bad = report(mutations, done, console)
    sys.exit(1 if bad or None in done else 0)


if __name__ == '__main__':
    main()
