"""BRIGHT: buildings before and after disasters, optical and SAR."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from osar_plugin.registry import DATASETS
from osar_plugin.utils.config_values import Buildable
from osar_plugin.utils.errors import (
    ConfigError,
    DataFormatError,
    DatasetNotFoundError,
)
from osar_plugin.utils.names import did_you_mean, nearest

from .foreign_arguments import Unused, check_backend, leave_out
from .layout import StrictDataset, shorten

CLASSES = ('background', 'intact', 'damaged', 'destroyed')
PALETTE = ((0, 0, 0), (255, 255, 255), (240, 180, 30), (213, 40, 40))
EVENTS = (
    'bata-explosion', 'beirut-explosion', 'congo-volcano',
    'haiti-earthquake', 'hawaii-wildfire', 'la_palma-volcano',
    'libya-flood', 'marshall-wildfire', 'mexico-hurricane',
    'morocco-earthquake', 'myanmar-hurricane', 'noto-earthquake',
    'turkey-earthquake', 'ukraine-conflict')
DISASTERS = ('earthquake', 'wildfire', 'volcano', 'explosion', 'flood',
             'conflict', 'hurricane')
# Folder and end of the file name of each part.
PARTS = {
    'optical_path': ('pre-event', '_pre_disaster.tif'),
    'sar_path': ('post-event', '_post_disaster.tif'),
    'seg_map_path': ('target', '_building_damage.tif')}
SPLITS = ('train', 'val', 'test', 'holdout')
LIST_NAMES = ('{}_set.txt', '{}_setlevel.txt')
_NAME = re.compile(r'(?P<event>.+)_\d{8}')

LAYOUT_HELP = """Expected layout, as BRIGHT is published:
  pre-event/turkey-earthquake_00000001_pre_disaster.tif      optical
  post-event/turkey-earthquake_00000001_post_disaster.tif    SAR
  target/turkey-earthquake_00000001_building_damage.tif      labels
or the same three folders in train/ and val/ (DFC 2025, track 2), and lists
of names: train_set.txt, val_set.txt, test_set.txt (standard split), or
train_setlevel.txt, holdout_setlevel.txt, val_setlevel.txt (DFC 2025), in
data_root or a folder below it. Where there are lists of several splits, as in
the release, choose a folder with list_dir:
  splitname/standard_ML/{train,val,test}_set.txt
  splitname/dfc25/{train,holdout,val,test}_set.txt
or name one list with ann_file.
BRIGHT: https://github.com/ChenHongruixuan/BRIGHT.
To try without it, render some:
  python tools/make_demo_data.py data/demo --sets bright"""

Row = dict[str, Any]


def disaster_of(event: str) -> str:
    """The kind of disaster that the name of an event has in it.

    Raises:
        DataFormatError: If there is none.
    """
    for disaster in DISASTERS:
        if disaster in event:
            return disaster
    raise DataFormatError(
        f'{event!r} names no kind of disaster: expected one of '
        f'{", ".join(DISASTERS)} in the name of an event. Give others in '
        f"extra_events with their kind: {{{event!r}: 'wildfire'}}.")


def event_of(name: str, known: Collection[str]) -> str:
    """The event that a tile belongs to.

    Args:
        name: Of the tile, ``<event>_<8 digits>``.
        known: Names of events.

    Raises:
        DataFormatError: If the name does not parse or the event is not
            known.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise DataFormatError(
            f'{name!r} is no name of a tile: expected <event>_<8 digits>, '
            'e.g. turkey-earthquake_00000001.')
    event = match['event']
    if event not in known:
        raise DataFormatError(
            f'{name!r}: the event {event!r} is not known.'
            f'{did_you_mean(nearest(event, known))} Known are '
            f'{", ".join(known)}; name others in extra_events.')
    return event


