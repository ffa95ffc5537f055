"""Land of the demo world: premise, physics, truth and files."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from osar_plugin.datasets import SEN12, OSPretrain, SceneList
from osar_plugin.datasets.pair_statistics import read_statistics
from osar_plugin.datasets.synthetic import (
    Frame,
    OSPretrainSettings,
    Scene,
    Sen12Settings,
    WorldError,
    write_ospretrain,
    write_sen12,
)
from osar_plugin.datasets.synthetic.land import (
    DAMAGED,
    DESTROYED,
    INTACT,
    KINDS,
    MARGIN,
    SPACING,
    Cover,
    Kind,
    Land,
    compose,
    damaged,
    draw_pass,
)
from osar_plugin.datasets.synthetic.land import ospretrain as sets
from osar_plugin.datasets.synthetic.land.cover import BUILDINGS
from osar_plugin.datasets.synthetic.land.lots import Style, build
from osar_plugin.io import decode

PIXEL, SIDE = 2.0, 64
FRAME = Frame(SIDE, SIDE, PIXEL)


def land_of(kind, geometry=0, paint=0):
    return compose(
        kind, (SIDE + 2 * MARGIN) * PIXEL, SPACING * PIXEL,
        np.random.SeedSequence(geometry), np.random.SeedSequence(paint))


def pictures(land, shot=0):
    seen = draw_pass(np.random.default_rng(7), PIXEL)
    return (seen.optical(land, np.random.default_rng(shot), FRAME),
            seen.sar(land, np.random.default_rng(shot), FRAME))


@pytest.fixture(scope='module')
def lands():
    """Five pieces of every class."""
    return {
        kind: [land_of(kind, seed, seed) for seed in range(5)]
        for kind in KINDS}


@pytest.mark.parametrize('kind', KINDS)
def test_pictures(kind):
    optical, sar = pictures(land_of(kind))
    assert optical.shape == (SIDE, SIDE, 3) and sar.shape == (SIDE, SIDE)
    assert optical.dtype == sar.dtype == np.uint8
    assert optical.std() > 3 and sar.std() > 3
    again = pictures(land_of(kind))
    np.testing.assert_array_equal(optical, again[0])
    np.testing.assert_array_equal(sar, again[1])
    other = pictures(land_of(kind, 1))
    assert (sar != other[1]).mean() > .5


@pytest.mark.parametrize('kind', KINDS)
def test_colour_does_not_reach_the_radar_nor_roughness_the_camera(kind):
    first, painted = land_of(kind), land_of(kind, paint=1)
    np.testing.assert_array_equal(first.scene.height, painted.scene.height)
    np.testing.assert_array_equal(first.cover, painted.cover)
    # The colour of water is the camera's, not the land's.
    dry = first.labels(FRAME) != Cover.WATER
    assert (pictures(first)[0] != pictures(painted)[0])[dry].mean() > .7
    np.testing.assert_array_equal(pictures(first)[1], pictures(painted)[1])
    first.scene.sigma0 *= 3
    np.testing.assert_array_equal(
        pictures(first)[0], pictures(land_of(kind))[0])


def test_classes_are_what_they_say(lands):
    def share(kind, *covers):
        return np.array([
            np.isin(land.labels(FRAME), covers).mean()
            for land in lands[kind]])

    assert len(KINDS) >= 6
    assert share('farmland', Cover.FIELD).mean() > .6
    assert share('forest', Cover.FOREST).mean() > .7
    assert share('residential', Cover.BUILDING).mean() > .1
    assert share('industrial', Cover.BUILDING, Cover.PAVEMENT).mean() > .5
    assert share('coast', Cover.WATER).mean() > .3
    assert share('bare', Cover.BARE).mean() > .8
    assert (share('port', Cover.WATER) > .05).all()
    for kind in ('farmland', 'forest', 'bare', 'residential'):
        assert (share(kind, Cover.WATER) == 0).all()


def test_what_the_radar_sees_of_the_ground(lands):
    sums = {cover: [] for cover in Cover}
    for kind in KINDS:
        for land in lands[kind]:
            _, sar = pictures(land)
            labels = land.labels(FRAME)
            for cover in Cover:
                sums[cover].append(sar[labels == cover].astype(float) ** 2)
    power = {
        cover: np.concatenate(values).mean()
        for cover, values in sums.items()}
    assert power[Cover.ROAD] < power[Cover.FIELD] < power[Cover.FOREST]
    assert power[Cover.PAVEMENT] < power[Cover.GRASS]
    assert power[Cover.WATER] < power[Cover.GRASS]
    assert power[Cover.BUILDING] > power[Cover.BARE]


def one_shed():
    """A shed of 20 x 20 m, 12 m high, alone on flat grass."""
    land = Land(Scene(200, 200, 1.0))
    land.fill(
        np.ones(land.scene.shape, bool), Cover.GRASS, (.2, .3, .1), .03)
    rng = np.random.default_rng(0)
    where = np.zeros(land.scene.shape, bool)
    where[70:132, 70:132] = True
    build(land, where, Style(
        Kind.SHED, (60, 60), 1.0, (1 / 3, 1 / 3), (1 / 3, 1 / 3), (12, 12),
        colours=((.6, .6, .6), )), 0.0, rng, rng)
    return land


def test_layover_double_bounce_and_shadow():
    from dataclasses import replace
    land = one_shed()
    assert len(land.instances) == 1
    rows, cols = np.nonzero(land.owner)
    seen = draw_pass(np.random.default_rng(0), 1.0)
    radar = replace(seen.radar, azimuth=90.0, incidence=40.0, looks=64)
    sar = radar.render(
        land.scene, np.random.default_rng(0), Frame(200, 200, 1.0))
    middle = sar[rows.min() + 4:rows.max() - 3].mean(0)
    grass = np.median(sar)
    left, right = cols.min(), cols.max()
    # The sensor stands on the right: the wall's foot shines, the wall lies
    # over the ground before it, and the far side is dark.
    assert middle[right - 1:right + 3].max() > 3 * grass
    assert middle[right + 3:right + 12].mean() > 1.15 * grass
    # 12 m of height at 40 degrees: 10 m behind the far wall.
    assert middle[left - 8:left - 2].mean() < .5 * grass
    assert middle[left - 40:left - 20].mean() > .8 * grass


def test_the_sun_casts_shadows():
    from dataclasses import replace
    land = one_shed()
    rows, cols = np.nonzero(land.owner)
    camera = replace(
        draw_pass(np.random.default_rng(0), 1.0).camera, tilt=0.0,
        sun_azimuth=180.0, sun_elevation=45.0)
    image = camera.render(
        land.scene, np.random.default_rng(0), Frame(200, 200, 1.0))
    grey = image[:, cols.min() + 3:cols.max() - 2].mean((1, 2))
    top, bottom = rows.min(), rows.max()
    # The sun is in the south (below): twelve metres of shadow to the north.
    assert grey[top - 10:top - 2].mean() < .6 * grey[:top - 30].mean()
    assert grey[bottom + 4:bottom + 12].mean() > .9 * grey[bottom + 30:].mean()


def test_maps_agree_with_the_list_of_instances(lands):
    for kind in ('residential', 'industrial', 'port'):
        for land in lands[kind]:
            owners, things = land.owners(FRAME), land.instances
            assert 0 < owners.max() <= len(things)
            shown = np.concatenate([
                [False], np.isin(things.kind, BUILDINGS)])[owners]
            np.testing.assert_array_equal(
                shown, land.labels(FRAME) == Cover.BUILDING)
            boxes, rows = land.boxes(FRAME)
            assert len(rows) == len(np.unique(owners)) - 1
            for box, row in zip(boxes.astype(int), rows, strict=True):
                left, top, right, bottom = box
                inside = owners == row + 1
                assert inside[top:bottom, left:right].sum() == inside.sum()
                for line in (inside[top], inside[bottom - 1],
                             inside[:, left], inside[:, right - 1]):
                    assert line.any()


def test_things_have_the_size_that_is_listed():
    land = one_shed()
    things = land.instances
    np.testing.assert_allclose(things.size, [[20, 20]])
    np.testing.assert_allclose(things.height, [12])
    assert abs((land.owner == 1).sum() - 400) <= 41
    row, col = land.scene.cells(things.xy[:, 0], things.xy[:, 1])
    rows, cols = np.nonzero(land.owner)
    assert abs(rows.mean() - row[0]) < 1 and abs(cols.mean() - col[0]) < 1
    np.testing.assert_allclose(
        land.scene.height[land.owner == 1], 12, atol=.1)


def test_buildings_do_not_stand_in_water_or_on_roads(lands):
    for kind in ('residential', 'industrial', 'farmland'):
        for land in lands[kind]:
            x, y = land.instances.xy.T
            rows, cols = (
                np.rint(place).astype(int)
                for place in land.scene.cells(x, y))
            under = land.cover[rows, cols]
            assert not np.isin(under, (Cover.WATER, Cover.ROAD)).any()


def test_damage():
    land = land_of('residential')
    before = land.scene.height.copy()
    count = len(land.instances)
    states = np.full(count, INTACT, np.int8)
    assert set(np.unique(land.damage(FRAME))) == {0, INTACT}
    states[::3], states[1::3] = DAMAGED, DESTROYED
    after = damaged(land, states, np.random.default_rng(0))
    np.testing.assert_array_equal(land.scene.height, before)
    assert set(np.unique(after.damage(FRAME))) == {
        0, INTACT, DAMAGED, DESTROYED}
    state = np.concatenate([[0], states])[land.owner]
    np.testing.assert_array_equal(
        after.scene.height[state <= INTACT], before[state <= INTACT])
    loss = before - after.scene.height
    assert loss[state == DESTROYED].mean() > 2
    assert 0 < (loss[state == DAMAGED] != 0).mean() < .8
    for wrong in (states[1:], np.ones(count + 1, np.int8)):
        with pytest.raises(ValueError, match='states'):
            damaged(land, wrong, np.random.default_rng(0))


def test_unknown_kind():
    with pytest.raises(ValueError, match='farmland'):
        land_of('moon')


def digest(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(
            path.read_bytes()).hexdigest()
        for path in sorted(root.rglob('*')) if path.is_file()}


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Both sets, as small as they can be useful."""
    out = tmp_path_factory.mktemp('world')
    assert write_sen12(out, Sen12Settings(
        pairs=24, size=32, patches=4, test=.34))
    assert write_ospretrain(out, OSPretrainSettings(
        pairs=5, unpaired=4, size=32, test=.2))
    return out


