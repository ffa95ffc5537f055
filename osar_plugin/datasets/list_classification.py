"""Scene and target classification: AID, RESISC45, FUSAR-Ship, MSTAR, SAR-ACD.

The published splits are list files of ``file folder index``, whose indices
follow an order of classes that is not alphabetical; a data set sorted by
folder names would give other labels to the same checkpoint. The orders are
those of the published lists, and a list that contradicts them is refused.

Samples are those of MMPretrain's data sets, so that its transforms, models
and metrics take them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from osar_plugin.registry import DATASETS
from osar_plugin.utils.config_values import Buildable, require_range
from osar_plugin.utils.errors import (
    ConfigError,
    DataFormatError,
    DatasetNotFoundError,
)

from . import transforms  # noqa: F401 - brings those of mmcv with it
from .foreign_arguments import Unused, check_backend, leave_out
from .layout import SUFFIXES, missing_files, shorten
from .scene_list import SceneList, shuffled

SCENE_COLUMNS = ('file', 'folder', 'label')
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.tif', '.tiff', '.bmp')

AID_CLASSES = (
    'Beach', 'River', 'Forest', 'RailwayStation', 'Church', 'Square',
    'Stadium', 'Pond', 'School', 'DenseResidential', 'BaseballField',
    'Farmland', 'Commercial', 'Park', 'Airport', 'Industrial', 'Mountain',
    'Bridge', 'Meadow', 'Resort', 'Desert', 'BareLand', 'Parking',
    'Playground', 'Viaduct', 'StorageTanks', 'SparseResidential',
    'MediumResidential', 'Center', 'Port')
RESISC45_CLASSES = (
    'medium_residential', 'bridge', 'cloud', 'river', 'mountain', 'airport',
    'parking_lot', 'sparse_residential', 'beach', 'lake', 'commercial_area',
    'airplane', 'rectangular_farmland', 'circular_farmland',
    'basketball_court', 'freeway', 'desert', 'thermal_power_station',
    'palace', 'dense_residential', 'industrial_area', 'railway_station',
    'sea_ice', 'runway', 'ship', 'overpass', 'forest', 'roundabout',
    'terrace', 'wetland', 'ground_track_field', 'mobile_home_park', 'church',
    'tennis_court', 'storage_tank', 'baseball_diamond', 'intersection',
    'golf_course', 'railway', 'snowberg', 'meadow', 'chaparral', 'island',
    'harbor', 'stadium')
FUSAR_CLASSES = (
    'Bridges', 'Cargo', 'CoastalLands_island', 'Fishing', 'LandPatches',
    'OtherShip', 'SeaClutterWaves', 'SeaPatches', 'StrongFalseAlarms',
    'Tanker')
MSTAR_CLASSES = (
    'BMP2', 'BTR70', 'T72', 'BTR60', '2S1', 'BRDM2', 'D7', 'T62', 'ZIL131',
    'ZSU234')
SARACD_CLASSES = ('A220', 'A330', 'ARJ21', 'Boeing737', 'Boeing787')

# Of MMPretrain's data sets.
UNUSED: Unused = {
    'ann_file': (('', None), 'Give the list as list_file.'),
    'data_prefix': (
        ('', {}, None), 'Give the folder of the classes as folder.'),
    'metainfo': (({}, None), 'Give the names as classes.'),
    'with_label': ((True, ), 'Images have labels here: leave it out.'),
    'extensions': ((), 'Images have one of the usual suffixes: leave it out.'),
    'filter_cfg': (({}, None), 'Draw with shots and seed.')}


@DATASETS.register_module()
class ListClassification(SceneList):
    """Images and classes from a list file, or from folders of classes.

    A line of a list names the file, its folder and the class index; where
    the folder already ends with the file, as in few-shot lists of SAR
    targets, it is the whole path. The published lists are read as they are,
    with the absolute paths of their authors: see
    :func:`~.listed_paths.below`. If a part of the path is the name of a
    class, it must be that of the index.

    Samples have ``img_path``, ``gt_label``, and what
    :class:`~.scene_list.SceneList` gives.

    Args:
        data_root: Folder that the names are relative to.
        list_file: The list, in ``data_root`` unless absolute; None to take
            ``folder``. ``{shots}`` and ``{seed}`` in it stand for the two
            arguments below, so that the lists of training and of test are
            always of the same draw.
        list_shots: Images of each class in the list, for its name alone.
        list_seed: Seed that the list was drawn with, for its name alone.
        folder: In place of a list: a folder in ``data_root`` with one
            folder for each class, which may have folders of its own.
        classes: Names in the order of the indices; None for the published
            order of the data set.
        modality: ``'optical'`` or ``'sar'``; None for that of the data set.
        columns: See :class:`~.scene_list.SceneList`.
        shots: See there; by default every line counts, since the published
            lists are drawn already. Unlike ``list_shots``, this draws.
        seed: Seed of that draw.
        balanced: See there.
        pipeline: Transforms.
        backend_args: None or ``dict(backend='local')``: files are read from
            the disk alone.
        **kwargs: Further arguments of ``BaseDataset``. What the toolboxes'
            data sets take and this one does not is refused, unless it asks
            for nothing.

    Raises:
        DatasetNotFoundError: If the list, a folder or an image is missing.
        DataFormatError: If a line or a folder contradicts the classes.
        ConfigError: If an argument cannot be used.
    """

    METAINFO: dict = {'dataset_type': 'ListClassification'}
    MODALITY = 'optical'

    def __init__(
            self,
            data_root: str,
            list_file: str | None = None,
            folder: str | None = None,
            classes: Sequence[str] | None = None,
            modality: str | None = None,
            columns: Sequence[str] = SCENE_COLUMNS,
            shots: int | None = None,
            seed: int = 0,
            balanced: bool = True,
            pipeline: Sequence[Buildable] = (),
            list_shots: int | None = None,
            list_seed: int | None = None,
            backend_args: Mapping[str, Any] | None = None,
            **kwargs: Any) -> None:
        check_backend(backend_args)
        kwargs = leave_out(kwargs, UNUSED, type(self).__name__)
        if (list_file is None) == (folder is None):
            raise ConfigError(
                f'list_file={list_file!r} and folder={folder!r}: expected '
                'one of the two.')
        require_range(1, list_shots=list_shots)
        require_range(0, list_seed=list_seed)
        self.folder = folder
        super().__init__(
            data_root, fill_name(list_file or '', shots=list_shots,
                                 seed=list_seed),
            self.METAINFO.get('classes', ()) if classes is None else classes,
            modality or self.MODALITY, columns, shots, seed, balanced,
            pipeline, **kwargs)

    def read_rows(self) -> list[dict[str, Any]]:
        """All rows of the list or of the folder."""
        if self.folder is None:
            rows = super().read_rows()
        else:
            rows = [
                self.row(path, label) for path, label in scan_classes(
                    Path(self.data_root), self.folder,
                    self.metainfo['classes'])]
        missing = missing_files([row['img_path'] for row in rows])
        if missing:
            raise DatasetNotFoundError(
                f'{len(missing)} of {len(rows)} images of '
                f'{self.list_file} are not there ({shorten(missing, 3)}). '
                'Check data_root and columns, and restore the images.')
        return [dict(row, gt_label=row['label']) for row in rows]

    def locate(self, entry: dict[str, str]) -> str:
        """The image of a line; see the class."""
        folder = entry.get('folder', '')
        if Path(folder).suffix.lower() in SUFFIXES:
            return folder
        return super().locate(entry)

    def check_name(self, name: str, label: int, where: str) -> None:
        """Refuse an image in the folder of another class."""
        classes = self.metainfo['classes']
        named = [part for part in name.split('/')[:-1] if part in classes]
        expected = classes[label]
        if named and expected not in named:
            raise DataFormatError(
                f'{where}: class index {label} is {expected!r} and the '
                f'image lies in {named[-1]!r}. The list has another order '
                'of classes: use the published list, or set `classes` to '
                'its order.')


def fill_name(list_file: str, **values: int | None) -> str:
    """Name of a list that was drawn with some numbers.

    Args:
        list_file: With a placeholder, e.g. ``{seed}``, for each value that
            is given, and for no other.
        **values: ``shots`` and ``seed``; None where there is none.

    Raises:
        ConfigError: If a placeholder has no value or a value no
            placeholder.
    """
    for name, value in values.items():
        mark = f'{{{name}}}'
        if value is None and mark in list_file:
            raise ConfigError(
                f'list_file={list_file!r} has a place for {mark}, but '
                f'list_{name} is None. Give list_{name} a number, or write '
                'it into list_file.')
        if value is not None and mark not in list_file:
            raise ConfigError(
                f'list_{name}={value} has no effect: {mark} is not in '
                f'list_file={list_file!r}. Put it there, or leave '
                f'list_{name} out.')
        list_file = list_file.replace(mark, str(value))
    return list_file


def scan_classes(root: Path, folder: str,
                 classes: Sequence[str]) -> list[tuple[Path, int]]:
    """Images below folders of classes, by class and path.

    Args:
        root: The data set.
        folder: Folder in it, '' or '.' for itself.
        classes: Names of the folders, in the order of the indices.

    Returns:
        Paths relative to ``root``, and class indices.

    Raises:
        DatasetNotFoundError: If a folder is missing or has no image.
        DataFormatError: If there is a folder of images that is no class.
    """
    place = root / folder
    if not place.is_dir():
        raise DatasetNotFoundError(
            f'{place}: no such folder. Check data_root and folder.')
    found = {
        path.name: _images_below(path) for path in sorted(place.iterdir())
        if path.is_dir()}
    strange = [name for name in found
               if found[name] and name not in classes]
    if strange:
        raise DataFormatError(
            f'{place}: {shorten(strange)}: folders of images that are no '
            f'class. The classes are {", ".join(classes)}. Rename the '
            'folders, or set `classes`.')
    empty = [name for name in classes if not found.get(name)]
    if empty:
        raise DatasetNotFoundError(
            f'{place}: no image of {shorten(empty)}. Expected a folder for '
            'each class.')
    return [(path.relative_to(root), label)
            for label, name in enumerate(classes) for path in found[name]]


def _images_below(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.rglob('*')
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not path.name.startswith('.'))


def stratified(labels: np.ndarray, num_classes: int, share: float,
               seed: int) -> np.ndarray:
    """Draw a share of the images of every class.

    Args:
        labels: (n,) class indices.
        num_classes: C.
        share: In (0, 1), rounded to whole images, at least one a class.
        seed: Seed of the draw.

    Returns:
        (n,) bool: what was drawn.

    Raises:
        ConfigError: If the share is no share, or takes all of a class.
    """
    if not 0 < share < 1:
        raise ConfigError(
            f'share={share}: expected a number above 0 and below 1.')
    order = shuffled(len(labels), seed)
    chosen = np.zeros(len(labels), bool)
    for label in range(num_classes):
        rows = order[labels[order] == label]
        count = max(1, round(share * len(rows)))
        if count >= len(rows):
            raise ConfigError(
                f'share={share}: class {label} has {len(rows)} images, of '
                'which none would be left. Lower it.')
        chosen[rows[:count]] = True
    return chosen


@DATASETS.register_module()
class AID(ListClassification):
    """AID: 10,000 scenes of 30 classes; see :class:`ListClassification`."""

    METAINFO = {'dataset_type': 'AID', 'classes': AID_CLASSES}


@DATASETS.register_module()
class RESISC45(ListClassification):
    """NWPU-RESISC45: 31,500 scenes of 45 classes."""

    METAINFO = {'dataset_type': 'RESISC45', 'classes': RESISC45_CLASSES}


@DATASETS.register_module()
class FUSARShip(ListClassification):
    """FUSAR-Ship: GF-3 chips of 10 classes, folders ``Train``, ``Val``."""

    METAINFO = {'dataset_type': 'FUSARShip', 'classes': FUSAR_CLASSES}
    MODALITY = 'sar'


@DATASETS.register_module()
class MSTAR(ListClassification):
    """MSTAR: chips of 10 vehicles, folders ``TRAIN`` and ``TEST``."""

    METAINFO = {'dataset_type': 'MSTAR', 'classes': MSTAR_CLASSES}
    MODALITY = 'sar'


@DATASETS.register_module()
class SARACD(ListClassification):
    """SAR-ACD: GF-3 chips of five civil aircraft."""

    METAINFO = {'dataset_type': 'SARACD', 'classes': SARACD_CLASSES}
    MODALITY = 'sar'
