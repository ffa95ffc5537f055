"""What data sets of optical-SAR pairs for pre-training share.

A row of an unpaired source names an optical and a SAR image that happen to
stand beside each other. To meet other partners in every epoch, such data
sets take as index a pair of rows beside a single one::

    dataset[5]       row 5 as listed
    dataset[5, 17]   the optical image of row 5, the SAR image of row 17

``PairedBatchSampler`` draws the partner, so it is a function of (seed,
epoch), reaches every worker with the index, and resumes with the order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from osar_plugin.utils.config_values import Buildable
from osar_plugin.utils.errors import ConfigError, DataFormatError

from .layout import StrictDataset
from .pair_statistics import (
    SourceStatistics,
    choose_statistics,
    require_statistics,
)
from .teacher_features import feature_path

Row = dict[str, Any]


class PretrainPairs(StrictDataset):
    """Optical-SAR pairs, paired or not, with the statistics of their source.

    Each sample has ``rgb_path``, ``sar_path``, ``paired`` (1, or 0 where
    the two images show different ground), ``source``, ``stats``
    (:class:`~.pair_statistics.SourceStatistics`) and, if
    ``teacher_features`` is given, ``teacher_path``.

    Args:
        data_root: Folder of the data set.
        statistics: Mean and deviation of the sources: a JSON file (in
            ``data_root`` unless absolute), a mapping of the same form, or
            None for those that are published.
        teacher_features: Folder of :mod:`~.teacher_features` of the
            optical images; None for none.
        pipeline: Transforms, such as ``LoadPair`` and what follows.
        **kwargs: Further arguments of ``BaseDataset``.
    """

    #: What ``statistics=None`` stands for.
    PUBLISHED: Mapping[str, SourceStatistics] = {}

    def __init__(
            self,
            data_root: str,
            statistics: str | Mapping[str, Any] | None = None,
            teacher_features: str | None = None,
            pipeline: Sequence[Buildable] = (),
            **kwargs: Any) -> None:
        self.statistics = choose_statistics(
            statistics, data_root, self.PUBLISHED)
        self.teacher_features = teacher_features
        super().__init__(
            data_root=str(data_root), pipeline=list(pipeline), **kwargs)

    def load_data_list(self) -> list[Row]:
        """List the rows; each source must have its statistics."""
        rows = self.list_rows()
        require_statistics(
            self.statistics, {row['source'] for row in rows},
            self.data_root)
        return rows

    def list_rows(self) -> list[Row]:
        """Rows of ``rgb_path``, ``sar_path``, ``paired``, ``source``."""
        raise NotImplementedError

    def pair_table(self) -> np.ndarray:
        """Whether each row is a pair, for the sampler: (n,) of 0 and 1."""
        return np.array(
            [self._row(index)['paired'] for index in range(len(self))],
            np.int8)

    def _row(self, index: int) -> Row:
        row: Row = super().get_data_info(index)
        return row

    def get_data_info(self, idx: int | Sequence[int]) -> Row:
        """A row, or the optical side of one with the SAR side of another.

        Raises:
            ConfigError: If one of the two rows is a pair, which must not be
                torn apart.
        """
        if isinstance(idx, Sequence):
            row, partner = map(int, idx)
        else:
            row = partner = int(idx)
        info = self._row(row)
        if partner != row:
            other = self._row(partner)
            if info['paired'] or other['paired']:
                raise ConfigError(
                    f'index ({row}, {partner}): only rows of an unpaired '
                    'source may be joined with each other. Use '
                    'osar_plugin.PairedBatchSampler.')
            info['sar_path'] = other['sar_path']
        info['stats'] = self.statistics[info['source']]
        if self.teacher_features is not None:
            info['teacher_path'] = str(feature_path(
                self.teacher_features, self.data_root, info['rgb_path']))
        return info

    def substitutes(self, index: int) -> list[int]:
        """Rows that can take the place of one that cannot be read.

        Those of its source; where there is none, any of its kind, since a
        batch is wholly paired or wholly unpaired.
        """
        own = self._row(index)
        alike, same = [], []
        for other in range(len(self)):
            row = self._row(other)
            if other != index and row['paired'] == own['paired']:
                alike.append(other)
                if row['source'] == own['source']:
                    same.append(other)
        return same or alike


def relative_name(path: str | Path) -> str:
    """Folders and stem of a name in a list, without ``.png``."""
    text = str(path).strip()
    return text[:-4] if text.lower().endswith('.png') else text


def read_list(path: Path) -> list[str]:
    """Names of a list file, one to a line, with or without ``.png``.

    Raises:
        DataFormatError: If it cannot be read as text, is empty, or names
            something outside of its folder.
    """
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataFormatError(
            f'{path}: cannot be read as a list of names ({error}). Write '
            'one file name to a line.') from error
    names = [relative_name(line) for line in lines if line.strip()]
    if not names:
        raise DataFormatError(
            f'{path}: names no file. Write one file name to a line, or '
            'remove the list.')
    strange = [
        name for name in names
        if '\0' in name or name.startswith('/') or '..' in name.split('/')]
    if strange:
        raise DataFormatError(
            f'{path}: {strange[0]!r} is no name inside the data set. Names '
            'are relative to it.')
    return names
