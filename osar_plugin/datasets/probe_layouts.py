"""Data sets of the published linear probes, as they lie on the disk.

Each has optical and SAR images of the same ground, and labels::

    root/RGB/<name>.<png|npy>   8 bit; npy: (H, W, 12 or 13) bands
    root/SAR/<name>.<png|npy>   8 bit; npy: (H, W, 2), VV and VH
    root/Label/<name>.<png|npy> class of each pixel, or (C,) of 0 and 1
    root/<list>.txt             names, with or without suffix

Facts (classes, lists, constants, thresholds): official code of CoDe-MAE.

Legend: N images, C classes, H W height and width in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from osar_plugin.io import decode
from osar_plugin.utils.config_values import require_range
from osar_plugin.utils.errors import (
    ConfigError,
    CorruptImageError,
    DataFormatError,
    DatasetNotFoundError,
)
from osar_plugin.utils.names import did_you_mean, nearest

from .layout import shorten
from .pair_base import read_list
from .pair_statistics import OSPRETRAIN_STATISTICS, SourceStatistics
from .transforms.segmentation import IGNORED, check_labels

SHARE = 0.1  # of the pixels, from which on a class is present
FOLDERS = {'optical': 'RGB', 'sar': 'SAR'}
LABEL_FOLDER = 'Label'
_RGB_BANDS = [3, 2, 1]  # B4, B3, B2 of Sentinel-2


@dataclass(frozen=True)
class ProbeLayout:
    """How one of the sets is stored.

    Attributes:
        classes: Their names, in the order of their indices.
        statistics: Mean and deviation to normalise with, of bytes / 255.
        labels: ``'mask'``: several classes, from the pixels; ``'onehot'``:
            several, from a file; ``'prefix'``: one, the name of the file up
            to its first underscore.
        suffix: Of the images.
        train: List to train on, without suffix.
        test: List to test on.
        zero_ignored: Masks hold 0 for none and 1 to C for the classes.
    """

    classes: tuple[str, ...]
    statistics: SourceStatistics
    labels: str = 'mask'
    suffix: str = '.png'
    train: str = 'train'
    test: str = 'test'
    zero_ignored: bool = False


def _bands(sar: tuple[tuple[float, ...], tuple[float, ...]],
           rgb: tuple[tuple[float, ...], tuple[float, ...]]
           ) -> SourceStatistics:
    return SourceStatistics(*rgb, *sar)


_WHU_CLASSES = ('farmland', 'city', 'village', 'water', 'forest', 'road',
                'others')
_YESEG_CLASSES = ('bare ground', 'low vegetation', 'trees', 'houses',
                  'water', 'roads', 'other')
# The 19 classes of BigEarthNet in the order of its nomenclature. One-hot files
# must be in this order; some newer tools sort the names instead.
_BEN_CLASSES = (
    'Urban fabric', 'Industrial or commercial units', 'Arable land',
    'Permanent crops', 'Pastures', 'Complex cultivation patterns',
    'Land principally occupied by agriculture, with significant areas of '
    'natural vegetation', 'Agro-forestry areas', 'Broad-leaved forest',
    'Coniferous forest', 'Mixed forest',
    'Natural grassland and sparsely vegetated areas',
    'Moors, heathland and sclerophyllous vegetation',
    'Transitional woodland, shrub', 'Beaches, dunes, sands',
    'Inland wetlands', 'Coastal wetlands', 'Inland waters', 'Marine waters')
LAYOUTS = {
    'PIE': ProbeLayout(
        ('background', 'city', 'road', 'water', 'forest', 'farmland'),
        SourceStatistics((.3270, .3519, .2879), (.2293, .2054, .2004),
                         (.3328, ), (.2265, ))),
    'DDHR-SK': ProbeLayout(
        ('buildings', 'roads', 'greenery', 'water', 'farmland'),
        SourceStatistics((.6372, .6446, .6541), (.1629, .1535, .1451),
                         (.1991, ), (.1945, ))),
    'WHU': ProbeLayout(
        _WHU_CLASSES, OSPRETRAIN_STATISTICS['WHU-OPT-SAR'],
        zero_ignored=True),
    'YESeg': ProbeLayout(
        _YESEG_CLASSES,
        OSPRETRAIN_STATISTICS['YESeg-OPT-SAR'], zero_ignored=True),
    # Trains on the list called test and tests on val, as SwinSSL did.
    'DFC20': ProbeLayout(
        ('Forest', 'Shrubland', 'Grassland', 'Wetlands', 'Croplands',
         'Urban/Built-up', 'Barren', 'Water'),
        _bands(((.4864, .5285, .5074), (.2291, .2357, .2142)),
               ((.1887, .2082, .1706), (.1618, .1618, .157))),
        suffix='.npy', train='test', test='val'),
    'BEN-MM': ProbeLayout(
        _BEN_CLASSES,
        _bands(((.5521, .5236, .5378), (.2188, .2209, .1878)),
               ((.2195, .2554, .2090), (.1781, .1685, .1666))),
        labels='onehot', suffix='.npy', test='val'),
    'EuroSAT-MM': ProbeLayout(
        ('AnnualCrop', 'Forest', 'HerbaceousVegetation', 'Highway',
         'Industrial', 'Pasture', 'PermanentCrop', 'Residential', 'River',
         'SeaLake'),
        _bands(((.4882, .5376, .5129), (.2265, .2239, .1918)),
               ((.2873, .3149, .2774), (.2131, .2052, .2005))),
        labels='prefix', suffix='.npy'),
}  # yapf: disable


class ProbeSet:
    """Images and labels of a list.

    Args:
        root: Folder of the set.
        name: Of :data:`LAYOUTS`.
        list_name: The list, with or without ``.txt``.
        share: Share of the pixels from which on a class is present.

    Attributes:
        names: N names, without suffix.
        labels: (N,) int64 class indices, or (N, C) int64 of 0 and 1.

    Raises:
        DatasetNotFoundError: If the list or a file is missing.
        DataFormatError: If a label cannot be used.
        ConfigError: If there is no such set.
    """

    def __init__(self, root: str | Path, name: str, list_name: str,
                 share: float = SHARE) -> None:
        if name not in LAYOUTS:
            raise ConfigError(
                f'layout {name!r} is not known: use one of '
                f'{", ".join(LAYOUTS)}.{did_you_mean(nearest(name, LAYOUTS))}')
        require_range(0, 1, without=(0, ), share=share)
        self.root = Path(root)
        self.layout = LAYOUTS[name]
        path = self.root / f'{list_name.removesuffix(".txt")}.txt'
        if not path.is_file():
            raise DatasetNotFoundError(
                f'{path}: no such list. Check the folder; {name} trains on '
                f'{self.layout.train}.txt and tests on '
                f'{self.layout.test}.txt.')
        self.names = [
            line.removesuffix('.png').removesuffix('.npy')
            for line in read_list(path)]
        self._check_files(path)
        self.labels = self._read_labels(share)

    def paths(self, modality: str) -> list[str]:
        """N image files of a sensor, ``'optical'`` or ``'sar'``."""
        folder = self.root / FOLDERS[modality]
        return [str(folder / f'{name}{self.layout.suffix}')
                for name in self.names]

    def _check_files(self, listed: Path) -> None:
        missing = [path for modality in FOLDERS
                   for path in self.paths(modality)
                   if not Path(path).is_file()]
        if missing:
            raise DatasetNotFoundError(
                f'{listed}: {len(missing)} images are not there '
                f'({shorten(missing, 3)}). Restore them, or take them off '
                'the list.')

    def _read_labels(self, share: float) -> np.ndarray:
        """Labels of all names."""
        layout = self.layout
        count = len(layout.classes)
        if layout.labels == 'prefix':
            return np.array([
                prefix_class(name, layout.classes) for name in self.names])
        folder = self.root / LABEL_FOLDER
        read: Callable[[str], np.ndarray]
        if layout.labels == 'onehot':
            def read(name: str) -> np.ndarray:
                return one_hot(folder / f'{name}.npy', count)
        else:
            def read(name: str) -> np.ndarray:
                return present_classes(read_mask(
                    folder / f'{name}.png', count, layout.zero_ignored),
                    count, share)
        return np.stack([read(name) for name in self.names])


def prefix_class(name: str, classes: tuple[str, ...]) -> int:
    """The class that the name of a file begins with.

    Raises:
        DataFormatError: If it is no class.
    """
    prefix = Path(name).name.partition('_')[0]
    if prefix not in classes:
        raise DataFormatError(
            f'{name}: {prefix!r} is no class; expected a name that begins '
            f'with one of {", ".join(classes)} and an underscore.')
    return classes.index(prefix)


def read_mask(path: Path, num_classes: int,
              zero_ignored: bool) -> np.ndarray:
    """Classes of the pixels of a mask.

    Where 0 is none, the published values 0, 10, ..., 10 C of WHU-OPT-SAR are
    taken as well as 0, 1, ..., C.

    Args:
        path: The file.
        num_classes: C.
        zero_ignored: See :class:`ProbeLayout`.

    Returns:
        (H, W) uint8, 0 to C - 1, and 255 for none.

    Raises:
        DatasetNotFoundError: If it is missing.
        DataFormatError: If it holds something else.
    """
    labels = decode(path)
    if zero_ignored and labels.dtype == np.uint8:
        known = labels != IGNORED
        if labels[known].max(initial=0) > num_classes and not (
                labels[known] % 10).any():
            labels = np.where(known, labels // 10, labels)
    labels = check_labels(
        labels, str(path), num_classes - (not zero_ignored), True)
    if not zero_ignored:
        return labels
    return np.where(labels == IGNORED, labels, labels - np.uint8(1))


def present_classes(mask: np.ndarray, num_classes: int,
                    share: float = SHARE) -> np.ndarray:
    """Classes that cover a share of a mask at least (official code).

    The share is of the square of the width, also of masks that are no
    squares.

    Args:
        mask: (H, W) uint8, 255 for none.
        num_classes: C.
        share: See above.

    Returns:
        (C,) int64 of 0 and 1.
    """
    counts = np.bincount(mask.ravel(), minlength=256)[:num_classes]
    return (counts / mask.shape[1]**2 >= share).astype(np.int64)


def one_hot(path: Path, num_classes: int) -> np.ndarray:
    """(C,) int64 of 0 and 1, from an array file.

    Raises:
        DataFormatError: If it is something else.
    """
    values = load_array(path).squeeze()
    if values.shape != (num_classes, ) or not np.isin(values, (0, 1)).all():
        raise DataFormatError(
            f'{path}: {values.shape} {values.dtype} from {values.min()} to '
            f'{values.max()}; expected ({num_classes},) of 0 and 1.'
            if values.size else
            f'{path}: is empty; expected ({num_classes},) of 0 and 1.')
    return values.astype(np.int64)


def load_array(path: Path) -> np.ndarray:
    """An array file, never unpickled.

    Raises:
        DatasetNotFoundError: If it is missing.
        CorruptImageError: If it cannot be read whole.
    """
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise DatasetNotFoundError(
            f'{path}: no such file. Check the list and the folder.'
        ) from error
    except (OSError, ValueError, EOFError) as error:
        raise CorruptImageError(
            f'{path}: cannot be read as an array ({error}). Copy or make it '
            'again.') from error


def read_bands(path: str | Path, modality: str) -> np.ndarray:
    """The three channels of an array of bands that a network is shown.

    Optical: B4, B3, B2, the bands 3, 2, 1 counted from 0. SAR: VV, VH and
    their mean, rounded down.

    Args:
        path: (H, W, 12 or 13) or (H, W, 2) uint8.
        modality: ``'optical'`` or ``'sar'``.

    Returns:
        (H, W, 3) uint8.

    Raises:
        DataFormatError: If it has other bands.
    """
    array = load_array(Path(path))
    wanted = (2, ) if modality == 'sar' else (12, 13)
    if array.dtype != np.uint8 or array.ndim != 3 or (
            array.shape[2] not in wanted):
        raise DataFormatError(
            f'{path}: {array.shape} {array.dtype}; expected (H, W, '
            f'{" or ".join(map(str, wanted))}) uint8 of a {modality} image.')
    if modality == 'optical':
        return array[:, :, _RGB_BANDS]
    mean = array.sum(2, dtype=np.uint16) // 2
    return np.dstack([array, mean.astype(np.uint8)])
