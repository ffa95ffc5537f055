"""Acquisitions: what one pass of the two sensors has in common.

A sequence of the data set is one acquisition: its sun, sea, incidence and
look direction are shared by all ships in it. Ships lie at their own
headings, so in the picture of an upright ship the azimuths differ.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .optical import OpticalCamera
from .radar import Radar
from .scene import Float, Frame, Pose, Scene


@dataclass(frozen=True)
class Acquisition:
    """The state of both sensors on one pass; azimuths against north."""

    camera: OpticalCamera
    radar: Radar


def draw_acquisition(rng: np.random.Generator) -> Acquisition:
    """One pass: its light, its sea and its viewing geometry.

    Args:
        rng: The stream of the sequence.
    """
    return Acquisition(_draw_camera(rng), _draw_radar(rng))


def _draw_camera(rng: np.random.Generator) -> OpticalCamera:
    sea = np.array([0.010, 0.028, 0.060]) * rng.uniform(0.3, 1.6)
    sea[1] *= rng.uniform(0.7, 1.5)
    warm = float(rng.normal(0, 0.06))
    return OpticalCamera(
        sun_azimuth=float(rng.uniform(0, 360)),
        sun_elevation=float(rng.uniform(24, 68)),
        tilt=float(rng.uniform(0, 16)),
        tilt_azimuth=float(rng.uniform(0, 360)),
        haze=float(rng.beta(1.5, 9) * 0.6),
        water=(float(sea[0]), float(sea[1]), float(sea[2])),
        swell=float(rng.uniform(0.05, 0.35)),
        swell_azimuth=float(rng.uniform(0, 360)),
        psf=float(rng.uniform(0.6, 1.0)),
        sharpen=float(rng.uniform(0.8, 2.2)),
        exposure=float(rng.uniform(0.42, 0.8)),
        balance=(1 + warm, 1.0, 1 - warm),
        noise=float(rng.uniform(1.5, 4.0)))


def _draw_radar(rng: np.random.Generator) -> Radar:
    blur = float(rng.uniform(1.1, 1.5))
    return Radar(
        azimuth=float(rng.uniform(0, 360)),
        incidence=float(rng.triangular(20, 47, 50)),
        resolution=(blur, blur * float(rng.uniform(0.9, 1.25))),
        looks=int(rng.integers(3, 7)),
        sea=float(10 ** rng.uniform(-2.5, -1.8)),
        swell=float(rng.uniform(0.0, 0.4)),
        noise=float(10 ** rng.uniform(-3.2, -2.6)),
        taper=float(rng.uniform(0.7, 1.0)),
        glint=float(np.exp(rng.normal(0, 0.3))),
        gain=float(np.exp(rng.normal(0.45, 0.22))))


def for_ship(
    seen: Acquisition, heading: float, rng: np.random.Generator,
) -> Acquisition:
    """The acquisition as seen from a ship that is turned upright.

    Args:
        seen: The pass, azimuths against north.
        heading: Heading of the ship on that day, degrees.
        rng: The image's own stream: small differences inside a pass.
    """
    camera = replace(
        seen.camera,
        sun_azimuth=seen.camera.sun_azimuth - heading,
        tilt_azimuth=seen.camera.tilt_azimuth - heading,
        swell_azimuth=seen.camera.swell_azimuth - heading,
        exposure=seen.camera.exposure * float(rng.uniform(0.92, 1.08)))
    # One ship in eight moves or rolls enough to smear along the track.
    smear = float(rng.uniform(1.5, 6)) if rng.random() < 0.12 else 0.0
    radar = replace(
        seen.radar,
        azimuth=seen.radar.azimuth - heading,
        incidence=float(np.clip(
            seen.radar.incidence + rng.normal(0, 1.0), 20, 50)),
        defocus=smear,
        gain=seen.radar.gain * float(np.exp(rng.normal(0, 0.2))))
    return Acquisition(camera, radar)


def fit_frame(
    x: Float, y: Float, pixel: float, rotation: float,
    margins: tuple[float, float, float, float], scale: float = 1.0,
) -> Frame:
    """The tight rectangle around what a sensor sees of an object.

    Args:
        x: (N,) metres, where the parts of the object appear.
        y: (N,) metres.
        pixel: Nominal pixel size in metres.
        rotation: Azimuth of the up direction of the picture, degrees.
        margins: Metres added at the left, right, top and bottom.
        scale: True pixel size divided by the nominal one.

    Returns:
        The frame; never smaller than 8 x 8 pixels.
    """
    right, up = Pose(heading=rotation).to_object(x, y)
    # Trim the last half per cent, as a person does who draws a box by eye.
    low_r, high_r = np.percentile(right, [0.5, 99.5])
    low_u, high_u = np.percentile(up, [0.5, 99.5])
    left, rightward, top, bottom = margins
    low_r, high_r = low_r - left, high_r + rightward
    low_u, high_u = low_u - bottom, high_u + top
    step = pixel * scale
    mid = Pose(heading=rotation).place(
        float(low_r + high_r) / 2, float(low_u + high_u) / 2)
    return Frame(
        max(8, round(float(high_u - low_u) / step)),
        max(8, round(float(high_r - low_r) / step)),
        step, mid.x, mid.y, rotation)


def solid_cells(scene: Scene) -> tuple[Float, Float, Float]:
    """Positions (N,) and heights (N,) of what is not water, thinned."""
    x, y = scene.axes()
    rows, cols = np.nonzero(~scene.water)
    rows, cols = rows[::3], cols[::3]
    return x[cols], y[rows], scene.height[rows, cols]
