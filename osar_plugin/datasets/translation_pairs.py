"""Optical-SAR pairs that a translator learns from."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from osar_plugin.registry import DATASETS
from osar_plugin.utils.config_values import Buildable
from osar_plugin.utils.errors import (
    ConfigError,
    DataFormatError,
    DatasetNotFoundError,
)

from .hoss import HOSS
from .layout import ShipDataset, check_suffixes, list_images, shorten

PAIRINGS = ('all', 'random')
LAYOUTS = ('qxs_saropt', 'sen12')
OPTICAL_FOLDER, SAR_FOLDER = 'opt_256_oc_0.2', 'sar_256_oc_0.2'

_SEN12_FOLDER = re.compile(r'(?P<sensor>s[12])_(?P<scene>\d+)')
_SEN12_NAME = re.compile(
    r'(?P<region>.+)_(?P<sensor>s[12])_(?P<scene>\d+)_p(?P<patch>\d+)')

LAYOUT_HELP = {
    'qxs_saropt': f"""Expected layout (data_root is the folder with the two, \
or one above it named QXSLAB_SAROPT):
  {OPTICAL_FOLDER}/1.png, 2.png, ...
  {SAR_FOLDER}/1.png, 2.png, ...
Files of the same name are a pair. QXS-SAROPT is published at \
https://github.com/yaoxu008/QXS-SAROPT.""",
    'sen12': """Expected layout (data_root is the folder with the seasons):
  ROIs1158_spring/
    s1_1/ROIs1158_spring_s1_1_p100.png    SAR
    s2_1/ROIs1158_spring_s2_1_p100.png    optical
  ROIs1868_summer/...
SEN1-2 is published at https://mediatum.ub.tum.de/1436631."""}

Row = dict[str, Any]


@DATASETS.register_module()
class HOSSPairs(ShipDataset):
    """Optical and SAR chips of the same ship, from HOSS-ReID.

    How MOS pairs the chips for its translator is not published. Chips of
    one ship come from different passes, so they match in what they show,
    not pixel by pixel.

    Each row has ``optical_path``, ``pid`` and ``label`` (0 to C - 1), and
    ``sar_path`` with ``pairing='all'``, ``sar_paths`` otherwise. Ships with
    one modality make no pair; their number is logged.

    Args:
        data_root: See :class:`~.hoss.HOSS`.
        split: ``'train'``, ``'val'``, ``'test'``, ``'query'`` or
            ``'gallery'``, see there.
        pairing: ``'all'``: every combination of an optical and a SAR chip
            of a ship is a row. ``'random'``: every optical chip is a row,
            and its SAR chip is drawn each time it is asked for; ships with
            many chips then do not outweigh the others.
        val_ids: See :class:`~.hoss.HOSS`.
        val_seed: See there.
        suffixes: See there.
        pipeline: Transforms, such as ``PairPipeline``, ``PairFlip`` and
            ``PackPairInputs``.
        **kwargs: Further arguments of ``BaseDataset``.

    Raises:
        DatasetNotFoundError: If a folder is missing or holds no pair.
        DataFormatError: If a file name does not parse.
        ConfigError: If an argument cannot be used.
    """

    METAINFO = {'dataset_type': 'HOSSPairs'}

    def __init__(
            self,
            data_root: str = 'data/hoss',
            split: str = 'train',
            pairing: str = 'all',
            val_ids: int | float = 0,
            val_seed: int = 0,
            suffixes: Sequence[str] = ('.tif',),
            pipeline: Sequence[Buildable] = (),
            **kwargs: Any) -> None:
        if pairing not in PAIRINGS:
            raise ConfigError(
                f'pairing={pairing!r} is not known: use one of '
                f'{", ".join(PAIRINGS)}.')
        self.pairing = pairing
        # Lists the files; nothing is read before it is asked to.
        self.chips = HOSS(
            data_root, split, 'filter', val_ids=val_ids, val_seed=val_seed,
            suffixes=suffixes, lazy_init=True)
        super().__init__(
            data_root=str(data_root), pipeline=list(pipeline), **kwargs)

    def load_data_list(self) -> list[Row]:
        """List all pairs, or all optical chips that have one."""
        ships: dict[int, tuple[list[str], list[str]]] = {}
        for row in self.chips.load_data_list():
            side = ships.setdefault(row['pid'], ([], []))[row['modality']]
            if row['img_path'] not in side:  # queries may be in the gallery
                side.append(row['img_path'])
        pids = _both_sides(ships, f'{self.data_root} ({self.chips.split})')
        self._metainfo['num_ids'] = len(pids)
        rows = []
        for label, pid in enumerate(pids):
            common = dict(pid=pid, label=label)
            optical, sar = ships[pid]
            if self.pairing == 'all':
                rows += [
                    dict(optical_path=a, sar_path=b, **common)
                    for a, b in itertools.product(optical, sar)]
            else:
                rows += [
                    dict(optical_path=a, sar_paths=sar, **common)
                    for a in optical]
        return rows

    def get_data_info(self, idx: int) -> Row:
        """Row ``idx``; with ``'random'`` with a SAR chip drawn for it."""
        row: Row = super().get_data_info(idx)
        if self.pairing == 'random':
            paths = row['sar_paths']
            row['sar_path'] = paths[np.random.randint(len(paths))]
        return row


