"""State of a training as plain data, and back.

A checkpoint that holds nothing but tensors, numbers, strings, lists, tuples
and dicts is read by ``torch.load(..., weights_only=True)`` as it is: there
is no type that a reader would have to trust. :func:`to_plain` brings
MMEngine's message hub, NumPy arrays, configs and the like into that form,
:func:`from_plain` back. What is plain already stays as it is, so that a
reader without this module finds most of a checkpoint in its usual form;
everything else becomes a dict that says under :data:`MARK` what it was.
"""

from __future__ import annotations

import argparse
import math
import re
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleParamScheduler
from torch import Tensor

from .errors import CheckpointError

# Key of a dict that stands for something that is not plain; its value names
# the kind.
MARK = '__osar_plain__'

# What any reader of a checkpoint knows.
_PLAIN_TYPES = (
    type(None), bool, float, str, complex, bytearray, torch.dtype,
    torch.device, torch.Size)
# The restricted unpickler knows these, by their own names; a schedule with
# milestones keeps them in a Counter.
_DICTS = (dict, OrderedDict, Counter)
# The restricted unpickler reads integers of up to 255 bytes.
_MOST_BITS = 2000
# Kinds of NumPy's types whose bytes are values; not 'O' (pointers to Python
# objects) and 'V' (structures, which may hold some).
_KINDS = 'biufcmMSU'
_TENSOR_TYPES = ('bool', 'uint8', 'int8', 'int16', 'int32', 'int64',
                 'float16', 'float32', 'float64', 'complex64', 'complex128')
_DTYPE = re.compile(r'[<>|][biufcmMSU]\d+(\[[\w/]+\])?')
_FACTORIES: dict[str, Callable[[], Any] | None] = {
    'none': None, 'dict': dict, 'float': float, 'int': int, 'list': list,
    'set': set, 'str': str}
# State that the constructor of a schedule makes again.
_REMADE: tuple[Any, ...] = (
    OneCycleParamScheduler._annealing_cos,
    OneCycleParamScheduler._annealing_linear)


def to_plain(value: Any, path: str = '') -> Any:
    """Express a value in what ``torch.load(weights_only=True)`` reads.

    Numbers, strings, bytes, ``None``, lists, tuples, sets, dicts and their
    nesting stay what they are; tensors are the same tensors, not copies.
    NumPy's scalars become Python's numbers and strings. Arrays, history
    buffers, configs, namespaces, paths, slices and default dicts become
    marked dicts; the tensor of an array shares its memory where it can.
    The annealing function in the state of a one-cycle schedule is left out:
    its constructor sets it.

    Args:
        value: What is to be saved.
        path: Where it belongs, for messages: ``'message_hub'``.

    Returns:
        The same content in new containers.

    Raises:
        CheckpointError: For an object of another type; the message names
            its place, like ``message_hub.runtime_info.thing``, and type.
    """
    try:
        return _pack(value, path)
    except RecursionError as error:
        raise CheckpointError(
            f'{path or "The value"} cannot be saved: it contains itself or '
            'is nested too deeply. Save the parts that matter.') from error


def from_plain(plain: Any) -> Any:
    """The inverse of :func:`to_plain`.

    Nothing that a file says decides which code runs here. What carries no
    mark, files of other programs included, comes back as it is.

    Args:
        plain: What :func:`to_plain` returned, saved and read in between or
            not.

    Returns:
        The value, in new containers; tensors are the same tensors, arrays
        own their memory.

    Raises:
        CheckpointError: If marked content is not as :func:`to_plain` writes
            it.
    """
    try:
        return _unpack(plain)
    except RecursionError as error:
        raise CheckpointError(
            'The checkpoint cannot be restored: its content contains itself '
            'or is nested too deeply. Copy or download the file again.'
        ) from error


def _unpack(plain: Any) -> Any:
    kind = type(plain)
    if kind in (list, tuple, set):
        return kind(_unpack(item) for item in plain)
    if kind not in _DICTS:
        return plain
    if MARK not in plain:
        return _like(plain, (
            (key, _unpack(item)) for key, item in plain.items()))
    name = plain[MARK]
    restore = _UNPACK.get(name) if isinstance(name, str) else None
    if restore is None:
        raise CheckpointError(
            f'The checkpoint holds a {name!r}, which this version does not '
            f'know; it knows {", ".join(sorted(_UNPACK))}. Read it with the '
            'version of osar_plugin that wrote it.')
    try:
        return restore(plain)
    except CheckpointError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError,
            RuntimeError) as error:
        raise CheckpointError(
            f'The checkpoint holds a {name} that cannot be restored '
            f'({type(error).__name__}: {error}). Copy or download the file '
            'again.') from error


