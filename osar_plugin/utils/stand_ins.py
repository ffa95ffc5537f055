"""What stands in for other packages' types while a checkpoint is read.

Files of stock MMEngine name types that PyTorch's restricted unpickler does
not know. Admitting the types themselves would hand their constructors and
``__setstate__`` to whoever wrote the file: a HistoryBuffer's state changes
the statistics of all HistoryBuffers of the process, a dtype's state turns
bytes into pointers, ``getattr`` reaches everything. So none is admitted. In
their place the unpickler gets the classes and functions below, which only
keep what they are given; :func:`resolve` makes the real objects from that
when reading is over, after a look at every part.

    file says            unpickler gets       resolve makes
    numpy ndarray        _Array               ndarray from checked bytes
    numpy dtype          _Dtype               dtype without objects, fields
    HistoryBuffer        _History             buffer with stock statistics
    argparse Namespace   _Namespace           Namespace
    ConfigDict           _ConfigDict          ConfigDict
    defaultdict          OrderedDict          defaultdict of a known type
    getattr              _member              one of two known functions
"""

from __future__ import annotations

import argparse
import math
import re
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleParamScheduler
from torch import Tensor

# Numbers, booleans, strings, times: dtypes whose bytes are values.
_CODE = re.compile(r'[biufcmMSU]\d{1,9}')
_UNIT = re.compile(r'[A-Za-z]{1,7}')
_FACTORIES: dict[str, Callable[[], Any]] = {
    'dict': dict, 'float': float, 'int': int, 'list': list, 'set': set,
    'str': str, 'tuple': tuple, 'bool': bool}
_FACTORY_KEY = '_saved_factory'


class Refused(Exception):
    """A file reaches for something that none of these files does."""


class _Name:
    """A class or function that a file mentions and never calls."""

    __slots__ = ('name',)

    def __init__(self, name: str) -> None:
        self.name = name


class _Kept:
    """Keeps what a file gives to a constructor and as state.

    A file may leave out either. Cannot be a key of a dict.
    """

    __slots__ = ('arguments', 'state')
    __hash__ = None  # type: ignore[assignment]
    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any) -> _Kept:
        made = super().__new__(cls)
        made.arguments, made.state = arguments, None
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Kept):
    __slots__ = ()


class _Dtype(_Kept):
    __slots__ = ()


class _History(_Kept):
    __slots__ = ()


class _Namespace(_Kept):
    __slots__ = ()


class _ConfigDict(_Kept):
    __slots__ = ()


class _Member(_Kept):
    """An attribute of a class, as the file names them."""

    __slots__ = ()


class _Text:
    """For strings that know more (``torch.__version__``): plain strings."""

    def __new__(cls, text: Any = '') -> Any:
        return _checked(text, str)


_ONE_CYCLE = _Name('OneCycleParamScheduler')
# What MMEngine pickles as `getattr(owner, name)`: the four statistics of
# every HistoryBuffer, which a new one has anyway, and the annealing of a
# one-cycle schedule.
_MEMBERS: dict[tuple[Any, str], Any] = {
    **{(_History, name): None for name in ('current', 'max', 'mean', 'min')},
    **{(_ONE_CYCLE, name): getattr(OneCycleParamScheduler, name)
       for name in ('_annealing_cos', '_annealing_linear')}}


def _member(owner: Any = None, name: Any = None) -> Any:
    for (known, attribute), value in _MEMBERS.items():
        if owner is known and name == attribute:
            return _Member(value)
    raise Refused(f'the attribute {name!r} of something')


def _reconstruct(kind: Any, shape: Any, code: Any) -> Any:
    if kind is not _Array:
        raise Refused('an array of an unknown class')
    return _Array()


def _scalar(dtype: Any, data: Any = None) -> Any:
    return _from_bytes(_checked(dtype, _Dtype), (), data, 'C')[()]


def _slice(*limits: Any) -> Any:
    return slice(*(_checked(v, (int, str, type(None))) for v in limits))


