"""SEN1-2: Sentinel-1 and Sentinel-2 patches of the same ground."""

from __future__ import annotations

import re
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

from .layout import shorten
from .pair_base import PretrainPairs, Row, read_list

SEASONS = ('ROIs1158_spring', 'ROIs1868_summer', 'ROIs1970_fall',
           'ROIs2017_winter')
SPLITS = ('all', 'train', 'test')
SOURCE = 'SEN12'

_NAME = re.compile(
    r'(?P<season>ROIs\d+_(?:spring|summer|fall|winter))_(?P<sensor>s[12])_'
    r'(?P<scene>\d+)_p(?P<patch>\d+)')

LAYOUT_HELP = """Expected layout (data_root is the folder with the seasons):
  ROIs1158_spring/
    s1_1/ROIs1158_spring_s1_1_p100.png    SAR
    s2_1/ROIs1158_spring_s2_1_p100.png    optical
  ROIs1868_summer/...
SEN1-2 is published at https://mediatum.ub.tum.de/1436631.
To try without it, render some:
  python tools/make_demo_data.py data/demo --sets sen12"""

Key = tuple[str, int, int]


def parse_name(name: str) -> tuple[Key, str]:
    """Season, scene and patch, and the sensor, of a name without suffix.

    Raises:
        DataFormatError: If it does not parse.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise DataFormatError(
            f'{name}: the name does not follow '
            'ROIs<number>_<season>_<s1|s2>_<scene>_p<patch>, e.g. '
            'ROIs1158_spring_s1_1_p100. Rename it or take it out.')
    return (match['season'], int(match['scene']), int(match['patch'])), (
        match['sensor'])


@DATASETS.register_module()
class SEN12(PretrainPairs):
    """SEN1-2 (282,384 pairs of 256 x 256 pixels), all of them paired.

    Rows are in the order of season, scene and patch. The optical image is
    ``s2``, the SAR image ``s1``; one without the other is an error.

    For samples see :class:`~.pair_base.PretrainPairs`; ``source`` is
    ``'SEN12'``. No mean and deviation are published with the data:
    ``statistics`` must be given.

    Args:
        data_root: Folder of the seasons.
        seasons: Their folders; None for all that are there.
        split: ``'all'``, ``'test'``, the pairs that ``test_list`` names, or
            ``'train'``, the others.
        test_list: List file, in ``data_root`` unless absolute; a line is
            the name of either image, with or without ``.png``.
        statistics: See :class:`~.pair_base.PretrainPairs`.
        teacher_features: See there.
        pipeline: Transforms.
        **kwargs: Further arguments of ``BaseDataset``.

    Raises:
        DatasetNotFoundError: If a folder is missing or nothing is left.
        DataFormatError: If a name does not parse or has no partner.
        ConfigError: If an argument cannot be used.
    """

    METAINFO = {'dataset_type': 'SEN12'}

    def __init__(
            self,
            data_root: str = 'data/sen12',
            seasons: Sequence[str] | None = None,
            split: str = 'all',
            test_list: str = 'test.txt',
            statistics: str | Mapping[str, Any] | None = None,
            teacher_features: str | None = None,
            pipeline: Sequence[Buildable] = (),
            **kwargs: Any) -> None:
        if split not in SPLITS:
            raise ConfigError(
                f'split={split!r} is not known: use one of '
                f'{", ".join(SPLITS)}.')
        if isinstance(seasons, str):
            raise ConfigError(
                f'seasons={seasons!r}: expected a list of folder names, '
                f'e.g. [{SEASONS[0]!r}].')
        self.seasons = None if seasons is None else tuple(seasons)
        self.split = split
        self.test_list = test_list
        super().__init__(
            data_root=data_root, statistics=statistics,
            teacher_features=teacher_features, pipeline=pipeline, **kwargs)

    def list_rows(self) -> list[Row]:
        """List the pairs of the split."""
        root = Path(self.data_root)
        found = self._find(root)
        single = sorted(
            path.name for key, sides in found.items() if len(sides) < 2
            for path in sides.values())
        if single:
            raise DataFormatError(
                f'{root}: {len(single)} images have no partner of the other '
                f'sensor ({shorten(single)}). Restore or remove them.')
        keys = sorted(self._chosen(root, found))
        if not keys:
            raise DatasetNotFoundError(
                f'{root}: no pair is in split {self.split!r}.'
                f'\n{LAYOUT_HELP}')
        return [
            dict(rgb_path=str(found[key]['s2']),
                 sar_path=str(found[key]['s1']), paired=1, source=SOURCE)
            for key in keys]

    def _chosen(self, root: Path, found: Mapping[Key, Any]) -> set[Key]:
        """The pairs of the split."""
        if self.split == 'all':
            return set(found)
        path = root / self.test_list
        if not path.is_file():
            raise DatasetNotFoundError(
                f'{path}: no such list, which split={self.split!r} needs. '
                "Use split='all', or set test_list.")
        test = {
            parse_name(Path(name).name)[0] for name in read_list(path)}
        strange = test - set(found)
        if strange and self.seasons is None:
            print_log(
                f'{path}: {len(strange)} of its {len(test)} names are not '
                f'there ({shorten(map(str, strange))}).', logger='current')
        return test & set(found) if self.split == 'test' else (
            set(found) - test)

    def _find(self, root: Path) -> dict[Key, dict[str, Path]]:
        """Files by season, scene and patch, and by sensor."""
        if not root.is_dir():
            raise DatasetNotFoundError(
                f'{root}: no such folder.\n{LAYOUT_HELP}')
        seasons = self.seasons or sorted(
            path.name for path in root.glob('ROIs*') if path.is_dir())
        found: dict[Key, dict[str, Path]] = {}
        for season in seasons:
            if not (root / season).is_dir():
                raise DatasetNotFoundError(
                    f'{root / season}: no such season.\n{LAYOUT_HELP}')
            for path in sorted((root / season).glob('s[12]_*/*.png')):
                if path.name.startswith('.'):
                    continue
                key, sensor = parse_name(path.stem)
                place = f'{key[0]}/{sensor}_{key[1]}'
                if f'{season}/{path.parent.name}' != place:
                    raise DataFormatError(
                        f'{path}: by its name it belongs into {place}. Move '
                        'or rename it.')
                found.setdefault(key, {})[sensor] = path
        if not found:
            raise DatasetNotFoundError(
                f'{root}: no image of SEN1-2.\n{LAYOUT_HELP}')
        return found
