"""Whether the values of a config suit the arguments that they go to.

A value is held against the annotation of the argument, as strictly as a
config allows: lists stand for tuples, whole numbers for floats, and a dict
for anything that is built from one. What an annotation does not settle
passes, with one exception: numbers of well-known names must lie in the range
of :data:`BOUNDS`, because many classes take any number in silence.
"""

from __future__ import annotations

import math
import typing
from collections import abc
from collections.abc import Callable, Iterator
from pathlib import PurePath
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union

from .errors import ConfigError

_BUILT = 'built'
# Annotation of an argument that is built by a registry: a dict with a type,
# or the finished object.
Buildable = Annotated[dict[str, Any], _BUILT]

_SCALARS = (str, bytes, bool, int, float, complex)
_NUMBERS = (int, float)
_LISTS = (abc.Sequence, abc.Collection, abc.Iterable, abc.MutableSequence,
          abc.Set, list, tuple, set, frozenset)  # yapf: disable
_WORDS: dict[Any, str] = {
    int: 'a whole number', float: 'a number', bool: 'True or False',
    str: 'a string', NoneType: 'None'}  # yapf: disable
_DICTS = (abc.Mapping, abc.MutableMapping, dict)
# Builds on dict, or is no class whose instances a config could hold.
_OPEN = (object, type)


class Bound(NamedTuple):
    """Range of a number.

    Attributes:
        low: Smallest value.
        high: Largest value.
        without: What is excluded within.
        special: What is allowed outside.
    """

    low: float = -math.inf
    high: float = math.inf
    without: tuple[float, ...] = ()
    special: tuple[float, ...] = ()

    def holds(self, value: float) -> bool:
        """Whether a number is allowed."""
        inside = self.low <= value <= self.high and value not in self.without
        return inside or value in self.special

    def __str__(self) -> str:
        start = 'above' if self.low in self.without else 'of at least'
        text = f'{start} {_plain(self.low)}'
        if self.high != math.inf:
            text += (' and below ' if self.high in self.without
                     else ' and at most ') + _plain(self.high)
        if self.special:
            text += f', or {" or ".join(map(_plain, self.special))}'
        return text


def _plain(number: float) -> str:
    whole = number == int(number) and abs(number) < 1e15
    return str(int(number)) if whole else f'{number:g}'


_COUNT = Bound(1)
_POSITIVE = Bound(0, without=(0, ))
_NOT_NEGATIVE = Bound(0)
_SHARE = Bound(0, 1)
_SHARE_BELOW_ONE = Bound(0, 1, without=(1, ))
_RATE = Bound(0, 1000, without=(0, ))
_COUNT_OR_OFF = Bound(1, special=(-1, ))
# Ranges by the last name of the key, wherever in a config it stands; only
# names that mean the same to every class of MMEngine, MMCV and PyTorch that
# takes one. -1 is MMEngine's "never" or "all". The upper ends are far beyond
# any use: they catch a slipped exponent before it takes the machine.
BOUNDS: dict[str, Bound] = {
    # training loop and hooks
    'max_epochs': _COUNT, 'max_iters': _COUNT, 'val_interval': _COUNT,
    'val_begin': _NOT_NEGATIVE, 'interval': _COUNT_OR_OFF,
    'max_keep_ckpts': _COUNT_OR_OFF, 'window_size': _COUNT,
    'num_digits': _NOT_NEGATIVE, 'accumulative_counts': _COUNT,
    # data loader
    'batch_size': Bound(1, 2**24), 'num_workers': Bound(0, 1024),
    'prefetch_factor': Bound(1, 2**16), 'num_batch_per_epoch': _COUNT,
    'base_batch_size': Bound(1, 2**24), 'opencv_num_threads': Bound(0, 1024),
    # NumPy's range.
    'seed': Bound(0, 2**32 - 1),
    # optimizer and schedules
    'lr': _RATE, 'base_lr': _RATE,
    'momentum': _SHARE, 'betas': _SHARE_BELOW_ONE, 'dampening': _SHARE,
    'weight_decay': Bound(0, 1000), 'max_norm': _POSITIVE,
    'clip_value': _POSITIVE, 'lr_mult': Bound(0, 1e6),
    'decay_mult': Bound(0, 1e6), 'bias_lr_mult': Bound(0, 1e6),
    'bias_decay_mult': Bound(0, 1e6), 'norm_decay_mult': Bound(0, 1e6),
    'flat_decay_mult': Bound(0, 1e6), 'dwconv_decay_mult': Bound(0, 1e6),
    'dcn_offset_lr_mult': Bound(0, 1e6), 'T_max': _COUNT,
    # chance
    'prob': _SHARE, 'drop_path_rate': _SHARE,
}  # yapf: disable


