"""Checks of a whole config, before anything is built from it.

Every dict below a key of the Runner is held against what it builds: its
type, the names of its keys, their values, and the keys that are missing.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, get_args

from mmengine.config import Config, ConfigDict

from .config_targets import (
    SCOPE,
    THE_CONFIG,
    Argument,
    Target,
    arguments_of,
    check_constructor,
    check_scope,
    find_type,
    targets_of,
)
from .config_values import (
    Buildable,
    Misfit,
    describe,
    misfit,
    number_fault,
    shown,
)
from .errors import ConfigError
from .names import did_you_mean, nearest, slip

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
# Variables of stock configs that are no slips.
_VARIABLES = ('models', 'conv_cfg')
_EVALUATORS = re.compile('(val|test)_evaluator')
# Hooks that a Runner registers unless default_hooks has the name.
MMENGINE_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger',
                   'param_scheduler', 'checkpoint')  # yapf: disable
# Names of which another may exist, but hardly one that is a slip away.
_SPELLINGS = {
    'env_cfg.dist_cfg.backend': (
        'nccl', 'gloo', 'mpi', 'hccl', 'cncl', 'mccl', 'xccl', 'ucc'),
}  # yapf: disable
# Read by the registries, not by what they build.
_META_KEYS = ('type', '_scope_')


def check_config(cfg: Config) -> None:
    """Check keys, types, arguments and values of a whole config.

    Raises:
        ConfigError: Names the first wrong key, where it stands, its value
            and what was expected or comes nearest.
        MissingDependencyError: If a ``type`` belongs to a package that is
            not installed.
    """
    where = cfg.filename or 'config'
    for key in cfg:
        near = slip(key, RUNNER_KEYS)
        if near is not None and key not in _VARIABLES:
            raise ConfigError(
                f'{where}: unknown key {key!r}: did you mean {near!r}? A '
                'variable of your own needs a name less like it.')
    top = arguments_of(THE_CONFIG)[0]
    for key in sorted(RUNNER_KEYS & set(cfg)):
        _check_value(where, key, cfg[key], [(THE_CONFIG, top.get(key))])
        if cfg[key] == '':
            raise ConfigError(
                f"{where}: {key}='' is empty. Fill it in, or leave it out.")
    scope = cfg.get('default_scope') or 'mmengine'
    check_scope(where, scope)
    for key in sorted(RUNNER_KEYS & set(cfg)):
        _Walk(where, scope).visit(key, cfg[key])
    _check_save_best(where, cfg, scope)


def check_argument(where: str, path: str, key: str,
                   targets: list[Target]) -> None:
    """Refuse a key that none of the candidate classes takes.

    Raises:
        ConfigError: Naming it, the nearest, and what there is.
    """
    if key in _META_KEYS:
        return
    names: set[str] = set()
    complete = True
    for target in targets:
        more, whole = arguments_of(target)
        names |= set(more)
        complete &= whole
    if key in names or (not complete and slip(key, names) is None):
        return
    raise ConfigError(
        f'{where}: {path}: {targets[0].title} takes no argument {key!r}.'
        f'{did_you_mean(nearest(key, names))} It takes: '
        f'{", ".join(sorted(names))}.')


def dicts(node: Any, path: str) -> Iterator[tuple[str, dict]]:
    """Every dict in a nested config value, with its dotted path."""
    if isinstance(node, (dict, ConfigDict)):
        yield path, node
        for key, value in node.items():
            yield from dicts(value, f'{path}.{key}')
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from dicts(value, f'{path}.{i}')


class _Walk:
    """One pass over a value of a config.

    Args:
        where: The file, for messages.
        scope: The config's default scope.
    """

    def __init__(self, where: str, scope: str) -> None:
        self.where = where
        self.scope = scope

    def visit(self, path: str, value: Any, inside_ours: bool = False) -> None:
        """Check a value and all below it.

        Args:
            path: Where it stands.
            value: The value.
            inside_ours: Whether it is an argument of a class of this
                package.
        """
        if isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                self.visit(f'{path}.{i}', item, inside_ours)
            if not value and _EVALUATORS.fullmatch(path):
                raise ConfigError(
                    f'{self.where}: {path}={value!r} names no metric. Add '
                    'one, or set evaluator, data loader and cfg to None.')
        if not isinstance(value, dict):
            self.check_scalar(path, value)
            return
        # Models read their own init_cfg, each in its own way.
        if '.init_cfg' in path and not inside_ours:
            return
        if path == 'optim_wrapper' and not check_constructor(
                self.where, value, self.scope):
            return
        targets = targets_of(
            self.where, path, value, self.scope, inside_ours)
        self.check_node(path, value, targets)
        ours = any(
            getattr(t.factory, '__module__', '').split('.')[0] == SCOPE
            and t.registry == 'model' for t in targets)
        for key, item in value.items():
            self.visit(f'{path}.{key}', item, ours)

    def check_node(self, path: str, node: dict,
                   targets: list[Target]) -> None:
        """Check one dict: names, values, what is missing."""
        if path == 'default_hooks':
            self._check_hook_names(node)
        known = [(target, arguments_of(target)[0]) for target in targets]
        for key in node if targets else ():
            check_argument(self.where, path, str(key), targets)
        for key, value in node.items():
            _check_value(
                self.where, f'{path}.{key}', value,
                [(target, args.get(key)) for target, args in known
                 if key not in _META_KEYS or not target.registry])
        for name in _missing(node, [args for _, args in known]):
            raise ConfigError(
                f'{self.where}: {path}: {targets[0].title} needs {name!r}, '
                'which is missing.')
        if path == 'train_cfg' and not {'type', 'by_epoch'} & set(node):
            raise ConfigError(
                f"{self.where}: train_cfg has neither 'by_epoch' nor 'type'."
                ' Add by_epoch=True to count epochs, by_epoch=False to count '
                'iterations.')

    def check_scalar(self, path: str, value: Any) -> None:
        """Refuse NaN, numbers out of range and names that are a slip."""
        near = isinstance(value, str) and slip(
            value, _SPELLINGS.get(path, ()))
        if near:
            raise ConfigError(
                f'{self.where}: {path}={value!r}: did you mean {near!r}?')
        parts = path.split('.')
        key = next((p for p in reversed(parts) if not p.isdigit()), path)
        fault = number_fault(key, value)
        if fault is not None:
            raise ConfigError(f'{self.where}: {path}={shown(value)}{fault}.')

    def _check_hook_names(self, node: dict) -> None:
        """A slip would leave MMEngine's own hook in place as well."""
        for key in node:
            near = slip(str(key), MMENGINE_HOOKS)
            if near is not None:
                raise ConfigError(
                    f'{self.where}: default_hooks has no place {key!r}: did '
                    f'you mean {near!r}? A hook of your own needs a name '
                    'less like it, or a place in custom_hooks.')