def test_bytes_do_not_depend_on_the_processes(world, tmp_path):
    settings = Sen12Settings(pairs=24, size=32, patches=4, test=.34)
    assert write_sen12(tmp_path, settings, workers=2)
    assert digest(tmp_path / 'SEN12') == digest(world / 'SEN12')
    assert not write_sen12(tmp_path, settings)


def test_sen12_reads_back(world):
    root = world / 'SEN12'
    parts = {
        split: SEN12(str(root), split=split, statistics='statistics.json')
        for split in ('all', 'train', 'test')}
    assert [len(part) for part in parts.values()] == [24, 16, 8]
    scenes = {
        split: {str(Path(row['rgb_path']).parent) for row in parts[split]}
        for split in ('train', 'test')}
    assert not scenes['train'] & scenes['test']
    classes = (root / 'classes.txt').read_text().split()
    assert tuple(classes) == KINDS
    for split in ('train', 'test'):
        for modality, key in (('optical', 'rgb_path'), ('sar', 'sar_path')):
            listed = SceneList(
                str(root), f'scenes_{split}.txt', classes, modality)
            assert {row['img_path'] for row in listed} == {
                row[key] for row in parts[split]}
    pixels = np.concatenate([
        decode(row['sar_path']).ravel()
        for row in parts['train']]) / 255
    stats = read_statistics(root / 'statistics.json')['SEN12']
    assert stats.sar_mean[0] == pytest.approx(pixels.mean())
    assert stats.sar_std[0] == pytest.approx(pixels.std())