def numbers(value: Any) -> Iterator[float]:
    """The numbers of a value, those in its lists included."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from numbers(item)
    elif _is_number(value):
        yield value


def _is_number(value: Any) -> bool:
    return isinstance(value, _NUMBERS) and not isinstance(value, bool)


def number_fault(key: str, value: Any) -> str | None:
    """What is wrong with the numbers of a value, if anything.

    Args:
        key: Last name of the config key.
        value: A number, or a list with some.

    Returns:
        What a message says behind the value.
    """
    bound = BOUNDS.get(key)
    for number in numbers(value):
        if number != number:
            return ': expected a number, not NaN'
        if bound is not None and not bound.holds(number):
            kind = 'a number' if value is number else 'numbers'
            return f' is out of range: expected {kind} {bound}'
    return None


def require_range(low: float, high: float = math.inf, /, *,
                  without: tuple[float, ...] = (), **values: Any) -> None:
    """Check numbers that a constructor was given.

    Args:
        low: Smallest value.
        high: Largest value.
        without: What is excluded within.
        **values: By the name of the argument: numbers, or lists of some.
            ``None`` is passed over.

    Raises:
        ConfigError: Naming argument, value and range.
    """
    bound = Bound(low, high, without)
    for name, value in values.items():
        if not all(map(bound.holds, numbers(value))):
            raise ConfigError(
                f'{name}={shown(value)} is out of range: expected '
                f'{"a number" if _is_number(value) else "numbers"} {bound}.')


def resolve(annotation: Any, function: Callable) -> Any:
    """The type behind an annotation, ``Any`` where that cannot be known.

    Args:
        annotation: As it stands in the signature; a string where the module
            postpones annotations.
        function: Whose annotation it is, for the names in the string.
    """
    if annotation is None:
        return NoneType
    holder = SimpleNamespace(__annotations__={'x': annotation})
    names = getattr(function, '__globals__', {})
    # PyTorch imports some names for its type checker alone.
    spare = {name: getattr(typing, name) for name in typing.__all__}
    try:
        return typing.get_type_hints(
            holder, globalns={**spare, **names}, include_extras=True)['x']
    except Exception:
        # Whatever a stranger's annotation does, it is no fault of the config.
        return Any


def loosened(hint: Any) -> Any:
    """A type as packages mean it whose annotations are but a hint.

    A number is a number or a list of some, and what is more than numbers,
    strings, bools and None may be anything.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, UnionType):
        parts = [loosened(one) for one in inner]
        return Any if Any in parts else Union[tuple(parts)]  # noqa: UP007
    if origin is Literal:
        return hint
    if hint in (int, float):
        return float | abc.Sequence
    return hint if hint in (bool, str, NoneType) else Any


class Misfit(NamedTuple):
    """A value that does not suit its argument.

    Attributes:
        path: Where it stands, inside a list or a dict too.
        value: The value.
        hint: The type that was expected there.
    """

    path: str
    value: Any
    hint: Any


