"""The optical camera: paint, sun and shadow, haze, sea, blur and noise."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .scene import Float, Frame, Mask, Scene, ceiling, smooth_noise, unit


@dataclass(frozen=True)
class OpticalCamera:
    """One optical acquisition.

    Attributes:
        gsd: Ground sampling distance in metres.
        sun_azimuth: Direction from the scene to the sun, degrees.
        sun_elevation: Height of the sun above the horizon, degrees.
        tilt: Angle between the line of sight and the vertical, degrees.
        tilt_azimuth: Direction from the scene to the camera, degrees.
        haze: Share of the light that is scattered by the air, [0, 1).
        water: Reflectance of deep water, 3 values.
        swell: Contrast of the waves, share of the water's brightness.
        swell_azimuth: Direction across the wave crests, degrees.
        psf: Standard deviation of the blur in pixels.
        sharpen: Strength of the unsharp mask of the product, 0 for none.
        exposure: Reflectance that reaches full scale.
        balance: Gain of the three bands.
        noise: Standard deviation of the sensor noise, grey levels.
    """

    gsd: float = 0.75
    sun_azimuth: float = 135.0
    sun_elevation: float = 50.0
    tilt: float = 0.0
    tilt_azimuth: float = 90.0
    haze: float = 0.05
    water: tuple[float, float, float] = (0.012, 0.03, 0.07)
    swell: float = 0.15
    swell_azimuth: float = 20.0
    psf: float = 0.55
    sharpen: float = 0.6
    exposure: float = 0.75
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    noise: float = 2.5

    def __post_init__(self) -> None:
        if self.gsd <= 0:
            raise ValueError(f'gsd must be > 0 m, got {self.gsd}')
        if not 0 < self.sun_elevation <= 90:
            raise ValueError(
                'sun_elevation must be in (0, 90] degrees, got '
                f'{self.sun_elevation}')
        if not 0 <= self.tilt < 60:
            raise ValueError(
                f'tilt must be in [0, 60) degrees, got {self.tilt}')

    def project(
        self, x: Float, y: Float, z: Float,
    ) -> tuple[Float, Float]:
        """Where points at height ``z`` appear on the ground, metres."""
        to_x, to_y = unit(self.tilt_azimuth)
        lean = float(np.tan(np.deg2rad(self.tilt)))
        return x - to_x * lean * z, y - to_y * lean * z

    def shadow(self, scene: Scene) -> Mask:
        """(H, W) cells of ``scene`` that the sun does not reach."""
        roof = ceiling(
            scene.height, scene.spacing, self.sun_azimuth,
            float(np.tan(np.deg2rad(self.sun_elevation))))
        return np.asarray(roof > scene.height + 0.15)

    def radiance(self, scene: Scene, rng: np.random.Generator) -> Float:
        """Light that leaves every cell of the scene, (H, W, 3)."""
        sun = np.sin(np.deg2rad(self.sun_elevation))
        ambient = 0.22
        lit = np.where(
            self.shadow(scene), 0.0, self._facing(scene) * sun)
        light = (ambient + (1 - ambient) * lit).astype(np.float32)
        out = scene.albedo * light[..., None]
        sea = np.asarray(self.water, np.float32)
        shade = 0.45 + 0.55 * (lit[scene.water] > 0)
        waves = 1 + self.swell * self._waves(scene, rng)[scene.water]
        out[scene.water] = sea * np.clip(shade * waves, 0.1, 3)[:, None]
        return out

    def _facing(self, scene: Scene) -> Float:
        """Lambert factor of the slopes against that of flat ground."""
        to_x, to_y = unit(self.sun_azimuth)
        down, right = np.gradient(scene.height, scene.spacing)
        slope = np.clip(to_x * right - to_y * down, -0.9, 0.9)
        flat = np.tan(np.deg2rad(max(self.sun_elevation, 20.0)))
        return np.clip(1 - slope / flat * 0.6, 0.15, 1.8)

    def _waves(self, scene: Scene, rng: np.random.Generator) -> Float:
        """Sea texture: a swell train and wind ripples, deviation near 1."""
        x, y = scene.axes()
        to_x, to_y = unit(self.swell_azimuth)
        length = float(rng.uniform(6, 18))
        phase = (x[None] * to_x + y[:, None] * to_y) / length
        ripple = smooth_noise(scene.shape, 0.8 / scene.spacing, rng)
        bend = smooth_noise(scene.shape, 10 / scene.spacing, rng)
        train = np.sin(2 * np.pi * phase + 1.5 * bend)
        return (0.6 * train + 0.8 * ripple).astype(np.float32)

    def render(
        self, scene: Scene, rng: np.random.Generator,
        frame: Frame | None = None,
    ) -> NDArray[np.uint8]:
        """Take a picture.

        Args:
            scene: What to look at.
            rng: The image's own stream (waves, noise).
            frame: What the picture shows; the whole scene if None.

        Returns:
            (rows, cols, 3) RGB, 8 bit.
        """
        from scipy.ndimage import gaussian_filter1d, map_coordinates
        if frame is None:
            frame = Frame.whole(scene, self.gsd)
        scene = scene.covering(frame)
        light = self.radiance(scene, rng)
        sigma = self.psf * frame.pixel / scene.spacing
        for axis in (0, 1):
            light = gaussian_filter1d(light, sigma, axis, mode='nearest')
        rows, cols = self._look(scene, frame)
        image = np.stack([
            map_coordinates(light[..., band], [rows, cols], order=1,
                            mode='nearest') for band in range(3)], axis=-1)
        return self._develop(image, rng)

    def _look(self, scene: Scene, frame: Frame) -> tuple[Float, Float]:
        """Scene cell that each pixel sees; a tilted view leans roofs over.

        The crossing of the line of sight with the height field is found by
        fixed point iteration, good enough for the small tilts of imagers.
        """
        from scipy.ndimage import map_coordinates
        x, y = frame.positions()
        lean = float(np.tan(np.deg2rad(self.tilt)))
        to_x, to_y = unit(self.tilt_azimuth)
        rows, cols = scene.cells(x, y)
        for _ in range(3 if lean > 0 else 0):
            tall = map_coordinates(
                scene.height, [rows, cols], order=1, mode='nearest')
            rows, cols = scene.cells(
                x + to_x * lean * tall, y + to_y * lean * tall)
        return rows, cols

    def _develop(
        self, image: Float, rng: np.random.Generator,
    ) -> NDArray[np.uint8]:
        """Haze, exposure, stray light, sharpening, noise, 8 bits."""
        from scipy.ndimage import gaussian_filter
        air = np.array([0.55, 0.65, 0.8], np.float32) * 0.35
        image = (1 - self.haze) * image + self.haze * air
        image = image * np.asarray(self.balance, np.float32)
        image = np.clip(image / self.exposure, 0, 1.1) ** 1.05
        # Stray light inside the instrument takes some of the colour.
        grey = image.mean(axis=2, keepdims=True)
        image = grey + 0.82 * (image - grey)
        if self.sharpen > 0:
            soft = gaussian_filter(image, (1.0, 1.0, 0))
            image = image + self.sharpen * (image - soft)
        image = 255 * image
        noise = rng.standard_normal(image.shape, np.float32)
        image = image + self.noise * noise
        return np.clip(np.rint(image), 0, 255).astype(np.uint8)
