"""Registered optical-SAR pairs that a registration model learns from."""

from __future__ import annotations

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

from .layout import StrictDataset, check_suffixes, list_images, shorten
from .translation_pairs import AlignedPairs

LAYOUTS = ('folders', 'sen12')
SPLITS = ('all', 'train', 'val', 'test')
MODALITIES = {'optical': 0, 'sar': 1}
OPTICAL_NAMES = ('opt', 'optical', 'rgb', 'RGB', 'OPT')
SAR_NAMES = ('sar', 'SAR')

LAYOUT_HELP = """Expected layout (SOPatch, GFGE_SO, OSdataset and the like):
  train/
    opt/d10011.png or opt1.png    optical
    sar/d10011.png or sar1.png    SAR
  val/...
  test/...
Without splits: opt/ and sar/ directly in data_root, and split='all', or \
lists train.txt, val.txt and test.txt of names beside them.
Files of the same name, or of the same name behind opt and sar, are a pair."""

Row = dict[str, Any]


@DATASETS.register_module()
class RegistrationPairs(StrictDataset):
    """Registered pairs in folders, or SEN1-2.

    Each row has ``fixed_path``, ``moving_path``, ``fixed_modality``,
    ``moving_modality`` (0 optical, 1 SAR) and ``pair_name``. Files without
    a partner make no pair; their number is logged.

    Args:
        data_root: Folder of the data set.
        layout: ``'folders'`` (SOPatch, GFGE_SO, OSdataset, WHU-SEN-City and
            any two folders) or ``'sen12'`` (a folder for each season,
            sensor and scene).
        split: ``'all'``, ``'train'``, ``'val'`` or ``'test'``.
        fixed: Which side is the reference: ``'optical'`` or ``'sar'``.
        held_out: SEN1-2 only: shares of its scenes for validation and for
            test. Patches overlap, so whole scenes are held out.
        seed: Of that draw.
        limit: Use the first so many pairs of the split; 0 for all.
        suffixes: File suffixes to read.
        pipeline: Transforms, such as ``LoadRegistrationPair``,
            ``RandomPairWarp`` and ``PackRegistrationInputs``.
        sources: ``'folders'`` only: folders below ``data_root`` that are
            such data sets, as in OSPretrain; their pairs follow one
            another, named with their source. Empty: ``data_root`` is one.
        **kwargs: Further arguments of ``BaseDataset``.

    Raises:
        DatasetNotFoundError: If a folder is missing or holds no pair.
        DataFormatError: If two files have one name, or a listed one is not
            there.
        ConfigError: If an argument cannot be used.
    """

    METAINFO = {'dataset_type': 'RegistrationPairs'}

    def __init__(
            self, data_root: str, layout: str = 'folders',
            split: str = 'train', fixed: str = 'optical',
            held_out: Sequence[float] = (0.1, 0.1), seed: int = 0,
            limit: int = 0,
            suffixes: Sequence[str] = ('.png', '.tif', '.jpg'),
            pipeline: Sequence[Buildable] = (),
            sources: Sequence[str] = (), **kwargs: Any) -> None:
        for name, value, known in (
                ('layout', layout, LAYOUTS), ('split', split, SPLITS),
                ('fixed', fixed, tuple(MODALITIES))):
            if value not in known:
                raise ConfigError(
                    f'{name}={value!r} is not known: use one of '
                    f'{", ".join(known)}.')
        if len(held_out) != 2 or min(held_out) < 0 or sum(held_out) >= 1:
            raise ConfigError(
                f'held_out={held_out!r} must be two shares of at least 0 '
                'that leave something to train on.')
        if isinstance(limit, bool) or not isinstance(
                limit, int) or limit < 0:
            raise ConfigError(f'limit={limit!r} must be 0 or more pairs.')
        if isinstance(sources, str) or (sources and layout != 'folders'):
            raise ConfigError(
                f'sources={sources!r} with layout={layout!r}: expected a '
                "list of folders, and layout='folders'.")
        self.sources = tuple(sources)
        self.layout, self.split, self.fixed = layout, split, fixed
        self.held_out, self.seed, self.limit = held_out, seed, limit
        self.suffixes = check_suffixes(suffixes)
        super().__init__(
            data_root=str(data_root), pipeline=list(pipeline), **kwargs)

    def load_data_list(self) -> list[Row]:
        """List the pairs of the split."""
        find = self._folders if self.layout == 'folders' else self._sen12
        pairs = find()
        if not pairs:
            raise DatasetNotFoundError(
                f'{self.data_root}: no pair in split {self.split!r}.\n'
                f'{LAYOUT_HELP}')
        sides = ('fixed', 'moving') if self.fixed == 'optical' else (
            'moving', 'fixed')
        rows = []
        for name, optical, sar in pairs[:self.limit or None]:
            row: Row = dict(pair_name=name)
            for side, (modality, path) in zip(sides, (
                    ('optical', optical), ('sar', sar)), strict=True):
                row[f'{side}_path'] = str(path)
                row[f'{side}_modality'] = MODALITIES[modality]
            rows.append(row)
        return rows

    def substitutes(self, index: int) -> list[int]:
        """Rows that can take the place of one that cannot be read."""
        return [row for row in range(len(self)) if row != index]

    def _folders(self) -> list[tuple[str, Path, Path]]:
        """Name, optical and SAR file of each pair, of all sources."""
        root = Path(self.data_root)
        if not self.sources:
            return self._folder(root)
        return [(f'{source}/{name}', optical, sar)
                for source in self.sources
                for name, optical, sar in self._folder(root / source)]

    def _folder(self, root: Path) -> list[tuple[str, Path, Path]]:
        """Those of one source."""
        listed: set[str] | None = None
        base = root
        if self.split != 'all':
            base = root / self.split
            if not base.is_dir():
                base, listed = root, self._listed(root)
        files = []
        for names in (OPTICAL_NAMES, SAR_NAMES):
            folder = next((base / n for n in names if (base / n).is_dir()),
                          None)
            if folder is None:
                raise DatasetNotFoundError(
                    f'{base}: has none of the folders {", ".join(names)}.\n'
                    f'{LAYOUT_HELP}')
            files.append(self._by_key(folder))
        optical, sar = files
        common = sorted(set(optical) & set(sar), key=_natural)
        if listed is not None:
            missing = listed - set(common)
            if missing:
                raise DataFormatError(
                    f'{root / self.split}.txt names {len(missing)} pairs '
                    f'that are not there ({shorten(missing)}). Restore the '
                    'files, or take the names out.')
            common = [key for key in common if key in listed]
        single = set(optical) ^ set(sar)
        if single:
            print_log(
                f'{base}: {len(single)} images have no partner and make no '
                f'pair ({shorten(single)}).', logger='current')
        return [(key, optical[key], sar[key]) for key in common]

    def _listed(self, root: Path) -> set[str]:
        """Keys in the list of the split."""
        path = root / f'{self.split}.txt'
        if not path.is_file():
            raise DatasetNotFoundError(
                f'{root}: has neither a folder {self.split} nor a list '
                f'{self.split}.txt.\n{LAYOUT_HELP}')
        lines = path.read_text(encoding='utf-8').splitlines()
        return {pair_key(Path(line.strip()).name.rsplit('.', 1)[0])
                for line in lines if line.strip()}

    def _by_key(self, folder: Path) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for path in list_images(folder, self.suffixes):
            key = pair_key(path.stem)
            if key in found:
                raise DataFormatError(
                    f'{found[key]} and {path} are one name: which of them '
                    'belongs to the pair cannot be told. Remove one, or '
                    'narrow suffixes.')
            found[key] = path
        return found

    def _sen12(self) -> list[tuple[str, Path, Path]]:
        """Name, optical and SAR file of each pair of the split's scenes."""
        rows = AlignedPairs(
            self.data_root, 'sen12', suffixes=self.suffixes,
            lazy_init=True).load_data_list()
        pairs = [(Path(row['optical_path']).stem, Path(row['optical_path']),
                  Path(row['sar_path'])) for row in rows]
        if self.split == 'all':
            return pairs
        scenes = sorted({_scene(optical) for _, optical, _ in pairs})
        order = np.random.RandomState(self.seed).permutation(len(scenes))
        counts = [round(share * len(scenes)) for share in self.held_out]
        parts = dict(
            val=order[:counts[0]], test=order[counts[0]:sum(counts)],
            train=order[sum(counts):])
        chosen = {scenes[index] for index in parts[self.split]}
        return [pair for pair in pairs if _scene(pair[1]) in chosen]


def pair_key(stem: str) -> str:
    """What both names of a pair have in common.

    The stem, without ``opt``, ``optical``, ``rgb`` or ``sar`` at its start
    or end.
    """
    short = re.sub(
        r'^(?:optical|opt|rgb|sar)[_-]?|[_-](?:optical|opt|rgb|sar)$', '',
        stem, flags=re.IGNORECASE)
    return short or stem


def _natural(key: str) -> list[tuple[int, int, str]]:
    """Numbers in their order: 2 before 10."""
    return [(0, int(part), '') if part.isdigit() else (1, 0, part)
            for part in re.split(r'(\d+)', key) if part]


def _scene(path: Path) -> tuple[str, str]:
    """Season and scene of an optical patch of SEN1-2."""
    return path.parent.parent.name, path.parent.name
