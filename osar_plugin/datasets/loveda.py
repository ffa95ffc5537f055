"""LoveDA: land cover of 0.3 m, for semantic segmentation.

Samples are those of MMSegmentation's data sets, so that its transforms,
models and metrics take them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from osar_plugin.registry import DATASETS
from osar_plugin.utils.config_values import Buildable
from osar_plugin.utils.errors import (
    ConfigError,
    DataFormatError,
    DatasetNotFoundError,
)

from . import transforms  # noqa: F401 - brings those of mmcv with it
from .foreign_arguments import Unused, check_backend, leave_out
from .layout import StrictDataset, list_images, shorten
from .pair_base import read_list

CLASSES = ('background', 'building', 'road', 'water', 'barren', 'forest',
           'agricultural')
PALETTE = [[255, 255, 255], [255, 0, 0], [255, 255, 0], [0, 0, 255],
           [159, 129, 183], [0, 255, 0], [255, 195, 128]]
SPLITS = ('train', 'val', 'test')
SCENES = ('Urban', 'Rural')
# Folders of images and of masks where all scenes lie together.
_FLAT = (('img_dir', 'ann_dir'), ('img', 'ann'))
_OFFICIAL = ('images_png', 'masks_png')

LAYOUT_HELP = """Expected layout, as published:
  data_root/
    Train/{Urban,Rural}/{images_png,masks_png}/<number>.png
    Val/...    Test/{Urban,Rural}/images_png/<number>.png
or as MMSegmentation's converter leaves it:
  data_root/
    img_dir/{train,val,test}/<number>.png
    ann_dir/{train,val}/<number>.png
