"""DIOR: boxes of twenty classes on optical images of 800 x 800 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from osar_plugin.registry import DATASETS
from osar_plugin.utils.errors import ConfigError, DatasetNotFoundError

from .box_table import BoxTable
from .detection import DetectionDataset
from .layout import shorten
from .voc_xml import read_names, read_voc

CLASSES = (
    'airplane', 'airport', 'baseballfield', 'basketballcourt', 'bridge',
    'chimney', 'dam', 'Expressway-Service-area', 'Expressway-toll-station',
    'golffield', 'groundtrackfield', 'harbor', 'overpass', 'ship', 'stadium',
    'storagetank', 'tenniscourt', 'trainstation', 'vehicle', 'windmill')
SOURCES = {
    'horizontal': 'Annotations/Horizontal Bounding Boxes',
    'oriented': 'Annotations/Oriented Bounding Boxes'}
_IMAGES = ('JPEGImages-trainval', 'JPEGImages-test', 'JPEGImages')
_LISTS = 'ImageSets/Main'


@DATASETS.register_module()
class DIORDataset(DetectionDataset):
    """DIOR, from its XML files or from jsons of COCO.

    As published::

        Annotations/{Horizontal,Oriented} Bounding Boxes/<name>.xml
        ImageSets/Main/{train,val,test}.txt
        JPEGImages-trainval/<name>.jpg, JPEGImages-test/<name>.jpg

    (the two folders of images may be one ``JPEGImages``, and the XML files
    lie in ``Annotations`` itself), and as CoDe-MAE has it::

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
            which the upright boxes around the corners are taken.
        origin: Number of the first pixel in the XML files: 0, or 1 as in
            VOC itself.
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
    LAYOUT_HELP = """Expected layout, one of:
  <split>.json (trainval, test), images/<name>.jpg
  Annotations/Horizontal Bounding Boxes/<name>.xml (or Oriented ...),
    ImageSets/Main/<split>.txt, JPEGImages-trainval/<name>.jpg,
    JPEGImages-test/<name>.jpg
To try without the data, render some:
  python tools/make_demo_data.py data/demo --sets detection"""

    def __init__(self,
                 data_root: str = 'data/dior',
                 split: str = 'trainval',
                 layout: str = 'auto',
                 boxes: str = 'horizontal',
                 origin: int = 0,
                 **kwargs: Any) -> None:
        for name, value, known in (
                ('layout', layout, ('auto', 'coco', 'voc')),
                ('boxes', boxes, tuple(SOURCES)),
                ('origin', origin, (0, 1))):
            if value not in known:
                raise ConfigError(
                    f'{name}={value!r} is none of '
                    f'{", ".join(map(repr, known))}.')
        self.layout = layout
        self.box_kind = boxes
        self.origin = origin
        super().__init__(data_root=data_root, split=split, **kwargs)

    def read_split(self) -> tuple[BoxTable, list[str]]:
        """Annotations of the split, and the path of each image."""
        names = [f'{folder}{self.split}.json' for folder in (
            '', 'annotations/', 'Annotations/')]
        root = Path(self.data_root)
        coco = self.layout == 'coco' or bool(self.ann_file)
        if self.layout == 'auto' and not coco:
            coco = any((root / name).is_file() for name in names)
            coco = coco or not (root / _LISTS).is_dir()
        if coco:
            return self.read_json(names, ('images', *_IMAGES))
        return self._read_xml(root)

    def _read_xml(self, root: Path) -> tuple[BoxTable, list[str]]:
        names = read_names(self._lists(root / _LISTS))
        folder = root / SOURCES[self.box_kind]
        if not folder.is_dir():
            folder = root / 'Annotations'
        if not folder.is_dir():
            raise DatasetNotFoundError(
                f'{root}: neither {SOURCES[self.box_kind]} nor Annotations '
                f'is there.\n{self.LAYOUT_HELP}')
        found = self._index(root)
        missing = [name for name in names if name not in found]
        if missing:
            raise DatasetNotFoundError(
                f'{root}: {len(missing)} of {len(names)} images of the split '
                f'{self.split!r} are missing ({shorten(missing)}). Restore '
                f'them, or take the names off the list.\n{self.LAYOUT_HELP}')
        table = read_voc(
            {name: folder / f'{name}.xml' for name in names},
            {name: found[name].name for name in names}, self.origin,
            str(folder))
        return table, [str(found[name]) for name in names]

    def _lists(self, folder: Path) -> list[Path]:
        """The list of the split; that of trainval may be in two files."""
        own = folder / f'{self.split}.txt'
        if own.is_file() or self.split != 'trainval':
            return [own]
        return [folder / 'train.txt', folder / 'val.txt']

    def _index(self, root: Path) -> dict[str, Path]:
        """Images by name."""
        folders = [Path(self.data_prefix['img'])] if self.given_folder else [
            root / name for name in _IMAGES]
        return {
            path.stem: path for folder in folders if folder.is_dir()
            for path in folder.iterdir()
            if path.suffix.lower() in ('.jpg', '.jpeg', '.png', '.tif')
            and not path.name.startswith('.')}
