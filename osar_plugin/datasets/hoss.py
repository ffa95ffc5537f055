"""HOSS-ReID: optical and SAR chips of the same ships.

Legend: O2S optical queries against a SAR gallery, S2O the reverse, ALL both
modalities against both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log

from osar_plugin.registry import DATASETS
from osar_plugin.utils.config_values import Buildable, require_range
from osar_plugin.utils.errors import (
    ConfigError,
    DataFormatError,
    DatasetNotFoundError,
)

from .layout import (
    MODALITIES,
    ShipDataset,
    check_suffixes,
    list_images,
    shorten,
)

TRAIN, QUERY, GALLERY = 'bounding_box_train', 'query', 'bounding_box_test'
# Modality of the queries and of the gallery.
CROSS_PROTOCOLS = {'O2S': (0, 1), 'S2O': (1, 0)}
PROTOCOLS = ('ALL', *CROSS_PROTOCOLS)
SPLITS = ('train', 'test', 'query', 'gallery', 'val')

_NAME = re.compile(
    r'(?P<pid>\d+)_(?:s(?P<seq>\d+)c\d+_|.*_)?(?P<modality>RGB|SAR)')

LAYOUT_HELP = """Expected layout (data_root is the folder with HOSS in it, \
or HOSS itself):
  HOSS/
    bounding_box_train/*.tif                    training
    query/*.tif                                 queries
    bounding_box_test/*.tif                     gallery
    subset/O2S/{query,bounding_box_test}/*.tif  optional
    subset/S2O/{query,bounding_box_test}/*.tif  optional
HOSS-ReID is published as Zenodo record 15860212 \
(https://zenodo.org/records/15860212).
To try without it, render demo data and use the demo config:
  python tools/make_demo_data.py data/demo
  python tools/train.py configs/demo/sdfnet_hoss.py"""

Row = dict[str, Any]


def parse_name(path: Path) -> Row:
    """Identity and modality of a chip, from its name.

    Names are ``<pid>_s<seq>c<cam>_<RGB|SAR>``. As in the official
    ``datasets/hoss.py`` only the first and the last part are used; the
    camera of the official code is the modality.

    Returns:
        ``img_path``, ``pid``, ``modality``, ``seq`` (-1 where not given).

    Raises:
        DataFormatError: If the name does not parse.
    """
    match = _NAME.fullmatch(path.stem)
    if match is None:
        raise DataFormatError(
            f'{path}: the name does not follow '
            '<pid>_s<seq>c<cam>_<RGB|SAR>.tif, e.g. 0002_s05c1_SAR.tif. '
            'Rename the file or take it out of the folder.')
    return dict(
        img_path=str(path), pid=int(match['pid']),
        modality=MODALITIES[match['modality']], seq=int(match['seq'] or -1))


def find_root(data_root: str | Path) -> Path:
    """The folder ``HOSS``, given itself or the folder that contains it."""
    root = Path(data_root)
    return root / 'HOSS' if (root / 'HOSS').is_dir() else root


def cross_members(
        queries: Sequence[Row], gallery: Sequence[Row],
        protocol: str) -> tuple[set[str], set[str]]:
    """Members of O2S or S2O by modality.

    Queries without an image of their ship in the gallery are left out, as
    the authors did (88 optical queries become 65).

    Returns:
        File names of the queries and of the gallery.
    """
    query_modality, gallery_modality = CROSS_PROTOCOLS[protocol]
    chosen = [row for row in gallery if row['modality'] == gallery_modality]
    pids = {row['pid'] for row in chosen}
    return (
        {_name(row) for row in queries
         if row['modality'] == query_modality and row['pid'] in pids},
        {_name(row) for row in chosen})


def _name(row: Row) -> str:
    return Path(row['img_path']).name


def hold_out(
        pids: Sequence[int], amount: int | float, seed: int) -> set[int]:
    """Draw identities for validation.

    Args:
        pids: Identities of the training set.
        amount: Their number (int), or the fraction of them (float).
        seed: Seed of the draw.

    Raises:
        ConfigError: If nothing is left to train on.
    """
    unique = sorted(set(pids))
    count = amount
    if isinstance(amount, float):
        count = max(1, round(amount * len(unique)))
    if amount < 0 or count >= len(unique) or (
            isinstance(amount, float) and amount >= 1):
        raise ConfigError(
            f'val_ids={amount} of {len(unique)} training identities: give '
            'a smaller number, or a fraction below 1.0.')
    order = np.random.RandomState(seed).permutation(len(unique))
    return {unique[index] for index in order[:int(count)]}


def validation_rows(rows: Sequence[Row], seed: int) -> list[Row]:
    """Queries and gallery of held-out identities, for all protocols.

    The evaluation excludes nothing, so an image must never be in a query
    set and in the gallery of the same protocol:

    * O2S and S2O: every image of the query modality is a query, every image
      of the other is in the gallery.
    * ALL: one image of each identity and modality, drawn with ``seed``, is
      a query, the others are the gallery. An identity that would have no
      image left in the gallery keeps one of its two queries there, the
      optical one and the SAR one by turns.

    An image on both sides has one row on each; queries come first.

    Args:
        rows: Rows of the held-out identities.
        seed: Seed of the draw.
    """
    drawn = _draw_queries(rows, seed)
    result = []
    for is_query in (True, False):
        for row in rows:
            side = 0 if is_query else 1
            protocols = tuple(
                name for name, pair in CROSS_PROTOCOLS.items()
                if pair[side] == row['modality'])
            if (row['img_path'] in drawn) == is_query:
                protocols = ('ALL', *protocols)
            result.append(
                dict(row, is_query=is_query, protocols=protocols, label=-1))
    return result


def _draw_queries(rows: Sequence[Row], seed: int) -> set[str]:
    """Paths of the queries of ALL, see :func:`validation_rows`."""
    rng = np.random.RandomState(seed)
    groups: dict[int, dict[int, list[str]]] = {}
    for row in rows:
        groups.setdefault(row['pid'], {}).setdefault(
            row['modality'], []).append(row['img_path'])
    drawn: set[str] = set()
    turn = 0
    for _, by_modality in sorted(groups.items()):
        picks = [
            paths[rng.randint(len(paths))]
            for _, paths in sorted(by_modality.items())]
        if len(picks) == sum(map(len, by_modality.values())) == 2:
            picks = [picks[turn % 2]]
            turn += 1
        drawn.update(picks)
    return drawn


@DATASETS.register_module()
class HOSS(ShipDataset):
    """HOSS-ReID and data sets in its layout.

    The split is the folder, labels are in the file names, and rows follow
    the sorted paths. ``split='test'`` is the queries and then the gallery:
    one pass over it serves all protocols, since each row names the
    protocols of which it is a member on its side.

    A file of ``subset/`` that is missing in the main folder of its side
    gets a row of its own there, as member of that subset only, behind the
    rows of the main folder.

    Each row has ``img_path``, ``pid`` (as in the file name), ``label`` (0
    to C - 1 in the order of the identities for training, else -1),
    ``modality`` (0 optical, 1 SAR), ``seq``, ``is_query`` and
    ``protocols``.

    Args:
        data_root: The folder ``HOSS``, or the one that contains it.
        split: ``'train'``, ``'test'``, ``'query'``, ``'gallery'``, or
            ``'val'``: the identities that ``val_ids`` holds out of
            ``'train'``, see :func:`validation_rows`.
        subset_source: Where O2S and S2O come from: ``'folder'``
            (``subset/``), ``'filter'`` (by modality,
            :func:`cross_members`) or ``'auto'`` (the folder where it
            exists). Folders are compared with the filter.
        strict_subsets: Raise where the two differ instead of warning.
        val_ids: Identities held out of the training set: a number, or a
            fraction as float. 0 holds nothing out.
        val_seed: Seed of that draw. It must be equal in the training and
            the validation data set.
        suffixes: File suffixes to read.
        pipeline: Transforms.
        test_mode: True by default for all splits but ``'train'``.
        **kwargs: Further arguments of ``BaseDataset``.

    Raises:
        DatasetNotFoundError: If a folder is missing or empty.
        DataFormatError: If a file name does not parse.
        ConfigError: If an argument cannot be used.
    """

    # Open set: the identities of a test are not those of the training.
    METAINFO = dict(
        dataset_type='HOSS', protocols=PROTOCOLS, open_set=True)

    def __init__(
            self,
            data_root: str = 'data/hoss',
            split: str = 'train',
            subset_source: str = 'auto',
            strict_subsets: bool = False,
            val_ids: int | float = 0,
            val_seed: int = 0,
            suffixes: Sequence[str] = ('.tif',),
            pipeline: Sequence[Buildable] = (),
            test_mode: bool | None = None,
            **kwargs: Any) -> None:
        if split not in SPLITS:
            raise ConfigError(
                f'split={split!r} is not known: use one of '
                f'{", ".join(SPLITS)}.')
        if subset_source not in ('auto', 'folder', 'filter'):
            raise ConfigError(
                f'subset_source={subset_source!r} is not known: use auto, '
                'folder or filter.')
        if split == 'val' and not val_ids:
            raise ConfigError(
                "split='val' needs val_ids, the number or fraction of "
                'training identities to hold out, in the training and the '
                'validation data set.')
        require_range(0, val_ids=val_ids)
        require_range(0, 2**32 - 1, val_seed=val_seed)
        self.split = split
        self.subset_source = subset_source
        self.strict_subsets = strict_subsets
        self.val_ids = val_ids
        self.val_seed = val_seed
        self.suffixes = check_suffixes(suffixes)
        super().__init__(
            data_root=str(data_root), pipeline=list(pipeline),
            test_mode=split != 'train' if test_mode is None else test_mode,
            **kwargs)

    def load_data_list(self) -> list[Row]:
        """List the rows of the split."""
        root = find_root(self.data_root)
        if self.split in ('train', 'val'):
            rows = self._training_rows(root)
        else:
            rows = self._test_rows(root)
            if self.split != 'test':
                rows = [
                    row for row in rows
                    if row['is_query'] == (self.split == 'query')]
        pids = sorted({row['pid'] for row in rows})
        self._metainfo.update(
            num_ids=len(pids),
            classes=tuple(f'{pid:04d}' for pid in pids))
        return rows

    def _training_rows(self, root: Path) -> list[Row]:
        rows = self._folder(root / TRAIN)
        held: set[int] = set()
        if self.val_ids:
            held = hold_out(
                [row['pid'] for row in rows], self.val_ids, self.val_seed)
        if self.split == 'val':
            return validation_rows(
                [row for row in rows if row['pid'] in held], self.val_seed)
        rows = [row for row in rows if row['pid'] not in held]
        label = {
            pid: index for index, pid in
            enumerate(sorted({row['pid'] for row in rows}))}
        for row in rows:
            row.update(
                label=label[row['pid']], is_query=False, protocols=())
        return rows

    def _test_rows(self, root: Path) -> list[Row]:
        sides = [self._folder(root / QUERY), self._folder(root / GALLERY)]
        for side, rows in enumerate(sides):
            for row in rows:
                row.update(
                    label=-1, is_query=side == 0, protocols=('ALL',))
        main = [list(rows) for rows in sides]
        for protocol in CROSS_PROTOCOLS:
            members = cross_members(main[0], main[1], protocol)
            subset = self._subset(root, protocol)
            if subset is not None:
                self._compare(protocol, subset, members)
            for side, rows in enumerate(sides):
                _join(
                    rows, protocol, is_query=side == 0, names=members[side],
                    subset=None if subset is None else subset[side])
        return sides[0] + sides[1]

    def _folder(self, folder: Path) -> list[Row]:
        """Parsed files of a folder that must be there and not be empty."""
        if not folder.is_dir():
            raise DatasetNotFoundError(
                f'{folder}: no such folder.\n{LAYOUT_HELP}')
        rows = [
            parse_name(path) for path in list_images(folder, self.suffixes)]
        if not rows:
            found = sorted({
                path.suffix for path in folder.iterdir() if path.suffix})
            raise DatasetNotFoundError(
                f'{folder}: no file with a suffix of '
                f'{list(self.suffixes)} (found: {found or "nothing"}). Set '
                '`suffixes` of the data set if the images were converted.\n'
                f'{LAYOUT_HELP}')
        return rows

    def _subset(
            self, root: Path, protocol: str
    ) -> tuple[list[Row], list[Row]] | None:
        """Queries and gallery of a subset folder; None if not to be used."""
        folder = root / 'subset' / protocol
        if self.subset_source == 'filter' or (
                self.subset_source == 'auto' and not folder.is_dir()):
            return None
        return self._folder(folder / QUERY), self._folder(folder / GALLERY)

    def _compare(
            self, protocol: str, subset: tuple[list[Row], list[Row]],
            members: tuple[set[str], set[str]]) -> None:
        """Say where the subset folder and the filter differ.

        Queries without a match count on neither side: the evaluation skips
        them.
        """
        pids = {row['pid'] for row in subset[1]}
        folder = (
            {_name(row) for row in subset[0] if row['pid'] in pids},
            {_name(row) for row in subset[1]})
        differences = []
        for side, have, want in zip(
                ('query', 'gallery'), folder, members, strict=True):
            for names, where in (
                    (have - want, 'only in the folder'),
                    (want - have, 'only by filtering')):
                if names:
                    differences.append(
                        f'{side} {where}: {len(names)} ({shorten(names)})')
        if not differences:
            return
        message = (
            f'{find_root(self.data_root) / "subset" / protocol} differs '
            f'from ALL filtered by modality: {"; ".join(differences)}. The '
            "folder is used; set subset_source='filter' to use the filter.")
        if self.strict_subsets:
            raise DataFormatError(message)
        print_log(message, logger='current', level=30)


def _join(
        rows: list[Row], protocol: str, is_query: bool, names: set[str],
        subset: list[Row] | None) -> None:
    """Make members of a protocol, adding rows for files not there yet."""
    if subset is not None:
        names = {_name(row) for row in subset}
        known = {_name(row) for row in rows}
        rows.extend(
            dict(row, label=-1, is_query=is_query, protocols=())
            for row in subset if _name(row) not in known)
    for row in rows:
        if _name(row) in names:
            row['protocols'] = (*row['protocols'], protocol)
