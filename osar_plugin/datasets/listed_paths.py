r"""Paths in list files that were written on another machine.

Published lists name images where they were on their authors' disks:
``/public/data/AID/Airport``, ``F:/SETS/MSTAR/TRAIN/T72/x.jpg``,
``TRAIN\T72\x.jpg``. What the folder of the data set stands for in them is
found by looking, for a list as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mmengine.logging import print_log

from osar_plugin.utils.errors import DataFormatError, DatasetNotFoundError

_LOOKED_AT = 3  # images of each folder, in case that some are missing
_ABSOLUTE = re.compile('/|[A-Za-z]:')


def split_line(line: str, columns: Sequence[str]) -> list[str] | None:
    r"""Words of a line, one for each column.

    The folder may have spaces: it is all that the columns before and after
    it leave. ``\`` becomes ``/``.

    Args:
        line: Not empty.
        columns: Names of the columns.

    Returns:
        The words; None if the line has too few, or too many and no folder.
    """
    if 'folder' in columns:
        before = columns.index('folder')
        words = line.strip().split(maxsplit=before)
        words += words.pop().rsplit(maxsplit=len(columns) - before - 1)
    else:
        words = line.split()
    if len(words) != len(columns):
        return None
    return [word.replace('\\', '/') for word in words]


def below(names: Sequence[str], root: Path, where: str) -> list[str]:
    """Listed paths as paths below the folder of the data set.

    Paths that are relative and there are left alone. Where they are not, or
    are absolute, what comes before the longest tail that is there is cut
    off. A few images of each folder are looked for, not all, and the cut must
    be the same for all.

    Args:
        names: Of the images, with ``/``.
        root: Folder of the data set.
        where: The list, for messages.

    Raises:
        DatasetNotFoundError: If no tail of an absolute path is there.
        DataFormatError: If the cuts of the folders differ.
    """
    cuts, lost = _cuts(names, root)
    if len(cuts) > 1:
        raise DataFormatError(
            f'{where}: what is to be cut off its paths to find them in '
            f'{root} is ambiguous: ' + ', '.join(
                f'{cut!r} of {name}' for cut, name in sorted(cuts.items())[:3])
            + '. Write all of them relative to data_root.')
    cut = next(iter(cuts), '')
    strange = [name for name in lost
               if _is_absolute(name) and not (cut and name.startswith(cut))]
    if strange:
        tried = [str(root / tail) for tail, _ in _tails(strange[0])]
        raise DatasetNotFoundError(
            f'{where}: {strange[0]} is not there, and no tail of it is in '
            f'data_root: tried {", ".join(tried)}. Check data_root, or '
            'restore the images.')
    if cut:
        print_log(
            f'{where}: paths are taken from behind {cut!r}, in {root}.',
            logger='current')
    return [name.removeprefix(cut) for name in names]


def _by_folder(names: Sequence[str]) -> list[list[str]]:
    """The first images of each folder."""
    folders: dict[str, list[str]] = {}
    for name in names:
        images = folders.setdefault(name.rpartition('/')[0], [])
        if len(images) < _LOOKED_AT:
            images.append(name)
    return list(folders.values())


def _cuts(names: Sequence[str],
          root: Path) -> tuple[dict[str, str], list[str]]:
    """What is to be cut off in the folders, and images of lost folders.

    Returns:
        Each cut with the first image that asks for it; an image of each
        folder of which none was found.
    """
    cuts: dict[str, str] = {}
    lost: list[str] = []
    for images in _by_folder(names):
        found = (_cut(name, root) for name in images)
        cut = next((cut for cut in found if cut is not None), None)
        if cut is None:
            lost.append(images[0])
        else:
            cuts.setdefault(cut, images[0])
    return cuts, lost


def _is_absolute(name: str) -> bool:
    return _ABSOLUTE.match(name) is not None


def _tails(name: str) -> list[tuple[str, str]]:
    """Relative ends of a path and what is before each, longest first."""
    ends = [0, *(match.end() for match in re.finditer('/+', name))]
    if _is_absolute(name):
        ends.pop(0)
    return [(name[end:], name[:end]) for end in ends if name[end:]]


def _cut(name: str, root: Path) -> str | None:
    """What to cut off a path to find it in a folder; None if it is not."""
    for tail, before in _tails(name):
        if (root / tail).is_file():
            return before
    return '' if _is_absolute(name) and Path(name).is_file() else None

