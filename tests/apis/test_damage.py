"""osar_plugin/apis/damage.py, damage_scene.py and damage_counts.py"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from damage_scene_case import (
    PLACE,
    SIZE,
    images,
    rasterio,
    write,
    write_config,
    write_pair,
    write_weights,
)
from PIL import Image

from osar_plugin.apis.damage import DamageInferencer, scene_settings
from osar_plugin.apis.damage_counts import STATES, DamageCounter
from osar_plugin.apis.damage_output import ClassView
from osar_plugin.apis.damage_scene import open_scene
from osar_plugin.models.damage import SlideSettings
from osar_plugin.models.damage.damageformer import decide
from osar_plugin.models.damage.inference import sliding_strips, window_side
from osar_plugin.utils.checkpoint import read_checkpoint
from osar_plugin.utils.errors import (
    CheckpointError,
    ConfigError,
    CorruptImageError,
    DataFormatError,
    DatasetNotFoundError,
    OSARError,
)


@pytest.fixture(scope='module')
def inferencer(tmp_path_factory) -> DamageInferencer:
    folder = tmp_path_factory.mktemp('model')
    return DamageInferencer(
        write_config(folder), write_weights(folder), 'cpu')


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(1)


# ------------------------------------------------------------------ the map


def test_file_equals_memory_equals_model(inferencer, tmp_path,
                                         monkeypatch) -> None:
    """Through windows of a file, an array, and the model's own predict."""
    pre, post = images()
    paths = write_pair(tmp_path)
    maps = inferencer(pre, post)
    inferencer.assess(*paths, tmp_path / 'out.tif',
                      building=tmp_path / 'building.tif')
    np.testing.assert_array_equal(read(tmp_path / 'out.tif'), maps.damage)
    np.testing.assert_array_equal(
        read(tmp_path / 'building.tif'), maps.building)
    inputs = inferencer.model.data_preprocessor(dict(inputs=dict(
        pre=[torch.from_numpy(pre.transpose(2, 0, 1).copy())],
        post=[torch.from_numpy(post.copy())[None]])))['inputs']
    # The config blends as published, the inferencer without steps.
    assert inferencer.model.settings.blend == 'mean'
    monkeypatch.setattr(inferencer.model, 'settings', inferencer.settings)
    logits = inferencer.model.predict_logits(inputs['pre'], inputs['post'])
    damage, building = decide(logits[0])
    assert (damage.numpy() != maps.damage).mean() < 1e-3
    assert (building.numpy() != maps.building).mean() < 1e-3
    # The random model says something everywhere.
    assert len(np.unique(maps.damage)) >= 3
    assert 0.01 < maps.building.mean() < 0.99


def test_geotiff(inferencer, tmp_path) -> None:
    pre, post = write_pair(tmp_path)
    inferencer.assess(pre, post, tmp_path / 'out.tif')
    with rasterio.open(tmp_path / 'out.tif') as file:
        assert file.crs.to_epsg() == 32637 and file.transform == PLACE
        assert (file.dtypes, file.nodata, file.count) == (('uint8', ), 255, 1)
        colours = file.colormap(1)
        assert colours[0][:3] == (0, 0, 0) and colours[3][:3] == (213, 40, 40)
        tags = file.tags()
    assert tags['OSAR_PLUGIN_CLASSES'] == (
        '0 background, 1 intact, 2 damaged, 3 destroyed')
    assert len(tags['OSAR_PLUGIN_WEIGHTS']) == 64
    assert tags['OSAR_PLUGIN_PRE'] == 'pre.tif'
    assert names(tmp_path) == {'pre.tif', 'post.tif', 'out.tif'}


def test_pixels_without_data(inferencer, tmp_path) -> None:
    pre, post = images()
    pre, post = np.maximum(pre, 1), np.maximum(post, 1)
    pre[:30], post[:, 120:] = 0, 0
    empty = np.zeros(SIZE, bool)
    empty[:30], empty[:, 120:] = True, True
    inferencer.assess(write(tmp_path / 'pre.tif', pre, nodata=0),
                      write(tmp_path / 'post.tif', post, nodata=0),
                      tmp_path / 'out.tif')
    np.testing.assert_array_equal(read(tmp_path / 'out.tif') == 255, empty)


