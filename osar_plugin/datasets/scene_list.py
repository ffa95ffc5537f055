"""Scene classification from a list file, for fine-tuning and probing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset

from osar_plugin.registry import DATASETS
from osar_plugin.utils.config_values import Buildable, require_range
from osar_plugin.utils.errors import (
    ConfigError,
    DataFormatError,
    DatasetNotFoundError,
)

from .listed_paths import below, split_line

MODALITIES = {'optical': 0, 'sar': 1}
COLUMNS = ('file', 'folder', 'optical', 'sar', 'label')
_SEED = 729  # of the official few-shot draw


@DATASETS.register_module()
class SceneList(BaseDataset):
    """Images and class indices as a list file names them.

    A line has one word for each of ``columns``. ``('file', 'label')``
    suits the lists of SAR few-shot sets without their names, ``('file',
    'folder', 'label')`` those of AID and RESISC45, and ``('optical',
    'sar', 'label')`` pairs, of which ``modality`` chooses one image. A
    folder may have spaces and backslashes, and may be one of another
    machine: see :func:`~.listed_paths.below`.

    Each sample has ``img_path``, ``label`` (0 to C - 1) and ``modality``
    (0 optical, 1 SAR).

    Args:
        data_root: Folder that the names are relative to.
        list_file: The list, in ``data_root`` unless absolute.
        classes: Names of the classes, in the order of their indices.
        modality: ``'optical'`` or ``'sar'``.
        columns: What the words of a line are, see above.
        shots: Draw ``shots`` x C lines; None for all.
        seed: Seed of that draw.
        balanced: False: the official draw, the first lines after
            ``RandomState(729 + seed)`` has shuffled all of them, whatever
            their classes. True: ``shots`` lines of each class.
        pipeline: Transforms.
        **kwargs: Further arguments of ``BaseDataset``.

    Raises:
        DatasetNotFoundError: If the list is missing, or what an absolute
            path in it names.
        DataFormatError: If a line does not parse or its index is no class.
        ConfigError: If an argument cannot be used, or a class has fewer
            lines than ``shots``.
    """

    METAINFO = {'dataset_type': 'SceneList'}

    def __init__(
            self,
            data_root: str,
            list_file: str,
            classes: Sequence[str],
            modality: str = 'optical',
            columns: Sequence[str] = ('optical', 'sar', 'label'),
            shots: int | None = None,
            seed: int = 0,
            balanced: bool = False,
            pipeline: Sequence[Buildable] = (),
            **kwargs: Any) -> None:
        if modality not in MODALITIES:
            raise ConfigError(
                f'modality={modality!r} is not known: use one of '
                f'{", ".join(MODALITIES)}.')
        if isinstance(classes, str) or not classes:
            raise ConfigError(
                f'classes={classes!r}: expected the names of the classes, '
                'in the order of their indices.')
        require_range(1, shots=shots)
        require_range(0, 2**32 - 1 - _SEED, seed=seed)
        self.columns = _check_columns(columns, modality)
        self.modality = modality
        self.list_file = list_file
        self.shots, self.seed, self.balanced = shots, seed, balanced
        super().__init__(
            data_root=str(data_root), pipeline=list(pipeline),
            metainfo=dict(classes=tuple(classes)), **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images that the draw leaves."""
        rows = self.read_rows()
        labels = np.array([row['label'] for row in rows])
        picks = draw_shots(
            labels, len(self.metainfo['classes']), self.shots, self.seed,
            self.balanced)
        return [rows[pick] for pick in picks.tolist()]

    def read_rows(self) -> list[dict[str, Any]]:
        """All rows of the list."""
        path = Path(self.data_root) / self.list_file
        try:
            text = path.read_text(encoding='utf-8-sig')
        except FileNotFoundError as error:
            raise DatasetNotFoundError(
                f'{path}: no such list. Check data_root and '
                'list_file.') from error
        except (OSError, UnicodeDecodeError) as error:
            raise DataFormatError(
                f'{path}: cannot be read as a list ({error}).') from error
        listed = [
            (*self._parse(line, f'{path}, line {number}'), number)
            for number, line in enumerate(text.splitlines(), 1)
            if line.strip()]
        if not listed:
            raise DataFormatError(f'{path}: names no image.')
        names = below([name for name, _, _ in listed],
                      Path(self.data_root), str(path))
        for name, (_, label, number) in zip(names, listed, strict=True):
            self.check_name(name, label, f'{path}, line {number}')
        return [self.row(Path(name), label)
                for name, (_, label, _) in zip(names, listed, strict=True)]

    def _parse(self, line: str, where: str) -> tuple[str, int]:
        """The image of a line as it is written, and its class."""
        count = len(self.metainfo['classes'])
        words = split_line(line, self.columns)
        if words is None:
            raise DataFormatError(
                f'{where}: {len(line.split())} words; expected '
                f'{" ".join(self.columns)}. Set `columns`.')
        entry = dict(zip(self.columns, words, strict=True))
        label = entry['label']
        if not label.isdecimal() or int(label) >= count:
            raise DataFormatError(
                f'{where}: class index {label!r}; expected 0 to '
                f'{count - 1}. Check `classes` and `columns`.')
        return self.locate(entry), int(label)

    def locate(self, entry: dict[str, str]) -> str:
        """The image of a line, as the list has it.

        Args:
            entry: Words of the line by column.
        """
        folder = entry.get('folder', '')
        file = entry.get('file', entry.get(self.modality, ''))
        return file if folder in ('', '.') else f'{folder}/{file}'

    def check_name(self, name: str, label: int, where: str) -> None:
        """Refuse an image that its path says to be of another class.

        Args:
            name: Relative to ``data_root``.
            label: Its class index.
            where: File and line, for messages.
        """

    def row(self, name: Path, label: int) -> dict[str, Any]:
        """The sample of an image, relative to ``data_root``."""
        return dict(
            img_path=str(Path(self.data_root) / name), label=label,
            modality=MODALITIES[self.modality])