def _path(*parts: Any) -> Any:
    return Path(*(_checked(part, str) for part in parts))


def _no_bytes() -> Any:
    return b''


def _frozenset(items: Any = ()) -> Any:
    return frozenset(_checked(items, list))


def _default_dict(factory: Any = None) -> Any:
    # The unpickler fills in only dicts of its own types.
    made: OrderedDict[Any, Any] = OrderedDict()
    # `set` is the one that PyTorch itself admits, so that it comes as it is.
    factory = _Name('set') if factory is set else factory
    name = None if factory is None else _checked(factory, _Name).name
    setattr(made, _FACTORY_KEY, name)
    return made


def _admitted() -> list[tuple[Any, str]]:
    found: list[tuple[Any, str]] = [
        (_Array, 'numpy.ndarray'),
        (_Dtype, 'numpy.dtype'),
        (_History, 'mmengine.logging.history_buffer.HistoryBuffer'),
        (_Namespace, 'argparse.Namespace'),
        (_ConfigDict, 'mmengine.config.config.ConfigDict'),
        (_Text, 'torch.torch_version.TorchVersion'),
        (_ONE_CYCLE,
         'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler'),
        (_default_dict, 'collections.defaultdict'),
        (_member, 'builtins.getattr'),
        (_slice, 'builtins.slice'),
        (_no_bytes, 'builtins.bytes'),
        (_frozenset, 'builtins.frozenset')]
    # NumPy 1 and NumPy 2 pickle the same functions by two names.
    for package in ('numpy.core', 'numpy._core'):
        found += [(_reconstruct, f'{package}.multiarray._reconstruct'),
                  (_scalar, f'{package}.multiarray.scalar')]
    # Trainers of latent diffusion use the class as a key of a dict.
    found += [
        (_Name('ModelCheckpoint'),
         f'{package}.callbacks.model_checkpoint.ModelCheckpoint')
        for package in ('pytorch_lightning', 'lightning.pytorch')]
    # Python 3.13 has another module for them.
    for module in ('pathlib', 'pathlib._local'):
        found += [(_path, f'{module}.{name}Path')
                  for name in ('Posix', 'Windows', 'PurePosix', 'PureWindows')]
    return found + [
        (_Name(name), f'builtins.{name}') for name in _FACTORIES]


# (stand-in, the name for which it stands), as PyTorch takes them.
ADMITTED: list[Any] = _admitted()


def resolve(content: Any) -> Any:
    """Put the real objects where the stand-ins are.

    Args:
        content: What the restricted unpickler returned with
            :data:`ADMITTED`.

    Returns:
        The content; dicts and lists are changed in place.

    Raises:
        ValueError: For parts that no such object has, e.g. another number
            of bytes than the shape of an array needs.
        TypeError: For parts of other types.
    """
    return _resolve(content, {})


def _resolve(value: Any, done: dict[int, Any]) -> Any:
    if isinstance(value, Tensor) or value is None or type(value) in (
            str, int, float, bool, bytes):
        return value
    if id(value) in done:
        return done[id(value)][1]
    make = _MAKERS.get(type(value))
    if make is not None:
        # The first one keeps `value` alive, and with it its id.
        made = make(value, done)
        done[id(value)] = value, made
        return made
    if type(value) is tuple:
        items = [_resolve(item, done) for item in value]
        same = all(a is b for a, b in zip(items, value, strict=True))
        done[id(value)] = value, value if same else tuple(items)
        return done[id(value)][1]
    if type(value) is list:
        done[id(value)] = value, value
        value[:] = [_resolve(item, done) for item in value]
    elif type(value) in (dict, OrderedDict, Counter):
        return _resolve_dict(value, done)
    elif isinstance(value, _Name) or any(
            value is thing for thing, _ in ADMITTED):
        raise TypeError('a class or a function in place of a value')
    return value


