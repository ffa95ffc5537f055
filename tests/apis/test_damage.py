"""osar_plugin/apis/damage.py, damage_scene.py and damage_counts.py"""

from __future__ import annotations

import csv
import json
import tracemalloc
from functools import partial
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
from osar_plugin.apis.damage_output import ClassView, legend_of
from osar_plugin.apis.damage_scene import open_scene
from osar_plugin.apis.registration_raster import Raster
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
from osar_plugin.visualization.damage import draw_assessment


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


def messages(monkeypatch, module: str) -> list[str]:
    """What a module logs."""
    said: list[str] = []
    monkeypatch.setattr(f'osar_plugin.apis.{module}.print_log',
                        lambda text, *_: said.append(text))
    return said


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


def test_only_the_band_that_is_used_says_where_data_is(
        inferencer, tmp_path) -> None:
    pre, post = images()
    bands = np.stack([post, post], 2).astype(np.float32)
    bands[:40, :, 1] = -9999
    paths = (write(tmp_path / 'pre.tif', pre),
             write(tmp_path / 'post.tif', bands, nodata=-9999))
    for band, rows in ((1, 0), (2, 40)):
        maps = inferencer(*paths, post_band=band, post_range=(0, 255))
        empty = maps.damage == 255
        assert empty[:rows].all() and not empty[rows:].any()
        assert maps.counts.assessed_pixels == (SIZE[0] - rows) * SIZE[1]


@pytest.mark.parametrize('real', [True, False])
def test_infrared_that_is_called_alpha(inferencer, tmp_path, monkeypatch,
                                       real) -> None:
    """Near infrared is 0 on water; a mask is 0 or 255."""
    pre, post = images()
    fourth = pre[..., 0].copy()
    fourth[:30] = 0
    if real:
        fourth = np.where(np.arange(SIZE[0])[:, None] < 30, 0, 255).astype(
            np.uint8).repeat(SIZE[1], 1)
        fourth[30:33] = 100  # a soft edge
    path = write(tmp_path / 'pre.tif', np.dstack([pre, fourth]),
                 photometric='rgb', alpha='yes')
    with rasterio.open(path) as file:
        assert file.colorinterp[3].name == 'alpha'
    said = messages(monkeypatch, 'registration_raster')
    damage = inferencer(path, post, assume_aligned=True).damage
    assert ((damage == 255).any(1) == (
        np.arange(SIZE[0]) < (30 if real else 0))).all()
    assert any('band 4 is called alpha' in text for text in said) is not real


