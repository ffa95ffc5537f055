"""BRIGHT in small: buildings before and after events, in its layout.

    BRIGHT/pre-event/<event>_<number>_pre_disaster.tif       optical
    BRIGHT/post-event/<event>_<number>_post_disaster.tif     SAR
    BRIGHT/target/<event>_<number>_building_damage.tif       0 to 3
    BRIGHT/{train,val,test}_set.txt                          names

Names of events are BRIGHT's own, so that everything that knows them works;
the land is not theirs. Each event has its own share of damaged and destroyed
buildings, which lie together. Numbers are shuffled against the order of
drawing and the lists are drawn evenly from all events.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...bright import PARTS
from ..build import SetWriter, WorldError, encode, run_jobs, stream
from ..scene import Frame, Scene
from .compose import compose
from .cover import DAMAGED, DESTROYED, INTACT, Land, Rng, damaged
from .patch import WORLD, check_size
from .sensors import MARGIN, SPACING, Pass, draw_pass

#: Pixel size of both sensors in metres.
PIXEL = 0.5
#: Events, with the shares of buildings that are damaged and destroyed where
#: it hits.
EVENTS = {
    'turkey-earthquake': (0.3, 0.45), 'hawaii-wildfire': (0.15, 0.6),
    'libya-flood': (0.35, 0.3), 'beirut-explosion': (0.45, 0.3)}
# Land with buildings on it; one without, as BRIGHT has it too, is rare.
_KINDS = ('residential', 'residential', 'industrial', 'residential', 'port',
          'industrial', 'residential', 'farmland')
_SET = 64  # other sets of land have lower numbers
_LAND, _PAINT, _PRE, _POST, _EVENT, _RUBBLE, _KIND = range(7)
_TILES = 8  # that share an acquisition
_HIT = 0.75  # share of the tiles that the event reaches


@dataclass(frozen=True)
class BrightSettings:
    """Size of the set.

    Attributes:
        seed: Seed of everything.
        tiles: Number of tiles of each event.
        size: Side of the tiles in pixels.
        val: Share of the tiles of each event for validation.
        test: Share for test.

    Raises:
        WorldError: If a value is out of range.
    """

    seed: int = 0
    tiles: int = 60
    size: int = 256
    val: float = 0.15
    test: float = 0.15

    def __post_init__(self) -> None:
        check_size(self.size, self.seed)
        if not (0 < self.val < 1 and 0 < self.test < 1
                and self.val + self.test < 1):
            raise WorldError(
                f'val ({self.val}) and test ({self.test}) must be shares '
                'above 0 that leave something to train on')
        if min(self.counts) < 1:
            raise WorldError(
                f'tiles ({self.tiles}) are too few for {self.val:.0%} of '
                f'validation and {self.test:.0%} of test')

    @property
    def counts(self) -> tuple[int, int, int]:
        """Tiles of each event for training, validation and test."""
        val = round(self.val * self.tiles)
        test = round(self.test * self.tiles)
        return self.tiles - val - test, val, test


@dataclass(frozen=True)
class BrightJob:
    """One tile; what a worker process is given."""

    settings: BrightSettings
    event: str
    number: int
    name: str

    @property
    def key(self) -> tuple[int, int, int]:
        """Of the tile, for its streams."""
        return _SET, list(EVENTS).index(self.event), self.number

    def rng(self, what: int) -> Rng:
        """A stream of the tile."""
        return np.random.default_rng(
            stream(self.settings.seed, WORLD, *self.key, what))


def draw_states(land: Land, event: str, rng: Rng) -> NDArray[np.int8]:
    """What an event leaves of each instance.

    Damage lies together: half of the chance comes from a wave over the
    land, half from each building.

    Args:
        land: Before the event.
        event: A key of :data:`EVENTS`.
        rng: The event's own stream.
    """
    count = len(land.instances)
    if rng.random() > _HIT:
        return np.full(count, INTACT, np.int8)
    x, y = land.instances.xy.T / land.extent
    turn, phase = rng.uniform(0, 2 * np.pi, 2)
    wave = np.sin(2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) + phase)
    chance = 0.5 * (0.5 + 0.5 * wave) + 0.5 * rng.random(count)
    some, lost = EVENTS[event]
    states = np.full(count, INTACT, np.int8)
    rank = np.empty(count)
    rank[np.argsort(chance)] = np.arange(count) / max(count, 1)
    states[rank >= 1 - some - lost] = DAMAGED
    states[rank >= 1 - lost] = DESTROYED
    return states


def after_event(land: Land, states: NDArray[np.int8], rng: Rng) -> Land:
    """Land after an event, without the corners of what collapsed.

    Args:
        land: Before; it is not changed.
        states: (N,) of each instance.
        rng: The event's own stream.
    """
    after = damaged(land, states, rng)
    old, points = after.scene, after.scene.scatterers
    rows, cols = (
        np.rint(place).astype(np.int64) for place in old.cells(
            points.xyz[:, 0], points.xyz[:, 1]))
    state = np.concatenate([[INTACT], states])
    gone = np.zeros(len(points), np.bool_)
    # A corner stands at the rim, perhaps on the cell beside its building.
    for down in (-2, 0, 2):
        for right in (-2, 0, 2):
            owner = after.owner[
                np.clip(rows + down, 0, old.shape[0] - 1),
                np.clip(cols + right, 0, old.shape[1] - 1)]
            gone |= state[owner] == DESTROYED
    scene = Scene(old.shape[1] * old.spacing, old.shape[0] * old.spacing,
                  old.spacing)
    scene.height, scene.albedo = old.height, old.albedo
    scene.sigma0, scene.water = old.sigma0, old.water
    scene.add_scatterers(points.chosen(~gone))
    return replace(after, scene=scene)


def _pass(job: BrightJob, what: int) -> Pass:
    """The acquisition that tiles of an event share."""
    seed = job.settings.seed
    group = (_SET, job.key[1], 1 << 20, job.number // _TILES)
    return draw_pass(np.random.default_rng(
        stream(seed, WORLD, *group, what)), PIXEL)


def render_job(job: BrightJob, root: Path) -> None:
    """Render and write the three files of a tile."""
    settings = job.settings
    streams = [stream(settings.seed, WORLD, *job.key, what)
               for what in (_LAND, _PAINT)]
    kind = _KINDS[int(job.rng(_KIND).integers(len(_KINDS)))]
    land = compose(kind, (settings.size + 2 * MARGIN) * PIXEL,
                   SPACING * PIXEL, *streams)
    states = draw_states(land, job.event, job.rng(_EVENT))
    after = after_event(land, states, job.rng(_RUBBLE))
    frame = Frame(settings.size, settings.size, PIXEL)
    images = {
        'optical_path': _pass(job, _PRE).optical(
            land, job.rng(_PRE), frame),
        'sar_path': _pass(job, _POST).sar(after, job.rng(_POST), frame),
        'seg_map_path': after.damage(frame)}
    for key, (folder, end) in PARTS.items():
        (root / folder / f'{job.name}{end}').write_bytes(
            encode(images[key], 'TIFF'))


def list_jobs(settings: BrightSettings) -> dict[str, list[BrightJob]]:
    """The tiles of each split, drawn evenly from all events."""
    splits: dict[str, list[BrightJob]] = dict(train=[], val=[], test=[])
    for number, event in enumerate(EVENTS):
        rng = np.random.default_rng(stream(
            settings.seed, WORLD, _SET, number, 1 << 20))
        order = rng.permutation(settings.tiles)
        jobs = [
            BrightJob(settings, event, tile, f'{event}_{place:08d}')
            for tile, place in enumerate(order.tolist())]
        ends = np.cumsum([0, *settings.counts])
        for i, split in enumerate(splits):
            splits[split] += jobs[ends[i]:ends[i + 1]]
    return splits


def render_bright(
    root: Path, settings: BrightSettings, workers: int = 1,
) -> None:
    """Render the whole set into ``root`` (the folder BRIGHT itself).

    Args:
        root: An empty folder.
        settings: Size and seed.
        workers: Number of processes; the bytes do not depend on it.
    """
    for folder, _ in PARTS.values():
        (root / folder).mkdir(parents=True)
    splits = list_jobs(settings)
    run_jobs(partial(render_job, root=root),
             [job for jobs in splits.values() for job in jobs], workers,
             'BRIGHT')
    for split, jobs in splits.items():
        (root / f'{split}_set.txt').write_text(
            ''.join(f'{name}\n' for name in sorted(
                job.name for job in jobs)), encoding='utf-8')


write_bright = SetWriter('BRIGHT', BrightSettings, render_bright)
