"""Configs: reading, overriding and checking them before anything is built.

A wrong key in a config is seldom an error by itself: MMEngine passes over
what it does not know, and a run goes on with a default that its owner
believes to have changed. So the tools refuse, before any file is read or
model built,

* a top-level key one slip away from a key of the Runner,
* a ``type`` that no registry knows,
* an argument that the named class does not take,
* an override whose path leads nowhere or has no effect.
"""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from .errors import ConfigError, MissingDependencyError

SCOPE = 'osar_plugin'
# What Runner.from_cfg and the parts it builds read from the top level.
RUNNER_KEYS = frozenset((
    'model', 'work_dir', 'train_dataloader', 'val_dataloader',
    'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg', 'auto_scale_lr',
    'optim_wrapper', 'param_scheduler', 'val_evaluator', 'test_evaluator',
    'default_hooks', 'custom_hooks', 'data_preprocessor', 'load_from',
    'resume', 'launcher', 'env_cfg', 'log_processor', 'log_level',
    'visualizer', 'vis_backends', 'default_scope', 'randomness',
    'experiment_name', 'runner_type', 'model_wrapper_cfg',
    'find_unused_parameters', 'sync_bn', 'compile', 'tta_model',
    'tta_pipeline', 'custom_imports', 'activation_checkpointing',
    'efficient_conv_bn_eval'))  # yapf: disable
DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')

# Keys that MMEngine's builders take out before the class sees them.
_BUILDER_KEYS = {
    'hook': {'priority'},
    'loop': {'by_epoch'},
    'optim_wrapper': {'optimizer', 'constructor', 'paramwise_cfg'},
    'parameter scheduler': {'convert_to_iter_based'},
}
_DATALOADER_KEYS = frozenset((
    'dataset', 'sampler', 'batch_sampler', 'collate_fn', 'worker_init_fn',
    'num_batch_per_epoch'))  # yapf: disable


def load_config(path: str | Path,
                options: dict[str, Any] | None = None) -> Config:
    """Read a config file, apply overrides and check the outcome.

    Args:
        path: The config file.
        options: Overrides as ``--cfg-options`` gives them, dotted key to
            value.

    Raises:
        ConfigError: If the file is not there or cannot be read, an override
            leads nowhere, or the config would not do what it says.
    """
    cfg = read_config(path)
    if options:
        check_options(cfg, options)
        try:
            cfg.merge_from_dict(options)
        except (AssertionError, KeyError, TypeError, IndexError) as error:
            raise ConfigError(
                f'--cfg-options {options} does not fit {path}: '
                f'{_text(error)}') from error
    check_config(cfg)
    _settle(cfg)
    return cfg


def require_parts(cfg: Config, path: str, verb: str,
                  parts: Iterable[str]) -> None:
    """Check that a config has what a tool works with.

    Args:
        cfg: The config.
        path: Its file, for the message.
        verb: What cannot be done without, e.g. ``'trained'``.
        parts: Top-level keys.

    Raises:
        ConfigError: Naming the keys that are missing.
    """
    missing = [key for key in parts if cfg.get(key) is None]
    if missing:
        raise ConfigError(
            f'{path} cannot be {verb}: it has no {", ".join(missing)}.')


def _settle(cfg: Config) -> None:
    """Follow an override into the settings that hang on it."""
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name)
        if loader and not loader.get('num_workers'):
            # PyTorch refuses these without workers.
            for key in ('persistent_workers', 'prefetch_factor'):
                loader.pop(key, None)
    epochs = (cfg.get('train_cfg') or {}).get('max_epochs')
    schedule = cfg.get('param_scheduler')
    total = schedule.get('total') if isinstance(schedule, dict) else None
    if epochs and total and epochs != total:
        print_log(
            f'train_cfg.max_epochs={epochs}, but the learning rate follows '
            f'param_scheduler.total={total} epochs.',
            logger='current',
            level=logging.WARNING)


