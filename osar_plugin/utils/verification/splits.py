"""Which split an image belongs to, by the names of its folders.

Known are the words train, val, test, query and gallery in folder names, as
in ``images/train2017``, ``JPEGImages-trainval`` and ``Test/Urban``; of
several, the innermost counts. Two layouts have rules of their own:

* HOSS-ReID: ``bounding_box_test`` is the gallery. ``subset/O2S`` and
  ``subset/S2O`` hold the images of the test set again, in other roles, so
  each of them is a test set of its own that has no duplicate in the others.
* OptiSar_Pair: all of it is for training, and may share images with another
  training set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import ConfigError, DatasetNotFoundError

TRAIN, VAL, TEST, QUERY, GALLERY = SPLITS = (
    'train', 'val', 'test', 'query', 'gallery')

_WORDS = {
    TRAIN: ('train', 'training', 'trainset', 'trainval', 'pretrain'),
    VAL: ('val', 'valid', 'validation', 'valset'),
    TEST: ('test', 'testing', 'testset'),
    QUERY: ('query', 'queries'),
    GALLERY: ('gallery', ),
}
_SPLIT_OF = {word: split for split, words in _WORDS.items() for word in words}
_MARKET_GALLERY = 'bounding_box_test'
_PAIRS = 'OptiSar_Pair'

# Folders whose name says nothing but that label maps are in it.
_LABEL_WORDS = {
    'ann', 'anns', 'annotation', 'annotations', 'gt', 'groundtruth', 'label',
    'labels', 'mask', 'masks', 'seg', 'segmentation', 'target', 'targets'}
_NEUTRAL_WORDS = {
    'dir', 'png', 'tif', 'class', 'color', 'colour', 'id', 'instance',
    'semantic', 'train', 'trainval', 'val', 'test'}
_TOKEN = re.compile('[A-Z]?[a-z]+|[A-Z]+')


class Place(NamedTuple):
    """Where an image belongs.

    Attributes:
        split: One of :data:`SPLITS`, or ''.
        scope: Set within which it may be there once; '' for most.
        labels: Whether it is a label map.
    """

    split: str = ''
    scope: str = ''
    labels: bool = False


def place_of(
        path: str, by_hand: Mapping[str, str] | None = None) -> Place:
    """The place of an image.

    Args:
        path: Relative to the data set, with ``/``.
        by_hand: Folder to split, see :func:`places_by_hand`; then names
            count for nothing.
    """
    folders = path.split('/')[:-1]
    labels = any(_holds_labels(name) for name in folders)
    if by_hand is not None:
        # The innermost folder that was named.
        for depth in range(len(folders), -1, -1):
            split = by_hand.get('/'.join(folders[:depth]))
            if split is not None:
                return Place(split, '', labels)
        return Place('', '', labels)
    scope = ''
    if _PAIRS in folders:
        return Place(TRAIN, _PAIRS, labels)
    for outer, inner, side in zip(
            folders, folders[1:], folders[2:], strict=False):
        if outer == 'subset' and side in (QUERY, _MARKET_GALLERY):
            scope = f'subset/{inner}'
    return Place(_split(folders), scope, labels)


def _split(folders: Sequence[str]) -> str:
    """The innermost folder that tells; it is the nearest to the images."""
    for name in reversed(folders):
        if name == _MARKET_GALLERY:
            return GALLERY
        for word in _words(name):
            if word in _SPLIT_OF:
                return _SPLIT_OF[word]
    return ''


def _holds_labels(name: str) -> bool:
    words = set(_words(name))
    return bool(words & _LABEL_WORDS) and (
        words <= _LABEL_WORDS | _NEUTRAL_WORDS)


def _words(name: str) -> list[str]:
    return [word.lower() for word in _TOKEN.findall(name)]


def places_by_hand(
        root: str | Path,
        splits: Mapping[str, Sequence[str | Path]]) -> dict[str, str]:
    """Turn folders that a user named into a table for :func:`place_of`.

    Args:
        root: The data set.
        splits: Split to folders, absolute or relative to the data set or to
            the current folder.

    Returns:
        Folder relative to ``root`` to split.

    Raises:
        ConfigError: If a split is unknown, or a folder outside of ``root``
            or of two splits.
        DatasetNotFoundError: If a folder is not there.
    """
    table: dict[str, str] = {}
    for split, folders in splits.items():
        if split not in SPLITS:
            raise ConfigError(
                f'split {split!r} is not known: use {", ".join(SPLITS)}.')
        for folder in folders:
            name = _below(Path(root), folder)
            if table.setdefault(name, split) != split:
                raise ConfigError(
                    f'{folder} is given for {table[name]} and for {split}: '
                    'a folder can be of one split.')
    return table


def _below(root: Path, folder: str | Path) -> str:
    """A folder relative to ``root``, where it is looked for first."""
    path = root / folder
    if not path.is_dir():
        path = Path(folder)
    if not path.is_dir():
        raise DatasetNotFoundError(
            f'{folder}: no such folder in {root} or here. Check the path.')
    top, full = os.path.abspath(root), os.path.abspath(path)
    if os.path.commonpath([top, full]) != top:
        raise ConfigError(
            f'{folder} lies outside of {root}: give a folder above both as '
            'the one to check.')
    name = os.path.relpath(full, top)
    return '' if name == '.' else name.replace(os.sep, '/')