def test_png(inferencer, tmp_path) -> None:
    """Of plain images; the same classes, with the colour table."""
    pre, post = images()
    Image.fromarray(pre).save(tmp_path / 'pre.png')
    Image.fromarray(post).save(tmp_path / 'post.png')
    report = inferencer.assess(
        tmp_path / 'pre.png', tmp_path / 'post.png', tmp_path / 'out.png')
    with Image.open(tmp_path / 'out.png') as image:
        assert image.mode == 'P'
        np.testing.assert_array_equal(
            np.array(image), inferencer(pre, post).damage)
        assert image.getpalette()[9:12] == [213, 40, 40]
    assert report.counts.unit == 'pixels'


def test_trimmed_windows_leave_no_seam(inferencer) -> None:
    """The tiled map equals the whole-image map away from the margin.

    With a network that looks 7 pixels far in place of the transformer,
    which looks everywhere.
    """
    kernels = torch.randn(6, 6, 7, 7, generator=torch.Generator(
        ).manual_seed(0))

    class Local(torch.nn.Module):
        data_preprocessor = inferencer.model.data_preprocessor
        mask_by_building = False

        def window_logits(self, pre, post):
            return torch.nn.functional.conv2d(
                torch.cat([pre, post], 1), kernels, padding=3)

    local = object.__new__(DamageInferencer)
    local.__dict__.update(inferencer.__dict__, model=Local())
    pre, post = images()
    whole = None
    for settings in (
            SlideSettings('slide', 256, 256),
            SlideSettings('slide', 64, 32, trim=3),
            SlideSettings('slide', 64, 48, 3, 'ramp', trim=8)):
        local.settings = settings
        found = local(pre, post)
        if whole is None:
            whole = found
            continue
        inside = (slice(8, -8), slice(8, -8))
        for key in ('damage', 'building'):
            one, other = (getattr(x, key)[inside] for x in (whole, found))
            assert (one != other).mean() < 1e-4  # rounding of ties
    local.settings = SlideSettings('slide', 64, 32)
    assert (local(pre, post).damage != whole.damage).mean() > 0.01


def seam(inferencer: DamageInferencer, size: tuple[int, int]) -> float:
    """Steps of the logits at the borders of windows, against elsewhere."""
    scene = open_scene(*images(3, size))
    logits = torch.cat([strip for _, strip in sliding_strips(
        size, 6, scene.tile, inferencer._predict, inferencer.settings)], 1)
    side = window_side(size[1], inferencer.settings)
    steps = logits.diff(dim=2).abs().mean((0, 1))
    border = torch.zeros(len(steps), dtype=torch.bool)
    for start in side.starts:
        for column in (start, start + side.size):
            if 0 < column < size[1]:
                border[column - 1] = True
    return float(steps[border].mean() / steps[~border].mean())


@pytest.mark.parametrize('seed', [0, 1])
def test_global_attention_leaves_no_seam_by_default(tmp_path, seed) -> None:
    """Windows disagree; the borders of the default's are not to be seen."""
    model = write_config(tmp_path), write_weights(tmp_path, seed), 'cpu'
    assert seam(DamageInferencer(*model), (96, 330)) < 1.6
    assert seam(DamageInferencer(*model, blend='mean'), (96, 330)) > 2


def test_masked_by_buildings(inferencer, tmp_path) -> None:
    pre, post = images()
    free = inferencer(pre, post)
    masked = DamageInferencer(
        write_config(tmp_path), write_weights(tmp_path), 'cpu',
        mask_by_building=True)(pre, post)
    np.testing.assert_array_equal(
        masked.damage, free.damage * free.building)
    assert (masked.damage != free.damage).any()


# ----------------------------------------------------------------- counting


