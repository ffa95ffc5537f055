"""OSPretrain-1M: optical-SAR pairs of many sources for pre-training."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from osar_plugin.registry import DATASETS
from osar_plugin.utils.config_values import Buildable
from osar_plugin.utils.errors import (
    ConfigError,
    DataFormatError,
    DatasetNotFoundError,
)

from .layout import check_suffixes, list_images, shorten
from .pair_base import PretrainPairs, Row, read_list, relative_name
from .pair_statistics import OSPRETRAIN_STATISTICS

UNPAIRED = 'Unpaired'
RGB, SAR = 'RGB', 'SAR'
LISTS = ('train', 'val', 'test')
#: What the official pre-training leaves out by default.
OFFICIAL_EXCLUDE = ('PIE-RGB-SAR', 'YESeg-OPT-SAR', 'SS4EO-S12')
#: Sources whose test split it leaves out.
OFFICIAL_DROP_TEST = ('WHU-OPT-SAR', 'OGSOD-2', 'DDHR', 'DFC23_Track1')

LAYOUT_HELP = """Expected layout (data_root holds one folder per source):
  <source>/RGB/<name>.png, SAR/<name>.png   a pair has one name
  <source>/train.txt, val.txt, test.txt     names; optional
  Unpaired/RGB/*, Unpaired/SAR/*            equal numbers, no lists
To try without the data, render some:
  python tools/make_demo_data.py data/demo --sets ospretrain"""


@DATASETS.register_module()
class OSPretrain(PretrainPairs):
    """OSPretrain-1M and data sets in its layout.

    Sources are taken in the order of their names, ``Unpaired`` among them.
    Where a source has lists, the files that they name are used, otherwise
    all. Its optical and SAR folders must then hold the same names.

    ``Unpaired`` lists two heaps of images that show different ground; row i
    joins the i-th of each by name, until ``PairedBatchSampler`` draws other
    partners in each epoch.

    For samples see :class:`~.pair_base.PretrainPairs`.

    The official code does not drop a test split of ``DFC25``, whose images
    are those of BRIGHT: give ``held_out`` the list of BRIGHT's test images
    before results on BRIGHT are claimed.

    Args:
        data_root: Folder of the sources.
        include: Sources to use; None for all that are there.
        exclude: Sources to leave out of ``include``; by default the
            official ones.
        lists: Which lists to read, of ``'train'``, ``'val'``, ``'test'``.
        drop_test: Sources whose ``test.txt`` is left out, with every name
            in it; ``'all'`` for all of them. By default the official ones.
        held_out: Further names to leave out: source to a list file, in
            ``data_root`` unless absolute.
        suffixes: File suffixes to read.
        statistics: See :class:`~.pair_base.PretrainPairs`; None for the
            published values of the 15 sources.
        teacher_features: See there.
        pipeline: Transforms.
        **kwargs: Further arguments of ``BaseDataset``.

    Raises:
        DatasetNotFoundError: If a folder is missing or nothing is left.
        DataFormatError: If one side of a pair is missing, the unpaired
            folders differ in number, or a list is damaged.
        ConfigError: If an argument cannot be used, or a source has no
            statistics.
    """

    METAINFO = {'dataset_type': 'OSPretrain'}
    PUBLISHED = OSPRETRAIN_STATISTICS

    def __init__(
            self,
            data_root: str = 'data/ospretrain',
            include: Sequence[str] | None = None,
            exclude: Sequence[str] = OFFICIAL_EXCLUDE,
            lists: Sequence[str] = LISTS,
            drop_test: Sequence[str] | str = OFFICIAL_DROP_TEST,
            held_out: Mapping[str, str] | None = None,
            suffixes: Sequence[str] = ('.png', '.jpg', '.jpeg', '.tif'),
            statistics: str | Mapping[str, Any] | None = None,
            teacher_features: str | None = None,
            pipeline: Sequence[Buildable] = (),
            **kwargs: Any) -> None:
        _check_names(include=include, exclude=exclude)
        if isinstance(lists, str) or not lists or set(lists) - set(LISTS):
            raise ConfigError(
                f'lists={lists!r}: expected some of {", ".join(LISTS)}, '
                'as a list.')
        if drop_test != 'all':
            _check_names(drop_test=drop_test)
        self.include = None if include is None else tuple(include)
        self.exclude = tuple(exclude)
        self.lists = tuple(lists)
        self.drop_test = drop_test
        self.held_out = dict(held_out or {})
        self.suffixes = check_suffixes(suffixes)
        super().__init__(
            data_root=data_root, statistics=statistics,
            teacher_features=teacher_features, pipeline=pipeline, **kwargs)

    def list_rows(self) -> list[Row]:
        """List the rows of all sources."""
        root = Path(self.data_root)
        sources = self._sources(root)
        rows: list[Row] = []
        for source in sources:
            rows += (self._unpaired if source == UNPAIRED else self._paired)(
                root / source)
        if not rows:
            raise DatasetNotFoundError(
                f'{root}: no image is left of {", ".join(sources)} after '
                'what drop_test and held_out leave out.')
        self._metainfo['sources'] = sources
        return rows

    def _sources(self, root: Path) -> tuple[str, ...]:
        """Names of the sources to use."""
        if not root.is_dir():
            raise DatasetNotFoundError(
                f'{root}: no such folder.\n{LAYOUT_HELP}')
        found = sorted(
            path.name for path in root.iterdir()
            if not path.name.startswith('.')
            and ((path / RGB).is_dir() or (path / SAR).is_dir()))
        wanted = found if self.include is None else self.include
        missing = sorted(
            {*wanted, *self.held_out} - set(found))
        if missing:
            raise DatasetNotFoundError(
                f'{root}: no source {", ".join(missing)} (found: '
                f'{", ".join(found) or "none"}). Correct `include` and '
                f'`held_out`.\n{LAYOUT_HELP}')
        left = tuple(sorted(set(wanted) - set(self.exclude)))
        if not left:
            raise DatasetNotFoundError(
                f'{root}: no source is left of {", ".join(found) or "none"} '
                f'without {", ".join(self.exclude) or "any"}.\n{LAYOUT_HELP}')
        return left

    def _paired(self, folder: Path) -> list[Row]:
        """Rows of a source of pairs."""
        rgb, sar = (
            index_images(folder / side, self.suffixes)
            for side in (RGB, SAR))
        names = self._listed(folder)
        if names is None:
            names = sorted({*rgb, *sar})
        for side, files in ((RGB, rgb), (SAR, sar)):
            missing = [name for name in names if name not in files]
            if missing:
                raise DataFormatError(
                    f'{folder / side}: {len(missing)} of {len(names)} '
                    f'pairs have no {side} image ({shorten(missing)}). '
                    'Restore the files or take the names off the lists '
                    '(without lists: remove the other side).')
        left_out = self._left_out(folder)
        return [
            dict(rgb_path=str(rgb[name]), sar_path=str(sar[name]), paired=1,
                 source=folder.name)
            for name in names if name not in left_out]

    def _listed(self, folder: Path) -> list[str] | None:
        """Names of the lists, each once; None if there is no list."""
        there = [
            name for name in LISTS if (folder / f'{name}.txt').is_file()]
        if not there:
            return None
        names: dict[str, None] = {}
        for name in there:
            if name in self.lists:
                names.update(
                    dict.fromkeys(read_list(folder / f'{name}.txt')))
        return list(names)

    def _left_out(self, folder: Path) -> set[str]:
        """Names of the test split and of ``held_out``, where they apply."""
        names: set[str] = set()
        test = folder / 'test.txt'
        dropped = self.drop_test == 'all' or folder.name in self.drop_test
        if dropped and test.is_file():
            names.update(read_list(test))
        elif dropped and self.drop_test != 'all':
            print_log(
                f'{test}: no such list, so the test split of this source '
                'cannot be left out (drop_test).', logger='current',
                level=logging.WARNING)
        if folder.name in self.held_out:
            names.update(read_list(
                Path(self.data_root) / self.held_out[folder.name]))
        return names

    def _unpaired(self, folder: Path) -> list[Row]:
        """Rows of the folder whose two sides do not belong together."""
        rgb, sar = (
            sorted(index_images(folder / side, self.suffixes).values())
            for side in (RGB, SAR))
        if len(rgb) != len(sar):
            raise DataFormatError(
                f'{folder}: {len(rgb)} optical and {len(sar)} SAR images; '
                'equal numbers are expected. Take '
                f'{abs(len(rgb) - len(sar))} out of '
                f'{RGB if len(rgb) > len(sar) else SAR}, or exclude '
                f'{UNPAIRED!r}.')
        return [
            dict(rgb_path=str(optical), sar_path=str(radar), paired=0,
                 source=folder.name)
            for optical, radar in zip(rgb, sar, strict=True)]


def index_images(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Images of a folder by their stem.

    Raises:
        DatasetNotFoundError: If the folder is missing or empty.
        DataFormatError: If two files have one stem.
    """
    if not folder.is_dir():
        raise DatasetNotFoundError(
            f'{folder}: no such folder.\n{LAYOUT_HELP}')
    files = list_images(folder, suffixes)
    if not files:
        raise DatasetNotFoundError(
            f'{folder}: no file with a suffix of {list(suffixes)}.\n'
            f'{LAYOUT_HELP}')
    found: dict[str, Path] = {}
    for path in files:
        other = found.setdefault(relative_name(path.stem), path)
        if other is not path:
            raise DataFormatError(
                f'{path}: {other.name} has the same name but for its '
                'suffix. Remove one of them, or set `suffixes`.')
    return found


def _check_names(**arguments: Any) -> None:
    """Refuse a bare string where a list of sources is expected."""
    for name, value in arguments.items():
        if isinstance(value, str):
            raise ConfigError(
                f'{name}={value!r}: expected a list of folder names, e.g. '
                f'[{value!r}].')