LoveDA is published at https://zenodo.org/record/5706578.
To try without it, render some:
  python tools/make_demo_data.py data/demo --sets segmentation"""

# Of MMSegmentation's data set.
UNUSED: Unused = {
    'ann_file': (('', None), 'Give the list of tiles as list_file.'),
    'data_prefix': (
        ({}, None), 'The folders of both layouts are found in data_root.'),
    'filter_cfg': (({}, None), 'Choose with splits, scenes and list_file.'),
    'metainfo': (
        ({}, None), "The classes are LoveDA's; map labels in the pipeline."),
    'img_suffix': (('.png', ), 'Tiles are PNG files: leave it out.'),
    'seg_map_suffix': (('.png', ), 'Masks are PNG files: leave it out.'),
    'ignore_index': ((255, ), 'It is 255: leave it out.'),
    'reduce_zero_label': (
        (True, ), 'Label 0 is no data and always reduced: leave it out.')}


@DATASETS.register_module()
class LoveDA(StrictDataset):
    """LoveDA (5,987 tiles of 1024 x 1024 pixels, seven classes).

    The published layout and that of MMSegmentation's converter are found by
    looking, and so is ``trainval``, a folder with both. Labels in the files
    are 0 no data and 1 to 7 the classes; ``reduce_zero_label`` of the
    samples says so. Every tile of a labelled split must have its mask and
    every mask its tile; the test split, where it has no folder of masks or an
    empty one, has none in its samples either.

    Samples have ``img_path``, ``seg_map_path`` where there are labels,
    ``label_map`` (None), ``reduce_zero_label`` (True), ``seg_fields``.

    Args:
        data_root: See the layout above.
        splits: Of ``'train'``, ``'val'``, ``'test'``; several are merged,
            which is the published protocol for figures of the server.
        scenes: Of ``'Urban'``, ``'Rural'``; fewer than both only where the
            layout tells them apart.
        list_file: Names of the tiles to take, one to a line, with or
            without ``.png``; in ``data_root`` unless absolute. A name that
            is not there is an error.
        pipeline: Transforms.
        backend_args: None or ``dict(backend='local')``: files are read from
            the disk alone.
        **kwargs: Further arguments of ``BaseDataset``. What the toolboxes'
            data sets take and this one does not is refused, unless it asks
            for nothing.

    Raises:
        DatasetNotFoundError: If a split or a tile is missing.
        DataFormatError: If a tile lacks its mask or a mask its tile.
        ConfigError: If an argument cannot be used.
    """

    METAINFO = {
        'dataset_type': 'LoveDA', 'classes': CLASSES, 'palette': PALETTE,
        'label_map': None, 'reduce_zero_label': True}

    def __init__(
            self,
            data_root: str = 'data/loveDA',
            splits: Sequence[str] = ('train', ),
            scenes: Sequence[str] = SCENES,
            list_file: str | None = None,
            pipeline: Sequence[Buildable] = (),
            backend_args: Mapping[str, Any] | None = None,
            **kwargs: Any) -> None:
        check_backend(backend_args)
        kwargs = leave_out(kwargs, UNUSED, 'LoveDA')
        self.splits = _chosen('splits', splits, SPLITS)
        self.scenes = _chosen('scenes', scenes, SCENES)
        self.list_file = list_file
        super().__init__(
            data_root=str(data_root), pipeline=list(pipeline), **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """List the tiles of the splits, in the order of their names."""
        rows: list[dict[str, Any]] = []
        for tiles, masks in self._folders(Path(self.data_root)):
            rows += _rows(tiles, masks)
        if self.list_file is not None:
            rows = self._listed(rows, Path(self.data_root) / self.list_file)
        return rows

    def _folders(self, root: Path) -> list[tuple[Path, Path | None]]:
        """Folders of tiles and of masks; None where labels are held back."""
        if not root.is_dir():
            raise DatasetNotFoundError(
                f'{root}: no such folder.\n{LAYOUT_HELP}')
        if any((root / split.capitalize()).is_dir() for split in SPLITS):
            images, labels = _OFFICIAL
            places = [
                (split, root / split.capitalize() / scene)
                for split in self.splits for scene in self.scenes]
            found = [(split, place / images, place / labels)
                     for split, place in places]
        else:
            found = self._flat(root)
        for _, tiles, _ in found:
            if not tiles.is_dir():
                raise DatasetNotFoundError(
                    f'{tiles}: no such folder.\n{LAYOUT_HELP}')
        # The server holds the labels of the test split back; scripts leave
        # an empty folder for them.
        return [
            (tiles, None if split == 'test' and not _any_mask(masks)
             else masks) for split, tiles, masks in found]

    def _flat(self, root: Path) -> list[tuple[str, Path, Path]]:
        """Split and folders where all scenes lie together."""
        names = next(
            (pair for pair in _FLAT if (root / pair[0]).is_dir()), None)
        if names is None:
            raise DatasetNotFoundError(
                f'{root}: no folder of LoveDA.\n{LAYOUT_HELP}')
        if self.scenes != SCENES:
            raise ConfigError(
                f'scenes={self.scenes!r}: in {root} the scenes lie together. '
                'Use the published layout, or leave scenes out.')
        splits = list(self.splits)
        merged = root / names[0] / 'trainval'
        if {'train', 'val'} <= set(splits) and merged.is_dir():
            splits = ['trainval', *(s for s in splits if s == 'test')]
        return [(split, root / names[0] / split, root / names[1] / split)
                for split in splits]

    def _listed(self, rows: list[dict[str, Any]],
                path: Path) -> list[dict[str, Any]]:
        """The rows that the list names, in its order."""
        if not path.is_file():
            raise DatasetNotFoundError(
                f'{path}: no such list. Check list_file and data_root.')
        found = {Path(row['img_path']).stem: row for row in rows}
        names = [Path(name).stem for name in read_list(path)]
        missing = [name for name in names if name not in found]
        if missing:
            raise DatasetNotFoundError(
                f'{path}: {len(missing)} of its {len(names)} tiles are not '
                f'in {", ".join(self.splits)} of {self.data_root} '
                f'({shorten(missing)}). Restore them, or take them off the '
                'list.')
        return [found[name] for name in dict.fromkeys(names)]


def _chosen(name: str, values: Sequence[str],
            known: tuple[str, ...]) -> tuple[str, ...]:
    """Different ones of the known words."""
    words = tuple(values)
    if isinstance(values, str) or not words or set(words) - set(known) or (
            len(set(words)) < len(words)):
        raise ConfigError(
            f'{name}={values!r}: expected a list of different ones of '
            f'{", ".join(known)}, e.g. [{known[0]!r}].')
    return words


def _any_mask(folder: Path) -> bool:
    return folder.is_dir() and bool(list_images(folder, ('.png', )))


def _rows(tiles: Path, masks: Path | None) -> list[dict[str, Any]]:
    """Rows of one folder.

    Raises:
        DatasetNotFoundError: If it has no tile, or no folder of masks.
        DataFormatError: If tiles and masks do not belong together.
    """
    images = {path.name: path for path in list_images(tiles, ('.png', ))}
    if not images:
        raise DatasetNotFoundError(
            f'{tiles}: no PNG tile.\n{LAYOUT_HELP}')
    if masks is not None:
        if not masks.is_dir():
            raise DatasetNotFoundError(
                f'{masks}: no folder of masks for the tiles in {tiles}.\n'
                f'{LAYOUT_HELP}')
        labels = {path.name for path in list_images(masks, ('.png', ))}
        for kind, lost, place in (
                ('masks', labels - set(images), tiles),
                ('tiles', set(images) - labels, masks)):
            if lost:
                raise DataFormatError(
                    f'{len(lost)} {kind} have no partner in {place} '
                    f'({shorten(lost)}). Restore or remove them.')
    # By number: 9.png comes before 10.png.
    order = sorted(images, key=lambda name: (len(name), name))
    rows = []
    for name in order:
        row: dict[str, Any] = dict(img_path=str(images[name]))
        if masks is not None:
            row['seg_map_path'] = str(masks / name)
        rows.append(dict(row, label_map=None, reduce_zero_label=True,
                         seg_fields=[]))
    return rows
