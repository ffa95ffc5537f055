"""The scene: a metric raster that both sensors look at.

Conventions used in the whole package:

* ``x`` runs to the right (east, or starboard of a ship that points up),
  ``y`` runs up (north, or towards the bow), ``z`` up from the water line;
  all in metres, the origin in the middle of the raster.
* Row 0 of a raster is its top (largest ``y``). Cell centres are at
  ``x = (col - (W - 1) / 2) * spacing``, ``y = ((H - 1) / 2 - row) * spacing``.
* Azimuths are degrees clockwise from ``+y``.

Letters in shapes: H W cells of a raster, N point scatterers.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]
Colour = Sequence[float] | NDArray[np.floating]


def unit(azimuth: float) -> tuple[float, float]:
    """The (x, y) unit vector of an azimuth in degrees clockwise from +y."""
    angle = np.deg2rad(azimuth)
    return float(np.sin(angle)), float(np.cos(angle))


class Pose(NamedTuple):
    """Where an object stands in a scene.

    Attributes:
        x: Metres to the right of the middle of the scene.
        y: Metres above (in the picture) the middle of the scene.
        heading: Degrees clockwise from +y.
    """

    x: float = 0.0
    y: float = 0.0
    heading: float = 0.0

    def to_scene(self, x: Float, y: Float) -> tuple[Float, Float]:
        """Object coordinates (metres) to scene coordinates (metres)."""
        sin, cos = unit(self.heading)
        return self.x + x * cos + y * sin, self.y - x * sin + y * cos

    def place(self, x: float, y: float, turn: float = 0.0) -> Pose:
        """The pose of a part at (x, y) of the object, turned by ``turn``.

        Args:
            x: Metres to the right of the object's middle.
            y: Metres ahead of the object's middle.
            turn: Degrees clockwise from the object's heading.
        """
        sin, cos = unit(self.heading)
        return Pose(self.x + x * cos + y * sin, self.y - x * sin + y * cos,
                    self.heading + turn)

    def to_object(self, x: Float, y: Float) -> tuple[Float, Float]:
        """Scene coordinates (metres) to object coordinates (metres)."""
        sin, cos = unit(self.heading)
        dx, dy = x - self.x, y - self.y
        return dx * cos - dy * sin, dx * sin + dy * cos


@dataclass
class Scatterers:
    """Bright points of a radar scene: corners, masts, fittings.

    Attributes:
        xyz: (N, 3) positions in metres.
        rcs: (N,) radar cross sections in square metres.
        facing: (N,) azimuth of the middle of the main lobe in degrees.
        lobe: (N,) half width of that lobe in degrees; ``inf`` for a point
            that answers in all directions.
    """

    xyz: Float = field(
        default_factory=lambda: np.zeros((0, 3), np.float32))
    rcs: Float = field(default_factory=lambda: np.zeros(0, np.float32))
    facing: Float = field(default_factory=lambda: np.zeros(0, np.float32))
    lobe: Float = field(default_factory=lambda: np.zeros(0, np.float32))

    def __len__(self) -> int:
        return len(self.rcs)

    def placed(self, pose: Pose) -> Scatterers:
        """The same points with the object that carries them at ``pose``."""
        x, y = pose.to_scene(self.xyz[:, 0], self.xyz[:, 1])
        xyz = np.stack([x, y, self.xyz[:, 2]], axis=1).astype(np.float32)
        facing = (self.facing + pose.heading) % 360
        return Scatterers(
            xyz, self.rcs, facing.astype(np.float32), self.lobe)

    def chosen(self, keep: Mask) -> Scatterers:
        """The points where ``keep`` (N,) is true."""
        return Scatterers(
            self.xyz[keep], self.rcs[keep], self.facing[keep],
            self.lobe[keep])

    @staticmethod
    def concatenate(parts: Sequence[Scatterers]) -> Scatterers:
        """All points of several lists, in order."""
        if not parts:
            return Scatterers()
        return Scatterers(
            np.concatenate([p.xyz for p in parts]),
            np.concatenate([p.rcs for p in parts]),
            np.concatenate([p.facing for p in parts]),
            np.concatenate([p.lobe for p in parts]))


class Window(NamedTuple):
    """A part of a raster and the coordinates of its cells (metres)."""

    rows: slice
    cols: slice
    x: Float
    y: Float


class Scene:
    """A height field with one layer for each thing a sensor can see.

    The camera reads ``height``, ``albedo`` and ``water``; the radar reads
    ``height``, ``sigma0``, ``water`` and ``scatterers``. Colour therefore
    cannot reach the radar, and roughness cannot reach the camera.

    Args:
        width: Extent along x in metres.
        length: Extent along y in metres.
        spacing: Cell size in metres.

    Attributes:
        height: (H, W) metres above the water line.
        albedo: (H, W, 3) reflectance in [0, 1].
        sigma0: (H, W) radar reflectivity, power per square metre, where 1
            is about the top of a radar's dynamic range.
        water: (H, W) true on open water; outside the raster is water too.
        scatterers: Bright points, in scene coordinates.

    Raises:
        ValueError: If an extent or the spacing is not positive.
    """

    def __init__(
        self, width: float, length: float, spacing: float = 0.5,
    ) -> None:
        if min(width, length, spacing) <= 0:
            raise ValueError(
                f'scene of {width} x {length} m at {spacing} m: every '
                'extent must be greater than 0')
        self.spacing = spacing
        shape = (max(2, round(length / spacing)),
                 max(2, round(width / spacing)))
        self.height = np.zeros(shape, np.float32)
        self.albedo = np.zeros((*shape, 3), np.float32)
        self.sigma0 = np.zeros(shape, np.float32)
        self.water = np.ones(shape, np.bool_)
        self._scatterers: list[Scatterers] = []

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the raster."""
        rows, cols = self.height.shape
        return rows, cols

    @property
    def scatterers(self) -> Scatterers:
        """All bright points that objects added."""
        return Scatterers.concatenate(self._scatterers)

    def copy(self) -> Scene:
        """A scene that can be drawn on without changing this one."""
        rows, cols = self.shape
        out = Scene(cols * self.spacing, rows * self.spacing, self.spacing)
        out.height = self.height.copy()
        out.albedo = self.albedo.copy()
        out.sigma0 = self.sigma0.copy()
        out.water = self.water.copy()
        out._scatterers = list(self._scatterers)
        return out

    def covering(self, frame: Frame, margin: float = 2.0) -> Scene:
        """This scene with as much open water around it as ``frame`` shows.

        Args:
            frame: What a picture shows.
            margin: Metres of water beyond the frame.

        Returns:
            A larger copy with the same middle, or the scene itself.
        """
        right = (frame.cols - 1) / 2 * frame.pixel + margin
        up = (frame.rows - 1) / 2 * frame.pixel + margin
        corners = [frame.pose.place(sx * right, sy * up)
                   for sx in (-1, 1) for sy in (-1, 1)]
        rows, cols = self.shape
        reach_y = max(abs(corner.y) for corner in corners) / self.spacing
        reach_x = max(abs(corner.x) for corner in corners) / self.spacing
        more_y = max(0, math.ceil(reach_y - rows / 2))
        more_x = max(0, math.ceil(reach_x - cols / 2))
        if not more_y and not more_x:
            return self
        edge = ((more_y, more_y), (more_x, more_x))
        out = Scene(self.spacing, self.spacing, self.spacing)
        out.height = np.pad(self.height, edge)
        out.albedo = np.pad(self.albedo, (*edge, (0, 0)))
        out.sigma0 = np.pad(self.sigma0, edge)
        out.water = np.pad(self.water, edge, constant_values=True)
        out._scatterers = list(self._scatterers)
        return out

    def add_scatterers(self, points: Scatterers) -> None:
        """Add bright points, in scene coordinates."""
        self._scatterers.append(points)

    def axes(self) -> tuple[Float, Float]:
        """The x of the columns (W,) and the y of the rows (H,), metres."""
        rows, cols = self.shape
        x = (np.arange(cols) - (cols - 1) / 2) * self.spacing
        y = ((rows - 1) / 2 - np.arange(rows)) * self.spacing
        return x.astype(np.float32), y.astype(np.float32)

    def cells(self, x: Float, y: Float) -> tuple[Float, Float]:
        """Fractional (row, column) of positions in metres."""
        rows, cols = self.shape
        return ((rows - 1) / 2 - y / self.spacing,
                (cols - 1) / 2 + x / self.spacing)

    def window(
        self, pose: Pose, half_width: float, half_length: float,
    ) -> Window:
        """The cells that can be touched by a rectangle at ``pose``.

        Args:
            pose: Middle and heading of the rectangle.
            half_width: Half extent across the heading, metres.
            half_length: Half extent along the heading, metres.

        Returns:
            The window, with coordinates *of the object*, metres.
        """
        sin, cos = map(abs, unit(pose.heading))
        reach_x = half_width * cos + half_length * sin
        reach_y = half_width * sin + half_length * cos
        rows, cols = self.shape
        mid_r = (rows - 1) / 2 - pose.y / self.spacing
        mid_c = (cols - 1) / 2 + pose.x / self.spacing
        r0 = max(0, int(mid_r - reach_y / self.spacing))
        r1 = min(rows, int(mid_r + reach_y / self.spacing) + 2)
        c0 = max(0, int(mid_c - reach_x / self.spacing))
        c1 = min(cols, int(mid_c + reach_x / self.spacing) + 2)
        r1, c1 = max(r0, r1), max(c0, c1)
        x, y = self.axes()
        grid_x, grid_y = pose.to_object(
            x[None, c0:c1], y[r0:r1, None])
        return Window(slice(r0, r1), slice(c0, c1), grid_x, grid_y)

    def put(
        self, window: Window, inside: Mask, top: Float | float,
        colour: Colour, sigma0: float,
    ) -> None:
        """Put a solid on the scene: it covers whatever is lower.

        Args:
            window: The part of the raster that is touched.
            inside: (h, w) cells of the window that the solid covers.
            top: Height of its top, metres above the water line.
            colour: Reflectance, 3 values in [0, 1].
            sigma0: Radar reflectivity (power per square metre).
        """
        part = (window.rows, window.cols)
        wins = inside & (self.height[part] <= top)
        self.height[part] = np.where(wins, top, self.height[part])
        self.albedo[part][wins] = np.asarray(colour, np.float32)
        self.sigma0[part][wins] = sigma0
        self.water[part][wins] = False