def _both_sides(ships: dict[int, tuple[list[str], list[str]]],
                where: str) -> list[int]:
    """Identities with both modalities, in ascending order."""
    single = [pid for pid, sides in ships.items() if not all(sides)]
    pids = sorted(set(ships) - set(single))
    if not pids:
        raise DatasetNotFoundError(
            f'{where}: none of {len(ships)} ships has both an optical and a '
            'SAR chip. Pairs are chips of one ship whose names begin with '
            'the same number and end in RGB and SAR.')
    if single:
        print_log(
            f'{where}: {len(single)} ships have one modality and make no '
            f'pair ({shorten(single)}).', logger='current')
    return pids


@DATASETS.register_module()
class AlignedPairs(ShipDataset):
    """Pairs of patches that show the same ground pixel by pixel.

    Each row has ``optical_path``, ``sar_path`` and ``pid``, the number of
    the pair in the order of its files. Files without a partner make no
    pair; their number is logged.

    Args:
        data_root: Folder of the data set.
        layout: ``'qxs_saropt'`` (two folders, same names) or ``'sen12'``
            (a folder for each season, sensor and scene).
        split: ``'all'``, ``'val'``, the pairs that ``val_pairs`` holds out,
            or ``'train'``, the others.
        val_pairs: Pairs held out: a number, or a fraction as float.
        val_seed: Seed of that draw.
        suffixes: File suffixes to read.
        pipeline: Transforms.
        **kwargs: Further arguments of ``BaseDataset``.

    Raises:
        DatasetNotFoundError: If a folder is missing or holds no pair.
        DataFormatError: If a file name does not parse.
        ConfigError: If an argument cannot be used.
    """

    METAINFO = {'dataset_type': 'AlignedPairs'}

    def __init__(
            self,
            data_root: str,
            layout: str = 'qxs_saropt',
            split: str = 'all',
            val_pairs: int | float = 0,
            val_seed: int = 0,
            suffixes: Sequence[str] = ('.png', '.tif', '.jpg'),
            pipeline: Sequence[Buildable] = (),
            **kwargs: Any) -> None:
        if layout not in LAYOUTS:
            raise ConfigError(
                f'layout={layout!r} is not known: use one of '
                f'{", ".join(LAYOUTS)}.')
        if split not in ('all', 'train', 'val'):
            raise ConfigError(
                f'split={split!r} is not known: use all, train or val.')
        if (split == 'val') > bool(val_pairs):
            raise ConfigError(
                "split='val' needs val_pairs, the number or fraction of "
                'pairs to hold out, in the training and the validation '
                'data set.')
        self.layout = layout
        self.split = split
        self.val_pairs = val_pairs
        self.val_seed = val_seed
        self.suffixes = check_suffixes(suffixes)
        super().__init__(
            data_root=str(data_root), pipeline=list(pipeline), **kwargs)

    def load_data_list(self) -> list[Row]:
        """List the pairs of the split."""
        root = Path(self.data_root)
        find = _qxs_saropt if self.layout == 'qxs_saropt' else _sen12
        optical, sar = find(root, self.suffixes)
        common = sorted(set(optical) & set(sar))
        single = sorted(set(optical) ^ set(sar))
        if not common:
            raise DatasetNotFoundError(
                f'{root}: no pair among {len(optical)} optical and '
                f'{len(sar)} SAR images of suffix {list(self.suffixes)}.\n'
                f'{LAYOUT_HELP[self.layout]}')
        if single:
            names = shorten(' '.join(map(str, key)) for key in single)
            print_log(
                f'{root}: {len(single)} images have no partner and make no '
                f'pair ({names}).', logger='current')
        rows = [
            dict(optical_path=str(optical[key]), sar_path=str(sar[key]),
                 pid=number)
            for number, key in enumerate(common)]
        return self._chosen(rows)

    def _chosen(self, rows: list[Row]) -> list[Row]:
        """The rows of the split."""
        if self.split == 'all' or not self.val_pairs:
            return rows
        amount = self.val_pairs
        count = round(amount * len(rows)) if isinstance(
            amount, float) else amount
        if not 0 < count < len(rows):
            raise ConfigError(
                f'val_pairs={amount} of {len(rows)} pairs leaves nothing on '
                'one side: give another number, or a fraction between 0 and '
                '1.')
        order = np.random.RandomState(self.val_seed).permutation(len(rows))
        held = set(order[:count].tolist())
        return [row for row in rows
                if (row['pid'] in held) == (self.split == 'val')]