def test_files_give_no_class_away(world):
    for path in (world / 'SEN12').rglob('*.png'):
        assert re.fullmatch(
            r'ROIs\d+_[a-z]+_s[12]_\d+_p\d+\.png', path.name)
        with Image.open(path) as image:
            assert not image.info
            assert image.size == (32, 32)
    rows = (world / 'SEN12/scenes_train.txt').read_text().splitlines()
    assert len({row.split()[2] for row in rows[:4]}) > 1


def test_ospretrain_reads_back(world):
    root = world / 'OSPretrain'
    dataset = OSPretrain(
        str(root), statistics='statistics.json', drop_test='all')
    assert dataset.pair_table().sum() == 3 * 4
    assert len(dataset) == 12 + 4
    everything = OSPretrain(
        str(root), statistics='statistics.json', drop_test=())
    assert len(everything) == 15 + 4
    assert len({row['sar_path'] for row in everything}) == 19


def test_pairs_show_one_land_and_the_unpaired_none_twice():
    settings = OSPretrainSettings(pairs=5, unpaired=4, size=32, test=.2)
    paired, apart = (
        [sets._lands(sets.OSPretrainJob(settings, source, number, ''))
         for number in range(4)] for source in ('DemoThree', 'Unpaired'))
    assert all(optical == sar for optical, sar in paired)
    assert len({number for lands in apart for number in lands}) == 8


@pytest.mark.parametrize('settings', [
    lambda: Sen12Settings(size=16), lambda: Sen12Settings(pairs=0),
    lambda: Sen12Settings(seed=-1), lambda: Sen12Settings(test=1.0),
    lambda: OSPretrainSettings(pairs=1),
    lambda: OSPretrainSettings(unpaired=0),
    lambda: OSPretrainSettings(test=0)])
def test_settings_out_of_range(settings):
    with pytest.raises(WorldError):
        settings()