def _check_value(where: str, path: str, value: Any,
                 known: list[tuple[Target, Argument | None]]) -> None:
    """Refuse a value that suits none of the classes that take its key."""
    fault: Misfit | None = None
    for _, argument in known:
        if argument is None:
            continue
        fault = misfit(value, argument.hint, path)
        if fault is None or _is_default(value, argument):
            return
    if fault is None:
        return
    taker, taken = next((t, a) for t, a in reversed(known) if a is not None)
    kinds = (fault.hint, *get_args(fault.hint))
    if Buildable in kinds and isinstance(fault.value, dict):
        kind = fault.value.get('type')
        said = 'has no type' if 'type' not in fault.value else (
            f'has type={kind!r}')
        raise ConfigError(
            f'{where}: {fault.path} {said}: it needs the name of a class, '
            f"such as type='{SCOPE}.…'.")
    message = (f'{where}: {fault.path}={shown(fault.value)}: expected '
               f'{describe(fault.hint)}')
    plain = isinstance(taken.default, (int, float, str, tuple, list))
    if taken.default is None or plain:
        of = '' if taker == THE_CONFIG else f' of {taker.title}'
        message += (f'. Leave it out for the default{of}, '
                    f'{shown(taken.default)}')
    raise ConfigError(f'{message}.')


def _check_save_best(where: str, cfg: Config, scope: str) -> None:
    """Refuse a figure that none of the metrics gives.

    Otherwise that would show at the first evaluation. Metrics that do not
    list their figures are trusted.
    """
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    wanted = hook.get('save_best')
    wanted = [wanted] if isinstance(wanted, str) else wanted or []
    metrics = cfg.get('val_evaluator') or []
    metrics = [metrics] if isinstance(metrics, dict) else metrics
    known: list[str] = []
    for metric in metrics:
        factories = [
            factory for _, factory in find_type(metric.get('type'), scope)
            if hasattr(factory, 'figure_names')
        ] if isinstance(metric.get('type'), str) else []
        if not factories:
            return
        settings = {k: v for k, v in metric.items() if k not in _META_KEYS}
        known += factories[0](**settings).figure_names
    for name in wanted if known else ():
        if name not in ('auto', *known):
            raise ConfigError(
                f'{where}: default_hooks.checkpoint.save_best={name!r}: the '
                f'evaluation gives no such figure.'
                f'{did_you_mean(nearest(name, known))} It gives: '
                f'{", ".join(known)}.')


def _is_default(value: Any, argument: Argument) -> bool:
    """Whether a value is the default; annotations often forget its None."""
    default = argument.default
    return value is default or (
        type(value) is type(default) and not isinstance(value, float)
        and value == default and default is not inspect.Parameter.empty)


def _missing(node: dict, known: list[dict[str, Argument]]) -> list[str]:
    """Required arguments that a dict lacks, whichever class it builds."""
    lacking = [
        [name for name, argument in found.items()
         if argument.required and name not in node] for found in known]
    return min(lacking, key=len, default=[])
