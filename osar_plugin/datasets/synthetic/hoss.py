"""HOSS-ReID in small: ship chips of two sensors in the published layout.

    HOSS/bounding_box_train   train
    HOSS/query                queries of the protocol with all images
    HOSS/bounding_box_test    its gallery, with distractor ships
    HOSS/subset/O2S, S2O      optical against SAR, and the reverse

File names are ``<ship>_s<sequence>c<camera>_<RGB.tif | SAR.tif>``.
"""
from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np

from .acquisition import (
    Acquisition,
    draw_acquisition,
    fit_frame,
    for_ship,
    solid_cells,
)
from .build import SetWriter, WorldError, encode, run_jobs, stream
from .layouts import draw_plan
from .scene import Pose, Scene
from .ship import Ship, draw_paint

#: First key of all random streams of this set.
_WORLD = 1
_PLANNING, _FAMILY, _DETAIL, _PAINT, _PASS, _SHOT = range(6)
TRAIN, QUERY, GALLERY = 'bounding_box_train', 'query', 'bounding_box_test'
SUBSETS = {'O2S': ('RGB', 'SAR'), 'S2O': ('SAR', 'RGB')}


@dataclass(frozen=True)
class HossSettings:
    """Size of the set.

    Attributes:
        seed: Seed of everything.
        train_ids: Ships in the training set.
        test_ids: Ships with queries.
        distractor_ids: Ships that are only in the gallery.
        sequences: Number of acquisitions.
        sisters: Share of ships that are a sister of another one.
        single: Share of train and test ships seen by one sensor only.
        flipped: Share of chips with the bow down.

    Raises:
        WorldError: If a count is below 1 or a share outside [0, 1].
    """

    seed: int = 0
    train_ids: int = 480
    test_ids: int = 68
    distractor_ids: int = 60
    sequences: int = 13
    sisters: float = 0.3
    single: float = 0.07
    flipped: float = 0.03

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.type == 'float' and not 0 <= value <= 1:
                raise WorldError(
                    f'{item.name} must be in [0, 1], got {value}')
            low = {'seed': 0, 'sequences': 6}.get(item.name, 1)
            if item.type == 'int' and value < low:
                raise WorldError(
                    f'{item.name} must be at least {low}, got {value}')
        if self.train_ids + self.test_ids + self.distractor_ids > 9999:
            raise WorldError(
                'file names hold four digits: at most 9999 ships in all')
        if self.sequences > 99:
            raise WorldError(
                'file names hold two digits: at most 99 sequences, got '
                f'{self.sequences}')


@dataclass(frozen=True)
class Shot:
    """One image of one ship.

    Attributes:
        sensor: 'RGB' or 'SAR'.
        sequence: Number of the acquisition, from 1.
        folders: Where the file goes, relative to the set.
    """

    sensor: str
    sequence: int
    folders: tuple[str, ...]


@dataclass(frozen=True)
class ShipJob:
    """All images of one ship; what a worker process is given.

    Attributes:
        settings: The settings of the set.
        pid: Number of the ship in file names.
        family: Key of what it shares with its sisters.
        shots: Its images.
    """

    settings: HossSettings
    pid: int
    family: int
    shots: tuple[Shot, ...]


def plan_hoss(settings: HossSettings) -> list[ShipJob]:
    """Decide which ship is seen when by which sensor, and for what.

    Numbers of ships and families are dealt at random, so that neither the
    order of the numbers nor their distance says anything.

    Args:
        settings: Size and seed of the set.

    Returns:
        One job per ship.
    """
    rng = np.random.default_rng(stream(settings.seed, _WORLD, _PLANNING))
    roles = ([TRAIN] * settings.train_ids + [QUERY] * settings.test_ids
             + [GALLERY] * settings.distractor_ids)
    pids = 1 + rng.permutation(len(roles))
    families = _families(roles, settings.sisters, rng)
    alone = {
        role: set(rng.permutation(roles.count(role))[
            :round(settings.single * roles.count(role))].tolist())
        for role in (TRAIN, QUERY)}
    seen = dict.fromkeys(roles, 0)
    jobs = []
    for pid, family, role in zip(pids, families, roles, strict=True):
        single = seen[role] in alone.get(role, ())
        seen[role] += 1
        shots = _draw_shots(role, single, settings.sequences, rng)
        jobs.append(ShipJob(settings, int(pid), family, shots))
    return jobs


def _families(
    roles: list[str], sisters: float, rng: np.random.Generator,
) -> list[int]:
    """A family for each ship; never one that train and test share."""
    out: list[int] = []
    known: dict[bool, list[int]] = {True: [], False: []}
    for i, role in enumerate(roles):
        mine = known[role == TRAIN]
        if mine and rng.random() < sisters:
            out.append(int(rng.choice(mine)))
        else:
            mine.append(i)
            out.append(i)
    return out


