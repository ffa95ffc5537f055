"""Arguments that the toolboxes' data sets have and these have not.

A config in which only the type of a data set is changed carries them. Those
that ask for nothing are taken; the others are refused, never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from osar_plugin.utils.errors import ConfigError

LOCAL = ('local', 'LocalBackend')

#: Argument to the values that ask for nothing, and the cure for others.
Unused = Mapping[str, tuple[tuple[Any, ...], str]]


def leave_out(kwargs: Mapping[str, Any], unused: Unused,
              name: str) -> dict[str, Any]:
    """Arguments without those that a data set does not have.

    Args:
        kwargs: As they were given.
        unused: What is taken and left out.
        name: Of the data set, for messages.

    Raises:
        ConfigError: If one of them asks for something.
    """
    for key, (neutral, cure) in unused.items():
        if key in kwargs and kwargs[key] not in neutral:
            raise ConfigError(
                f'{key}={kwargs[key]!r}: {name} does not take it. {cure}')
    return {key: value for key, value in kwargs.items()
            if key not in unused}


def check_backend(backend_args: Any) -> None:
    """Refuse file backends other than the disk.

    Args:
        backend_args: None or ``dict(backend='local')``.

    Raises:
        ConfigError: Naming the cure.
    """
    if backend_args is None:
        return
    name = backend_args.get('backend', 'local') if isinstance(
        backend_args, Mapping) else None
    if name not in LOCAL or set(backend_args) - {'backend'}:
        raise ConfigError(
            f'backend_args={backend_args!r}: annotations and images are '
            'read from the disk alone. Copy or mount the data set there, and '
            'leave backend_args out or None.')
