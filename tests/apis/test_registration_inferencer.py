"""Pairs of files to registered files, verified with rasterio."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from osar_plugin.apis.registration import (
    RegistrationInferencer,
    build_matcher,
)
from osar_plugin.apis.registration_output import (
    Grid,
    as_type,
    finer,
    write_resampled,
)
from osar_plugin.apis.registration_raster import (
    Box,
    FileRaster,
    Place,
    Raster,
    interpolate,
    open_raster,
    resample,
    spacing,
)
from osar_plugin.apis.registration_scene import (
    SceneSettings,
    align,
    confirm,
    positions,
    tile_boxes,
)
from osar_plugin.models.registration.match import Match
from osar_plugin.registry import INFERENCERS
from osar_plugin.utils.errors import (
    ConfigError,
    CorruptImageError,
    DataFormatError,
    DatasetNotFoundError,
)
from osar_plugin.utils.geometry import apply, similarity

rasterio = pytest.importorskip('rasterio', reason='needs the extra geo')
from rasterio.transform import Affine  # noqa: E402
from rasterio.warp import Resampling, reproject  # noqa: E402

CFOG = Path(__file__).resolve().parents[3] / 'shared/data/opt_sar_pairs/cfog'
UTM = 'EPSG:32632'
PLACE = Affine(2, 0, 450000, 0, -2, 5400000)
SIZE = (150, 180)
TRUE = similarity(2., 1.02, (4., -3.), (90., 75.))


def scene(size=SIZE, seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = np.full(size, 90, np.uint8)
    for _ in range(size[0] * size[1] // 500):
        box = ((rng.uniform(0, size[1]), rng.uniform(0, size[0])),
               tuple(rng.uniform(8, 40, 2)), rng.uniform(0, 180))
        cv2.fillPoly(image, [np.rint(cv2.boxPoints(box)).astype(np.int32)],
                     int(rng.integers(20, 235)))
    return image


def moved(image, matrix=TRUE) -> np.ndarray:
    """What lies at x in the image lies at A(x) in the result."""
    return cv2.warpAffine(image, matrix, image.shape[::-1])


def write(path: Path, image, transform=PLACE, crs=UTM, **profile) -> Path:
    bands = image[None] if image.ndim == 2 else image
    with rasterio.open(
            path, 'w', driver='GTiff', count=len(bands),
            height=bands.shape[1], width=bands.shape[2], dtype=bands.dtype,
            transform=transform, crs=crs, **profile) as file:
        file.write(bands)
    return path


def known(matrix):
    """A matcher that knows the answer."""
    return lambda fixed, moving: matrix


def pixels_of(transform, world) -> np.ndarray:
    """Pixel centres (N, 2) of coordinates by a geotransform of a file."""
    return np.stack((~transform) * (world[:, 0], world[:, 1]), 1) - 0.5


def world_of(points, transform=PLACE) -> np.ndarray:
    return np.stack(transform * (points[:, 0] + 0.5, points[:, 1] + 0.5), 1)


def rmse(a, b) -> float:
    return float(np.sqrt(((a - b)**2).sum(1).mean()))


# ------------------------------------------------------------- a real pair


@pytest.fixture(scope='module')
def real(tmp_path_factory):
    """The CFOG pair with georeferences that are off, and its check points.

    MOVING says it lies some metres off and has 3 m instead of 2 m pixels
    along y, as resampled by the test.
    """
    if not CFOG.is_dir():
        pytest.skip('real pair not there: ../shared/data/opt_sar_pairs/cfog')
    folder = tmp_path_factory.mktemp('real')
    points = np.loadtxt(CFOG / 'OpticaltoSAR_CP.txt') - 1
    assert len(points) == 294
    optical = cv2.imread(str(CFOG / 'optical_ref.png'))
    sar = cv2.imread(str(CFOG / 'SAR_sen.png'), 0)
    height = sar.shape[0] * 2 // 3
    sar = cv2.resize(sar, (sar.shape[1], height),
                     interpolation=cv2.INTER_AREA)
    points[:, 3] = (points[:, 3] + 0.5) * height / 513 - 0.5
    fixed = write(folder / 'fixed.tif', optical.transpose(2, 0, 1))
    moving = write(
        folder / 'moving.tif', sar.astype(np.uint16) * 10 + 1,
        Affine(2, 0, 450004, 0, -2 * 513 / height, 5400006), nodata=0)
    with rasterio.open(moving, 'r+') as file:
        file.set_band_description(1, 'VV')
        file.update_tags(ORBIT='12')
    return folder, fixed, moving, points, RegistrationInferencer()(
        fixed, moving)


def test_check_points_of_the_real_pair(real) -> None:
    *_, points, found = real
    assert found.ok, found.reason
    off = found.points(points[:, :2]) - points[:, 2:]
    off[:, 1] *= 513 / 342  # in pixels of 2 m
    assert np.sqrt((off**2).sum(1).mean()) < 1.3
    report = json.loads(json.dumps(found.report()))
    assert report['inliers'] > 200 and report['residuals_px']['rmse'] < 2
    assert report['versions']['rasterio']


def test_every_way_out_of_the_real_pair(real) -> None:
    folder, fixed, moving, points, found = real
    for way in ('geotransform', 'gcps', 'resampled'):
        found.write(folder / f'{way}.tif', way, 'bilinear')
    world = world_of(points[:, :2])
    with rasterio.open(folder / 'geotransform.tif') as file, rasterio.open(
            moving) as old:
        assert file.crs.to_string() == UTM
        off = pixels_of(file.transform, world) - points[:, 2:]
        off[:, 1] *= 513 / 342
        assert np.sqrt((off**2).sum(1).mean()) < 1.3
        np.testing.assert_array_equal(file.read(), old.read())
        placed = file.read(1).astype(np.float32), dict(
            src_transform=file.transform, src_crs=file.crs)
    with rasterio.open(folder / 'gcps.tif') as file:
        gcps, crs = file.gcps
        assert crs.to_string() == UTM and len(gcps) >= 9
        back = pixels_of(rasterio.transform.from_gcps(gcps), world)
        np.testing.assert_allclose(
            back, found.points(points[:, :2]), atol=1e-4)
        pointed = file.read(1).astype(np.float32), dict(
            gcps=gcps, src_crs=crs)
    with rasterio.open(folder / 'resampled.tif') as file, rasterio.open(
            fixed) as grid:
        assert (file.crs, file.transform, file.shape) == (
            grid.crs, grid.transform, grid.shape)
        assert (file.dtypes, file.nodata, file.descriptions) == (
            ('uint16',), 0, ('VV',))
        assert file.tags()['ORBIT'] == '12'
        ours = file.read(1).astype(np.float64)
    for source, options in (placed, pointed):
        other = np.zeros(ours.shape, np.float32)
        reproject(source, other, dst_transform=PLACE, dst_crs=UTM,
                  src_nodata=0, dst_nodata=0,
                  resampling=Resampling.bilinear, **options)
        both = (ours > 0) & (other > 0)
        assert both.mean() > 0.9
        # Half a grey level; ours are 10 of the picture's.
        assert np.abs(other - ours)[both].mean() < 5


@pytest.mark.skipif(not shutil.which('gdalwarp'), reason='no gdalwarp')
def test_gdalwarp_agrees(real) -> None:
    folder, *_, found = real
    found.write(folder / 'g.tif', 'gcps')
    found.write(folder / 'r.tif', resampling='bilinear')
    left, bottom, right, top = rasterio.open(folder / 'r.tif').bounds
    subprocess.run([
        'gdalwarp', '-q', '-order', '1', '-r', 'bilinear', '-t_srs', UTM,
        '-tr', '2', '2', '-te', *map(str, (left, bottom, right, top)),
        str(folder / 'g.tif'), str(folder / 'w.tif')], check=True)
    with rasterio.open(folder / 'r.tif') as a, rasterio.open(
            folder / 'w.tif') as b:
        ours, other = a.read(1).astype(float), b.read(1).astype(float)
    both = (ours > 0) & (other > 0)
    assert np.abs(other - ours)[both].mean() < 5


def test_lists_of_control_points(real) -> None:
    folder, _, moving, points, found = real
    found.write(folder / 'p.points')
    found.write(folder / 'p.csv')
    head, names, *lines = (folder / 'p.points').read_text().splitlines()
    assert head.startswith('#CRS: PROJCS') and names == (
        'mapX,mapY,sourceX,sourceY,enable,dX,dY,residual')
    rows = np.array([line.split(',') for line in lines], float)
    table = np.loadtxt(folder / 'p.csv', delimiter=',', skiprows=1)
    np.testing.assert_allclose(rows[:, :2], table[:, 2:])
    # QGIS: coordinates of the layer; CSV: GDAL's pixel and line.
    with rasterio.open(moving) as file:
        np.testing.assert_allclose(
            world_of(table[:, :2] - 0.5, file.transform), rows[:, 2:4])
    np.testing.assert_allclose(
        found.points(pixels_of(PLACE, table[:, 2:])), table[:, :2] - 0.5)


# ----------------------------------------------------------- known answers


def test_reference_systems_and_sizes(tmp_path) -> None:
    """A moving image in degrees, of another pixel size and further bands."""
    image = scene()
    fixed = write(tmp_path / 'f.tif', image)
    other = np.zeros((2, 200, 260), np.float32)
    box = rasterio.warp.transform_bounds(
        UTM, 'EPSG:4326', 450000, 5399700, 450360, 5400000)
    there = rasterio.transform.from_bounds(*box, 260, 200)
    reproject(image.astype(np.float32), other[0], src_transform=PLACE,
              src_crs=UTM, dst_transform=there, dst_crs='EPSG:4326',
              resampling=Resampling.bilinear, dst_nodata=np.nan)
    other[1] = -other[0]
    moving = write(tmp_path / 'm.tif', other, there, 'EPSG:4326')
    found = RegistrationInferencer(known(np.eye(2, 3)))(
        fixed, moving, moving_bands=[1])
    assert found.ok, found.reason
    # By hand: pixel to UTM to degrees to pixel.
    points = np.array([[20., 30.], [150., 120.]])
    world = world_of(points)
    degrees = np.stack(rasterio.warp.transform(
        UTM, 'EPSG:4326', world[:, 0], world[:, 1]), 1)
    np.testing.assert_allclose(
        found.points(points), pixels_of(there, degrees), atol=1e-6)
    found.write(tmp_path / 'out.tif', resampling='bilinear')
    with rasterio.open(tmp_path / 'out.tif') as file:
        assert file.crs.to_string() == UTM and file.count == 2
        valid = file.dataset_mask() > 0
        ours = file.read()
    assert valid.mean() > 0.95
    middle = cv2.erode(valid.astype(np.uint8), np.ones((9, 9))) > 0
    assert np.abs(ours[0] - image)[middle].mean() < 6
    np.testing.assert_allclose(ours[1], -ours[0], atol=1e-3)


def test_applied_to_further_files(tmp_path) -> None:
    image = scene()
    fixed = write(tmp_path / 'f.tif', image)
    moving = write(tmp_path / 'm.tif', moved(image))
    # Twice as fine, shifted by one of its own pixels within the ground.
    fine = cv2.resize(moved(image), None, fx=2, fy=2,
                      interpolation=cv2.INTER_LINEAR)
    more = write(tmp_path / 'more.tif', fine[:, 2:].astype(np.int16),
                 PLACE * Affine.translation(1, 0) * Affine.scale(0.5),
                 nodata=-9999)
    found = RegistrationInferencer(known(TRUE))(fixed, moving)
    assert found.ok, found.reason
    found.write(tmp_path / 'a.tif', resampling='bilinear')
    found.apply(more, tmp_path / 'b.tif', resampling='bilinear')
    found.apply(more, tmp_path / 'c.tif', own_resolution=True)
    with rasterio.open(tmp_path / 'a.tif') as a, rasterio.open(
            tmp_path / 'b.tif') as b, rasterio.open(tmp_path / 'c.tif') as c:
        assert (b.dtypes, b.nodata, b.shape) == (('int16',), -9999, SIZE)
        one, other = a.read(1).astype(float), b.read(1).astype(float)
        both = (a.dataset_mask() > 0) & (other != -9999)
        assert both.mean() > 0.85
        assert np.abs(one - other)[both].mean() < 3
        # 2 m / 2 / 1.02: the transform itself magnifies.
        assert c.shape == (round(150 * 2.04), round(180 * 2.04))
        assert c.bounds == a.bounds
    inner = np.s_[12:-12, 12:-12]
    assert np.abs(one - image)[inner].mean() < 5


def test_bending_transforms(tmp_path) -> None:
    """A polynomial goes through control points, not through an affine."""
    x, y = np.meshgrid(np.arange(8, 172, 12.), np.arange(8, 142, 12.))
    a = np.stack([x.ravel(), y.ravel()], 1)
    b = a + np.stack([3 + 3e-4 * (a[:, 0] - 90)**2,
                      -2 + 2e-4 * a[:, 0] * a[:, 1] / 2], 1)
    match = Match(a, b, np.ones(len(a)), search_area=1e4)
    fixed = write(tmp_path / 'f.tif', scene())
    moving = write(tmp_path / 'm.tif', scene())
    settings = SceneSettings(check=False)
    found = RegistrationInferencer(
        lambda *_: match, 'poly2', settings=settings)(fixed, moving)
    assert found.ok, found.reason
    np.testing.assert_allclose(found.points(a), b, atol=1e-6)
    with pytest.raises(ConfigError, match='geotransform'):
        found.write(tmp_path / 'x.tif', 'geotransform')
    found.write(tmp_path / 'g.tif', 'gcps')
    with rasterio.open(tmp_path / 'g.tif') as file:
        gcps, _ = file.gcps
    world = np.array([(p.x, p.y) for p in gcps])
    np.testing.assert_allclose(
        found.points(pixels_of(PLACE, world)),
        [(p.col - 0.5, p.row - 0.5) for p in gcps], atol=1e-6)
    assert len(gcps) > 500
    spline = RegistrationInferencer(
        lambda *_: match, 'tps', settings=settings)(fixed, moving)
    np.testing.assert_allclose(spline.points(a), b, atol=0.1)


def test_plain_images(tmp_path) -> None:
    image = scene()
    cv2.imwrite(str(tmp_path / 'f.png'), image)
    large = cv2.resize(moved(image), None, fx=2, fy=2,
                       interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / 'm.png'), large)
    found = RegistrationInferencer(known(TRUE))(
        tmp_path / 'f.png', str(tmp_path / 'm.png'))
    assert found.ok, found.reason
    # Borders stay, centres move.
    points = np.array([[0., 0.], [100., 50.]])
    np.testing.assert_allclose(
        found.points(points), 2 * (apply(TRUE, points) + 0.5) - 0.5)
    found.write(tmp_path / 'o.png')
    out = cv2.imread(str(tmp_path / 'o.png'), cv2.IMREAD_UNCHANGED)
    assert out.shape == (*SIZE, 4) or out.shape == (*SIZE, 2)
    assert np.abs(out[..., 0].astype(float) - image)[
        12:-12, 12:-12].mean() < 5
    for way in ('gcps', 'geotransform'):
        with pytest.raises(ConfigError, match='no georeference'):
            found.write(tmp_path / 'x.tif', way)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        'f.png', 'm.png', 'o.png']


def test_tiles_refine_the_overview() -> None:
    """A scene larger than the overview, one side of it without texture."""
    size = (560, 640)
    image = scene(size, 3)
    image[:, 400:] = 90
    found = RegistrationInferencer(settings=SceneSettings(
        overview=330, tile=224, max_tiles=9))(image, moved(
            image, similarity(1., 1.01, (9., -7.), (300., 280.))))
    assert found.ok, found.reason
    matched, tried = found.found.tiles
    assert found.found.factor == 2 and 3 <= matched < tried == 9
    points = np.array([[0., 0.], [639, 0], [0, 559], [639, 559]])
    truth = apply(similarity(1., 1.01, (9., -7.), (300., 280.)), points)
    assert np.abs(found.points(points) - truth).max() < 0.5
    assert found.certainty()[:, :150].mean() > 2 * found.certainty()[
        :, 250:].mean()


# ----------------------------------------------------------------- failures


def test_wrong_answers_are_refused() -> None:
    image = scene()
    found = RegistrationInferencer(known(np.array(
        [[1., 0, 12], [0, 1, 0]])))(image, image)
    assert not found.ok and '12 px away' in found.reason
    for write_it in (lambda: found.write('x.tif'), found.matrix,
                     lambda: found.points(np.zeros((1, 2)))):
        with pytest.raises(DataFormatError, match='failed'):
            write_it()
    assert json.loads(json.dumps(found.report()))['ok'] is False
    noise = np.random.default_rng(0).integers(0, 255, (2, 128, 128)).astype(
        np.uint8)
    assert not RegistrationInferencer()(noise[0], noise[1]).ok
    flat = RegistrationInferencer()(image, np.full(SIZE, 7, np.uint8))
    assert not flat.ok and 'everywhere' in flat.reason


def test_confirm() -> None:
    image = scene().astype(np.float32)
    everywhere = np.ones(SIZE, bool)
    shifted = np.roll(image, (5, -8), (0, 1))
    result, reason = confirm(image, everywhere, shifted, everywhere)
    assert 'away' in reason
    np.testing.assert_allclose(
        (result['shift_x'], result['shift_y']), (-8, 5), atol=0.3)
    assert confirm(image, everywhere, 255 - image, everywhere)[1] == ''
    none = np.zeros(SIZE, bool)
    assert 'too little' in confirm(image, everywhere, image, none)[1]


def pair(tmp_path, **moving) -> tuple[Path, Path]:
    image = scene()
    return (write(tmp_path / 'f.tif', image),
            write(tmp_path / 'm.tif', image, **moving))


@pytest.mark.parametrize('moving, error, match', [
    (dict(transform=Affine(2, 0, 600000, 0, -2, 5400000)), DataFormatError,
     'do not overlap'),
    (dict(crs=None), ConfigError, 'moving_crs'),
    (dict(crs='EPSG:32650'), DataFormatError, 'do not overlap'),
    (dict(nodata=90), None, '')])
def test_bad_places(tmp_path, moving, error, match) -> None:
    files = pair(tmp_path, **moving)
    run = RegistrationInferencer(known(np.eye(2, 3)))
    if error is None:
        assert run(*files).ok
        return
    with pytest.raises(error, match=match):
        run(*files)


def test_bad_pairs(tmp_path) -> None:
    run = RegistrationInferencer(known(np.eye(2, 3)))
    image = scene()
    placed = write(tmp_path / 'p.tif', image)
    with pytest.raises(ConfigError, match='swapped'):
        run(image, placed)
    assert run(placed, image).ok
    with pytest.raises(ConfigError, match='names no reference system'):
        run(write(tmp_path / 'n.tif', image, crs=None), placed,
            fixed_crs='EPSG:nonsense')
    empty = write(tmp_path / 'e.tif', np.full(SIZE, 5, np.uint8), nodata=5)
    for files in ((empty, placed), (placed, empty)):
        with pytest.raises(DataFormatError, match=r'e\.tif: has no data'):
            run(*files)
    nothing = np.full(SIZE, np.nan, np.float32)
    with pytest.raises(DataFormatError, match='moving: has no data'):
        run(image, nothing)
    for bad in (image[:1], image[:, :1]):
        with pytest.raises(DataFormatError, match='at least 16 x 16'):
            run(image, bad)
    with pytest.raises(DataFormatError, match='complex'):
        run(image, write(tmp_path / 'c.tif', image.astype(np.complex64)))
    with pytest.raises(DatasetNotFoundError):
        run(image, tmp_path / 'none.tif')
    with pytest.raises(ConfigError, match='path or an array'):
        run(image, None)
    with pytest.raises(ConfigError, match='bands'):
        run(placed, placed, moving_bands=[2])
    data = (tmp_path / 'p.tif').read_bytes()
    (tmp_path / 'cut.tif').write_bytes(data[:len(data) // 2])
    with pytest.raises(CorruptImageError, match=r'cut\.tif'):
        run(placed, tmp_path / 'cut.tif')
    (tmp_path / 'text.tif').write_text('no image')
    with pytest.raises(CorruptImageError, match=r'text\.tif'):
        run(placed, tmp_path / 'text.tif')


def test_outputs_that_cannot_be(tmp_path) -> None:
    files = pair(tmp_path)
    found = RegistrationInferencer(known(np.eye(2, 3)))(*files)
    (tmp_path / 'file').write_text('')
    before = sorted(tmp_path.iterdir())
    for path, match in ((files[0], 'also an input'),
                        (files[1], 'also an input'),
                        (tmp_path / 'file' / 'o.tif', 'cannot be written'),
                        (tmp_path / 'o.jpg', 'must end in'),
                        (tmp_path, 'must end in')):
        with pytest.raises(ConfigError, match=match):
            found.write(path)
    deep = write(tmp_path / 'd.tif', scene().astype(np.float32))
    with pytest.raises(ConfigError, match=r'name the output \.tif'):
        found.apply(deep, tmp_path / 'o.png')
    deep.unlink()
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_that_breaks_half_way_leaves_nothing(tmp_path) -> None:
    class Breaking(Raster):
        def read(self, box, k=1, bands=None, average=True):
            if box.y > 300:
                raise CorruptImageError('broken')
            return super().read(box, k, bands, average)

    source = Breaking('b', np.zeros((1, 1200, 40), np.uint8))
    out = tmp_path / 'o.tif'
    out.write_text('an earlier one')
    with pytest.raises(CorruptImageError, match='broken'):
        write_resampled(out, source, Grid((1200, 40), None), lambda at: at)
    assert [p.name for p in tmp_path.iterdir()] == ['o.tif']
    assert out.read_text() == 'an earlier one'


def test_arguments() -> None:
    with pytest.raises(ConfigError, match="mean 'cfog'"):
        build_matcher('cfgo')
    with pytest.raises(ConfigError, match='cannot be built'):
        build_matcher('cfog', dict(nonsense=1))
    with pytest.raises(ConfigError, match='trained model'):
        build_matcher('soma', dict(checkpoint='a.pth'))
    for options in (dict(transform='affin'), dict(options=dict(tile=1))):
        with pytest.raises(ConfigError):
            RegistrationInferencer(**options)
    with pytest.raises(ConfigError, match='align'):
        RegistrationInferencer(align='x')(scene(), scene())
    with pytest.raises(ConfigError):
        SceneSettings(overview=1)
    built = INFERENCERS.build(dict(
        type='osar_plugin.RegistrationInferencer', method='phase'))
    assert built.method == 'phase'


# ------------------------------------------------------------------- pieces


def test_corner_convention_by_hand() -> None:
    """Half the pixel size: the first two centres lie in the first pixel."""
    pixels = np.zeros((1, 32, 32), np.uint8)
    a = Raster('a', pixels, Place(None, np.array([[2., 0, 10], [0, -2, 50]])))
    b = Raster('b', pixels, Place(None, np.array([[1., 0, 10], [0, -1, 50]])))
    np.testing.assert_allclose(
        align(a, b).points(np.array([[0., 0.], [3, 1]])),
        [[0.5, 0.5], [6.5, 2.5]])


def test_interpolation() -> None:
    rng = np.random.default_rng(0)
    plane = np.add.outer(2. * np.arange(12), 3. * np.arange(14))[None]
    x, y = rng.uniform(2, 10, (2, 5, 6))
    all_valid = np.ones((12, 14), bool)
    for kernel in ('bilinear', 'cubic'):
        values, found = interpolate(plane, all_valid, x, y, kernel)
        np.testing.assert_allclose(values[0], 2 * y + 3 * x)
        assert found.all()
    # Keys' kernel with a = -1/2 keeps parabolas.
    parabola = (np.arange(14.)**2)[None, None].repeat(12, 1)
    values, _ = interpolate(parabola, all_valid, x, y, 'cubic')
    np.testing.assert_allclose(values[0], x**2)
    # What has no data is never mixed in.
    hole, holed = all_valid.copy(), plane.copy()
    hole[4:6, 4:6] = False
    holed[:, 4:6, 4:6] = 1e9
    for kernel in ('nearest', 'bilinear', 'cubic'):
        values, found = interpolate(holed, hole, x, y, kernel)
        assert values[:, found].max() < 100
        near = hole[np.floor(y + 0.5).astype(int),
                    np.floor(x + 0.5).astype(int)]
        np.testing.assert_array_equal(found, near)


def test_resampling_averages_and_ends_at_the_border(tmp_path) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(1, 200, (67, 50)).astype(np.uint16)
    file = FileRaster(write(tmp_path / 'a.tif', image, nodata=0))
    memory = open_raster(image)
    for k in (1, 3, 4):
        box = Box(0, 0, 50, 67)
        a, b = (r.read(box, k)[0] for r in (file, memory))
        assert a.shape == (1, -(-67 // k), -(-50 // k))
        assert np.abs(a.astype(int) - b).max() <= 1
    places = positions(Box(0, 0, 60, 70), 1, lambda at: at - 5.)
    values, valid = resample(memory, places, 'nearest')
    assert valid[5:, 5:55].all() and valid.sum() == 65 * 50
    np.testing.assert_array_equal(values[0, 5:, 5:55], image[:65])
    assert spacing(places) == 1 and spacing(3.2 * places) == 3


def test_types() -> None:
    values = np.array([[[-5., 7.4, 254.8, 400.]]])
    valid = np.array([[True, True, True, False]])
    np.testing.assert_array_equal(
        as_type(values, valid, np.dtype(np.uint8), 0)[0], [[1, 7, 255, 0]])
    np.testing.assert_array_equal(
        as_type(values, valid, np.dtype(np.uint8), 255)[0],
        [[0, 7, 254, 255]])
    out = as_type(values, valid, np.dtype(np.float32), -9999.)
    np.testing.assert_allclose(out[0], [[-5, 7.4, 254.8, -9999]])


def test_grids_and_tiles() -> None:
    grid = finer(Grid((100, 80), Place(None, np.array(
        [[2., 0, 10], [0, -2, 50]]))), (0.4, 0.3))
    assert grid.size == (333, 200)
    # Both corners of the ground are where they were.
    np.testing.assert_allclose(grid.to_fixed(np.array(
        [[-0.5, -0.5], [199.5, 332.5]])), [[-0.5, -0.5], [79.5, 99.5]])
    np.testing.assert_allclose(
        grid.place.transform @ [200, 333, 1], [170, -150])
    for most in (100, 6):
        boxes = tile_boxes((900, 1000), 256, most)
        assert len(boxes) <= most
        assert min(b.x for b in boxes) == min(b.y for b in boxes) == 0
        assert max(b.x + b.width for b in boxes) == 1000
        assert max(b.y + b.height for b in boxes) == 900


def test_a_moving_image_with_control_points_only(tmp_path) -> None:
    """As radar products come: no geotransform, points in degrees."""
    image = scene()
    fixed = write(tmp_path / 'f.tif', image)
    at = np.array([[x, y] for x in (-0.5, 89.5, 179.5)
                   for y in (-0.5, 74.5, 149.5)])
    world = world_of(at)
    degrees = rasterio.warp.transform(
        UTM, 'EPSG:4326', world[:, 0], world[:, 1])
    gcps = [rasterio.control.GroundControlPoint(
        row=y + 0.5, col=x + 0.5, x=u, y=v) for (x, y), u, v in zip(
            at.tolist(), *degrees, strict=True)]
    moving = tmp_path / 'm.tif'
    with rasterio.open(
            moving, 'w', driver='GTiff', count=1, height=SIZE[0],
            width=SIZE[1], dtype='uint8') as file:
        file.write(moved(image), 1)
        file.gcps = gcps, rasterio.crs.CRS.from_epsg(4326)
    found = RegistrationInferencer(known(TRUE))(fixed, moving)
    assert found.ok, found.reason
    # The polynomial through the points is good to a tenth of a pixel.
    np.testing.assert_allclose(found.points(at), apply(TRUE, at), atol=0.1)
    found.write(tmp_path / 'g.tif', 'geotransform')
    with rasterio.open(tmp_path / 'g.tif') as file:
        assert not file.gcps[0] and file.crs.to_string() == UTM
        np.testing.assert_allclose(
            pixels_of(file.transform, world), apply(TRUE, at), atol=0.1)
    with pytest.raises(ConfigError, match='can be no reference'):
        RegistrationInferencer(known(TRUE))(moving, fixed)


def test_what_a_file_says_of_its_bands_stays(tmp_path) -> None:
    image = scene((600, 540))
    fixed = write(tmp_path / 'f.tif', image)
    bands = np.stack([image, 255 - image, image // 2]).astype(np.float32)
    moving = write(tmp_path / 'm.tif', bands, compress='lzw')
    with rasterio.open(moving, 'r+') as file:
        for i, name in enumerate(('VV', 'VH', 'angle'), 1):
            file.set_band_description(i, name)
        file.units, file.scales = ('dB', 'dB', 'deg'), (1., 0.5, 2.)
        file.update_tags(2, LOOKS='4', STATISTICS_MEAN='3')
        file.build_overviews([2, 4], Resampling.average)
    found = RegistrationInferencer(known(np.eye(2, 3)))(fixed, moving)
    found.write(tmp_path / 'o.tif')
    with rasterio.open(tmp_path / 'o.tif') as file:
        assert file.descriptions == ('VV', 'VH', 'angle')
        assert (file.units, file.scales) == (
            ('dB', 'dB', 'deg'), (1., 0.5, 2.))
        assert file.tags(2) == dict(LOOKS='4')
        assert file.overviews(1) == [2, 4]
        assert file.compression.name == 'lzw' and file.nodata is None
        np.testing.assert_allclose(file.read(), bands, atol=1e-3)
        assert file.dataset_mask().all()


def test_colour_tables_are_not_averaged(tmp_path) -> None:
    image = scene() // 64
    fixed = write(tmp_path / 'f.tif', scene())
    moving = write(tmp_path / 'm.tif', image)
    with rasterio.open(moving, 'r+') as file:
        file.write_colormap(1, {0: (0, 0, 0), 1: (9, 8, 7)})
    found = RegistrationInferencer(known(np.eye(2, 3)))(fixed, moving)
    with pytest.raises(ConfigError, match='nearest'):
        found.write(tmp_path / 'o.tif')
    found.write(tmp_path / 'o.tif', resampling='nearest')
    with rasterio.open(tmp_path / 'o.tif') as file:
        assert file.colormap(1)[1][:3] == (9, 8, 7)
        np.testing.assert_array_equal(file.read(1), image)