def misfit(value: Any, hint: Any, path: str) -> Misfit | None:
    """The innermost part of a value that is of a wrong kind.

    Args:
        value: As the config has it.
        hint: A type, as :func:`resolve` gives it.
        path: Where the value stands.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    here = Misfit(path, value, hint)
    if origin is Annotated:
        if _BUILT in inner[1:]:
            return None if fits_built(value) else here
        return misfit(value, inner[0], path)
    if origin in (Union, UnionType):
        faults = [misfit(value, one, path) for one in inner]
        if None in faults:
            return None
        # A list with a wrong item beats "neither a list nor None".
        deeper = [f for f in faults if f is not None and f.path != path]
        return deeper[0] if len(deeper) == 1 else here
    if origin is Literal:
        known = any(value == one and type(value) is type(one)
                    for one in inner)
        return None if known else here
    base = origin or getattr(hint, '__supertype__', hint)
    # From Python 3.11 on, Any is a class.
    if base is Any or not isinstance(base, type) or base in _OPEN:
        return None
    if base in _LISTS:
        return _list_misfit(here, base, inner)
    if base in _DICTS:
        if not isinstance(value, abc.Mapping):
            return here
        items = value.items() if len(inner) == 2 else ()
        return _first(misfit(v, inner[1], f'{path}.{k}') for k, v in items)
    return None if _fits_class(value, base) else here


def fits_built(value: Any) -> bool:
    """Whether a registry could build from a value, or it is built already."""
    if isinstance(value, abc.Mapping):
        name = value.get('type')
        return callable(name) or (isinstance(name, str) and bool(name))
    return not (value is None or isinstance(value, (*_SCALARS, list, tuple)))


def _first(faults: Iterator[Misfit | None]) -> Misfit | None:
    return next((fault for fault in faults if fault is not None), None)


def _list_misfit(here: Misfit, base: type,
                 inner: tuple[Any, ...]) -> Misfit | None:
    value, path = here.value, here.path
    if isinstance(value, abc.Mapping):
        # What asks for no more than items may well take a dict: its keys.
        fine = base in (abc.Iterable, abc.Collection) and all(
            misfit(key, hint, path) is None for hint in inner for key in value)
        return None if fine else here
    if isinstance(value, (str, bytes)) or not isinstance(value, abc.Iterable):
        return here
    if not isinstance(value, abc.Collection):
        return None
    hints = inner[:1] * len(value)
    # `Tuple[int]` is often meant as "of any length".
    if base is tuple and len(inner) > 1 and inner[-1] is not Ellipsis:
        if len(value) != len(inner):
            return here
        hints = inner
    return _first(
        misfit(item, hint, f'{path}.{i}')
        for i, (item, hint) in enumerate(zip(value, hints, strict=False)))


def _fits_class(value: Any, base: type) -> bool:
    name = base.__name__
    if base is float or name in ('Number', 'Real'):
        return _is_number(value)
    if base is int or name == 'Integral':
        return isinstance(value, int) and not isinstance(value, bool)
    if base is str:
        return isinstance(value, (str, PurePath))
    if name == 'Callable':
        # By its name in a registry, too.
        return callable(value) or isinstance(value, str)
    # No config can hold a tensor; what stands beside it in a union decides.
    if base in (bool, NoneType, bytes) or name == 'Tensor':
        return isinstance(value, base)
    if value is None or isinstance(value, (bool, *_NUMBERS)):
        # A protocol cannot always be asked, but is no number.
        return getattr(base, '_is_protocol', False) or isinstance(value, base)
    return True


def describe(hint: Any) -> str:
    """A type in words, for a message."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return ('a dict with a type'
                if _BUILT in inner[1:] else describe(inner[0]))
    if origin in (Union, UnionType):
        return ' or '.join(dict.fromkeys(
            describe(one) for one in inner
            if getattr(one, '__name__', '') != 'Tensor'))
    if origin is Literal:
        return ' or '.join(map(repr, inner))
    base = origin or getattr(hint, '__supertype__', hint)
    if base in _WORDS:
        return _WORDS[base]
    if base in _LISTS:
        return _describe_list(base, inner)
    if base in _DICTS:
        return 'a dict'
    return f'a {getattr(base, "__name__", base)}'


def _describe_list(base: type, inner: tuple[Any, ...]) -> str:
    if base is tuple and len(inner) > 1 and inner[-1] is not Ellipsis:
        if len(set(inner)) > 1:
            return f'a list of {len(inner)}: ' + ', '.join(
                map(describe, inner))
        return f'a list of {len(inner)}, each {describe(inner[0])}'
    if not inner or inner[0] is Any:
        return 'a list'
    return f'a list, each {describe(inner[0])}'


def shown(value: Any, width: int = 80) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= width else f'{text[:width - 3]}...'