Files = dict[tuple, Path]


def _qxs_saropt(root: Path,
                suffixes: Sequence[str]) -> tuple[Files, Files]:
    """Optical and SAR files of QXS-SAROPT by name."""
    if (root / 'QXSLAB_SAROPT').is_dir():
        root = root / 'QXSLAB_SAROPT'
    found: list[Files] = []
    for name in (OPTICAL_FOLDER, SAR_FOLDER):
        folder = root / name
        if not folder.is_dir():
            raise DatasetNotFoundError(
                f'{folder}: no such folder.\n{LAYOUT_HELP["qxs_saropt"]}')
        # Numbers in their order: 2 before 10.
        found.append({
            (len(path.stem), path.stem): path
            for path in list_images(folder, suffixes)})
    return found[0], found[1]


def _sen12(root: Path, suffixes: Sequence[str]) -> tuple[Files, Files]:
    """Optical and SAR files of SEN1-2 by season, scene and patch."""
    if not root.is_dir():
        raise DatasetNotFoundError(
            f'{root}: no such folder.\n{LAYOUT_HELP["sen12"]}')
    found: dict[str, Files] = {'s1': {}, 's2': {}}
    for folder in sorted(root.glob('*/*')):
        if not folder.is_dir() or not _SEN12_FOLDER.fullmatch(folder.name):
            continue
        for path in list_images(folder, suffixes):
            match = _SEN12_NAME.fullmatch(path.stem)
            if match is None or (
                    f'{match["sensor"]}_{match["scene"]}' != folder.name):
                raise DataFormatError(
                    f'{path}: the name does not follow '
                    f'<season>_{folder.name}_p<number>, e.g. '
                    'ROIs1158_spring_s1_1_p100.png. Rename the file or take '
                    'it out of the folder.')
            key = (folder.parent.name, int(match['scene']),
                   int(match['patch']))
            found[match['sensor']][key] = path
    return found['s2'], found['s1']