def read_config(path: str | Path) -> Config:
    """Read a config file, without overrides or checks.

    Raises:
        ConfigError: If it, or a file it inherits from, is not there or
            cannot be read.
    """
    if not Path(path).is_file():
        raise ConfigError(_missing_config(Path(path)))
    try:
        return Config.fromfile(str(path))
    except (OSError, SyntaxError, NameError, KeyError, TypeError, ValueError,
            RuntimeError, ImportError, AttributeError) as error:
        raise ConfigError(
            f'Cannot read the config {path}: {type(error).__name__}: '
            f'{_text(error)}') from error


def check_config(cfg: Config) -> None:
    """Check keys, types and arguments of a whole config.

    Raises:
        ConfigError: Names the first wrong key, where it stands and what
            comes nearest.
        MissingDependencyError: If a ``type`` belongs to a package that is
            not installed.
    """
    where = cfg.filename or 'config'
    for key in cfg:
        near = slip(key, RUNNER_KEYS)
        if near is not None:
            raise ConfigError(
                f'{where}: unknown key {key!r}: did you mean {near!r}? A '
                'variable of your own needs a name less like it.')
    scope = cfg.get('default_scope') or 'mmengine'
    for key in sorted(RUNNER_KEYS & set(cfg)):
        for path, node in _dicts(cfg[key], key):
            # Models read their own init_cfg, each in its own way.
            if '.init_cfg' not in path:
                _check_node(where, path, node, scope)


def check_options(cfg: Config, options: dict[str, Any]) -> None:
    """Check that each override reaches something that a run reads.

    A new key is accepted where the dict's class takes it, or where the dict
    has no class and no key that differs from it by a slip of the keyboard.

    Raises:
        ConfigError: Names the override, the part of its path that leads
            nowhere and what comes nearest.
    """
    for path in options:
        top, *rest = path.split('.')
        if top not in RUNNER_KEYS:
            raise ConfigError(_unread_option(cfg, path, top))
        node: Any = cfg.get(top)
        done = top
        for part in rest:
            if node is None:
                break
            _check_step(cfg, path, done, node, part)
            node = (
                node[int(part)]
                if isinstance(node, (list, tuple)) else node.get(part))
            done = f'{done}.{part}'


def set_data_root(cfg: Config, root: str) -> None:
    """Point every data set of a config to another folder.

    Raises:
        ConfigError: If no data set of the config has a ``data_root``.
    """
    found = False
    for loader in DATALOADERS:
        for _, node in _dicts(cfg.get(loader), loader):
            if 'data_root' in node:
                node['data_root'] = root
                found = True
    if not found:
        raise ConfigError(
            f'--data-root {root}: no data set of {cfg.filename} takes a '
            'data_root; give the paths with --cfg-options instead.')