def _pack(value: Any, path: str) -> Any:
    kind = type(value)
    if kind in _PLAIN_TYPES or isinstance(value, Tensor):
        return value
    if kind in (list, tuple):
        return kind(
            _pack(item, f'{path}[{i}]') for i, item in enumerate(value))
    if kind in _DICTS:
        return _pack_dict(value, path)
    pack = _PACK.get(kind)
    if pack is not None:
        return pack(value, path)
    if isinstance(value, np.generic):
        return _pack_scalar(value, path)
    if isinstance(value, Path):
        return {MARK: 'Path', 'path': str(value)}
    if isinstance(value, str):
        # A string that knows more, like torch.__version__; equal to it.
        return str.__str__(value)
    raise CheckpointError(
        f'{path or "The value"} is a {kind.__module__}.{kind.__qualname__}, '
        'which no checkpoint can hold as plain data. Store numbers, strings, '
        'lists, dicts, arrays or tensors; for the message hub, '
        'update_info(..., resumed=False) keeps a value out of checkpoints.')


def _pack_dict(value: dict[Any, Any], path: str) -> Any:
    """Dicts whose keys are plain stay dicts."""
    packed = [
        (_pack(key, f'{path}, key {key!r}'), _pack(item, _join(path, key)))
        for key, item in value.items()
        if not (isinstance(item, FunctionType) and item in _REMADE)]
    if MARK not in value and all(_is_atom(key) for key, _ in packed):
        return _like(value, packed)
    return {MARK: type(value).__name__,
            'items': [list(pair) for pair in packed]}


def _like(value: dict[Any, Any], items: Any) -> dict[Any, Any]:
    """A new dict of the same type; for state dicts with their versions."""
    made = type(value)(dict(items))
    if isinstance(made, OrderedDict) and hasattr(value, '_metadata'):
        made._metadata = value._metadata  # type: ignore[attr-defined]
    return made


def _join(path: str, key: Any) -> str:
    return f'{path}.{key}' if path else str(key)


def _is_atom(value: Any) -> bool:
    """Whether a packed value may be a key or a member of a set."""
    if type(value) is tuple:
        return all(_is_atom(item) for item in value)
    return value is None or type(value) in (
        bool, int, float, str, bytes, complex, torch.dtype, torch.device)


def _pack_int(value: int, path: str) -> Any:
    if value.bit_length() <= _MOST_BITS:
        return value
    return {MARK: 'int', 'hex': hex(value)}


def _pack_bytes(value: bytes, path: str) -> Any:
    # The restricted unpickler knows every bytes but the empty one.
    return value or {MARK: 'bytes'}


def _pack_set(value: set[Any] | frozenset[Any], path: str) -> Any:
    items = [_pack(item, f'{path}, member {item!r}') for item in value]
    if type(value) is set and all(_is_atom(item) for item in items):
        return set(items)
    return {MARK: type(value).__name__, 'items': items}


def _pack_scalar(value: np.generic, path: str) -> Any:
    plain = value.item()
    if isinstance(plain, np.generic) or value.dtype.kind in 'mM':
        # Wider than Python's float, or a time.
        return {**_pack_array(np.asarray(value), path), MARK: 'scalar'}
    return _pack(plain, path)


def _pack_array(value: np.ndarray, path: str) -> dict[str, Any]:
    dtype = value.dtype
    if dtype.kind not in _KINDS:
        raise CheckpointError(
            f'{path or "The value"} is an array of dtype {dtype}, which '
            'holds Python objects or structures; expected numbers, strings '
            'or times. Store a list, or one array per field.')
    content: dict[str, Any] = {
        MARK: 'ndarray', 'dtype': dtype.str, 'shape': tuple(value.shape)}
    if dtype.isnative and dtype.name in _TENSOR_TYPES:
        if not (value.flags.c_contiguous and value.flags.writeable):
            value = value.copy(order='C')
        return {**content, 'data': torch.from_numpy(value)}
    data = np.frombuffer(bytearray(value.tobytes()), np.uint8)
    return {**content, 'data': torch.from_numpy(data)}


def _pack_history(value: HistoryBuffer, path: str) -> dict[str, Any]:
    return {
        MARK: 'HistoryBuffer',
        '_log_history': _pack(value._log_history, f'{path}._log_history'),
        '_count_history': _pack(
            value._count_history, f'{path}._count_history'),
        'max_length': int(value.max_length)}


