"""SEN1-2 in small: aligned patches at 10 m, with scene classes.

    SEN12/<season>/s1_<scene>/<season>_s1_<scene>_p<patch>.png
    SEN12/<season>/s2_<scene>/<season>_s2_<scene>_p<patch>.png
    SEN12/test.txt                             names of the held-out patches
    SEN12/scenes_train.txt, scenes_test.txt    optical, SAR, class index
    SEN12/classes.txt                          names of the classes
    SEN12/statistics.json                      of the patches not held out

Patches of a scene share one acquisition. Whole scenes are held out, so a
test patch has neither land nor light in common with a training patch. The
class of a patch is in the lists alone.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...pair_statistics import write_statistics
from ...sen12 import SEASONS, SOURCE
from ..build import SetWriter, WorldError, encode, run_jobs
from .compose import KINDS
from .measure import measure_pairs
from .patch import acquisition, check_size, render_patch, scene_class

_SET = 0
#: Pixel size of both sensors in metres.
PIXEL = 10.0


@dataclass(frozen=True)
class Sen12Settings:
    """Size of the set.

    Attributes:
        seed: Seed of everything.
        pairs: Number of pairs.
        size: Side of the patches in pixels.
        patches: Patches of a scene.
        test: Share of the scenes that is held out.

    Raises:
        WorldError: If a value is out of range.
    """

    seed: int = 0
    pairs: int = 1500
    size: int = 128
    patches: int = 25
    test: float = 0.3

    def __post_init__(self) -> None:
        check_size(self.size, self.seed)
        if self.patches < 1 or self.pairs < 1:
            raise WorldError(
                f'pairs ({self.pairs}) and patches ({self.patches}) must be '
                'at least 1')
        if not 0 <= self.test < 1:
            raise WorldError(f'test must be in [0, 1), got {self.test}')

    @property
    def scenes(self) -> int:
        """Number of scenes; the last one may not be full."""
        return -(-self.pairs // self.patches)

    @property
    def held_out(self) -> int:
        """Number of scenes that are held out, the last ones."""
        return round(self.test * self.scenes)


@dataclass(frozen=True)
class Sen12Job:
    """One patch; what a worker process is given."""

    settings: Sen12Settings
    number: int

    @property
    def scene(self) -> int:
        """Number of the scene, from 0."""
        return self.number // self.settings.patches

    @property
    def key(self) -> tuple[int, int]:
        """Of the patch, for its streams."""
        return _SET, self.number

    @property
    def in_test(self) -> bool:
        """Whether the patch is held out."""
        settings = self.settings
        return self.scene >= settings.scenes - settings.held_out

    def name(self, sensor: str) -> str:
        """Name of an image in the set."""
        season = SEASONS[self.scene % len(SEASONS)]
        scene = self.scene // len(SEASONS) + 1
        patch = self.number % self.settings.patches + 1
        return (f'{season}/{sensor}_{scene}/'
                f'{season}_{sensor}_{scene}_p{patch}.png')


def render_job(job: Sen12Job, root: Path) -> None:
    """Render and write both pictures of a patch."""
    settings = job.settings
    # The key of a scene is longer than one of a patch: no stream is shared.
    seen = acquisition(settings.seed, (_SET, job.scene, 0), PIXEL)
    patch = render_patch(
        settings.seed, job.key, settings.size, PIXEL, seen)
    for sensor, image in (('s1', patch.sar), ('s2', patch.optical)):
        (root / job.name(sensor)).write_bytes(encode(image, 'PNG'))


def render_sen12(
    root: Path, settings: Sen12Settings, workers: int = 1,
) -> None:
    """Render the whole set into ``root`` (the folder SEN12 itself).

    Args:
        root: An empty folder.
        settings: Size and seed.
        workers: Number of processes; the bytes do not depend on it.
    """
    jobs = [Sen12Job(settings, number) for number in range(settings.pairs)]
    for job in jobs:
        for sensor in ('s1', 's2'):
            (root / job.name(sensor)).parent.mkdir(
                parents=True, exist_ok=True)
    run_jobs(partial(render_job, root=root), jobs, workers, 'SEN12')
    lists = {
        'scenes_train.txt': [job for job in jobs if not job.in_test],
        'scenes_test.txt': [job for job in jobs if job.in_test]}
    for file, members in lists.items():
        _write(root / file, [
            f'{job.name("s2")} {job.name("s1")} '
            f'{scene_class(settings.seed, job.key)}' for job in members])
    _write(root / 'classes.txt', list(KINDS))
    test = lists['scenes_test.txt']
    if test:
        _write(root / 'test.txt', [Path(job.name('s2')).name for job in test])
    write_statistics(root / 'statistics.json', {SOURCE: measure_pairs(
        (root / job.name('s2'), root / job.name('s1'))
        for job in lists['scenes_train.txt'])})


def _write(path: Path, lines: list[str]) -> None:
    path.write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')


write_sen12 = SetWriter('SEN12', Sen12Settings, render_sen12)