def _resolve_dict(value: dict[Any, Any], done: dict[int, Any]) -> Any:
    made: Any = value
    attributes = vars(value) if type(value) is OrderedDict else {}
    if _FACTORY_KEY in attributes:
        name = attributes[_FACTORY_KEY]
        made = defaultdict(_FACTORIES[name] if name is not None else None)
    done[id(value)] = value, made
    for key, item in list(value.items()):
        made[key] = _resolve(item, done)
    if made is value:
        for key, item in attributes.items():
            attributes[key] = _resolve(item, done)
    return made


def _checked(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f'a {type(value).__name__} where none belongs')
    return value


def _make_dtype(saved: _Dtype, done: dict[int, Any]) -> np.dtype:
    code = _checked(saved.arguments[0], str)
    if not _CODE.fullmatch(code):
        raise ValueError(f'the dtype {code!r}, which is none of numbers, '
                         'strings or times')
    order, unit = '|', ''
    if saved.state is not None:
        state = _checked(saved.state, tuple)
        order = _checked(state[1], str)
        if order not in ('<', '>', '|', '='):
            raise ValueError(f'the byte order {order!r}')
        if code[0] in 'mM' and len(state) > 8:
            unit = _time_unit(state[8])
    return np.dtype(order + code + unit)


def _time_unit(metadata: Any) -> str:
    """The ``[25ns]`` of times, from the state of their dtype."""
    unit, count = _checked(_checked(metadata, tuple)[1], tuple)[:2]
    unit = _checked(unit, bytes).decode('ascii')
    if not _UNIT.fullmatch(unit):
        raise ValueError(f'the unit of time {unit!r}')
    return '' if unit == 'generic' else f'[{_checked(count, int)}{unit}]'


def _from_bytes(saved: _Dtype, shape: tuple[int, ...], data: Any, order: Any
                ) -> np.ndarray:
    """An array that owns its memory; (*shape)."""
    dtype = _make_dtype(saved, {})
    count = math.prod(shape)
    if min(shape, default=0) < 0 or (
            len(_checked(data, bytes)) != count * dtype.itemsize):
        raise ValueError(f'other bytes than {count} of {dtype} have')
    return np.ndarray(shape, dtype, buffer=data, order=order).copy(order)


def _make_array(saved: _Array, done: dict[int, Any]) -> np.ndarray:
    _, shape, dtype, fortran, data = _checked(saved.state, tuple)
    shape = tuple(_checked(side, int) for side in _checked(shape, tuple))
    return _from_bytes(
        _checked(dtype, _Dtype), shape, data, 'F' if fortran else 'C')


def _make_history(saved: _History, done: dict[int, Any]) -> HistoryBuffer:
    state = _checked(saved.state, dict)
    arrays = [_checked(_resolve(state[key], done), np.ndarray)
              for key in ('_log_history', '_count_history')]
    if arrays[0].ndim != 1 or arrays[0].shape != arrays[1].shape:
        raise ValueError('a history whose values and counts do not match')
    buffer = HistoryBuffer(max_length=_checked(state['max_length'], int))
    buffer._log_history, buffer._count_history = arrays
    return buffer


def _make_namespace(
        saved: _Namespace, done: dict[int, Any]) -> argparse.Namespace:
    state = {} if saved.state is None else _checked(saved.state, dict)
    return argparse.Namespace(**{
        _checked(key, str): _resolve(item, done)
        for key, item in state.items()})


def _make_config_dict(
        saved: _ConfigDict, done: dict[int, Any]) -> ConfigDict:
    state = _checked(saved.arguments[0], dict)
    return ConfigDict({
        _checked(key, str): _resolve(item, done)
        for key, item in state.items()})


_MAKERS: dict[type, Callable[[Any, dict[int, Any]], Any]] = {
    _Array: _make_array,
    _Dtype: _make_dtype,
    _History: _make_history,
    _Namespace: _make_namespace,
    _ConfigDict: _make_config_dict,
    _Member: lambda saved, done: saved.arguments[0],
}