def _pack_default_dict(value: defaultdict, path: str) -> dict[str, Any]:
    for name, factory in _FACTORIES.items():
        if factory is value.default_factory:
            return {MARK: 'defaultdict', 'factory': name,
                    'items': _pack(dict(value), path)}
    raise CheckpointError(
        f'{path or "The value"} is a defaultdict that calls '
        f'{value.default_factory!r}; one of {", ".join(_FACTORIES)} can be '
        'saved. Store dict(value).')


def _pack_config(value: Config, path: str) -> dict[str, Any]:
    return {
        MARK: 'Config', 'values': _pack(value.to_dict(), path),
        'text': value.text, 'filename': value.filename,
        'env_variables': _pack(value.env_variables, path)}


def _pack_config_dict(value: ConfigDict, path: str) -> dict[str, Any]:
    # Its own `items` would build what a lazy config only names.
    return {MARK: 'ConfigDict', 'values': _pack(value.to_dict(), path)}


_PACK: dict[type, Callable[[Any, str], Any]] = {
    int: _pack_int,
    bytes: _pack_bytes,
    set: _pack_set,
    frozenset: _pack_set,
    np.ndarray: _pack_array,
    HistoryBuffer: _pack_history,
    defaultdict: _pack_default_dict,
    Config: _pack_config,
    ConfigDict: _pack_config_dict,
    argparse.Namespace: lambda value, path: {
        MARK: 'Namespace', 'values': _pack(vars(value), path)},
    slice: lambda value, path: {
        MARK: 'slice',
        'limits': _pack((value.start, value.stop, value.step), path)},
    range: lambda value, path: {
        MARK: 'range',
        'limits': _pack((value.start, value.stop, value.step), path)},
}


def _unpack_array(plain: Mapping[str, Any]) -> np.ndarray:
    name, shape = plain['dtype'], plain['shape']
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise ValueError(f'dtype {name!r}')
    dtype = np.dtype(name)
    data = plain['data'].detach().cpu().numpy()
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or data.nbytes != size:
        raise ValueError(
            f'{data.nbytes} bytes for the shape {shape} of {name}')
    return np.ndarray(shape, dtype, buffer=data.tobytes()).copy()


def _unpack_history(plain: Mapping[str, Any]) -> HistoryBuffer:
    buffer = HistoryBuffer(max_length=int(plain['max_length']))
    log, count = (
        _unpack(plain[key]) for key in ('_log_history', '_count_history'))
    if not (isinstance(log, np.ndarray) and isinstance(count, np.ndarray)
            and log.shape == count.shape and log.ndim == 1):
        raise ValueError('values and counts do not match')
    buffer._log_history, buffer._count_history = log, count
    return buffer


def _unpack_items(plain: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    return [(_unpack(key), _unpack(item))
            for key, item in plain['items']]


def _unpack_config(plain: Mapping[str, Any]) -> Config:
    # Without a text, the constructor would open the file of that name.
    text = plain['text']
    return Config(
        _unpack(plain['values']), cfg_text=text,
        filename=plain['filename'] if text else None,
        env_variables=_unpack(plain['env_variables']))


_UNPACK: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    'int': lambda plain: int(plain['hex'], 16),
    'bytes': lambda plain: b'',
    'set': lambda plain: {_unpack(item) for item in plain['items']},
    'frozenset': lambda plain: frozenset(
        _unpack(item) for item in plain['items']),
    'dict': lambda plain: dict(_unpack_items(plain)),
    'OrderedDict': lambda plain: OrderedDict(_unpack_items(plain)),
    'Counter': lambda plain: Counter(dict(_unpack_items(plain))),
    'ndarray': _unpack_array,
    'scalar': lambda plain: _unpack_array(plain)[()],
    'HistoryBuffer': _unpack_history,
    'defaultdict': lambda plain: defaultdict(
        _FACTORIES[plain['factory']], _unpack(plain['items'])),
    'Config': _unpack_config,
    'ConfigDict': lambda plain: ConfigDict(_unpack(plain['values'])),
    'Namespace': lambda plain: argparse.Namespace(
        **_unpack(plain['values'])),
    'Path': lambda plain: Path(plain['path']),
    'slice': lambda plain: slice(*_unpack(plain['limits'])),
    'range': lambda plain: range(*_unpack(plain['limits'])),
}
