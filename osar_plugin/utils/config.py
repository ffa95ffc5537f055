"""Configs: reading, overriding and checking them before anything is built.

A wrong key in a config is seldom an error by itself: MMEngine passes over
what it does not know, and a run goes on with a default that its owner
believes to have changed. So the tools refuse, before any file is read or
model built,

* a top-level key one slip away from a key of the Runner,
* a ``type`` that no registry knows,
* an argument that the named class does not take, or one that it needs and
  does not get,
* a value of a wrong kind, NaN, or a number that no class could use,
* an override whose path leads nowhere or has no effect.

The module :mod:`~osar_plugin.utils.config_check` walks the config,
``config_targets`` knows what its dicts build, ``config_values`` what a value
may be.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from .config_check import (
    MMENGINE_HOOKS,
    RUNNER_KEYS,
    check_argument,
    check_config,
    dicts,
)
from .config_targets import (
    DATALOADERS,
    accepted_arguments,
    find_type,
    how_to_install,
    targets_of,
)
from .errors import ConfigError, MissingDependencyError
from .names import did_you_mean, edit_distance, nearest, slip

__all__ = [
    'accepted_arguments', 'check_config', 'check_options', 'edit_distance',
    'find_type', 'load_config', 'nearest', 'read_config', 'require_parts',
    'set_data_root', 'slip',
]


def _on_command_line(path: str) -> str:
    return f'--cfg-options {path}'


def load_config(path: str | Path,
                options: dict[str, Any] | None = None,
                said: Callable[[str], str] = _on_command_line) -> Config:
    """Read a config file, apply overrides and check the outcome.

    Args:
        path: The config file.
        options: Overrides as ``--cfg-options`` gives them, dotted key to
            value.
        said: How messages call an override, by its key: as its user gave
            it.

    Raises:
        ConfigError: If the file is not there or cannot be read, an override
            leads nowhere, or the config would not do what it says.
    """
    cfg = read_config(path)
    if options:
        check_options(cfg, options, said)
        _make_room(cfg, options)
        try:
            cfg.merge_from_dict(options)
        except (AssertionError, KeyError, TypeError, IndexError) as error:
            raise ConfigError(
                f'{", ".join(map(said, options))}: {options} does not fit '
                f'{path}: {_text(error)}') from error
    _share_lists(cfg, options or {})
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
        near = did_you_mean(
            near for key in missing for near in nearest(key, cfg, 1))
        raise ConfigError(
            f'{path} cannot be {verb}: it has no {", ".join(missing)}.{near}')
    # A Runner takes these parts together or not at all.
    for name in ('val', 'test'):
        group = [f'{name}_{part}' for part in (
            'dataloader', 'cfg', 'evaluator')]
        missing = [key for key in group if cfg.get(key) is None]
        if 0 < len(missing) < len(group):
            there = ' and '.join(k for k in group if k not in missing)
            raise ConfigError(
                f'{path} cannot be {verb}: it has {there}, but no '
                f'{" and no ".join(missing)}. Add what is missing, or set '
                'all three to None.')


def _make_room(cfg: Config, options: dict[str, Any]) -> None:
    """Turn a None on the way of an override into a dict.

    MMEngine merges into dicts alone; ``init_cfg=None`` is a config's way to
    say that there is nothing yet.
    """
    for path in options:
        node: Any = cfg
        for part in path.split('.')[:-1]:
            if not isinstance(node, (dict, Config)) or part not in node:
                break
            if node[part] is None:
                node[part] = {}
            node = node[part]


def _share_lists(cfg: Config, options: dict[str, Any]) -> None:
    """Give val and test the few-shot draw that training is overridden with.

    ``train_dataloader.dataset.list_seed=3`` is then all it takes, also where
    the list of val is what that draw left. Overrides of val and test
    themselves come first; the log says what followed.
    """
    for key in ('list_shots', 'list_seed'):
        path = f'{DATALOADERS[0]}.dataset.{key}'
        if path not in options:
            continue
        for loader in DATALOADERS[1:]:
            dataset = (cfg.get(loader) or {}).get('dataset') or {}
            followed = f'{loader}.dataset.{key}'
            if dataset.get(key) is None or followed in options:
                continue
            dataset[key] = options[path]
            print_log(
                f'{followed}={options[path]}, as of training.',
                logger='current')


def _settle(cfg: Config) -> None:
    """Follow an override into the settings that hang on it."""
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name)
        if loader and not loader.get('num_workers'):
            # PyTorch refuses these without workers.
            for key in ('persistent_workers', 'prefetch_factor'):
                loader.pop(key, None)
    hooks = cfg.get('default_hooks') or {}
    for name in [name for name in hooks if hooks[name] is None]:
        # `None` leaves a hook out; MMEngine understands that of its own
        # six only.
        if name not in MMENGINE_HOOKS:
            hooks.pop(name)
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
        MissingDependencyError: If it needs a package that is not installed.
    """
    if not Path(path).is_file():
        raise ConfigError(_missing_config(Path(path)))
    try:
        return Config.fromfile(str(path))
    except ImportError as error:
        raise MissingDependencyError(
            f'The config {path} builds on a package that cannot be imported '
            f'({error}). {how_to_install(error)}') from error
    except (OSError, SyntaxError, NameError, KeyError, TypeError, ValueError,
            RuntimeError, AttributeError) as error:
        raise ConfigError(
            f'Cannot read the config {path}: {type(error).__name__}: '
            f'{_text(error)}') from error


def check_options(cfg: Config, options: dict[str, Any],
                  said: Callable[[str], str] = _on_command_line) -> None:
    """Check that each override reaches something that a run reads.

    A new key is accepted where the dict's class takes it, or where the dict
    has no class and no key that differs from it by a slip of the keyboard.
    For ``said`` see :func:`load_config`.

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
            if isinstance(node, dict) and f'{done}.type' in options:
                # Judged by the class that it becomes.
                node = {**node, 'type': options[f'{done}.type']}
            _check_step(cfg, said(path), done, node, part)
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
        for _, node in dicts(cfg.get(loader), loader):
            if 'data_root' in node:
                node['data_root'] = root
                found = True
    if not found:
        raise ConfigError(
            f'--data-root {root}: no data set of {cfg.filename} takes a '
            'data_root; give the paths with --cfg-options instead.')


def _check_step(cfg: Config, where: str, done: str, node: Any,
                part: str) -> None:
    """Check one step of an override, which messages call ``where``."""
    if isinstance(node, (list, tuple)):
        if not part.isdigit() or int(part) >= len(node):
            raise ConfigError(
                f'{where}: {done} is a list of {len(node)}; '
                f'expected an index from 0 to {len(node) - 1}, got {part!r}.')
        return
    if not isinstance(node, dict):
        raise ConfigError(
            f'{where}: {done} is {node!r}, not a dict; it has '
            f'no key {part!r}.')
    if part in node or part == 'type':
        return
    scope = cfg.get('default_scope') or 'mmengine'
    targets = [] if '.init_cfg' in done else targets_of(
        where, done, node, scope)
    if targets:
        check_argument(where, done, part, targets)
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
                f'{top!r}.{did_you_mean(near)}')
    value = cfg[top]
    uses = [
        f'{where}.{key}' for root in sorted(RUNNER_KEYS & set(cfg))
        for where, node in dicts(cfg[root], root)
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


def _text(error: BaseException) -> str:
    """An exception's message; str() of a KeyError would quote it."""
    return str(error.args[0] if isinstance(error, KeyError) else error)