def by_hand(damage: np.ndarray, building: np.ndarray, least: int) -> tuple:
    """Components of the whole map."""
    count, labels = cv2.connectedComponents(
        (building == 1).astype(np.uint8), connectivity=8)
    numbers, pixels = dict.fromkeys(STATES, 0), dict.fromkeys(STATES, 0)
    for i in range(1, count):
        own = damage[labels == i]
        if own.size < least:
            continue
        votes = [(own == k).sum() for k in (1, 2, 3)]
        state = 'undetermined'
        if max(votes):
            state = STATES[max(k for k in range(3)
                               if votes[k] == max(votes))]
        numbers[state] += 1
        pixels[state] += own.size
    return numbers, pixels


@pytest.mark.parametrize('rows', [1, 2, 7, 60])
@pytest.mark.parametrize('density', [0., 0.05, 0.35, 0.6, 1.])
def test_strips_count_as_the_whole(rows, density) -> None:
    rng = np.random.default_rng(int(100 * density))
    building = (rng.random((60, 50)) < density).astype(np.uint8)
    damage = rng.choice([0, 0, 1, 2, 3, 255], building.shape).astype(
        np.uint8)
    building[damage == 255] = 255
    for least in (1, 4):
        counter = DamageCounter(least)
        for start in range(0, 60, rows):
            counter.add(damage[start:start + rows],
                        building[start:start + rows])
        found = counter.result(0.25)
        numbers, pixels = by_hand(damage, building, least)
        assert dict(found.buildings) == numbers
        assert dict(found.building_pixels) == pixels
    assert found.assessed_pixels == (damage != 255).sum()
    row = found.rows()[2]
    assert row['state'] == 'destroyed' and row['unit'] == 'm2'
    assert row['map_area'] == 0.25 * (damage == 3).sum()
    assert row['building_area'] == 0.25 * pixels['destroyed']


def test_a_building_over_three_strips() -> None:
    """A U: its two arms are one building in the end."""
    building = np.zeros((9, 8), np.uint8)
    building[:, 1] = building[:, 6] = 1
    building[8, 1:7] = 1
    damage = building * 2
    counter = DamageCounter()
    for start in (0, 3, 6):
        counter.add(damage[start:start + 3], building[start:start + 3])
    found = counter.result()
    assert found.buildings == dict(
        intact=0, damaged=1, destroyed=0, undetermined=0)
    assert found.building_pixels['damaged'] == building.sum()


def test_area_of_a_pixel(tmp_path) -> None:
    paths = write_pair(tmp_path)
    assert open_scene(*paths).pixel_area() == pytest.approx(0.25)
    # 10^-5 degrees at 60 degrees north: 1.1142 m by 0.5580 m.
    place = rasterio.transform.Affine(1e-5, 0, 20, 0, -1e-5, 60)
    paths = write_pair(tmp_path, crs='EPSG:4326', transform=place)
    assert open_scene(*paths).pixel_area() == pytest.approx(
        1.11412 * 0.55802, rel=1e-3)
    # US survey feet.
    paths = write_pair(tmp_path, crs='EPSG:2263')
    assert open_scene(*paths).pixel_area() == pytest.approx(
        0.25 * 0.3048006**2)


