"""LoveDA in small: optical tiles of 1 m with their land cover.

    LoveDA/{Train,Val}/{Urban,Rural}/{images_png,masks_png}/<number>.png
    LoveDA/Test/{Urban,Rural}/images_png/<number>.png
    LoveDA/test_masks/<number>.png      what the real server keeps to itself

Numbers run through the splits as in the real set, and say nothing about the
order of drawing. Tiles of a pass share light and season; a pass lies in one
split. Some tiles have a corner without data, black and 0 in the mask.

Covers of the world and classes of LoveDA: grass and pavement are
background, and so is nothing else; banks between parcels belong to the
fields, as people draw them.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ...loveda import SCENES, SPLITS
from ..build import SetWriter, WorldError, encode, run_jobs, stream
from .compose import KINDS
from .cover import Cover
from .patch import WORLD, acquisition, check_size, render_patch, scene_class

_SET = 24
_NUMBERS, _CORNER = 1 << 20, (1 << 20) + 1
#: Pixel size in metres.
PIXEL = 1.0
_PATCHES = 10  # that share a pass
_URBAN = ('residential', 'industrial', 'port')
_BANK = 7  # pixels that a bank between parcels is narrower than
_NO_DATA = 0.05  # share of the tiles
# Labels of the files: 1 is background, 0 no data.
LABELS = {
    Cover.WATER: 4, Cover.BARE: 5, Cover.FIELD: 7, Cover.GRASS: 1,
    Cover.FOREST: 6, Cover.ROAD: 3, Cover.PAVEMENT: 1, Cover.BUILDING: 2}
_TABLE = np.array([LABELS[cover] for cover in Cover], np.uint8)


@dataclass(frozen=True)
class SegmentationSettings:
    """Size of the set.

    Attributes:
        seed: Seed of everything.
        train: Tiles to train on.
        val: Tiles to evaluate on.
        test: Tiles whose masks lie apart.
        size: Side of the tiles in pixels.

    Raises:
        WorldError: If a value is out of range.
    """

    seed: int = 0
    train: int = 480
    val: int = 120
    test: int = 40
    size: int = 128

    def __post_init__(self) -> None:
        check_size(self.size, self.seed)
        if min(self.train, self.val, self.test) < 1:
            raise WorldError(
                f'train ({self.train}), val ({self.val}) and test '
                f'({self.test}) must be at least 1')

    def jobs(self) -> list[SegmentationJob]:
        """All tiles, with their names."""
        counts = (self.train, self.val, self.test)
        out: list[SegmentationJob] = []
        for index, count in enumerate(counts):
            rng = np.random.default_rng(
                stream(self.seed, WORLD, _SET, _NUMBERS, index))
            names = len(out) + rng.permutation(count)
            # Every split begins a pass of its own.
            first = index << 16
            out += [SegmentationJob(self, SPLITS[index], first + number, name)
                    for number, name in enumerate(names.tolist())]
        return out


@dataclass(frozen=True)
class SegmentationJob:
    """One tile; what a worker process is given.

    Attributes:
        settings: Of the set.
        split: ``'train'``, ``'val'`` or ``'test'``.
        number: In the order of drawing.
        name: In the set.
    """

    settings: SegmentationSettings
    split: str
    number: int
    name: int

    @property
    def scene(self) -> str:
        """``'Urban'`` or ``'Rural'``."""
        label = scene_class(self.settings.seed, (_SET, self.number))
        return SCENES[KINDS[label] not in _URBAN]

    @property
    def folder(self) -> str:
        """Of the images and of the masks, in the set."""
        return f'{self.split.capitalize()}/{self.scene}'

    def masks(self) -> str:
        """Folder of the masks, in the set."""
        return 'test_masks' if self.split == 'test' else (
            f'{self.folder}/masks_png')


def label_map(cover: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Labels of LoveDA's files from a map of :class:`Cover`."""
    fields = np.pad(cover == Cover.FIELD, _BANK, mode='edge')
    whole = ndimage.binary_closing(fields, np.ones((_BANK, _BANK), bool))
    whole = whole[_BANK:-_BANK, _BANK:-_BANK]
    labels = _TABLE[cover]
    labels[whole & (cover == Cover.GRASS)] = LABELS[Cover.FIELD]
    return labels


def render_job(job: SegmentationJob, root: Path) -> None:
    """Render and write a tile and its mask."""
    settings = job.settings
    seen = acquisition(
        settings.seed, (_SET, job.number // _PATCHES, 0), PIXEL)
    patch = render_patch(
        settings.seed, (_SET, job.number), settings.size, PIXEL, seen)
    image, labels = patch.optical, label_map(patch.land.labels(patch.frame))
    rng = np.random.default_rng(
        stream(settings.seed, WORLD, _SET, job.number, _CORNER))
    if rng.random() < _NO_DATA:
        # A swath's end: everything beyond a line through the tile.
        rows, cols = np.indices(labels.shape)
        angle = rng.uniform(0, 2 * np.pi)
        middle = (settings.size - 1) / 2
        beyond = (rows - middle) * np.sin(angle) + (
            cols - middle) * np.cos(angle) > rng.uniform(
                0.2, 0.5) * settings.size
        image, labels = image.copy(), labels.copy()
        image[beyond], labels[beyond] = 0, 0
    for folder, pixels in ((f'{job.folder}/images_png', image),
                           (job.masks(), labels)):
        (root / folder / f'{job.name}.png').write_bytes(
            encode(pixels, 'PNG'))


def render_segmentation(
    root: Path, settings: SegmentationSettings, workers: int = 1,
) -> None:
    """Render the whole set into ``root`` (the folder LoveDA itself).

    Args:
        root: An empty folder.
        settings: Size and seed.
        workers: Number of processes; the bytes do not depend on it.
    """
    for split in SPLITS:
        for scene in SCENES:
            place = root / split.capitalize() / scene
            (place / 'images_png').mkdir(parents=True)
            if split != 'test':
                (place / 'masks_png').mkdir()
    (root / 'test_masks').mkdir()
    run_jobs(partial(render_job, root=root), settings.jobs(), workers,
             'LoveDA')


write_segmentation = SetWriter(
    'LoveDA', SegmentationSettings, render_segmentation)