class Counting(Raster):
    """A scene of any height that keeps how much was read at once."""

    def __init__(self, bands: int, size: tuple[int, int]) -> None:
        super().__init__('counting')
        self.bands, self.shape, self.most = bands, size, 0

    @property
    def size(self) -> tuple[int, int]:
        return self.shape

    @property
    def count(self) -> int:
        return self.bands

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    def read(self, box, k=1, bands=None, average=True):
        shape = -(-box.height // k), -(-box.width // k)
        self.most = max(self.most, shape[0] * shape[1])
        rows = np.arange(shape[0])[:, None] + np.zeros(shape)
        return (np.repeat((rows % 251).astype(np.uint8)[None], len(bands), 0),
                np.ones(shape, bool))


def test_memory_does_not_grow_with_the_scene(inferencer, tmp_path,
                                             monkeypatch) -> None:
    """Four times as tall: as much is read at once, and held."""
    monkeypatch.setattr(
        'osar_plugin.apis.damage.ClassView', partial(ClassView, longest=64))
    monkeypatch.setattr(inferencer.model, 'window_logits', lambda pre, post: (
        torch.cat([pre, post], 1)))
    peaks, most = [], []
    for height in (512, 512, 2048):  # the first one fills caches
        scene = Counting(3, (height, 160)), Counting(1, (height, 160))
        tracemalloc.start()
        inferencer.assess(*scene, tmp_path / 'out.tif',
                          picture=tmp_path / 'out.png',
                          table=tmp_path / 'out.csv')
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        most.append(max(side.most for side in scene))
    # Strips are 48 rows of 160, windows 64 x 64, the picture 64 x 64.
    assert most[1] == most[2] <= 64 * 160
    assert peaks[2] < 1.2 * peaks[1]


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
    # On the ground, not in the plane: 0.9996 is UTM's scale there.
    assert open_scene(*paths).pixel_area() == pytest.approx(
        0.25 / 0.9996**2, rel=1e-5)
    # 10^-5 degrees at 60 degrees north: 1.1142 m by 0.5580 m.
    place = rasterio.transform.Affine(1e-5, 0, 20, 0, -1e-5, 60)
    paths = write_pair(tmp_path, crs='EPSG:4326', transform=place)
    assert open_scene(*paths).pixel_area() == pytest.approx(
        1.11412 * 0.55802, rel=1e-3)
    # US survey feet, in New York.
    paths = write_pair(tmp_path, crs='EPSG:2263', transform=(
        rasterio.transform.Affine(0.5, 0, 990000, 0, -0.5, 200000)))
    assert open_scene(*paths).pixel_area() == pytest.approx(
        0.25 * 0.3048006**2, rel=1e-4)


def test_area_does_not_hang_on_the_reference_system(tmp_path) -> None:
    """Pixels of 8 m in Web Mercator are 6.4 m at 37 degrees north."""
    def area(crs: str, x: float, y: float, step: float) -> float:
        return open_scene(*write_pair(
            tmp_path, crs=crs, transform=rasterio.transform.Affine(
                step, 0, x, 0, -step, y))).pixel_area()

    mercator = area('EPSG:3857', 4120000, 4500000, 8.)
    (x, ), (y, ) = rasterio.warp.transform(
        'EPSG:3857', 'EPSG:32637', [4120600], [4499560])
    plane = area('EPSG:32637', x, y, 8.)
    assert plane == pytest.approx(64, rel=2e-3)
    (longitude, ), (latitude, ) = rasterio.warp.transform(
        'EPSG:3857', 'EPSG:4326', [4120600], [4499560])
    # The ellipsoid stretched by 1 / cos of the latitude, nearly.
    assert mercator == pytest.approx(
        64 * np.cos(np.radians(latitude))**2, rel=5e-3)
    assert mercator < 41
    # Over the date line, and next to the pole.
    assert area('EPSG:4326', 179.9999, 60, 1e-5) == pytest.approx(
        1.11412 * 0.55802, rel=1e-3)
    assert area('EPSG:3413', -30, 30, 1.) == pytest.approx(
        1.062, rel=2e-2)
    with pytest.raises(DataFormatError, match='no area is known'):
        area('EPSG:32637', 1e12, 1e12, 8.)


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
    assert content['pixel_area'] == pytest.approx(0.25, rel=1e-3)
    assert content['assessed_area'] == pytest.approx(
        0.25 * 110 * 150, rel=1e-3)
    damage = read(tmp_path / 'out.tif')
    assert content['states'][0]['map_area'] == pytest.approx(
        0.25 * (damage == 1).sum(), rel=1e-3)


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


def drawn(inferencer, monkeypatch, tmp_path, pre, post) -> tuple:
    """Panels and legend of a picture, the map, and the counts."""
    seen = []

    def draw(*arguments):
        seen.append(arguments)
        return draw_assessment(*arguments)

    monkeypatch.setattr('osar_plugin.apis.damage.draw_assessment', draw)
    report = inferencer.assess(pre, post, tmp_path / 'out.tif',
                               picture=tmp_path / 'out.png')
    panels, legend, _, _ = seen[0]
    return panels, legend, read(tmp_path / 'out.tif'), report.counts


def test_panels_and_their_pixels(inferencer, tmp_path, monkeypatch) -> None:
    """Upright, in order, in the right colours, pixel by pixel."""
    pre, post = (np.maximum(x, 1) for x in images())
    pre[:, 100:130], post[:20] = 0, 0
    panels, legend, classes, _ = drawn(
        inferencer, monkeypatch, tmp_path,
        write(tmp_path / 'pre.tif', pre, nodata=0),
        write(tmp_path / 'post.tif', post, nodata=0))
    assert [panel.title for panel in panels] == [
        'before, optical', 'after, SAR', 'building damage']
    colours = {name: colour for name, colour, _ in legend
               if name != 'undetermined'}
    assert list(colours) == ['intact', 'damaged', 'destroyed', 'no data']
    assert len({*colours.values(), (0, 0, 0)}) == 5
    empty = np.zeros(SIZE, bool)
    empty[:, 100:130], empty[:20] = True, True
    for panel, pixels in zip(panels, (
            pre, np.repeat(post[..., None], 3, 2),
            np.repeat(pre[..., 1:2] // 3, 3, 2)), strict=True):
        wanted = pixels.copy()
        if panel is panels[2]:
            assert len(np.unique(classes)) == 5
            for i, name in ((1, 'intact'), (2, 'damaged'), (3, 'destroyed')):
                wanted[classes == i] = colours[name]
        wanted[empty] = colours['no data']
        np.testing.assert_array_equal(panel.image, wanted)
    # What was written has the map at the right, twice as large.
    with Image.open(tmp_path / 'out.png') as image:
        picture = np.array(image)
    large = panels[2].image.repeat(2, 0).repeat(2, 1)
    corners = np.argwhere(
        (picture[:, -large.shape[1] - 18:] == colours['no data']).all(-1))
    top, left = corners.min(0)
    left += picture.shape[1] - large.shape[1] - 18
    np.testing.assert_array_equal(
        picture[top:top + len(large), left:left + large.shape[1]], large)


def test_legend_says_what_is_shown(inferencer, tmp_path,
                                   monkeypatch) -> None:
    panels, legend, classes, counts = drawn(
        inferencer, monkeypatch, tmp_path, *write_pair(tmp_path))
    rows = {row['state']: row for row in counts.rows()}
    notes = {name: note for name, _, note in legend}
    assert 'background' not in notes and 'no data' not in notes
    for i, name in enumerate(('intact', 'damaged', 'destroyed'), 1):
        shown = (classes == i).sum() * counts.pixel_area
        assert notes[name] == (
            f'{rows[name]["buildings"]:,} buildings covering '
            f'{rows[name]["building_area"]:,.0f} m²; coloured '
            f'{shown:,.0f} m²')
    assert ('undetermined' in notes) == bool(
        rows['undetermined']['buildings'])


def test_legend_of_undetermined_buildings() -> None:
    counter = DamageCounter()
    counter.add(np.array([[0, 1, 0, 255]], np.uint8),
                np.array([[1, 0, 0, 255]], np.uint8))
    legend = legend_of(counter.result(2.), 4)
    assert legend[3] == ('undetermined', None, '1 buildings covering 2 m²')
    assert legend[4][0] == 'no data' and legend[4][2] == '2 m²'


def test_large_scenes_say_what_a_pixel_is(inferencer, tmp_path,
                                          monkeypatch) -> None:
    monkeypatch.setattr(
        'osar_plugin.apis.damage.ClassView', partial(ClassView, longest=60))
    panels, _, classes, _ = drawn(
        inferencer, monkeypatch, tmp_path, *write_pair(tmp_path))
    assert [panel.title for panel in panels] == [
        'before, optical, mean of 3 x 3 pixels',
        'after, SAR, mean of 3 x 3 pixels',
        'building damage, worst of 3 x 3 pixels']
    assert {panel.image.shape for panel in panels} == {(37, 50, 3)}


def test_nothing_to_look_at_is_said(inferencer, monkeypatch,
                                    tmp_path) -> None:
    pre, post = images()
    paths = [write(tmp_path / f'{name}.tif', 0 * image, nodata=0)
             for name, image in (('pre', pre), ('post', post))]
    said = messages(monkeypatch, 'damage')
    assert (inferencer(*paths).damage == 255).all()
    assert len(said) == 1 and 'no pixel has data' in said[0]


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
            assert view.states[i, j] == states[
                8 * i:8 * i + 8, 8 * j:8 * j + 8].max()


def test_view_without_data() -> None:
    """Only where no pixel of a block has any."""
    damage = np.full((8, 8), 255, np.uint8)
    damage[0, 0], damage[0, 7] = 0, 2
    view = ClassView(damage.shape, longest=2)
    view.add(damage)
    assert view.states.tolist() == [[0, 2], [255, 255]]


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