def test_tables(inferencer, tmp_path) -> None:
    paths = write_pair(tmp_path)
    for name in ('table.csv', 'table.json'):
        report = inferencer.assess(
            *paths, tmp_path / 'out.tif', table=tmp_path / name)
    with open(tmp_path / 'table.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    content = json.loads((tmp_path / 'table.json').read_text())
    assert [row['state'] for row in rows] == list(STATES)
    for one, two, state in zip(rows, content['states'], STATES, strict=True):
        assert int(one['buildings']) == two['buildings'] == (
            report.counts.buildings[state])
    assert content['pixel_area'] == pytest.approx(0.25)
    assert content['assessed_area'] == pytest.approx(0.25 * 110 * 150)
    damage = read(tmp_path / 'out.tif')
    assert content['states'][0]['map_area'] == pytest.approx(
        0.25 * (damage == 1).sum())


# ------------------------------------------------------------------ picture


def test_picture(inferencer, tmp_path) -> None:
    paths = write_pair(tmp_path)
    inferencer.assess(*paths, tmp_path / 'out.tif',
                      picture=tmp_path / 'out.png')
    with Image.open(tmp_path / 'out.png') as image:
        picture = np.array(image)
    assert picture.shape[1] > 3 * 150 and picture.shape[0] > 110
    # The colours of the legend are those of the map.
    for colour in ((255, 255, 255), (240, 180, 30), (213, 40, 40)):
        assert (picture == colour).all(-1).sum() > 30


@pytest.mark.parametrize('strips', [1, 7, 100])
def test_view_shows_the_worst(strips) -> None:
    rng = np.random.default_rng(0)
    damage = rng.choice([0, 0, 0, 0, 1, 2, 3, 255], (95, 61)).astype(np.uint8)
    view = ClassView(damage.shape, longest=12)
    assert view.k == 8
    for start in range(0, 95, strips):
        view.add(damage[start:start + strips])
    states = np.where(damage == 255, 0, damage)
    for i in range(12):
        for j in range(8):
            assert view._view[i, j] == states[
                8 * i:8 * i + 8, 8 * j:8 * j + 8].max()


# ---------------------------------------------------------------- bad input


def cases() -> dict:
    pre, post = images()
    shifted = PLACE @ PLACE.translation(5, 0)
    return {
        'swapped': (post, pre, {}, {}, 'swapped'),
        'one band twice': (post, post, {}, {}, 'at least 3'),
        'two bands': (pre, pre[..., :2], {}, {}, 'post_band'),
        'colours after': (pre, pre[:, ::-1], {}, {}, 'swapped'),
        'sizes': (pre, post[:100], {}, {}, r'\(110, 150\).*\(100, 150\)'),
        'crs': (pre, post, {}, dict(crs='EPSG:32638'), 'EPSG:32638'),
        'place': (pre, post, {}, dict(transform=shifted), '5.0 pixels'),
        'pixel size': (pre, post, {}, dict(
            transform=PLACE @ PLACE.scale(1.01)), '1.5 pixels'),
        'depth': (pre, post.astype(np.float32), {}, {}, '--post-range'),
        'depth before': (pre.astype(np.uint16), post, {}, {}, '--pre-range'),
        'bare': (pre, post, {}, dict(crs=None, transform=None),
                 'no georeference'),
    }


@pytest.mark.parametrize('name', cases())
def test_bad_pairs(inferencer, tmp_path, name) -> None:
    one, two, first, second, match = cases()[name]
    pre = write(tmp_path / 'a.tif', one, **first)
    if second.get('transform', 0) is None:
        Image.fromarray(two).save(tmp_path / 'b.tif')
        post = tmp_path / 'b.tif'
    else:
        post = write(tmp_path / 'b.tif', two, **second)
    with pytest.raises(DataFormatError, match=match) as caught:
        inferencer.assess(pre, post, tmp_path / 'out.tif')
    assert '.tif' in str(caught.value)
    assert names(tmp_path) == {'a.tif', 'b.tif'}


def test_trust_where_it_is_said(inferencer, tmp_path) -> None:
    """And further bands and depths, where they are said."""
    pre, post = images()
    wanted = inferencer(pre, post).damage
    one = write(tmp_path / 'a.tif', pre)
    two = write(tmp_path / 'b.tif', np.stack([0 * post, post], 2),
                crs='EPSG:32638')
    found = inferencer(one, two, assume_aligned=True, post_band=2)
    np.testing.assert_array_equal(found.damage, wanted)
    scaled = inferencer(
        pre, post.astype(np.float32) / 51 - 3, post_range=(-3, 2))
    np.testing.assert_array_equal(scaled.damage, wanted)
    three = inferencer(pre, np.repeat(post[..., None], 3, 2))
    np.testing.assert_array_equal(three.damage, wanted)
    with pytest.raises(DataFormatError, match='bands 1 to 2'):
        inferencer(one, two, assume_aligned=True, post_band=3)


def test_bad_files(inferencer, tmp_path) -> None:
    pre, post = write_pair(tmp_path)
    with pytest.raises(DatasetNotFoundError, match='no such file'):
        inferencer(tmp_path / 'none.tif', post)
    cut = tmp_path / 'cut.tif'
    cut.write_bytes(post.read_bytes()[:10000])
    before = names(tmp_path)
    with pytest.raises(CorruptImageError, match='cut.tif'):
        inferencer.assess(pre, cut, tmp_path / 'out.tif',
                          building=tmp_path / 'b.tif')
    assert names(tmp_path) == before
    (tmp_path / 'out.tif').write_text('kept')
    with pytest.raises(CorruptImageError):
        inferencer.assess(pre, cut, tmp_path / 'out.tif')
    assert (tmp_path / 'out.tif').read_text() == 'kept'


@pytest.mark.parametrize('outputs, match', [
    (dict(out='o.jpg'), '.tif or .tiff or .png'),
    (dict(out='o.tif', picture='p.tif'), 'picture='),
    (dict(out='o.tif', table='t.txt'), 'table='),
    (dict(out='o.tif', building='o.tif'), 'written twice'),
    (dict(out='pre.tif'), 'also an input'),
    (dict(out='pre.tif/o.tif'), 'cannot be written')])
def test_bad_outputs(inferencer, tmp_path, monkeypatch, outputs,
                     match) -> None:
    pre, post = write_pair(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=match):
        inferencer.assess(pre, post, **outputs)
    assert names(tmp_path) == {'pre.tif', 'post.tif'}


@pytest.mark.parametrize('reading', [
    dict(pre_range=(3, 3)), dict(post_range=(0, float('nan'))),
    dict(post_range=(1, ))])
def test_bad_ranges(inferencer, reading) -> None:
    with pytest.raises(ConfigError, match='the smaller one'):
        inferencer(*images(), **reading)


@pytest.mark.parametrize('changes, match', [
    (dict(windw=64), 'no setting'), (dict(window=50), 'multiple of 32'),
    (dict(stride=80), 'stride'), (dict(amp='yes'), 'amp'),
    (dict(mode='whole'), 'no setting')])
def test_bad_settings(tmp_path, changes, match) -> None:
    with pytest.raises(ConfigError, match=match):
        DamageInferencer(write_config(tmp_path), write_weights(tmp_path),
                         'cpu', **changes)


def test_settings_of_scenes() -> None:
    whole = scene_settings(SlideSettings(), {})
    assert (whole.mode, whole.window, whole.stride) == ('slide', 1024, 512)
    own = scene_settings(SlideSettings('slide', 512, 256), dict(
        window=128, blend=None))
    assert (own.window, own.stride, own.blend) == (128, 64, 'ramp')
    assert scene_settings(SlideSettings(), dict(blend='mean')).blend == (
        'mean')


def test_bad_models(inferencer, tmp_path) -> None:
    weights = write_weights(tmp_path)
    encoder = {k.removeprefix('encoder.'): v for k, v in read_checkpoint(
        weights).items() if k.startswith('encoder.')}
    torch.save(encoder, tmp_path / 'encoder.pth')
    with pytest.raises(CheckpointError, match='not in the checkpoint'):
        DamageInferencer(write_config(tmp_path), tmp_path / 'encoder.pth')
    with pytest.raises(OSARError, match='none.pth'):
        DamageInferencer(write_config(tmp_path), tmp_path / 'none.pth')
    with pytest.raises(ConfigError, match='copy inside a checkpoint'):
        DamageInferencer(dict(), weights)
    with pytest.raises(ConfigError, match='assesses no damage'):
        DamageInferencer(
            dict(model=dict(type='osar_plugin.ITPN', img_size=64, arch=dict(
                embed_dim=32, mlp_depths=(1, 1), depth=2, num_heads=2))),
            weights)
    with pytest.raises(ConfigError, match='min_pixels'):
        inferencer(*images(), min_pixels=0)
