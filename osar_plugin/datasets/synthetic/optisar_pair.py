"""OptiSar_Pair in small: aligned optical-SAR pairs for pair pre-training.

    OptiSar_Pair/<4 digits>/<prefix>_<pair>_<crop>_<RGB | SAR>.png

Both pictures of a pair show the same rectangle of ground. No ship of HOSS
appears here: all streams begin with another key.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .acquisition import draw_acquisition, fit_frame, for_ship, solid_cells
from .build import SetWriter, WorldError, encode, run_jobs, stream
from .harbour import draw_harbour
from .layouts import draw_plan
from .scene import Frame, Pose, Scene
from .ship import Ship, draw_paint

_WORLD = 2
_FAMILY, _DETAIL, _PAINT, _SHOT = range(4)
#: Pairs in one folder.
FOLDER = 500
#: Cells per pixel are fewer than for HOSS: there are many more pictures.
_SPACING = 0.7


@dataclass(frozen=True)
class PairSettings:
    """Size of the set.

    Attributes:
        seed: Seed of everything.
        pairs: Number of pairs; each shows another ship or harbour.
        harbours: Share of pairs that show a harbour instead of one ship.
        pixel: Pixel size of both pictures in metres.

    Raises:
        WorldError: If a value is out of range.
    """

    seed: int = 0
    pairs: int = 1500
    harbours: float = 0.3
    pixel: float = 1.0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise WorldError(f'seed must be at least 0, got {self.seed}')
        if not 1 <= self.pairs <= 9999 * FOLDER:
            raise WorldError(
                f'pairs must be in 1..{9999 * FOLDER}, got {self.pairs}')
        if not 0 <= self.harbours <= 1:
            raise WorldError(
                f'harbours must be in [0, 1], got {self.harbours}')
        if self.pixel <= 0:
            raise WorldError(f'pixel must be > 0 m, got {self.pixel}')


@dataclass(frozen=True)
class PairJob:
    """One pair; what a worker process is given."""

    settings: PairSettings
    pid: int


def _ship_scene(job: PairJob, rng: np.random.Generator) -> tuple[
        Scene, Frame]:
    """One upright ship and the rectangle around it."""
    seed, pid = job.settings.seed, job.pid
    plan = draw_plan(stream(seed, _WORLD, _FAMILY, pid),
                     stream(seed, _WORLD, _DETAIL, pid))
    paint = draw_paint(plan, np.random.default_rng(
        stream(seed, _WORLD, _PAINT, pid)))
    scene = Scene(
        plan.hull.beam + 24, plan.hull.length + 24,
        _SPACING * job.settings.pixel)
    Ship(plan, paint).draw(scene, Pose())
    x, y, _ = solid_cells(scene)
    turn = float(np.clip(rng.normal(0, 4), -12, 12))
    a, b, c, d = rng.uniform(1, 12, 4).tolist()
    return scene, fit_frame(x, y, job.settings.pixel, turn, (a, b, c, d))


def _harbour_scene(job: PairJob) -> tuple[Scene, Frame]:
    """A piece of a harbour, 128 pixels square."""
    seed, pid = job.settings.seed, job.pid
    extent = 128 * job.settings.pixel
    # A rim outside the picture, from which layover and shadow come in.
    scene = draw_harbour(
        extent + 30, stream(seed, _WORLD, _DETAIL, pid),
        stream(seed, _WORLD, _PAINT, pid), _SPACING * job.settings.pixel)
    return scene, Frame(128, 128, job.settings.pixel)


def render_pair(job: PairJob, root: Path) -> None:
    """Render and write both pictures of one pair.

    Args:
        job: The pair.
        root: Folder of the set; its sub-folders exist.
    """
    settings = job.settings
    rng = np.random.default_rng(
        stream(settings.seed, _WORLD, _SHOT, job.pid))
    seen = for_ship(draw_acquisition(rng), 0.0, rng)
    if rng.random() < settings.harbours:
        prefix, (scene, frame) = 'harbour', _harbour_scene(job)
    else:
        prefix, (scene, frame) = 'ship', _ship_scene(job, rng)
    optical = seen.camera.render(scene, rng, frame)
    radar = seen.radar.render(scene, rng, frame)
    grey = np.rint(radar * (255 / seen.radar.full_scale))
    folder = root / _folder(job.pid)
    for sensor, image in (('RGB', optical), ('SAR', grey.astype(np.uint8))):
        name = f'{prefix}_{job.pid:06d}_p1_{sensor}.png'
        (folder / name).write_bytes(encode(image, 'PNG'))


def _folder(pid: int) -> str:
    return f'{pid // FOLDER:04d}'


def render_pairs(
    root: Path, settings: PairSettings, workers: int = 1,
) -> None:
    """Render the whole set into ``root`` (the folder OptiSar_Pair itself).

    Args:
        root: An empty folder.
        settings: Size and seed.
        workers: Number of processes; the bytes do not depend on it.
    """
    jobs = [PairJob(settings, pid) for pid in range(settings.pairs)]
    for folder in sorted({_folder(job.pid) for job in jobs}):
        (root / folder).mkdir(parents=True)
    run_jobs(partial(render_pair, root=root), jobs, workers, 'OptiSar_Pair')


write_pairs = SetWriter('OptiSar_Pair', PairSettings, render_pairs)
