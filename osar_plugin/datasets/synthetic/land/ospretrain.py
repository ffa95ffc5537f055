"""OSPretrain in small: pairs of several sensors, and unpaired images.

    OSPretrain/<source>/{RGB,SAR}/<number>.png    one land, both sensors
    OSPretrain/<source>/{train,test}.txt          names
    OSPretrain/Unpaired/{RGB,SAR}/<number>.png    no land in common
    OSPretrain/statistics.json                    of every source

Numbers are shuffled against the order of drawing and say nothing.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...ospretrain import RGB, SAR, UNPAIRED
from ...pair_statistics import write_statistics
from ..build import SetWriter, WorldError, encode, run_jobs, stream
from .measure import measure_pairs
from .patch import WORLD, Patch, acquisition, check_size, render_patch

#: Sources of pairs, with the pixel size of their sensors in metres.
SOURCES = {'DemoMetre': 1.0, 'DemoThree': 3.0, 'DemoTen': 10.0}
_PIXELS = {**SOURCES, UNPAIRED: 2.0}
# The demo world of SEN1-2 has the set number 0.
_SETS = {source: 1 + number for number, source in enumerate(_PIXELS)}
_PATCHES = 8  # that share an acquisition
_SIDES = (RGB, SAR)


@dataclass(frozen=True)
class OSPretrainSettings:
    """Size of the set.

    Attributes:
        seed: Seed of everything.
        pairs: Pairs of each source.
        unpaired: Unpaired images of each sensor.
        size: Side of the images in pixels.
        test: Share of each source's pairs that its test list names.

    Raises:
        WorldError: If a value is out of range.
    """

    seed: int = 0
    pairs: int = 400
    unpaired: int = 300
    size: int = 128
    test: float = 0.1

    def __post_init__(self) -> None:
        check_size(self.size, self.seed)
        if self.pairs < 2 or self.unpaired < 1:
            raise WorldError(
                f'pairs ({self.pairs}) must be at least 2 and unpaired '
                f'({self.unpaired}) at least 1')
        if not 0 < self.test < 1:
            raise WorldError(f'test must be in (0, 1), got {self.test}')

    def names(self, source: str) -> list[str]:
        """Names of the images in the order in which they are drawn."""
        count = self.unpaired if source == UNPAIRED else self.pairs
        rng = np.random.default_rng(
            stream(self.seed, WORLD, _SETS[source], 1 << 20))
        return [f'{number:06d}' for number in rng.permutation(count)]

    def test_names(self, source: str) -> list[str]:
        """Names that the test list of a source has."""
        names = sorted(self.names(source))
        return names[-max(1, round(self.test * len(names))):]


@dataclass(frozen=True)
class OSPretrainJob:
    """One pair, or one unpaired image of each sensor."""

    settings: OSPretrainSettings
    source: str
    number: int
    name: str


def render_job(job: OSPretrainJob, root: Path) -> None:
    """Render and write the images of a job."""
    optical, sar = _lands(job)
    first = _patch(job, optical)
    second = first if sar == optical else _patch(job, sar)
    for side, image in ((RGB, first.optical), (SAR, second.sar)):
        path = root / job.source / side / f'{job.name}.png'
        path.write_bytes(encode(image, 'PNG'))


def _lands(job: OSPretrainJob) -> tuple[int, int]:
    """Number of the land that each sensor sees."""
    if job.source == UNPAIRED:
        return 2 * job.number, 2 * job.number + 1
    return job.number, job.number


def _patch(job: OSPretrainJob, number: int) -> Patch:
    """The land of a number, seen by both sensors."""
    settings, place, pixel = job.settings, _SETS[job.source], (
        _PIXELS[job.source])
    seen = acquisition(
        settings.seed, (place, number // _PATCHES, 0), pixel)
    return render_patch(
        settings.seed, (place, number), settings.size, pixel, seen)


def render_ospretrain(
    root: Path, settings: OSPretrainSettings, workers: int = 1,
) -> None:
    """Render the whole set into ``root`` (the folder OSPretrain itself).

    Args:
        root: An empty folder.
        settings: Size and seed.
        workers: Number of processes; the bytes do not depend on it.
    """
    jobs = []
    for source in _PIXELS:
        for side in _SIDES:
            (root / source / side).mkdir(parents=True)
        jobs += [
            OSPretrainJob(settings, source, number, name)
            for number, name in enumerate(settings.names(source))]
    run_jobs(partial(render_job, root=root), jobs, workers, 'OSPretrain')
    for source in SOURCES:
        test = settings.test_names(source)
        train = sorted(set(settings.names(source)) - set(test))
        for split, names in (('train', train), ('test', test)):
            (root / source / f'{split}.txt').write_text(
                ''.join(f'{name}.png\n' for name in names),
                encoding='utf-8')
    write_statistics(root / 'statistics.json', {
        source: measure_pairs(_train_files(root / source, settings))
        for source in _PIXELS})


def _train_files(
    folder: Path, settings: OSPretrainSettings,
) -> Iterator[tuple[Path, Path]]:
    """Both files of everything that is not in a test list."""
    test = [] if folder.name == UNPAIRED else settings.test_names(
        folder.name)
    for name in sorted(set(settings.names(folder.name)) - set(test)):
        yield folder / RGB / f'{name}.png', folder / SAR / f'{name}.png'


write_ospretrain = SetWriter(
    'OSPretrain', OSPretrainSettings, render_ospretrain)