def more_events(extra: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Kinds of disaster by event, of further events.

    Args:
        extra: Names that have a kind in them, or kinds by name.

    Raises:
        ConfigError: If it is neither.
        DataFormatError: If a name has no kind in it.
    """
    if isinstance(extra, Mapping):
        wrong = [name for name, kind in extra.items()
                 if not isinstance(kind, str) or not kind]
        if wrong:
            raise ConfigError(
                f'extra_events: {shorten(wrong)} without a kind of disaster; '
                "expected e.g. {'lahaina': 'wildfire'}.")
        return dict(extra)
    if isinstance(extra, str):
        raise ConfigError(
            f'extra_events={extra!r}: expected a list of names, or kinds of '
            'disaster by name.')
    return {event: disaster_of(event) for event in extra}

# Of MMSegmentation's data set.
UNUSED: Unused = {
    'data_prefix': (
        ({}, None), 'The folders of both layouts are found in data_root.'),
    'filter_cfg': (({}, None), 'Choose with split and ann_file.'),
    'metainfo': (({}, None), "The classes are BRIGHT's: leave it out."),
    'img_suffix': (('.tif', ), 'Tiles are TIFF files: leave it out.'),
    'seg_map_suffix': (('.tif', ), 'Masks are TIFF files: leave it out.'),
    'ignore_index': ((255, ), 'It is 255: leave it out.'),
    'reduce_zero_label': (
        (False, ), 'Label 0 is the background: leave it out.')}


@DATASETS.register_module()
class BRIGHTDataset(StrictDataset):
    """BRIGHT, in the layout of its release or of DFC 2025, track 2.

    Both are told apart by looking. Each row has ``optical_path``,
    ``sar_path``, ``seg_map_path`` (where labels are wanted), ``image_id``,
    ``event`` and ``disaster``.

    Args:
        data_root: Folder of the images; see the error for a missing one.
        split: ``'train'``, ``'val'``, ``'test'`` or ``'holdout'`` (DFC
            2025), whose list is looked for (``<split>_set.txt`` or
            ``<split>_setlevel.txt``, also below ``splitname/``); several of
            them, merged; or ``'all'``: every tile that is there, without
            lists.
        list_dir: Folder of the lists, in ``data_root`` unless absolute,
            where there are those of several splits:
            ``'splitname/standard_ML'``, or ``'splitname/dfc25'``.
        ann_file: The list itself, in ``data_root`` unless absolute, in
            place of the one that is looked for.
        with_labels: False for tiles without public labels.
        extra_events: Names of further events, each with a kind of disaster
            in it; or kinds of disaster by name, such as ``{'lahaina':
            'wildfire'}``, for names that have none.
        pipeline: Transforms, such as ``LoadDamagePair`` and what follows.
        backend_args: None or ``dict(backend='local')``: files are read from
            the disk alone.
        **kwargs: Further arguments of ``BaseDataset``. What the toolboxes'
            data sets take and this one does not is refused, unless it asks
            for nothing.

    Raises:
        DatasetNotFoundError: If a folder, a list or listed files are
            missing.
        DataFormatError: If a name does not parse, its event is not known,
            or a tile is there twice.
        ConfigError: If an argument cannot be used.
    """

    METAINFO = {
        'dataset_type': 'BRIGHT', 'classes': CLASSES, 'palette': PALETTE}

    def __init__(self,
                 data_root: str = 'data/bright',
                 split: str | Sequence[str] = 'train',
                 ann_file: str = '',
                 with_labels: bool = True,
                 extra_events: Sequence[str] | Mapping[str, str] = (),
                 pipeline: Sequence[Buildable] = (),
                 list_dir: str = '',
                 backend_args: Mapping[str, Any] | None = None,
                 **kwargs: Any) -> None:
        check_backend(backend_args)
        kwargs = leave_out(kwargs, UNUSED, 'BRIGHT')
        self.splits = (split, ) if isinstance(split, str) else tuple(split)
        wrong = set(self.splits) - {*SPLITS, 'all'}
        if wrong or not self.splits or (
                'all' in self.splits and len(self.splits) > 1):
            raise ConfigError(
                f"split={split!r}: expected 'all', or some of "
                f'{", ".join(SPLITS)}.')
        self.list_file = ann_file
        self.list_dir = list_dir
        self.with_labels = with_labels
        self.events = {**{event: disaster_of(event) for event in EVENTS},
                       **more_events(extra_events)}
        super().__init__(
            data_root=str(data_root), pipeline=list(pipeline), **kwargs)

    def load_data_list(self) -> list[Row]:
        """List the tiles of the split."""
        root = Path(self.data_root)
        found = index_files(root)
        rows, missing = [], []
        for name, place in self._names(root, found):
            files = found.get(name, {})
            for key, (folder, end) in PARTS.items():
                if key not in files and (
                        self.with_labels or key != 'seg_map_path'):
                    missing.append(f'{folder}/{name}{end}')
            try:
                event = event_of(name, self.events)
            except DataFormatError as error:
                raise DataFormatError(f'{place}: {error}') from error
            rows.append(dict(
                {k: str(v) for k, v in files.items()
                 if self.with_labels or k != 'seg_map_path'},
                image_id=name, event=event, disaster=self.events[event]))
        if missing:
            hint = ''
            if all(name.startswith('target/') for name in missing):
                hint = ' Where labels are not public, set with_labels=False.'
            raise DatasetNotFoundError(
                f'{root}: {len(missing)} files of split '
                f'{"+".join(self.splits)} are not there '
                f'({shorten(missing, 3)}). Download them (optical images of '
                'Ukraine, Myanmar and Mexico are not in the release) or take '
                f'them off the list.{hint}')
        return rows

    def _names(self, root: Path, found: dict[str, Row]) -> list[Listed]:
        """Names of the tiles of the split, in the order of the lists."""
        if self.splits == ('all', ) and not self.list_file:
            return [Listed(name, str(root)) for name in sorted(found)]
        if self.list_file:
            paths = [root / self.list_file]
        else:
            paths = [find_list(root / self.list_dir, split)
                     for split in self.splits]
        names = [name for path in paths for name in read_names(path)]
        counts = Counter(listed.name for listed in names)
        twice = [name for name, n in counts.items() if n > 1]
        if twice:
            raise DataFormatError(
                f'{", ".join(map(str, paths))}: {len(twice)} tiles are '
                f'listed twice ({shorten(twice, 3)}). List each once.')
        return names


def index_files(root: Path) -> dict[str, Row]:
    """Files of each tile, by what they are.

    Args:
        root: Of the data set; its three folders lie in it, or one or two
            levels below.

    Raises:
        DatasetNotFoundError: If there are none.
        DataFormatError: If a tile is there twice.
    """
    if not root.is_dir():
        raise DatasetNotFoundError(f'{root}: no such folder.\n{LAYOUT_HELP}')
    bases = sorted({
        path.parent for depth in ('', '*/', '*/*/')
        for path in root.glob(f'{depth}pre-event') if path.is_dir()})
    found: dict[str, Row] = {}
    for base in bases:
        for key, (folder, end) in PARTS.items():
            for path in sorted((base / folder).glob(f'*{end}')):
                if path.name.startswith('.'):
                    continue
                files = found.setdefault(path.name.removesuffix(end), {})
                if key in files:
                    raise DataFormatError(
                        f'{files[key]} and {path} are one tile. Remove one, '
                        'or set data_root to one of the folders.')
                files[key] = path
    if not found:
        raise DatasetNotFoundError(
            f'{root}: no tile of BRIGHT.\n{LAYOUT_HELP}')
    return found


def find_list(root: Path, split: str) -> Path:
    """The list of a split, in a folder or one or two levels below.

    Raises:
        DatasetNotFoundError: If there is none.
        ConfigError: If there are several.
    """
    names = [name.format(split) for name in LIST_NAMES]
    # The next level only where this one has none.
    for depth in ('', '*/', '*/*/'):
        paths = sorted(path for name in names
                       for path in root.glob(depth + name))
        if len(paths) > 1:
            raise ConfigError(
                f'{root}: there are several lists of split {split!r}: '
                f'{", ".join(map(str, paths))}. Choose their folder with '
                'list_dir, or one with ann_file.')
        if paths:
            return paths[0]
    raise DatasetNotFoundError(
        f'{root}: has no list {" or ".join(names)}.\n{LAYOUT_HELP}')


class Listed(NamedTuple):
    """A name, and where it stands, for messages."""

    name: str
    place: str


def read_names(path: Path) -> list[Listed]:
    """Names of the tiles in a list, one to a line.

    Lines may name one of the files of a tile instead.

    Raises:
        DatasetNotFoundError: If there is no such list, or it is empty.
        DataFormatError: If it is no text.
    """
    try:
        # Editors on Windows put a byte order mark in front.
        text = path.read_text(encoding='utf-8-sig')
    except FileNotFoundError as error:
        raise DatasetNotFoundError(
            f'{path}: no such list.\n{LAYOUT_HELP}') from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataFormatError(
            f'{path}: cannot be read as a list of names ({error}).'
        ) from error
    names = []
    for number, line in enumerate(text.splitlines(), 1):
        name = Path(line.strip()).name
        for _, end in PARTS.values():
            name = name.removesuffix(end)
        if name:
            names.append(Listed(
                name.removesuffix('.tif'), f'{path}, line {number}'))
    if not names:
        raise DatasetNotFoundError(
            f'{path}: the list is empty; expected names such as '
            'turkey-earthquake_00000001.')
    return names