def shuffled(count: int, seed: int) -> np.ndarray:
    """Row numbers 0 to ``count`` - 1 in the order of the official draw."""
    order = np.arange(count)
    np.random.RandomState(_SEED + seed).shuffle(order)
    return order


def draw_shots(
        labels: np.ndarray, num_classes: int, shots: int | None,
        seed: int, balanced: bool) -> np.ndarray:
    """Choose the rows of a few-shot training set.

    Args:
        labels: (n,) class indices, or (n, C) of 0 and 1 where an image has
            several; a balanced draw then takes it for one of them.
        num_classes: C.
        shots: Rows for each class, on average where not balanced; None
            for all rows in their order.
        seed: Seed of the draw.
        balanced: See :class:`SceneList`.

    Returns:
        Row numbers.

    Raises:
        ConfigError: If there are too few rows.
    """
    if shots is None:
        return np.arange(len(labels))
    order = shuffled(len(labels), seed)
    if not balanced:
        if len(order) < shots * num_classes:
            raise ConfigError(
                f'shots={shots} of {num_classes} classes are '
                f'{shots * num_classes} images; the list has {len(order)}.')
        return order[:shots * num_classes]
    free = np.ones(len(order), bool)
    chosen, short = [], []
    for label in range(num_classes):
        has = labels[order] == label if labels.ndim == 1 else (
            labels[order, label] > 0)
        rows = np.flatnonzero(has & free)[:shots]
        free[rows] = False
        chosen.append(order[rows])
        if len(rows) < shots:
            short.append(label)
    if short:
        raise ConfigError(
            f'shots={shots}: classes {short} have fewer images than that. '
            'Lower shots, or use balanced=False.')
    return np.concatenate(chosen)


def _check_columns(
        columns: Sequence[str], modality: str) -> tuple[str, ...]:
    """Columns that name an image of the modality, and its class."""
    names = tuple(columns)
    if isinstance(columns, str) or set(names) - set(COLUMNS) or (
            len(set(names)) < len(names) or 'label' not in names
            or not {'file', modality} & set(names)):
        raise ConfigError(
            f'columns={columns!r}: expected different ones of '
            f'{", ".join(COLUMNS)}, with label, and with file or {modality}.')
    return names
