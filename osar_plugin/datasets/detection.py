"""Data sets of upright boxes, in the form that mmdet's transforms take.

Nothing of mmdet or pycocotools is needed to read them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from osar_plugin.utils.config_values import Buildable, require_range
from osar_plugin.utils.errors import ConfigError, DatasetNotFoundError
from osar_plugin.utils.names import slip

from .box_table import (
    LEFT_OUT,
    BoxTable,
    check_aliases,
    check_classes,
    clip_boxes,
    match_names,
)
from .coco_json import read_coco
from .foreign_arguments import Unused, check_backend, leave_out
from .layout import missing_files, shorten

FILTERS = ('filter_empty_gt', 'min_size')
# Images that may be missing before the folder is taken for another.
LOOKED_FOR = 50
# Of metainfo, those that are read.
KEYS = ('classes', 'palette')
# Backends of mmengine that read the disk.
_NO = 'Detection data sets have no '
UNUSED: Unused = {
    'proposal_file': (
        (None, ''), f'{_NO}proposals: use a detector that makes its own.'),
    'caption_prompt': (
        (None, ), f"{_NO}captions: give the classes' names with "
        'metainfo.classes and class_aliases.'),
    'seg_map_suffix': (
        (None, '.png'), f'{_NO}maps of segmentation: leave it out.'),
    'file_client_args': (
        (None, ), f'{_NO}file clients: read from the disk, and leave it '
        'out.')}


class DetectionDataset(BaseDataset):
    """What the detection data sets share.

    Each sample has ``img_path``, ``img_id``, ``height``, ``width`` and
    ``instances``, a list of ``bbox`` (left, top, right, bottom in pixels),
    ``bbox_label`` and ``ignore_flag``; ``mmdet.LoadAnnotations`` and
    ``mmdet.AspectRatioBatchSampler`` work on them.

    The label of a box is the place of its name in ``metainfo.classes``,
    whatever numbers and order the files have. A name that is no class is an
    error, never left out in silence; so is a class that a json does not
    have. Boxes are clipped to their image; those with less than a pixel
    left are left out, and counted in a warning. Crowds and difficult
    objects are ignored in training (``ignore_flag``).

    With ``instances`` among the ``meta_keys`` of ``mmdet.PackDetInputs``,
    ``mmdet.CocoMetric`` needs no ``ann_file``, and compares labels as they
    are here. Given a json, it would number the classes in the json's order.

    Args:
        data_root: Folder of the data set.
        split: Name of the split.
        ann_file: A json of COCO in place of the one of the split; relative
            to ``data_root``.
        data_prefix: ``dict(img=FOLDER)`` in place of the folder that is
            found by looking; relative to ``data_root``.
        metainfo: ``classes`` in place of the published names and order.
        class_aliases: Names in the files to names of ``classes``, or to
            None to leave their boxes out.
        filter_cfg: For training: ``filter_empty_gt`` leaves out images
            without a box, ``min_size`` those with a shorter side in pixels.
        pipeline: Transforms.
        test_mode: Nothing is filtered, and no sample replaced by another.
        backend_args: None or ``dict(backend='local')``, as mmdet's configs
            have it; files are read from the disk alone.
        return_classes: Give each sample ``text`` (the names of the classes),
            ``custom_entities`` (True) and ``caption_prompt`` (None), as
            mmdet's grounding detectors take them.
        **kwargs: Further arguments of ``BaseDataset``. Those of mmdet's
            data sets for what is not here (proposals, captions, masks) are
            taken where they say nothing, and refused otherwise.

    Raises:
        ConfigError: If an argument cannot be used.
        DatasetNotFoundError: If files are missing or nothing is left.
        DataFormatError: If annotations are damaged, or names do not match.
    """

    #: Spellings that are known to be in use.
    KNOWN_NAMES: Mapping[str, str] = {}
    #: Names of the splits.
    SPLITS: tuple[str, ...] = ()
    #: What is expected on the disk.
    LAYOUT_HELP = ''
    #: What can be done where images of a json are missing.
    MISSING_CURE = 'Restore them, or take them out of the annotations.'

    def __init__(self,
                 data_root: str = '',
                 split: str = 'train',
                 ann_file: str = '',
                 data_prefix: Mapping[str, str] | None = None,
                 metainfo: Mapping[str, Any] | None = None,
                 class_aliases: Mapping[str, str | None] | None = None,
                 filter_cfg: Mapping[str, Any] | None = None,
                 pipeline: Sequence[Buildable] = (),
                 test_mode: bool = False,
                 backend_args: Mapping[str, Any] | None = None,
                 return_classes: bool = False,
                 **kwargs: Any) -> None:
        check_backend(backend_args)
        kwargs = leave_out(kwargs, UNUSED, type(self).__name__)
        if not isinstance(return_classes, bool):
            raise ConfigError(
                f'return_classes={return_classes!r}: expected True or False.')
        if split not in self.SPLITS:
            raise ConfigError(
                f'split={split!r} is none of {", ".join(self.SPLITS)}.')
        unknown = set(data_prefix or {}) - {'img'}
        if unknown:
            raise ConfigError(
                f'data_prefix={data_prefix!r}: expected dict(img=FOLDER).')
        self.split = split
        self.return_classes = return_classes
        self.given_folder = (data_prefix or {}).get('img', '')
        metainfo = self._named(metainfo)
        classes = check_classes(
            metainfo.get('classes', self.METAINFO.get('classes')))
        self.class_aliases = check_aliases(class_aliases, classes)
        super().__init__(
            ann_file=ann_file,
            metainfo=metainfo,
            data_root=str(data_root),
            data_prefix=dict(img=self.given_folder),
            filter_cfg=_check_filter(filter_cfg),
            pipeline=list(pipeline),
            test_mode=test_mode,
            **kwargs)

    def _named(self, metainfo: Mapping[str, Any] | None) -> dict[str, Any]:
        """Colours that follow the names where a config reorders them."""
        metainfo = dict(metainfo or {})
        _check_metainfo(metainfo)
        if 'classes' in metainfo and 'palette' not in metainfo:
            classes = check_classes(metainfo['classes'])
            colours = dict(zip(
                self.METAINFO['classes'], self.METAINFO['palette'],
                strict=True))
            own = all(name in colours for name in classes)
            metainfo['palette'] = [
                colours[name] for name in classes] if own else 'random'
        return metainfo

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of the labels."""
        return tuple(self._metainfo['classes'])

    def read_split(self) -> tuple[BoxTable, list[str]]:
        """Annotations of the split, and the path of each image."""
        raise NotImplementedError

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the images of the split with their boxes."""
        root = Path(self.data_root)
        if not root.is_dir():
            raise DatasetNotFoundError(
                f'{root}: no such folder. Check data_root.\n'
                f'{self.LAYOUT_HELP}')
        table, paths = self.read_split()
        labels = match_names(
            table, self.classes, self.class_aliases, self.KNOWN_NAMES)
        rows = list_rows(table, paths, labels[table.category])
        if self.return_classes:
            rows = [dict(row, text=self.classes, caption_prompt=None,
                         custom_entities=True) for row in rows]
        boxes = sum(len(row['instances']) for row in rows)
        print_log(
            f'{type(self).__name__} {self.split}: {len(rows)} images and '
            f'{boxes} boxes of {table.source}', logger='current')
        return rows

    def read_json(self, candidates: Sequence[str],
                  folders: Sequence[str]) -> tuple[BoxTable, list[str]]:
        """Annotations of the split from a json.

        Args:
            candidates: Where it may lie, relative to ``data_root``.
            folders: Where its images may lie.
        """
        root = Path(self.data_root)
        files = [Path(self.ann_file)] if self.ann_file else [
            root / name for name in candidates]
        there = [path for path in files if path.is_file()]
        if not there:
            raise DatasetNotFoundError(
                f'{root}: no annotations of the split {self.split!r} '
                f'(looked for {", ".join(map(str, files))}).\n'
                f'{self.LAYOUT_HELP}')
        table = read_coco(there[0])
        names = [image.file_name for image in table.images]
        folder = self.find_folder(folders, names)
        return table, require_files(
            folder, names, str(there[0]), self.MISSING_CURE)

    def find_folder(self, folders: Sequence[str],
                    names: Sequence[str]) -> Path:
        """The folder that holds the images.

        That of the first image; if that one is missing, of the next few.

        Raises:
            DatasetNotFoundError: If none does.
        """
        root = Path(self.data_root)
        if self.given_folder:
            return Path(self.data_prefix['img'])
        for name in names[:LOOKED_FOR]:
            for folder in folders:
                if (root / folder / name).is_file():
                    return root / folder
        raise DatasetNotFoundError(
            f'{root}: {names[0]}, the first image of the split '
            f'{self.split!r}, is in none of {", ".join(folders)}, and so '
            'are the next. Restore the images, or give '
            f'data_prefix=dict(img=FOLDER).\n{self.LAYOUT_HELP}')

    def filter_data(self) -> list[dict[str, Any]]:
        """Leave out what ``filter_cfg`` says, in training alone.

        Raises:
            DatasetNotFoundError: If nothing is left.
        """
        if self.test_mode or not self.filter_cfg:
            return self.data_list
        least = self.filter_cfg.get('min_size', 0)
        empty = not self.filter_cfg.get('filter_empty_gt', False)
        kept = [
            row for row in self.data_list
            if min(row['width'], row['height']) >= least
            and (empty or row['instances'])]
        if not kept:
            raise DatasetNotFoundError(
                f'{self.data_root}: none of {len(self.data_list)} images is '
                f'left with filter_cfg={dict(self.filter_cfg)}.')
        return kept

    def get_cat_ids(self, idx: int) -> list[int]:
        """Labels of an image, for ``ClassBalancedDataset``."""
        return [instance['bbox_label']
                for instance in self.get_data_info(idx)['instances']]


def list_rows(table: BoxTable, paths: Sequence[str],
              labels: np.ndarray) -> list[dict[str, Any]]:
    """Rows of a data set.

    Args:
        table: Annotations of M images with N boxes.
        paths: M files.
        labels: (N,), :data:`.box_table.LEFT_OUT` for boxes to leave out.
    """
    boxes, whole = clip_boxes(table)
    wanted = labels != LEFT_OUT
    lost = int((wanted & ~whole).sum())
    if lost:
        first = table.images[int(table.owner[wanted & ~whole][0])].file_name
        print_log(
            f'{table.source}: {lost} of {len(boxes)} boxes have less than a '
            f'pixel inside their image and are left out, the first in '
            f'{first}.', logger='current', level=logging.WARNING)
    order = np.flatnonzero(wanted & whole)
    order = order[np.argsort(table.owner[order], kind='stable')]
    instances = [
        dict(bbox=box, bbox_label=label, ignore_flag=ignore)
        for box, label, ignore in zip(
            boxes[order].tolist(), labels[order].tolist(),
            table.ignore[order].astype(int).tolist(), strict=True)]
    ends = np.searchsorted(
        table.owner[order], np.arange(len(table.images) + 1))
    return [
        dict(img_path=path, img_id=image.img_id, height=image.height,
             width=image.width, instances=instances[ends[row]:ends[row + 1]])
        for row, (path, image) in enumerate(
            zip(paths, table.images, strict=True))]


def require_files(folder: Path, names: Sequence[str], source: str,
                  cure: str = DetectionDataset.MISSING_CURE) -> list[str]:
    """Paths of images that must be there.

    Args:
        folder: Of the images.
        names: Of the images in it.
        source: What names them, for messages.
        cure: What can be done.

    Raises:
        DatasetNotFoundError: If some are missing.
    """
    missing = missing_files(names, folder)
    if missing:
        raise DatasetNotFoundError(
            f'{folder}: {len(missing)} of {len(names)} images of {source} '
            f'are missing ({shorten(missing)}). {cure}')
    return [os.path.join(folder, name) for name in names]


def _check_filter(filter_cfg: Mapping[str, Any] | None) -> dict | None:
    if filter_cfg is None:
        return None
    unknown = set(filter_cfg) - set(FILTERS)
    least, empty = (
        filter_cfg.get('min_size', 0), filter_cfg.get('filter_empty_gt'))
    if unknown or not isinstance(least, (int, float)) or (
            empty not in (None, True, False)):
        raise ConfigError(
            f'filter_cfg={dict(filter_cfg)!r}: expected filter_empty_gt '
            '(True or False) and min_size (pixels).')
    require_range(0, min_size=least)
    return dict(filter_cfg)


def _check_metainfo(metainfo: Mapping[str, Any]) -> None:
    """Refuse keys that were meant to be one that counts.

    Raises:
        ConfigError: With the right one.
    """
    for key in metainfo:
        lower = str(key).lower()
        near = lower if lower in KEYS else {
            'class': 'classes', 'class_names': 'classes'}.get(
                lower, slip(lower, KEYS))
        if near is not None and near != key:
            raise ConfigError(
                f'metainfo[{key!r}] has no effect. Did you mean {near!r}?')