def slip(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` was meant to be, if by a slip only.

    That is one edit in a short name, two in one of eight letters or more;
    a name that is itself known is no slip.
    """
    known = list(known)
    if name in known:
        return None
    limit = 2 if len(name) >= 8 else 1
    ranked = sorted((edit_distance(name, other), other) for other in known)
    return ranked[0][1] if ranked and ranked[0][0] <= limit else None


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance: the fewest insertions, deletions and changes."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(
                row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known names most like ``name``, best first; may be empty."""
    names = sorted(set(known))
    lower: dict[str, str] = {}
    for other in names:
        lower.setdefault(other.lower(), other)
    return [
        lower[hit] for hit in difflib.get_close_matches(
            name.lower(), lower, n=count, cutoff=0.6)
    ]


def accepted_arguments(target: Callable) -> tuple[set[str], bool]:
    """The keyword arguments that a class or function takes.

    ``**kwargs`` is followed up the base classes.

    Returns:
        The names, and whether the list is known to be complete.
    """
    if not inspect.isclass(target):
        return _keywords(target)
    names: set[str] = set()
    for base in inspect.getmro(target):
        if '__init__' not in base.__dict__ or base is object:
            continue
        more, complete = _keywords(base.__dict__['__init__'])
        names |= more
        if complete:
            return names, True
    return names, False


def find_type(name: str, scope: str) -> list[tuple[str, Callable]]:
    """Look a ``type`` up in every registry.

    Args:
        name: As a config writes it, with or without a scope.
        scope: Where an unscoped name is looked up first.

    Returns:
        (registry name, class or function) for each registry that knows it.
    """
    found = []
    for root in _root_registries():
        child = root.children.get(name.split('.')[0])
        if child is None and '.' not in name:
            child = root.children.get(scope)
        elif child is None and name.split('.')[0] == SCOPE:
            # The root would look the name up among its own.
            continue
        target = (child or root).get(name)
        if target is not None:
            found.append((root.name, target))
    return found


def _check_node(where: str, path: str, node: dict, scope: str) -> None:
    """Check the type and the arguments of one dict of a config."""
    targets = _targets(where, path, node, scope)
    for key in node if targets else ():
        _check_argument(where, path, str(key), targets)


def _targets(where: str, path: str, node: dict,
             scope: str) -> list[tuple[str, Callable]]:
    """What a dict of a config may build; empty where that is not known."""
    name = node.get('type')
    if name is None:
        return _implicit_targets(path)
    if not isinstance(name, str):
        return [('', name)] if callable(name) else []
    scope = node.get('_scope_', scope)
    _import_scope(where, path, name)
    found = find_type(name, scope)
    # A layer's own arguments are split between its builder and torch.
    found = [f for f in found if not f[1].__module__.startswith('torch.nn')]
    if not found and not find_type(name, scope):
        near = nearest(name, _known_types(name, scope))
        # An unscoped name may be read by something else than a registry.
        if near or '.' in name:
            raise ConfigError(
                f'{where}: {path}: no registry knows the type {name!r}.'
                f'{_did_you_mean(near)}')
    return found


def _check_argument(where: str, path: str, key: str,
                    targets: list[tuple[str, Callable]]) -> None:
    """Refuse a key that none of the candidate classes takes."""
    if key in ('type', '_scope_'):
        return
    names: set[str] = set()
    complete = True
    for registry, target in targets:
        more, whole = accepted_arguments(target)
        names |= more | _BUILDER_KEYS.get(registry, set())
        complete &= whole
    if key in names or (not complete and slip(key, names) is None):
        return
    title = getattr(targets[0][1], '__name__', str(targets[0][1]))
    raise ConfigError(
        f'{where}: {path}: {title} takes no argument {key!r}.'
        f'{_did_you_mean(nearest(key, names))} It takes: '
        f'{", ".join(sorted(names))}.')


def _check_step(cfg: Config, path: str, done: str, node: Any,
                part: str) -> None:
    """Check one step of an override's path."""
    if isinstance(node, (list, tuple)):
        if not part.isdigit() or int(part) >= len(node):
            raise ConfigError(
                f'--cfg-options {path}: {done} is a list of {len(node)}; '
                f'expected an index from 0 to {len(node) - 1}, got {part!r}.')
        return
    if not isinstance(node, dict):
        raise ConfigError(
            f'--cfg-options {path}: {done} is {node!r}, not a dict; it has '
            f'no key {part!r}.')
    if part in node or part == 'type':
        return
    scope = cfg.get('default_scope') or 'mmengine'
    where = f'--cfg-options {path}'
    targets = [] if '.init_cfg' in done else _targets(
        where, done, node, scope)
    if targets:
        _check_argument(where, done, part, targets)
        return
    near = slip(part, [str(key) for key in node])
    if near is not None:
        raise ConfigError(
            f'{where}: {done} has no key {part!r}; did you mean '
            f'{done}.{near}?')


def _unread_option(cfg: Config, path: str, top: str) -> str:
    """Message about an override that no part of a run would read."""
    if top not in cfg:
        near = nearest(top, RUNNER_KEYS | set(cfg))
        return (f'--cfg-options {path}: the config {cfg.filename} has no key '
                f'{top!r}.{_did_you_mean(near)}')
    value = cfg[top]
    uses = [
        f'{where}.{key}' for root in sorted(RUNNER_KEYS & set(cfg))
        for where, node in _dicts(cfg[root], root)
        for key, other in node.items() if key == top or (
            isinstance(value, (dict, list)) and other == value)
    ]  # yapf: disable
    message = (
        f'--cfg-options {path}: {top!r} is a variable of the config file; '
        'its value has been put in where it is used, and changing the '
        'variable now would have no effect.')
    if uses:
        message += f' Override it there: {", ".join(uses[:6])}.'
    if top == 'data_root':
        message += ' Or give --data-root.'
    return message


def _dicts(node: Any, path: str) -> Iterator[tuple[str, dict]]:
    """Every dict in a nested config value, with its dotted path."""
    if isinstance(node, (dict, ConfigDict)):
        yield path, node
        for key, value in node.items():
            yield from _dicts(value, f'{path}.{key}')
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from _dicts(value, f'{path}.{i}')


def _implicit_targets(path: str) -> list[tuple[str, Callable]]:
    """The classes behind dicts that MMEngine lets go without a ``type``."""
    from mmengine import optim, runner
    from torch.utils.data import DataLoader

    if path in DATALOADERS:

        def loader(**kwargs: Any) -> None: ...

        parameters = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY)
            for name in sorted(_keywords(DataLoader.__init__)[0]
                               | _DATALOADER_KEYS)
        ]
        loader.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        loader.__name__ = 'the data loader'
        return [('', loader)]
    return {
        'train_cfg': [('loop', runner.EpochBasedTrainLoop),
                      ('loop', runner.IterBasedTrainLoop)],
        'val_cfg': [('loop', runner.ValLoop)],
        'test_cfg': [('loop', runner.TestLoop)],
        'optim_wrapper': [('optim_wrapper', optim.OptimWrapper)],
        'log_processor': [('log processor', runner.LogProcessor)],
        'randomness': [('', runner.Runner.set_randomness)],
    }.get(path, [])


def _keywords(function: Callable) -> tuple[set[str], bool]:
    """Keyword names of one function, and whether it takes no others."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return set(), False
    names = {
        p.name
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    return names - {'self'}, all(p.kind != p.VAR_KEYWORD for p in parameters)


def _root_registries() -> list[Any]:
    """MMEngine's root registries, with mmcv's and our parts in them."""
    from mmengine import registry as roots

    # Both register on import; layers and transforms of mmcv go into the
    # roots themselves, ours become children of them.
    for module in ('mmcv.cnn', 'mmcv.transforms', 'osar_plugin.registry'):
        import_module(module)
    return [
        value for value in vars(roots).values()
        if isinstance(value, roots.Registry) and value.parent is None
    ]


def _known_types(name: str, scope: str) -> set[str]:
    """What a config could write where it wrote ``name``."""
    scope, scoped = (name.split('.')[0], True) if '.' in name else (
        scope, False)
    names: set[str] = set()
    for root in _root_registries():
        child = root.children.get(scope)
        for registry in (child, None if scoped and scope == SCOPE else root):
            if registry is not None:
                registry.import_from_location()
                names |= set(registry.module_dict)
    return {f'{scope}.{n}' for n in names} if scoped else names


def _import_scope(where: str, path: str, name: str) -> None:
    """Import the package that a scoped type belongs to."""
    if '.' not in name:
        return
    package = name.split('.')[0]
    try:
        import_module(package)
    except ImportError as error:
        raise MissingDependencyError(
            f'{where}: {path}: the type {name!r} belongs to the package '
            f'{package!r}, which cannot be imported ({error}). Install it, '
            'or mend the name.') from error


def _missing_config(path: Path) -> str:
    """Message about a config file that is not there."""
    message = f'No config file {str(path)!r}'
    shipped = Path(__file__).parents[1] / '.mim' / 'configs'
    found: dict[str, Path] = {}
    for folder in (shipped, Path('configs'), path.parent):
        if folder.is_dir() and folder != Path('.'):
            for file in folder.rglob('*.py'):
                if '_base_' not in file.parts:
                    found[file.stem] = file
    near = [str(found[stem]) for stem in nearest(path.stem, found)]
    message += f'. Nearest: {", ".join(near)}.' if near else '.'
    if not near and found:
        message += (
            ' Configs there are: '
            f'{", ".join(sorted(str(p) for p in found.values())[:8])}.')
    return message + ' To try the demo, which needs no data: make demo'


def _did_you_mean(names: list[str]) -> str:
    return f' Did you mean {" or ".join(map(repr, names))}?' if names else ''


def _text(error: BaseException) -> str:
    """An exception's message; str() of a KeyError would quote it."""
    return str(error.args[0] if isinstance(error, KeyError) else error)
