"""One pass of both sensors over land, at a pixel size."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..optical import OpticalCamera
from ..radar import Radar
from ..scene import Frame
from .cover import Land, Rng

#: Cells per pixel, in metres of a cell per metre of a pixel.
SPACING = 0.75
#: Pixels around a picture from which shadow and layover come in.
MARGIN = 12


@dataclass(frozen=True)
class Pass:
    """The state of both sensors; azimuths against north."""

    camera: OpticalCamera
    radar: Radar

    def optical(
        self, land: Land, rng: Rng, frame: Frame,
    ) -> NDArray[np.uint8]:
        """The optical picture, (rows, cols, 3) RGB."""
        return self.camera.render(land.scene, rng, frame)

    def sar(self, land: Land, rng: Rng, frame: Frame) -> NDArray[np.uint8]:
        """The SAR picture, (rows, cols) 8-bit amplitude."""
        amplitude = self.radar.render(land.scene, rng, frame)
        grey = np.rint(amplitude * (255 / self.radar.full_scale))
        return grey.astype(np.uint8)


def draw_pass(rng: Rng, pixel: float) -> Pass:
    """Draw light, air and viewing geometry.

    Args:
        rng: The stream of the pass.
        pixel: Pixel size of both products in metres.
    """
    fine = pixel < 4
    # From clear and deep to shallow and muddy.
    mud = float(rng.beta(1, 2))
    sea = (1 - mud) * np.array([.015, .035, .06]) + mud * np.array(
        [.16, .15, .1])
    sea *= rng.uniform(0.5, 1.8)
    warm = float(rng.normal(0, 0.07))
    camera = OpticalCamera(
        gsd=pixel,
        sun_azimuth=float(rng.uniform(90, 270)),
        sun_elevation=float(rng.uniform(28, 65)),
        tilt=float(rng.uniform(0, 8)) if fine else 0.0,
        tilt_azimuth=float(rng.uniform(0, 360)),
        haze=float(rng.beta(1.5, 6) * 0.7),
        water=(float(sea[0]), float(sea[1]), float(sea[2])),
        # Waves are shorter than a coarse pixel.
        swell=float(rng.uniform(0.05, 0.25)) if fine else 0.03,
        swell_azimuth=float(rng.uniform(0, 360)),
        psf=float(rng.uniform(0.5, 0.8)),
        sharpen=float(rng.uniform(0.3, 1.2)),
        exposure=float(rng.uniform(0.35, 0.75)),
        balance=(1 + warm, 1.0, 1 - warm),
        noise=float(rng.uniform(1.0, 3.0)))
    blur = pixel * float(rng.uniform(1.1, 1.4))
    radar = Radar(
        pixel=pixel,
        azimuth=float(rng.choice([80.0, 280.0]) + rng.normal(0, 6)),
        incidence=float(rng.uniform(28, 45)),
        resolution=(blur, blur),
        looks=int(rng.integers(3, 7)),
        sea=float(np.exp(rng.uniform(np.log(.002), np.log(.02)))),
        swell=float(rng.uniform(0, 0.3)) if fine else 0.0,
        noise=float(rng.uniform(.001, .002)),
        taper=float(rng.uniform(.6, .9)),
        wall=0.08,
        bounce=float(rng.uniform(.4, .8)),
        gain=float(rng.uniform(0.9, 1.7)))
    return Pass(camera, radar)