def _draw_shots(
    role: str, single: bool, sequences: int, rng: np.random.Generator,
) -> tuple[Shot, ...]:
    """The images of one ship and the folders they go to."""
    only = str(rng.choice(['RGB', 'SAR'])) if single else ''
    if role == TRAIN:
        counts = {'RGB': int(rng.choice(5, p=_TRAIN_OPTICAL)) + 1,
                  'SAR': int(rng.choice(5, p=_TRAIN_SAR)) + 1}
    elif role == QUERY:
        counts = {'RGB': int(rng.choice(5, p=_TEST_OPTICAL)),
                  'SAR': int(rng.choice(5, p=_TEST_SAR))}
        if single or not sum(counts.values()):
            counts = {name: max(1, n) for name, n in counts.items()}
    else:
        total = int(rng.integers(1, 4))
        optical = int(rng.binomial(total, 0.6))
        counts = {'RGB': optical, 'SAR': total - optical}
    gallery = {name for name, n in counts.items()
               if n and only in ('', name)}
    shots: list[Shot] = []
    for sensor in ('RGB', 'SAR'):
        passes = 1 + rng.permutation(sequences)
        if only not in ('', sensor):
            continue
        if role == QUERY:
            shots.append(Shot(
                sensor, int(passes[-1]), _folders(QUERY, sensor, gallery)))
        where = TRAIN if role == TRAIN else GALLERY
        shots += [Shot(sensor, int(n), _folders(where, sensor, gallery))
                  for n in passes[:counts[sensor]]]
    return tuple(shots)


_TRAIN_OPTICAL = (0.10, 0.36, 0.29, 0.15, 0.10)
_TRAIN_SAR = (0.14, 0.38, 0.27, 0.13, 0.08)
_TEST_OPTICAL = (0.15, 0.30, 0.25, 0.20, 0.10)
_TEST_SAR = (0.18, 0.37, 0.25, 0.14, 0.06)


def _folders(
    role: str, sensor: str, gallery: set[str],
) -> tuple[str, ...]:
    """Folders of one file: the main one and those of the subsets.

    A subset keeps the queries that have an answer: ships without a gallery
    image of the other sensor are left out.
    """
    out = [role]
    for name, (asked, answer) in SUBSETS.items():
        if role == QUERY and sensor == asked and answer in gallery:
            out.append(f'subset/{name}/{QUERY}')
        if role == GALLERY and sensor == answer:
            out.append(f'subset/{name}/{GALLERY}')
    return tuple(out)


def render_shot(
    ship: Ship, base: Scene, sensor: str, seen: Acquisition,
    flipped: float, rng: np.random.Generator,
) -> bytes:
    """One chip as a TIFF file.

    Args:
        ship: The ship.
        base: A scene with all of it that does not move, upright.
        sensor: 'RGB' for the camera, 'SAR' for the radar.
        seen: The acquisition, azimuths against north.
        flipped: Share of chips with the bow down.
        rng: The image's own stream.

    Returns:
        The bytes of the file: uint8 RGB, or float32 in one band.
    """
    seen = for_ship(seen, float(rng.uniform(0, 360)), rng)
    scene = base.copy()
    ship.draw_moving(scene, Pose(), float(rng.normal(0, 6)))
    turn = float(np.clip(rng.normal(0, 2.2), -6, 6))
    turn += 180.0 * bool(rng.random() < flipped)
    scale = float(np.exp(rng.normal(0, 0.02)))
    x, y, z = solid_cells(scene)
    if sensor == 'RGB':
        x, y = seen.camera.project(x, y, z)
        a, b, c, d = rng.uniform(-1, 5, 4).tolist()
        frame = fit_frame(
            x, y, seen.camera.gsd, turn, (a, b, c, d), scale)
        return encode(seen.camera.render(scene, rng, frame), 'TIFF')
    # The box is drawn around the deck; masts and houses may fall out.
    deck = ship.plan.hull.freeboard + 2
    x, y = seen.radar.project(x, y, np.minimum(z, deck))
    a, b, c, d = rng.uniform(0, 8, 4).tolist()
    frame = fit_frame(
        x, y, seen.radar.pixel, turn, (a, b, c, d), scale)
    return encode(seen.radar.render(scene, rng, frame), 'TIFF')


def render_ship(job: ShipJob, root: Path) -> None:
    """Render and write all images of one ship.

    Args:
        job: The ship.
        root: Folder of the set; its sub-folders exist.
    """
    settings = job.settings
    plan = draw_plan(
        stream(settings.seed, _WORLD, _FAMILY, job.family),
        stream(settings.seed, _WORLD, _DETAIL, job.pid))
    paint = draw_paint(plan, np.random.default_rng(
        stream(settings.seed, _WORLD, _PAINT, job.pid)))
    ship = Ship(plan, paint)
    base = Scene(plan.hull.beam + 24, plan.hull.length + 24)
    ship.draw_fixed(base, Pose())
    for shot in job.shots:
        seen = draw_acquisition(np.random.default_rng(
            stream(settings.seed, _WORLD, _PASS, shot.sequence)))
        rng = np.random.default_rng(stream(
            settings.seed, _WORLD, _SHOT, job.pid,
            shot.sequence, int(shot.sensor == 'SAR')))
        data = render_shot(
            ship, base, shot.sensor, seen, settings.flipped, rng)
        name = f'{job.pid:04d}_s{shot.sequence:02d}c1_{shot.sensor}.tif'
        for folder in shot.folders:
            (root / folder / name).write_bytes(data)


def render_hoss(
    root: Path, settings: HossSettings, workers: int = 1,
) -> None:
    """Render the whole set into ``root`` (the folder HOSS itself).

    Args:
        root: An empty folder.
        settings: Size and seed.
        workers: Number of processes; the bytes do not depend on it.
    """
    for folder in (TRAIN, QUERY, GALLERY):
        (root / folder).mkdir(parents=True)
    for name in SUBSETS:
        for folder in (QUERY, GALLERY):
            (root / 'subset' / name / folder).mkdir(parents=True)
    run_jobs(partial(render_ship, root=root), plan_hoss(settings),
             workers, 'HOSS')


write_hoss = SetWriter('HOSS', HossSettings, render_hoss)
