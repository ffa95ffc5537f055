"""Putting another data loader into a loop of MMEngine."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

from torch.utils.data import DataLoader


def put_loader(loop: Any, loader: DataLoader) -> None:
    """Let a training or validation loop draw from another loader.

    Args:
        loop: A loop that has not begun.
        loader: The loader.
    """
    loop.dataloader = loader
    iterator: Any = getattr(loop, 'dataloader_iterator', None)
    if hasattr(iterator, 'with_loader'):
        loop.dataloader_iterator = iterator.with_loader(loader)
    elif iterator is not None:
        loop.dataloader_iterator = LateIterator(type(iterator), loader)


class LateIterator:
    """An iterator of a loader that is made when it is first used.

    MMEngine 0.10.7's own starts the workers at once; another hook may yet
    replace the loader.

    Args:
        kind: MMEngine's iterator of iteration-based loops.
        loader: What it iterates.
    """

    def __init__(self, kind: Callable[[Any], Any], loader: Any) -> None:
        self._kind = kind
        self._make = partial(kind, loader)

    def with_loader(self, loader: DataLoader) -> LateIterator:
        """The same over another loader."""
        return LateIterator(self._kind, loader)

    @cached_property
    def _iterator(self) -> Any:
        return self._make()

    def __getattr__(self, name: str) -> Any:
        # What MMEngine calls beside `next`, such as `skip_iter`.
        return getattr(self._iterator, name)

    def __iter__(self) -> LateIterator:
        return self

    def __next__(self) -> Any:
        return next(self._iterator)