class SceneObject(Protocol):
    """Anything that can be put on a scene (ship, quay, building, road)."""

    def draw(self, scene: Scene, pose: Pose) -> None:
        """Write height, colour, reflectivity and points into ``scene``."""


@dataclass(frozen=True)
class Frame:
    """What a picture shows: a rotated rectangle of the scene.

    Attributes:
        rows: Height of the picture in pixels.
        cols: Width of the picture in pixels.
        pixel: Size of a pixel in metres.
        x: Middle of the picture, metres.
        y: Middle of the picture, metres.
        rotation: Azimuth of the up direction of the picture, degrees.
    """

    rows: int
    cols: int
    pixel: float
    x: float = 0.0
    y: float = 0.0
    rotation: float = 0.0

    def __post_init__(self) -> None:
        if self.rows < 1 or self.cols < 1 or self.pixel <= 0:
            raise ValueError(
                f'frame of {self.rows} x {self.cols} pixels of '
                f'{self.pixel} m is empty')

    @property
    def pose(self) -> Pose:
        """The frame as a pose (its up direction is the heading)."""
        return Pose(self.x, self.y, self.rotation)

    def positions(self) -> tuple[Float, Float]:
        """Scene x and y of all pixel centres, metres, (rows, cols) each."""
        cols = (np.arange(self.cols) - (self.cols - 1) / 2) * self.pixel
        rows = ((self.rows - 1) / 2 - np.arange(self.rows)) * self.pixel
        return self.pose.to_scene(
            cols[None].astype(np.float32),
            rows[:, None].astype(np.float32))

    def pixels(self, x: Float, y: Float) -> tuple[Float, Float]:
        """Fractional (row, column) of scene positions in metres."""
        right, up = self.pose.to_object(x, y)
        return ((self.rows - 1) / 2 - up / self.pixel,
                (self.cols - 1) / 2 + right / self.pixel)

    @staticmethod
    def whole(scene: Scene, pixel: float) -> Frame:
        """The frame that shows all of ``scene`` at a pixel size."""
        rows, cols = scene.shape
        return Frame(
            max(1, int(rows * scene.spacing / pixel)),
            max(1, int(cols * scene.spacing / pixel)), pixel)


