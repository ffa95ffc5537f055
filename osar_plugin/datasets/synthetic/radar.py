"""The radar: layover, shadow, double bounce, bright points and speckle.

It reads heights, reflectivity and scatterers of a scene, never its colours.
All geometry is projected to the ground plane at z = 0, as in the ground
range products that ship chips are cut from: a point at height z appears
``z / tan(incidence)`` metres towards the sensor.

Powers are per square metre; a power of 1 is the level that the default
calibration maps to the top of the dynamic range.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .scene import Float, Frame, Pose, Scatterers, Scene, ceiling, unit

Complex = NDArray[np.complex64]


class Echoes(NamedTuple):
    """Diffuse echoes of a scene: positions and powers.

    Attributes:
        x: (N,) metres, projected to the ground plane.
        y: (N,) metres, projected to the ground plane.
        power: (N,) power times area (square metres).
    """

    x: Float
    y: Float
    power: Float


@dataclass(frozen=True)
class Radar:
    """One SAR acquisition.

    Attributes:
        pixel: Pixel size of the product in metres.
        azimuth: Direction from the scene to the sensor, degrees.
        incidence: Angle between line of sight and vertical, degrees.
        resolution: Resolution in range and along track, metres.
        looks: Number of looks that are averaged (in power).
        sea: Reflectivity of the sea, power per square metre.
        swell: Contrast of the long waves in the sea clutter.
        noise: Reflectivity that equals the thermal noise.
        defocus: Quadratic phase at the edge of the along-track band, in
            radians: a ship that moves during the exposure smears.
        taper: Weight at the edge of the band; 1 leaves full sidelobes.
        wall: Reflectivity of walls that face the radar.
        bounce: Strength of the double bounce at the foot of walls.
        glint: Factor on the cross section of the bright points.
        flicker: Deviation of the bright points' answer, nepers.
        full_scale: Amplitude at which the product saturates.
        gain: Factor on the amplitude before it saturates.
        step: Quantum of the calibrated amplitude.
    """

    pixel: float = 1.0
    azimuth: float = 90.0
    incidence: float = 38.0
    resolution: tuple[float, float] = (1.3, 1.3)
    looks: int = 3
    sea: float = 0.008
    swell: float = 0.2
    noise: float = 0.0015
    defocus: float = 0.0
    taper: float = 0.9
    wall: float = 0.10
    bounce: float = 0.7
    glint: float = 1.0
    flicker: float = 0.35
    full_scale: float = 9562.5
    gain: float = 1.0
    step: float = 0.25

    def __post_init__(self) -> None:
        if not 10 <= self.incidence <= 80:
            raise ValueError(
                'incidence must be in [10, 80] degrees, got '
                f'{self.incidence}')
        if self.looks < 1:
            raise ValueError(f'looks must be >= 1, got {self.looks}')
        if self.pixel <= 0 or min(self.resolution) <= 0:
            raise ValueError(
                f'pixel {self.pixel} m and resolution {self.resolution} m '
                'must be > 0')

    @property
    def drop(self) -> float:
        """Metres of layover per metre of height."""
        return float(1 / np.tan(np.deg2rad(self.incidence)))

    def project(
        self, x: Float, y: Float, z: Float,
    ) -> tuple[Float, Float]:
        """Where points appear on the ground plane, metres."""
        to_x, to_y = unit(self.azimuth)
        return x + to_x * self.drop * z, y + to_y * self.drop * z

    def roof(self, scene: Scene) -> Float:
        """(H, W) height of the radar shadow above each cell, metres."""
        return ceiling(
            scene.height, scene.spacing, self.azimuth, self.drop)

    def render(
        self, scene: Scene, rng: np.random.Generator,
        frame: Frame | None = None,
    ) -> Float:
        """Take a picture.

        Args:
            scene: What to look at.
            rng: The image's own stream (speckle, flicker).
            frame: What the picture shows; the whole scene if None.

        Returns:
            (rows, cols) float32 amplitude in [0, ``full_scale``].
        """
        if frame is None:
            frame = Frame.whole(scene, self.pixel)
        intensity = self.intensity(scene, rng, frame)
        amplitude = self.gain * self.full_scale * np.sqrt(intensity)
        amplitude = np.minimum(amplitude, self.full_scale)
        # Products store whole numbers; this also makes the last bits of
        # the arithmetic disappear, so that equal seeds give equal bytes.
        steps = np.rint(amplitude / self.step)
        return (steps * self.step).astype(np.float32)

    def intensity(
        self, scene: Scene, rng: np.random.Generator, frame: Frame,
    ) -> Float:
        """(rows, cols) power, unbounded, before calibration."""
        # The transform is periodic: a margin keeps sidelobes of one side
        # from coming in at the other.
        pad = 24
        wide = Frame(
            frame.rows + 2 * pad, frame.cols + 2 * pad, frame.pixel,
            frame.x, frame.y, frame.rotation)
        roof = self.roof(scene)
        power = self._diffuse(scene, roof, wide, rng)
        points = self._points(scene, roof, rng)
        # Only strong points show sidelobes; the many weak ones join the
        # clutter, which costs next to nothing.
        strong = points.rcs > 8.0
        power += self._spots(points, ~strong, wide)
        points = points.chosen(strong)
        total = self._focus(power, points, wide, rng)
        return np.ascontiguousarray(total[pad:-pad, pad:-pad])

    def echoes(self, scene: Scene, roof: Float | None = None) -> Echoes:
        """Surfaces, walls and double bounces of the solids of a scene.

        Args:
            scene: The scene; its open water is left out.
            roof: The result of :meth:`roof`, computed if None.
        """
        if roof is None:
            roof = self.roof(scene)
        x, y = scene.axes()
        lit = roof <= scene.height + 0.1
        solid = lit & ~scene.water
        rows, cols = np.nonzero(solid)
        px, py = self.project(
            x[cols], y[rows], scene.height[rows, cols])
        parts = [Echoes(
            px, py, scene.sigma0[rows, cols] * scene.spacing ** 2)]
        parts += self._walls(scene, roof, x, y)
        return Echoes(*(np.concatenate(layer) for layer in zip(
            *parts, strict=True)))

    def _walls(
        self, scene: Scene, roof: Float, x: Float, y: Float,
    ) -> list[Echoes]:
        """Steps that rise away from the sensor, along both axes."""
        aligned = self._aligned(scene)
        out: list[Echoes] = []
        to_x, to_y = unit(self.azimuth)
        for axis, toward in ((1, to_x), (0, -to_y)):
            if abs(toward) < 0.05:
                continue
            # `near` is the neighbour on the sensor's side of each cell.
            near = np.roll(scene.height, -1 if toward > 0 else 1, axis)
            blocked = np.roll(roof, -1 if toward > 0 else 1, axis)
            edge = [slice(None), slice(None)]
            edge[axis] = slice(-1, None) if toward > 0 else slice(0, 1)
            near[tuple(edge)] = scene.height[tuple(edge)]
            foot = np.maximum(near, blocked)
            rise = scene.height - foot
            rows, cols = np.nonzero(rise > 0.4)
            dark = blocked[rows, cols] > near[rows, cols] + 0.5
            out += self._wall_echoes(
                x[cols], y[rows], foot[rows, cols], rise[rows, cols],
                dark, aligned[rows, cols] * abs(toward), scene.spacing)
        return out

    def _aligned(self, scene: Scene) -> Float:
        """(H, W) how squarely the slope at a cell faces the radar."""
        from scipy.ndimage import uniform_filter
        soft = uniform_filter(
            scene.height, max(3, round(3 / scene.spacing)))
        down, right = np.gradient(soft)
        to_x, to_y = unit(self.azimuth)
        steep = np.hypot(down, right) + 1e-3
        cos = np.clip((-to_x * right + to_y * down) / steep, 0, 1)
        return (0.12 + 0.88 * cos ** 6).astype(np.float32)

    def _wall_echoes(
        self, x: Float, y: Float, foot: Float, rise: Float,
        dark: NDArray[np.bool_], aligned: Float, spacing: float,
    ) -> list[Echoes]:
        """Single bounce spread over the wall, double bounce at its foot."""
        pieces = np.maximum(1, np.ceil(rise / 0.8)).astype(int)
        which = np.repeat(np.arange(len(x)), pieces)
        first = np.cumsum(pieces) - pieces
        order = np.arange(len(which)) - first[which]
        share = (order + 0.5) / pieces[which]
        z = (foot[which] + share * rise[which]).astype(np.float32)
        px, py = self.project(x[which], y[which], z)
        flat = self.wall * aligned[which] * (rise / pieces)[which] * spacing
        # The mirror image of the wall must fall on the ground before it:
        # a wall whose foot lies in shadow has no double bounce, and height
        # beyond some metres adds little on a cluttered deck.
        height = np.minimum(rise, 4.0)
        twice = np.where(
            dark, 0, self.bounce * aligned * height * spacing)
        dx, dy = self.project(x, y, foot)
        return [Echoes(px, py, flat.astype(np.float32)),
                Echoes(dx, dy, twice.astype(np.float32))]

    def _diffuse(
        self, scene: Scene, roof: Float, frame: Frame,
        rng: np.random.Generator,
    ) -> Float:
        """(rows, cols) mean power of everything that is not a point."""
        from scipy.ndimage import gaussian_filter, map_coordinates
        echo = self.echoes(scene, roof)
        row, col = frame.pixels(echo.x, echo.y)
        power = _splat(row, col, echo.power, (frame.rows, frame.cols))
        power /= frame.pixel ** 2
        # The projection is sampled by cells; half a pixel of blur hides
        # the beat between the two grids and stays below the resolution.
        power = gaussian_filter(power, 0.45)
        x, y = frame.positions()
        cells = scene.cells(x, y)
        wet = (scene.water & (roof <= 0.1)).astype(np.float32)
        lit = map_coordinates(wet, cells, order=1, mode='nearest')
        inside = (np.abs(cells[0] - (scene.shape[0] - 1) / 2)
                  <= scene.shape[0] / 2) & (
            np.abs(cells[1] - (scene.shape[1] - 1) / 2)
            <= scene.shape[1] / 2)
        lit = np.where(inside, lit, 1.0)
        return power + lit * self._sea(frame, rng) + self.noise

    def _spots(
        self, points: Scatterers, weak: NDArray[np.bool_], frame: Frame,
    ) -> Float:
        """(rows, cols) mean power of the weak points."""
        row, col = frame.pixels(
            points.xyz[weak, 0], points.xyz[weak, 1])
        power = _splat(
            row, col, points.rcs[weak], (frame.rows, frame.cols))
        return power / np.float32(frame.pixel ** 2)

    def _sea(self, frame: Frame, rng: np.random.Generator) -> Float:
        """(rows, cols) reflectivity of the sea with its long waves."""
        x, y = frame.positions()
        to_x, to_y = unit(float(rng.uniform(0, 360)))
        length, phase = rng.uniform(15, 60), rng.uniform(0, 6.3)
        wave = np.sin(2 * np.pi * (x * to_x + y * to_y) / length + phase)
        return np.asarray(
            self.sea * (1 + self.swell * wave), np.float32)

    def _points(
        self, scene: Scene, roof: Float, rng: np.random.Generator,
    ) -> Scatterers:
        """Bright points as this radar sees them, on the ground plane."""
        points = scene.scatterers
        flicker = np.exp(
            self.flicker * rng.standard_normal(len(points)))
        x, y, z = points.xyz.T
        rows, cols = (np.clip(np.rint(c), 0, n - 1).astype(int)
                      for c, n in zip(
                          scene.cells(x, y), scene.shape, strict=True))
        seen = roof[rows, cols] <= z + 0.5
        off = (points.facing - self.azimuth + 180) % 360 - 180
        lobe = np.where(
            np.isinf(points.lobe), 1.0, np.exp(-(off / points.lobe) ** 2))
        rcs = self.glint * points.rcs * lobe * flicker * seen
        keep = rcs > 0.05
        px, py = self.project(x[keep], y[keep], z[keep])
        xyz = np.stack([px, py, np.zeros_like(px)], axis=1)
        return Scatterers(
            xyz.astype(np.float32), rcs[keep].astype(np.float32),
            points.facing[keep], points.lobe[keep])

    def _focus(
        self, power: Float, points: Scatterers, frame: Frame,
        rng: np.random.Generator,
    ) -> Float:
        """Speckle, point responses and looks; returns power."""
        from scipy.fft import fft2, ifft2
        band = self._band(frame)
        root = np.sqrt(power / 2).astype(np.float32)
        comb = _PointComb(points, frame)
        total = np.zeros(power.shape, np.float32)
        for _ in range(self.looks):
            noise = rng.standard_normal((2, *power.shape), np.float32)
            field = fft2((root * noise[0] + 1j * root * noise[1]).astype(
                np.complex64))
            if len(points):
                field = field + comb.spectrum(rng)
            image = ifft2(field * band)
            total += image.real ** 2 + image.imag ** 2
        return total / np.float32(self.looks)

    def _band(self, frame: Frame) -> Complex:
        """(rows, cols) transfer function, normalised to keep clutter.

        A rectangle in the frequencies of range and track, which gives the
        crossed sidelobes; the track axis carries the defocus.
        """
        right = np.fft.fftfreq(frame.cols, frame.pixel)[None]
        up = -np.fft.fftfreq(frame.rows, frame.pixel)[:, None]
        fx, fy = Pose(heading=frame.rotation).to_scene(
            right.astype(np.float32), up.astype(np.float32))
        to_x, to_y = unit(self.azimuth)
        along = 2 * self.resolution[0] * (fx * to_x + fy * to_y)
        across = 2 * self.resolution[1] * (fx * to_y - fy * to_x)
        u = np.asarray(along, np.float32)
        v = np.asarray(across, np.float32)
        inside = (np.abs(u) <= 1) & (np.abs(v) <= 1)
        weight = inside * self._window(u) * self._window(v)
        weight /= np.sqrt(np.mean(weight ** 2))
        phase = np.exp(1j * self.defocus * v ** 2)
        return np.asarray(weight * phase, np.complex64)

    def _window(self, u: Float) -> Float:
        mid, half = (1 + self.taper) / 2, (1 - self.taper) / 2
        wave = np.cos(np.pi * np.clip(u, -1, 1))
        return np.asarray(mid + half * wave, np.float32)


class _PointComb:
    """Exact spectra of points that lie between the pixels."""

    def __init__(self, points: Scatterers, frame: Frame) -> None:
        row, col = frame.pixels(points.xyz[:, 0], points.xyz[:, 1])
        down = np.fft.fftfreq(frame.rows)[:, None] * row[None]
        right = np.fft.fftfreq(frame.cols)[None] * col[:, None]
        self.down = np.exp(-2j * np.pi * down).astype(np.complex64)
        self.right = np.exp(-2j * np.pi * right).astype(np.complex64)
        self.size = np.sqrt(points.rcs) / frame.pixel

    def spectrum(self, rng: np.random.Generator) -> Complex:
        """Sum over all points, each with a fresh phase: one look."""
        phase = rng.uniform(0, 2 * np.pi, len(self.size))
        echo = (self.size * np.exp(1j * phase)).astype(np.complex64)
        return np.asarray((self.down * echo) @ self.right)


def _splat(
    row: Float, col: Float, weight: Float, shape: tuple[int, int],
) -> Float:
    """Sum weights into a grid, shared between the four nearest cells."""
    rows, cols = shape
    keep = (row > 0) & (row < rows - 1) & (col > 0) & (col < cols - 1)
    row, col, weight = row[keep], col[keep], weight[keep]
    r, c = row.astype(np.int64), col.astype(np.int64)
    fr, fc = row - r, col - c
    out = np.zeros(rows * cols)
    for dr, wr in ((0, 1 - fr), (1, fr)):
        for dc, wc in ((0, 1 - fc), (1, fc)):
            out += np.bincount(
                (r + dr) * cols + c + dc, weight * wr * wc, rows * cols)
    return out.reshape(shape).astype(np.float32)
