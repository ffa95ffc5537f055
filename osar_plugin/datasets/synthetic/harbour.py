"""Harbours: quays, sheds, stacks and gantries, with ships alongside."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .layouts import draw_plan
from .scene import Colour, Float, Pose, Scatterers, Scene
from .ship import Ship, draw_paint

Rng = np.random.Generator


@dataclass(frozen=True)
class Solid:
    """A box that stands on the ground, with bright corners.

    Attributes:
        width: Extent across its heading, metres.
        length: Extent along its heading, metres.
        top: Height of its top above the water line, metres.
        colour: Reflectance, 3 values in [0, 1].
        sigma0: Radar reflectivity of its top (power per square metre).
        corner: Median radar cross section of its corners (square metres);
            0 for none.
        grain: Contrast of the texture of its top.
        seed: Seed of corners and texture.
    """

    width: float
    length: float
    top: float
    colour: tuple[float, ...]
    sigma0: float
    corner: float = 0.0
    grain: float = 0.1
    seed: int = 0

    def draw(self, scene: Scene, pose: Pose) -> None:
        """Put the box on ``scene`` with its middle at ``pose``."""
        rng = np.random.default_rng(self.seed)
        win = scene.window(pose, self.width / 2, self.length / 2)
        inside = (np.abs(win.x) <= self.width / 2) & (
            np.abs(win.y) <= self.length / 2)
        before = scene.height[win.rows, win.cols] <= self.top
        scene.put(win, inside, self.top, self.colour, self.sigma0)
        grain = 1 + self.grain * rng.standard_normal(
            inside.shape, np.float32)
        scene.albedo[win.rows, win.cols] *= np.where(
            inside & before, np.clip(grain, 0.5, 1.5), 1)[..., None]
        if self.corner > 0:
            scene.add_scatterers(self._corners(rng).placed(pose))

    def _corners(self, rng: Rng) -> Scatterers:
        signs = np.array(
            [(1, 1), (1, -1), (-1, -1), (-1, 1)], np.float32)
        xyz = np.column_stack([
            signs[:, 0] * self.width / 2, signs[:, 1] * self.length / 2,
            np.full(4, self.top)]).astype(np.float32)
        rcs = self.corner * np.exp(rng.standard_normal(4))
        facing = np.rad2deg(np.arctan2(signs[:, 0], signs[:, 1])) % 360
        return Scatterers(
            xyz, rcs.astype(np.float32), facing.astype(np.float32),
            np.full(4, 55, np.float32))


def draw_harbour(
    size: float, geometry: np.random.SeedSequence,
    paint: np.random.SeedSequence, spacing: float = 0.5,
) -> Scene:
    """A square piece of a harbour: water, a quay, what lies at it.

    Args:
        size: Extent of the scene in metres.
        geometry: Stream of everything that has a shape.
        paint: Stream of everything that has a colour.
        spacing: Cell size in metres.

    Returns:
        The scene.
    """
    rng, brush = np.random.default_rng(geometry), np.random.default_rng(
        paint)
    scene = Scene(size, size, spacing)
    heading = float(rng.uniform(0, 360))
    edge = float(rng.uniform(-0.2, 0.25)) * size
    depth = 1.5 * size
    # The quay fills the half plane to the right of its edge.
    quay = Pose(0, 0, heading)
    Solid(depth, 3 * size, 2.5, _grey(brush, 0.25, 0.5), 0.02,
          seed=_seed(brush)).draw(scene, quay.place(edge + depth / 2, 0))
    _yard(scene, quay, edge, size, rng, brush)
    _moored(scene, quay, edge, size, rng, brush)
    return scene


def _yard(
    scene: Scene, quay: Pose, edge: float, size: float, rng: Rng,
    brush: Rng,
) -> None:
    """Sheds, container stacks and gantry cranes in rows on the quay."""
    for _ in range(int(rng.integers(4, 12))):
        wide, long = rng.uniform(8, 26), rng.uniform(14, 60)
        x = edge + 16 + wide / 2 + float(rng.uniform(0, 0.6)) * size
        y = float(rng.uniform(-0.6, 0.6)) * size
        at = quay.place(x, y, float(rng.choice([0.0, 0.0, 90.0])))
        Solid(float(wide), float(long), 2.5 + float(rng.uniform(4, 14)),
              _tint(brush), 0.06, 20.0, 0.06, _seed(brush)).draw(scene, at)
    for _ in range(int(rng.integers(0, 24))):
        x = edge + 8 + float(rng.uniform(0, 0.35)) * size
        y = float(rng.uniform(-0.6, 0.6)) * size
        Solid(2.5, 12.2, 2.5 + 2.6 * int(rng.integers(1, 5)), _tint(brush),
              0.1, 6.0, 0.05, _seed(brush)).draw(scene, quay.place(x, y))
    for _ in range(int(rng.integers(0, 3))):
        y = float(rng.uniform(-0.5, 0.5)) * size
        Solid(34, 2.5, 32, _tint(brush), 0.5, 60.0, 0, _seed(brush)).draw(
            scene, quay.place(edge - 8, y))


def _moored(
    scene: Scene, quay: Pose, edge: float, size: float, rng: Rng,
    brush: Rng,
) -> None:
    """One or two ships alongside, and some boats."""
    side = float(rng.choice([0.0, 180.0]))
    for i in range(int(rng.integers(0, 3))):
        family, detail = (
            np.random.SeedSequence(int(s)) for s in rng.integers(
                2 ** 31, size=2))
        plan = draw_plan(family, detail)
        y = float(rng.uniform(-0.35, 0.35)) * size
        x = edge - plan.hull.beam / 2 - 2 - 40 * i
        Ship(plan, draw_paint(plan, brush)).draw(
            scene, quay.place(x, y, side))
    for _ in range(int(rng.integers(0, 6))):
        x = edge - float(rng.uniform(6, 70))
        y = float(rng.uniform(-0.5, 0.5)) * size
        long = float(rng.uniform(8, 22))
        Solid(long / 4, long, 2.5, _tint(brush), 0.1, 10.0, 0.1,
              _seed(brush)).draw(
            scene, quay.place(x, y, float(rng.uniform(0, 360))))


def _seed(rng: Rng) -> int:
    return int(rng.integers(2 ** 31))


def _grey(rng: Rng, low: float, high: float) -> tuple[float, ...]:
    level = rng.uniform(low, high) + rng.normal(0, 0.015, 3)
    return tuple(np.clip(level, 0.02, 0.95).tolist())


def _tint(rng: Rng) -> tuple[float, ...]:
    """A roof or box colour: grey, or one of some strong paints."""
    if rng.random() < 0.45:
        return _grey(rng, 0.25, 0.75)
    colours: Colour | Float = np.array([
        (0.45, 0.13, 0.08), (0.12, 0.28, 0.5), (0.55, 0.28, 0.1),
        (0.12, 0.35, 0.24), (0.55, 0.5, 0.35)])
    pick = np.asarray(colours)[int(rng.integers(5))]
    return tuple(np.clip(
        pick + rng.normal(0, 0.03, 3), 0.02, 0.95).tolist())