def ceiling(
    height: Float, spacing: float, azimuth: float, slope: float,
) -> Float:
    """Height of the shadow volume above each cell, for a source far away.

    One sweep away from the source keeps the running horizon, so the cost
    is one pass over the raster whatever the length of the shadows. A cell
    lies in shadow where the result is above its own height. The same
    function serves the sun and the radar.

    Args:
        height: (H, W) height field in metres.
        spacing: Cell size in metres.
        azimuth: Direction from the scene to the source, degrees.
        slope: Metres that a ray drops per metre on the ground: tan of the
            sun's elevation, or 1 / tan of the radar's incidence angle.

    Returns:
        (H, W) metres; ``-inf`` where nothing lies towards the source.
    """
    to_x, to_y = unit(azimuth)
    if abs(to_y) < abs(to_x) - 1e-9:
        # Sweep along the other axis: mirror x and y.
        turned = ceiling(height.T[::-1, ::-1], spacing, 90 - azimuth, slope)
        return turned[::-1, ::-1].T
    rows = height if to_y > 0 else height[::-1]
    shift, drop = to_x / abs(to_y), spacing / abs(to_y) * slope
    out = np.full_like(rows, -np.inf)
    part = np.float32(abs(shift))
    for i in range(1, len(rows)):
        before = np.maximum(rows[i - 1], out[i - 1])
        aside = before.copy()
        if shift > 0:
            aside[:-1] = before[1:]
        else:
            aside[1:] = before[:-1]
        out[i] = before + part * (aside - before) - drop
    return out if to_y > 0 else out[::-1]


def smooth_noise(
    shape: tuple[int, int], sigma: float, rng: np.random.Generator,
) -> Float:
    """Smooth random field, mean 0, standard deviation about 1.

    Args:
        shape: Rows and columns.
        sigma: Width of a blob in cells.
        rng: Source of randomness.
    """
    from scipy.ndimage import zoom
    step = max(1.0, sigma)
    small = (int(shape[0] / step) + 3, int(shape[1] / step) + 3)
    noise = rng.standard_normal(small, np.float32)
    if step > 1.0:
        noise = zoom(noise, step, order=1)
    return np.ascontiguousarray(noise[:shape[0], :shape[1]])
