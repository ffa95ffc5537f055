"""DIOR: boxes of twenty classes on optical images of 800 x 800 pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from osar_plugin.registry import DATASETS
from osar_plugin.utils.errors import ConfigError, DatasetNotFoundError

from .box_table import BoxTable
from .detection import DetectionDataset
from .layout import shorten
from .voc_xml import IMAGE_SUFFIXES, read_names, read_voc

CLASSES = (
    'airplane', 'airport', 'baseballfield', 'basketballcourt', 'bridge',
    'chimney', 'dam', 'Expressway-Service-area', 'Expressway-toll-station',
    'golffield', 'groundtrackfield', 'harbor', 'overpass', 'ship', 'stadium',
    'storagetank', 'tenniscourt', 'trainstation', 'vehicle', 'windmill')
SOURCES = {
    'horizontal': 'Annotations/Horizontal Bounding Boxes',
    'oriented': 'Annotations/Oriented Bounding Boxes'}
_IMAGES = ('JPEGImages-trainval', 'JPEGImages-test', 'JPEGImages', 'images')
_LISTS = ('ImageSets/Main', 'ImageSets')


@DATASETS.register_module()
class DIORDataset(DetectionDataset):
    """DIOR, from its XML files or from jsons of COCO.

    As published::

        Annotations/{Horizontal,Oriented} Bounding Boxes/<name>.xml
        ImageSets/Main/{train,val,test}.txt
        JPEGImages-trainval/<name>.jpg, JPEGImages-test/<name>.jpg

    (the two folders of images may be one ``JPEGImages`` or ``images``, or
    lie in a folder of their own name, as archives are unpacked; the XML files
    may lie in ``Annotations`` itself, the lists in ``ImageSets``), and as
    CoDe-MAE has it::

        trainval.json, test.json
        images/<name>.jpg

    The classes are in the order of the second, which published checkpoints
    of CoDe-MAE have. Names in small letters, as others write them, are
    known.

    Args:
        data_root: Folder of the data set.
        split: ``'trainval'``, ``'train'``, ``'val'`` or ``'test'``.
        layout: ``'coco'``, ``'voc'``, or ``'auto'``: jsons where there is
            one of the split, else XML.
        boxes: Which XML files: ``'horizontal'``, or ``'oriented'``, of
            which the upright boxes around the corners are taken. None is
            ``'horizontal'``.
        origin: Number of the first pixel in the XML files: 0, or 1 as in
            VOC itself. None is 0. A json has neither kinds of boxes nor
            origins: what is given for one is an error.
        **kwargs: See :class:`~.detection.DetectionDataset`.
    """

    METAINFO = {
        'dataset_type': 'DIOR',
        'classes': CLASSES,
        'palette': [
            (54, 162, 235), (0, 107, 164), (255, 188, 121), (200, 82, 0),
            (144, 103, 167), (89, 89, 89), (95, 158, 209), (255, 128, 14),
            (162, 200, 236), (106, 153, 78), (188, 108, 37), (44, 160, 44),
            (137, 137, 137), (214, 39, 40), (227, 119, 194), (23, 190, 207),
            (188, 189, 34), (148, 103, 189), (255, 221, 87),
            (152, 223, 138)]}
    KNOWN_NAMES = {
        'expressway-service-area': 'Expressway-Service-area',
        'Expressway-Service-Area': 'Expressway-Service-area',
        'expressway-toll-station': 'Expressway-toll-station',
        'Expressway-Toll-Station': 'Expressway-toll-station'}
    SPLITS = ('trainval', 'train', 'val', 'test')
    #: Images of the splits, as published (23,463 in all).
    COUNTS: Mapping[str, int] = {'trainval': 11_725, 'test': 11_738}
    LAYOUT_HELP = """Expected layout, one of:
  <split>.json (trainval, test), images/<name>.jpg
  Annotations/Horizontal Bounding Boxes/<name>.xml (or Oriented ...,
    with boxes='oriented'), ImageSets/[Main/]<split>.txt (for trainval also
    train.txt and val.txt), JPEGImages-trainval/<name>.jpg and
    JPEGImages-test/<name>.jpg (or all in JPEGImages or images)
