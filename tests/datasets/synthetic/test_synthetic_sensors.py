"""The two sensors on scenes simple enough to know the answer."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from osar_plugin.datasets.synthetic.harbour import Solid
from osar_plugin.datasets.synthetic.layouts import draw_plan
from osar_plugin.datasets.synthetic.optical import OpticalCamera
from osar_plugin.datasets.synthetic.radar import Radar
from osar_plugin.datasets.synthetic.scene import (
    Frame,
    Pose,
    Scatterers,
    Scene,
    ceiling,
    unit,
)
from osar_plugin.datasets.synthetic.ship import Ship, draw_paint

AZIMUTHS = [0.0, 30.0, 45.0, 90.0, 135.0, 200.0, 290.0]


def plane(size=120.0):
    """Flat land, half a metre per cell."""
    scene = Scene(size, size)
    scene.water[:] = False
    scene.albedo[:] = 0.4
    scene.sigma0[:] = 0.02
    return scene


def tower(side=10.0, top=20.0, size=120.0):
    scene = plane(size)
    Solid(side, side, top, (0.4, 0.4, 0.4), 0.02, grain=0).draw(
        scene, Pose())
    return scene


def along(scene, azimuth):
    """Distance of every cell from the middle along and across, metres."""
    x, y = scene.axes()
    to_x, to_y = unit(azimuth)
    return (x[None] * to_x + y[:, None] * to_y,
            x[None] * to_y - y[:, None] * to_x)


def point(x=0.0, y=0.0, z=0.0, rcs=100.0):
    return Scatterers(
        np.array([[x, y, z]], np.float32), np.array([rcs], np.float32),
        np.zeros(1, np.float32), np.full(1, np.inf, np.float32))


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize('azimuth', AZIMUTHS)
@pytest.mark.parametrize('elevation', [30.0, 60.0])
def test_shadow_falls_away_from_the_sun(azimuth, elevation):
    scene = tower()
    camera = OpticalCamera(sun_azimuth=azimuth, sun_elevation=elevation)
    shadow = camera.shadow(scene)
    towards, across = along(scene, azimuth)
    assert towards[shadow].max() < 7.5
    in_line = shadow & (np.abs(across) < 1.5)
    reach = -towards[in_line].min()
    # From the near edge of the roof that casts it, at 5 to 7 m.
    expected = 20 / np.tan(np.deg2rad(elevation))
    assert expected + 3.5 < reach < expected + 8.5


def test_ceiling_is_exact_along_an_axis():
    height = np.zeros((1, 9), np.float32)
    height[0, 6] = 4.0
    roof = ceiling(height, 2.0, 90.0, 0.5)
    # The source is on the right: 1 m of drop per cell to the left, and
    # the cell before casts a shadow of its own.
    np.testing.assert_allclose(roof[0, :6], [-1, -1, 0, 1, 2, 3])
    assert roof[0, 7] <= 0
    assert np.isinf(roof[0, 8])


@pytest.mark.parametrize('azimuth', AZIMUTHS)
def test_layover_towards_and_radar_shadow_away(azimuth):
    scene = tower()
    radar = Radar(azimuth=azimuth, incidence=40.0, looks=8, swell=0.0,
                  noise=1e-6, defocus=0.0)
    x, y = radar.project(np.zeros(1), np.zeros(1), np.full(1, 20.0))
    to_x, to_y = unit(azimuth)
    shift = 20 / np.tan(np.deg2rad(40.0))
    assert x[0] * to_x + y[0] * to_y == pytest.approx(shift)
    image = radar.intensity(scene, rng(), Frame.whole(scene, 0.5))
    towards, across = along(scene, azimuth)
    line = np.abs(across) < 3
    shadow = image[line & (towards < -8) & (towards > -18)].mean()
    ground = image[line & (towards < -30) & (towards > -50)].mean()
    layover = image[line & (towards > 8) & (towards < 24)].mean()
    assert shadow < 0.25 * ground
    assert layover > 1.5 * ground


def test_double_bounce_lies_at_the_foot_of_the_near_wall():
    scene = tower(side=20.0, top=12.0)
    radar = Radar(azimuth=90.0, wall=0.0, bounce=1.0, looks=8, noise=1e-6)
    image = radar.intensity(scene, rng(), Frame.whole(scene, 0.5))
    x, _ = scene.axes()
    rows = slice(len(image) // 2 - 10, len(image) // 2 + 10)
    profile = image[rows].mean(axis=0)
    assert x[profile.argmax()] == pytest.approx(10.0, abs=1.5)


@pytest.mark.parametrize('looks', [1, 3, 6])
def test_speckle_of_the_sea_has_the_stated_looks(looks):
    scene = Scene(300.0, 300.0)
    radar = Radar(looks=looks, swell=0.0, resolution=(1.4, 1.2))
    sea = radar.intensity(scene, rng(looks), Frame.whole(scene, 1.0))
    assert sea.mean() == pytest.approx(radar.sea + radar.noise, rel=0.04)
    enl = sea.mean() ** 2 / sea.var()
    assert enl == pytest.approx(looks, rel=0.10)


@pytest.mark.parametrize('rotation', [0.0, 30.0])
def test_sidelobes_cross_in_range_and_track(rotation):
    scene = Scene(100.0, 100.0)
    scene.add_scatterers(point(rcs=1e5))
    radar = Radar(azimuth=70.0, taper=1.0, looks=1, sea=1e-6, noise=1e-6,
                  flicker=0.0)
    frame = Frame(101, 101, 1.0, rotation=rotation)
    image = radar.intensity(scene, rng(), frame)
    peak = np.unravel_index(image.argmax(), image.shape)
    assert peak == (50, 50)
    x, y = frame.positions()

    def arm(azimuth):
        to_x, to_y = unit(azimuth)
        far = np.hypot(x, y) > 8
        return image[far & (np.abs(x * to_y - y * to_x) < 0.8)].mean()

    arms = [arm(70.0), arm(160.0)]
    gaps = [arm(25.0), arm(115.0)]
    assert min(arms) > 20 * max(gaps)


def test_point_power_follows_cross_section_and_resolution():
    scene = Scene(60.0, 60.0)
    scene.add_scatterers(point(rcs=338.0))
    radar = Radar(resolution=(1.3, 1.3), taper=1.0, looks=1, sea=1e-9,
                  noise=1e-9, flicker=0.0, glint=1.0)
    image = radar.intensity(scene, rng(), Frame(61, 61, 1.0))
    assert image.max() == pytest.approx(338.0 / 1.69, rel=0.1)


def test_defocus_smears_along_the_track_only():
    scene = Scene(100.0, 100.0)
    scene.add_scatterers(point(rcs=1e4))
    sharp = Radar(azimuth=90.0, looks=1, sea=1e-9, noise=1e-9, taper=0.5,
                  flicker=0.0)
    widths = []
    for radar in (sharp, replace(sharp, defocus=12.0)):
        image = radar.intensity(scene, rng(), Frame(101, 101, 1.0))
        across = image.sum(axis=0) / image.sum()
        track = image.sum(axis=1) / image.sum()
        widths.append(((across > 0.05).sum(), (track > 0.05).sum()))
    (range_0, track_0), (range_1, track_1) = widths
    assert range_1 == range_0
    assert track_1 > track_0 + 2


def test_saturation_and_quantisation_of_the_amplitude():
    image = Radar(full_scale=1000.0, step=0.5).render(tower(), rng())
    assert image.dtype == np.float32
    assert image.max() == 1000.0
    assert image.min() >= 0
    np.testing.assert_array_equal(image * 2, np.rint(image * 2))


def ship_scene(plan, paint):
    scene = Scene(plan.hull.beam + 24, plan.hull.length + 24)
    Ship(plan, paint).draw(scene, Pose(heading=10.0))
    return scene


@pytest.fixture(scope='module')
def plan():
    return draw_plan(np.random.SeedSequence(4), np.random.SeedSequence(5))


def test_radar_is_blind_to_paint_and_camera_is_not(plan):
    one, two = (ship_scene(plan, draw_paint(plan, rng(s))) for s in (1, 2))
    assert not np.array_equal(one.albedo, two.albedo)
    radar, camera = Radar(azimuth=60.0), OpticalCamera()
    assert (radar.render(one, rng()).tobytes()
            == radar.render(two, rng()).tobytes())
    assert (camera.render(one, rng()).tobytes()
            != camera.render(two, rng()).tobytes())


def test_camera_is_blind_to_roughness_and_points(plan):
    one, two = (ship_scene(plan, draw_paint(plan, rng(1)))
                for _ in range(2))
    two.sigma0[:] = 7.0
    two.add_scatterers(point(rcs=1e6))
    camera, radar = OpticalCamera(), Radar()
    assert (camera.render(one, rng()).tobytes()
            == camera.render(two, rng()).tobytes())
    assert (radar.render(one, rng()).tobytes()
            != radar.render(two, rng()).tobytes())


def test_both_sensors_see_a_flat_thing_at_the_same_place():
    scene = Scene(80.0, 80.0)
    Solid(12, 12, 0.01, (0.9, 0.9, 0.9), 0.8, grain=0).draw(
        scene, Pose(11.0, -7.0))
    frame = Frame(80, 80, 1.0, 2.0, 1.0, 15.0)
    optical = OpticalCamera(tilt=12.0, sharpen=0).render(
        scene, rng(), frame).mean(axis=2)
    radar = Radar(looks=6).render(scene, rng(), frame)
    places = []
    for image in (optical, radar):
        bright = image > 0.5 * image.max()
        places.append([axis.mean() for axis in np.nonzero(bright)])
    np.testing.assert_allclose(places[0], places[1], atol=0.6)
    row, col = frame.pixels(np.float32(11.0), np.float32(-7.0))
    np.testing.assert_allclose(places[0], [row, col], atol=0.6)


def test_a_tilted_view_leans_roofs_away_from_the_camera():
    scene = tower(top=20.0)
    scene.albedo[scene.height > 1] = (0.9, 0.1, 0.1)
    camera = OpticalCamera(tilt=15.0, tilt_azimuth=90.0, haze=0.0,
                           sun_elevation=90.0, noise=0.0)
    image = camera.render(scene, rng()).astype(float)
    red = image[..., 0] > image[..., 1] + 60
    middle = np.nonzero(red)[1].mean() - (image.shape[1] - 1) / 2
    lean = 20 * np.tan(np.deg2rad(15.0))
    assert -1.2 * lean < middle * camera.gsd < -0.4 * lean


def test_same_stream_same_bytes_other_stream_other_noise(plan):
    scene = ship_scene(plan, draw_paint(plan, rng(1)))
    for sensor in (Radar(), OpticalCamera()):
        first = sensor.render(scene, rng(3)).tobytes()
        assert first == sensor.render(scene, rng(3)).tobytes()
        assert first != sensor.render(scene, rng(4)).tobytes()


@pytest.mark.parametrize('make', [
    lambda: Radar(incidence=5.0), lambda: Radar(looks=0),
    lambda: Radar(pixel=0.0), lambda: OpticalCamera(gsd=0.0),
    lambda: OpticalCamera(sun_elevation=0.0),
    lambda: OpticalCamera(tilt=70.0), lambda: Scene(0.0, 10.0),
    lambda: Frame(0, 5, 1.0)])
def test_senseless_settings_are_refused(make):
    with pytest.raises(ValueError, match=r'must be|is empty'):
        make()


def test_outside_the_raster_is_open_water():
    scene = Scene(30.0, 30.0)
    Solid(20, 26, 3.0, (0.9, 0.2, 0.2), 0.3, grain=0).draw(scene, Pose())
    frame = Frame(100, 80, 1.0, 3.0, -2.0, 25.0)
    camera = OpticalCamera(haze=0.0, noise=0.0, swell=0.1)
    image = camera.render(scene, rng(), frame).astype(float)
    radar = Radar(looks=6).intensity(scene, rng(), frame)
    x, y = frame.positions()
    far = np.hypot(x, y) > 40
    assert image[far][:, 0].max() < 0.2 * image[..., 0].max()
    # Texture, not one flat colour and not a mirror image.
    assert image[far][:, 2].std() > 0
    assert radar[far].mean() == pytest.approx(radar_sea(Radar()), rel=0.3)
    wide = scene.covering(frame)
    assert wide.covering(frame) is wide
    rows, cols = wide.cells(np.float32(1.25), np.float32(-0.75))
    old = scene.cells(np.float32(1.25), np.float32(-0.75))
    assert (wide.height[round(float(rows)), round(float(cols))]
            == scene.height[round(float(old[0])), round(float(old[1]))])


def radar_sea(radar):
    return radar.sea + radar.noise
