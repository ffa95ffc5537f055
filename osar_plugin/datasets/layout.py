"""Files, folders and names that the data sets share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset

from osar_plugin.utils.errors import ConfigError, DataFormatError
from osar_plugin.utils.names import slip

# Known, or common enough not to be taken for a slip.
SUFFIXES = ('.tif', '.tiff', '.png', '.pgm', '.ppm', '.pnm', '.pbm', '.jpg',
            '.jpeg', '.jp2', '.jpe', '.bmp', '.gif', '.npy', '.npz',
            '.webp', '.img', '.raw', '.dat', '.bin')  # yapf: disable
MODALITIES = {'RGB': 0, 'SAR': 1}


def list_images(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files of a folder with one of the suffixes, sorted by name.

    Hidden files are left out: copies from other systems bring `._x.tif`.

    Args:
        folder: An existing folder; sub-folders are not entered.
        suffixes: With the dot; case does not matter.
    """
    wanted = {suffix.lower() for suffix in suffixes}
    return sorted(
        path for path in folder.iterdir()
        if path.suffix.lower() in wanted and not path.name.startswith('.'))


def missing_files(names: Sequence[str], folder: str | Path = '') -> list[str]:
    """Those that are no files; each folder is listed once.

    Args:
        names: Any, many of them in the same folders.
        folder: What those that are not absolute are relative to.
    """
    known: dict[str, set[str]] = {}
    missing = []
    for name in names:
        parent, own = os.path.split(os.path.join(folder, name))
        if parent not in known:
            known[parent] = _files_of(parent)
        if own not in known[parent]:
            missing.append(name)
    return missing


def _files_of(folder: str) -> set[str]:
    try:
        with os.scandir(folder or '.') as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:
        return set()


def check_suffixes(suffixes: Sequence[str],
                   name: str = 'suffixes') -> tuple[str, ...]:
    """Check the file suffixes an argument names.

    Args:
        suffixes: With their dots.
        name: Of the argument, for messages.

    Raises:
        ConfigError: If they are a bare string, lack the dot, or are a slip
            away from a known one.
    """
    if isinstance(suffixes, str) or not suffixes or not all(
            suffix.startswith('.') for suffix in suffixes):
        raise ConfigError(
            f'{name}={suffixes!r} must be a list of suffixes with their '
            "dot, e.g. ['.tif', '.png'].")
    for suffix in suffixes:
        near = slip(suffix.lower(), SUFFIXES)
        if near is not None:
            raise ConfigError(
                f'{name}={suffixes!r}: {suffix!r} is no suffix of image '
                f'files. Did you mean {near!r}?')
    return tuple(suffixes)


def shorten(names: Iterable[Any], limit: int = 5) -> str:
    """A list for a message: the first few, and how many more."""
    names = sorted(names)
    text = ', '.join(str(name) for name in names[:limit])
    rest = len(names) - limit
    return text + (f' and {rest} more' if rest > 0 else '')


class StrictDataset(BaseDataset):
    """A data set whose pipeline must give a sample for every row.

    A sample that cannot be read raises with its path. (``BaseDataset``
    puts another random sample in the place of one whose pipeline returns
    None, which would hide a damaged data set.)
    """

    def prepare_data(self, idx: Any) -> Any:
        """Run the pipeline on row ``idx``; it must give a sample."""
        data = super().prepare_data(idx)
        if data is None:
            info = self.get_data_info(idx)
            name = info.get('img_path', info.get('rgb_path', info))
            raise DataFormatError(
                f'{name}: the pipeline returned no sample. Every transform '
                'must return the results or raise.')
        return data


class ShipDataset(StrictDataset):
    """What the ship data sets share."""

    def substitutes(self, index: int) -> list[int]:
        """Rows that can take the place of one that cannot be read.

        Images of the same ship by the same sensor; where there is none, of
        the same sensor.
        """
        labels, modality = self.identity_table()
        alike = modality == modality[index]
        alike[index] = False
        same = alike & (labels == labels[index])
        rows: list[int] = np.flatnonzero(
            same if same.any() else alike).tolist()
        return rows

    def identity_table(self) -> tuple[np.ndarray, np.ndarray]:
        """Identity and modality of each row, for the samplers.

        Returns:
            labels, (n,) int64: class indices; raw identities where the
            split has no classes. modality, (n,) int64: 0 optical, 1 SAR.
        """
        infos = [self.get_data_info(index) for index in range(len(self))]
        labels = [
            info['label'] if info['label'] >= 0 else info['pid']
            for info in infos]
        return (
            np.array(labels, np.int64),
            np.array([info['modality'] for info in infos], np.int64))