To try without the data, render some:
  python tools/make_demo_data.py data/demo --sets detection"""

    def __init__(self,
                 data_root: str = 'data/dior',
                 split: str = 'trainval',
                 layout: str = 'auto',
                 boxes: str | None = None,
                 origin: int | None = None,
                 **kwargs: Any) -> None:
        for name, value, known in (
                ('layout', layout, ('auto', 'coco', 'voc')),
                ('boxes', boxes, (None, *SOURCES)),
                ('origin', origin, (None, 0, 1))):
            if value not in known:
                raise ConfigError(
                    f'{name}={value!r} is none of '
                    f'{", ".join(map(repr, known))}.')
        self.layout = layout
        self.boxes, self.origin = boxes, origin
        super().__init__(data_root=data_root, split=split, **kwargs)

    def read_split(self) -> tuple[BoxTable, list[str]]:
        """Annotations of the split, and the path of each image."""
        names = [f'{folder}{self.split}.json' for folder in (
            '', 'annotations/', 'Annotations/')]
        root = Path(self.data_root)
        lists = self._lists(root)
        coco = self.layout == 'coco' or bool(self.ann_file) or (
            self.layout == 'auto' and any(
                (root / name).is_file() for name in names))
        if coco:
            self._refuse_xml_settings()
        elif lists or self.layout == 'voc':
            return self._read_xml(root, lists)
        return self.read_json(names, _nested(('images', *_IMAGES)))

    def _refuse_xml_settings(self) -> None:
        """Settings of the XML files have no effect on a json."""
        for name, value in (('boxes', self.boxes), ('origin', self.origin)):
            if value is not None:
                raise ConfigError(
                    f'{name}={value!r} is of the XML files, and the split '
                    f'{self.split!r} of {self.data_root} is read from a '
                    "json. Set layout='voc' to read the XML files, or leave "
                    f'{name} out.')

    def _lists(self, root: Path) -> list[Path]:
        """The list of the split, or the two that trainval may be in.

        Where there is none, the one that is missing first; empty without a
        folder of lists.
        """
        folders = [root / name for name in _LISTS if (root / name).is_dir()]
        choices = []
        for folder in folders:
            choices.append([folder / f'{self.split}.txt'])
            if self.split == 'trainval':
                choices.append([folder / 'train.txt', folder / 'val.txt'])
        there = [c for c in choices if all(path.is_file() for path in c)]
        return (there or choices or [[]])[0]

    def _read_xml(self, root: Path,
                  lists: list[Path]) -> tuple[BoxTable, list[str]]:
        if not lists or not all(path.is_file() for path in lists):
            wanted = (lists or [root / _LISTS[0] / f'{self.split}.txt'])[0]
            raise DatasetNotFoundError(
                f'{wanted}: there is no list of names of the split '
                f'{self.split!r}.\n{self.LAYOUT_HELP}')
        names = read_names(lists)
        folder = self._xml_folder(root)
        found = self._index(root)
        missing = [name for name in names if name not in found]
        if missing:
            raise DatasetNotFoundError(
                f'{root}: {len(missing)} of {len(names)} images of the split '
                f'{self.split!r} are missing ({shorten(missing)}). Restore '
                f'them, or take the names off the list.\n{self.LAYOUT_HELP}')
        table = read_voc(
            {name: folder / f'{name}.xml' for name in names},
            {name: found[name].name for name in names}, self.origin or 0,
            str(folder))
        return table, [str(found[name]) for name in names]

    def _xml_folder(self, root: Path) -> Path:
        """Folder of the XML files."""
        kind = self.boxes or 'horizontal'
        own, plain = root / SOURCES[kind], root / 'Annotations'
        if own.is_dir():
            return own
        other = 'oriented' if kind == 'horizontal' else 'horizontal'
        if (root / SOURCES[other]).is_dir() and not any(
                plain.glob('*.xml')):
            raise DatasetNotFoundError(
                f'{own}: no such folder, but there is {SOURCES[other]}. Set '
                f'boxes={other!r} to take the boxes from there.')
        if plain.is_dir():
            return plain
        raise DatasetNotFoundError(
            f'{root}: neither {SOURCES[kind]} nor Annotations is there.\n'
            f'{self.LAYOUT_HELP}')

    def _index(self, root: Path) -> dict[str, Path]:
        """Images by name."""
        folders = [Path(self.data_prefix['img'])] if self.given_folder else [
            root / name for name in _nested(_IMAGES)]
        return {
            path.stem: path for folder in folders if folder.is_dir()
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES
            and not path.name.startswith('.')}


def _nested(folders: Sequence[str]) -> list[str]:
    """Folders, and those of their own name in them.

    Unpacked into a folder that is named like them, archives nest so.
    """
    return [name for own in folders for name in (own, f'{own}/{own}')]
