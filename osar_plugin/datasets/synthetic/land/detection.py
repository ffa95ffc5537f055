"""DIOR and SARDet-100K in small: one land, seen by both sensors.

    Detection/DIOR/images/<number>.jpg, trainval.json, test.json
    Detection/SARDet_100K/JPEGImages/{train,val,test}/<number>.png
    Detection/SARDet_100K/Annotations/{train,val,test}.json

The jsons list every class of the real sets; there are ships, storage tanks
and bridges, and tennis courts, which only the camera sees. Images of the
same number show the same land. DIOR's trainval is train and val.
"""
from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...coco_json import to_coco, write_coco
from ...dior import CLASSES as DIOR_CLASSES
from ...sardet100k import CLASSES as SARDET_CLASSES
from ..build import SetWriter, WorldError, encode, run_jobs, stream
from ..scene import Frame
from .objects import COURT, THINGS, compose_things
from .patch import WORLD, acquisition, check_size
from .sensors import MARGIN, SPACING

#: Folder of both sets.
FOLDER = 'Detection'
#: Pixel size of both sensors in metres.
PIXEL = 2.0
#: What either set calls the things.
DIOR_NAMES = dict(zip(
    THINGS, ('ship', 'storagetank', 'bridge', 'tenniscourt'), strict=True))
SARDET_NAMES = dict(zip(THINGS[:COURT], THINGS[:COURT], strict=True))
SPLITS = ('train', 'val', 'test')
# The sets of pairs have the set numbers 0 to 4.
_SET = 8
_GEOMETRY, _PAINT, _SHOT = range(3)
_SHARED = 10  # images that share an acquisition
_LEAST = 5.0  # pixels of a side of what has a box
_TRUTH = '.truth'


@dataclass(frozen=True)
class DetectionSettings:
    """Size of the sets.

    Attributes:
        seed: Seed of everything.
        images: Images of each sensor.
        size: Side of the images in pixels.
        val: Share of the images in the split ``val``.
        test: Share of the images in the split ``test``.

    Raises:
        WorldError: If a value is out of range.
    """

    seed: int = 0
    images: int = 400
    size: int = 160
    val: float = 0.1
    test: float = 0.2

    def __post_init__(self) -> None:
        check_size(self.size, self.seed)
        if self.size < 96:
            raise WorldError(
                f'size must be at least 96 pixels to show something, got '
                f'{self.size}')
        if not (self.val > 0 and self.test > 0 and self.val + self.test < 1):
            raise WorldError(
                f'val ({self.val}) and test ({self.test}) must be above 0 '
                'and leave something to train on')
        if min(self.counts) < 1:
            raise WorldError(
                f'{self.images} images make splits of {self.counts}; give '
                'more')

    @property
    def counts(self) -> tuple[int, int, int]:
        """Images of train, val and test."""
        val, test = (
            round(share * self.images) for share in (self.val, self.test))
        return self.images - val - test, val, test

    def split(self, number: int) -> str:
        """Split of an image."""
        ends = np.cumsum(self.counts)
        return SPLITS[int(np.searchsorted(ends, number, side='right'))]


@dataclass(frozen=True)
class DetectionJob:
    """One piece of land; what a worker process is given."""

    settings: DetectionSettings
    number: int

    @property
    def name(self) -> str:
        """Of the images, without suffix."""
        return f'{self.number + 1:05d}'

    @property
    def optical_name(self) -> str:
        """In DIOR."""
        return f'{self.name}.jpg'

    @property
    def sar_name(self) -> str:
        """In SARDet-100K."""
        return f'{self.name}.png'

    @property
    def split(self) -> str:
        """Of SARDet-100K."""
        return self.settings.split(self.number)


def render_job(job: DetectionJob, root: Path) -> None:
    """Render and write both pictures, and the truth beside them."""
    settings, key = job.settings, (WORLD, _SET, job.number)
    scene = compose_things(
        (settings.size + 2 * MARGIN) * PIXEL, SPACING * PIXEL,
        stream(settings.seed, *key, _GEOMETRY),
        stream(settings.seed, *key, _PAINT), flat=True)
    seen = acquisition(
        settings.seed, (_SET, job.number // _SHARED, 0), PIXEL)
    frame = Frame(settings.size, settings.size, PIXEL)
    rng = np.random.default_rng(stream(settings.seed, *key, _SHOT))
    optical = seen.optical(scene.land, rng, frame)
    sar = seen.sar(scene.land, rng, frame)
    (root / 'DIOR/images' / job.optical_name).write_bytes(_jpeg(optical))
    (root / 'SARDet_100K/JPEGImages' / job.split / job.sar_name).write_bytes(
        encode(sar, 'PNG'))
    boxes, things = scene.boxes(frame, _LEAST)
    (root / _TRUTH / job.name).write_text(json.dumps(
        dict(boxes=boxes.tolist(), things=things.tolist())),
        encoding='utf-8')


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    file = BytesIO()
    Image.fromarray(image).save(file, 'JPEG', quality=95)
    return file.getvalue()


def render_detection(
    root: Path, settings: DetectionSettings, workers: int = 1,
) -> None:
    """Render both sets into ``root`` (the folder Detection itself).

    Args:
        root: An empty folder.
        settings: Size and seed.
        workers: Number of processes; the bytes do not depend on it.
    """
    jobs = [DetectionJob(settings, n) for n in range(settings.images)]
    dior, sardet = root / 'DIOR', root / 'SARDet_100K'
    for folder in (dior / 'images', root / _TRUTH, *(
            sardet / 'JPEGImages' / split for split in SPLITS)):
        folder.mkdir(parents=True)
    run_jobs(partial(render_job, root=root), jobs, workers, 'Detection')
    for split in SPLITS:
        members = [job for job in jobs if job.split == split]
        _annotate(
            sardet / 'Annotations' / f'{split}.json', members, SARDET_NAMES,
            SARDET_CLASSES, root, [job.sar_name for job in members])
    for split in ('trainval', 'test'):
        members = [
            job for job in jobs if (job.split == 'test') == (split == 'test')]
        _annotate(
            dior / f'{split}.json', members, DIOR_NAMES,
            DIOR_CLASSES, root, [job.optical_name for job in members])
    shutil.rmtree(root / _TRUTH)


def _annotate(
    path: Path, jobs: list[DetectionJob], names: dict[str, str],
    classes: tuple[str, ...], root: Path, files: list[str],
) -> None:
    """Write the json of a split."""
    labels = {
        number: classes.index(names[thing])
        for number, thing in enumerate(THINGS) if thing in names}
    rows = []
    for job in jobs:
        truth = json.loads(
            (root / _TRUTH / job.name).read_text(encoding='utf-8'))
        instances = [
            dict(bbox=box, bbox_label=labels[thing], ignore_flag=0)
            for box, thing in zip(
                truth['boxes'], truth['things'], strict=True)
            if thing in labels]
        rows.append(dict(
            width=job.settings.size, height=job.settings.size,
            instances=instances))
    write_coco(path, to_coco(rows, classes, files))


write_detection = SetWriter(FOLDER, DetectionSettings, render_detection)
