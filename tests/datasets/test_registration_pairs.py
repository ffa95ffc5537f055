"""Registered pairs, and what is done to them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from osar_plugin.datasets import RegistrationPairs
from osar_plugin.datasets.perturbation import (
    PRESETS,
    Perturbation,
    draw,
    truth_between,
    warp_range,
)
from osar_plugin.datasets.registration_pairs import pair_key
from osar_plugin.datasets.transforms import (
    LoadRegistrationPair,
    PackRegistrationInputs,
    RandomPairWarp,
    SARAppearance,
)
from osar_plugin.registry import DATASETS
from osar_plugin.utils import geometry as G
from osar_plugin.utils.errors import (
    ConfigError,
    DataFormatError,
    DatasetNotFoundError,
)

SIZE = (72, 96)


def smooth(size=SIZE, seed=0):
    rng = np.random.default_rng(seed)
    image = cv2.GaussianBlur(rng.normal(size=size), (0, 0), 4)
    return (image / image.std() * 40 + 128).astype(np.float32)


# ------------------------------------------------------------- perturbation


@pytest.mark.parametrize('preset', sorted(PRESETS))
def test_truth_of_what_was_done(preset):
    """moving(x + f(x)) is the image before, inside."""
    image = smooth()
    for seed in range(3):
        made = draw(SIZE, PRESETS[preset], np.random.RandomState(seed))
        flow = made.flow()
        back = G.warp(
            torch.tensor(made.apply(image), dtype=torch.float64)[None, None],
            torch.tensor(flow)[None])[0, 0].numpy()
        seen = G.inside(flow, SIZE)
        # Black from outside is mixed into the outermost pixels.
        inner = np.pad(seen, 3).astype(np.uint8)
        seen = cv2.erode(inner, np.ones((7, 7)))[3:-3, 3:-3] > 0
        edge = np.zeros(SIZE, bool)
        edge[3:-3, 3:-3] = True
        seen &= edge
        assert seen.mean() > 0.3
        off = np.abs(back - image)[seen]
        # Two bilinear samples of a smooth image of deviation 40.
        assert off.mean() < 0.8 and np.abs(flow).max() > 1
        # The truth is exact: the place it names comes from x.
        positions = made.positions()
        grid = G.pixel_grid(SIZE, torch.float64).numpy()
        points = (grid + flow)[:, seen].T
        source = G.flow_at(positions, points)
        assert np.abs(source - grid[:, seen].T).max() < 0.01


def test_ranges_of_the_presets():
    main = PRESETS['soma_main']
    drawn = [draw((512, 512), main, np.random.RandomState(s))
             for s in range(300)]
    angle = np.array([d.angle for d in drawn])
    scale = np.array([d.scale for d in drawn])
    shift = np.array([d.shift for d in drawn])
    for values, low, high in ((angle, -5, 5), (scale, 0.8, 1.2),
                              (shift, -32, 32)):
        assert low <= values.min() and values.max() <= high
        assert values.min() < low + 0.05 * (high - low)
        assert values.max() > high - 0.05 * (high - low)
    # RMS of the truth: mean 36.6 px, median 35.9 px on 512 px.
    rms = [np.sqrt((G.matrix_to_flow(G.rescale(
        d.matrix, 1 / 16, 1 / 16), (32, 32))**2).sum(0).mean()) * 16
        for d in drawn]
    assert np.mean(rms) == pytest.approx(36.6, abs=1.5)
    released = draw((513, 300), PRESETS['soma_released'])
    assert released.centre == (150., 256.) and released.scale == 1
    assert drawn[0].centre == (255.5, 255.5)
    # Lengths scale with the image.
    half = draw((256, 256), main, np.random.RandomState(7))
    np.testing.assert_allclose(
        np.array(half.shift) * 2,
        draw((512, 512), main, np.random.RandomState(7)).shift)


def test_perturbations_as_plain_values():
    for preset in PRESETS.values():
        made = draw(SIZE, preset, np.random.RandomState(1))
        assert Perturbation.from_dict(made.to_dict()) == made
    with pytest.raises(DataFormatError, match=r'\(72, 96\)'):
        made.apply(np.zeros((5, 5), np.float32))
    before = G.similarity(20., 1.2, (3., 4.))
    moved = draw(SIZE, PRESETS['homography'], np.random.RandomState(1))
    points = np.array([[10., 20.], [60., 30.]])
    np.testing.assert_allclose(
        G.apply(truth_between(before, moved), points),
        G.apply(moved.matrix, G.apply(before, points)))


@pytest.mark.parametrize('bad', [
    'soma', dict(angle=-1), dict(scale=1.), dict(shift='x'), dict(grid=2),
    dict(centre='corner'), dict(speed=3), dict(elastic=float('nan'))])
def test_bad_ranges(bad):
    with pytest.raises(ConfigError):
        warp_range(bad)
    with pytest.raises(ConfigError):
        RandomPairWarp(bad)


# ----------------------------------------------------------------- data set


def write(path, channels=1, size=SIZE, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    pixels = rng.integers(1, 256, (*size, channels), np.uint8)
    Image.fromarray(pixels.squeeze()).save(path)


@pytest.fixture
def root(tmp_path):
    """GFGE's names in train, SOPatch's in test."""
    for number in (1, 2, 10):
        write(tmp_path / 'train' / 'opt' / f'opt{number}.png', 3, seed=1)
        write(tmp_path / 'train' / 'sar' / f'sar{number}.png', seed=number)
    for number in (7, 8):
        write(tmp_path / 'test' / 'opt' / f'd{number}.png', 3)
        write(tmp_path / 'test' / 'sar' / f'd{number}.png')
    write(tmp_path / 'test' / 'sar' / 'd9.png')
    return tmp_path


def names(dataset, side='moving'):
    rows = [dataset.get_data_info(i) for i in range(len(dataset))]
    return [Path(row[f'{side}_path']).name for row in rows]


def test_pairs_in_folders(root):
    dataset = RegistrationPairs(root)
    assert names(dataset) == ['sar1.png', 'sar2.png', 'sar10.png']
    assert names(dataset, 'fixed') == ['opt1.png', 'opt2.png', 'opt10.png']
    row = RegistrationPairs(root, split='test', fixed='sar').get_data_info(1)
    assert Path(row['fixed_path']).parts[-2:] == ('sar', 'd8.png')
    assert (row['fixed_modality'], row['moving_modality']) == (1, 0)
    assert len(RegistrationPairs(root, split='test')) == 2
    assert len(RegistrationPairs(root, limit=2)) == 2
    assert dataset.substitutes(1) == [0, 2]


def test_pairs_by_lists(root):
    train = root / 'train'
    (train / 'opt').rename(train / 'RGB')
    (train / 'sar').rename(train / 'SAR')
    (train / 'val.txt').write_text('opt1.png\nopt10.png\n', encoding='utf-8')
    assert names(RegistrationPairs(train, split='val')) == [
        'sar1.png', 'sar10.png']
    assert len(RegistrationPairs(train, split='all')) == 3
    (train / 'val.txt').write_text('opt5.png\n', encoding='utf-8')
    with pytest.raises(DataFormatError, match='1 pairs that are not there'):
        RegistrationPairs(train, split='val')
    with pytest.raises(DatasetNotFoundError, match=r'test\.txt'):
        RegistrationPairs(train, split='test')


def test_keys_of_names():
    assert pair_key('opt12') == pair_key('SAR_12') == pair_key('12_sar')
    assert pair_key('optical-3') == '3' and pair_key('d10') == 'd10'
    assert pair_key('sar') == 'sar'


def test_sen12_is_split_by_scene(tmp_path):
    for scene in range(10):
        for patch in (30, 31):
            for sensor, channels in (('s1', 1), ('s2', 3)):
                write(tmp_path / 'ROIs1158_spring' / f'{sensor}_{scene}'
                      / f'ROIs1158_spring_{sensor}_{scene}_p{patch}.png',
                      channels, (8, 8))
    scenes = {}
    for split in ('train', 'val', 'test', 'all'):
        dataset = RegistrationPairs(
            tmp_path, 'sen12', split, held_out=(0.2, 0.3))
        rows = [dataset.get_data_info(i) for i in range(len(dataset))]
        scenes[split] = {Path(r['fixed_path']).parent.name for r in rows}
        assert len(rows) == 2 * len(scenes[split])
        assert all('_s1_' in row['moving_path'] for row in rows)
    assert [len(scenes[s]) for s in ('train', 'val', 'test', 'all')] == [
        5, 2, 3, 10]
    assert scenes['train'] | scenes['val'] | scenes['test'] == scenes['all']


def test_bad_folders(root):
    write(root / 'train' / 'opt' / 'rgb1.png', 3)
    with pytest.raises(DataFormatError, match='one name'):
        RegistrationPairs(root)
    with pytest.raises(DatasetNotFoundError, match='folder val'):
        RegistrationPairs(root, split='val')
    with pytest.raises(DatasetNotFoundError, match='none of the folders'):
        RegistrationPairs(root / 'nowhere', split='all')
    for bad in (dict(layout='tiles'), dict(split='all '),
                dict(fixed='lidar'), dict(held_out=(0.5, 0.5)),
                dict(limit=-1), dict(suffixes='.png')):
        with pytest.raises(ConfigError):
            RegistrationPairs(root, **bad)


# --------------------------------------------------------------- transforms


PIPELINE = [
    dict(type='osar_plugin.LoadRegistrationPair'),
    dict(type='osar_plugin.SARAppearance'),
    dict(type='osar_plugin.RandomPairWarp', ranges='mild'),
    dict(type='osar_plugin.PackRegistrationInputs')]


def test_whole_pipeline(root):
    dataset = DATASETS.build(dict(
        type='osar_plugin.RegistrationPairs', data_root=str(root),
        pipeline=PIPELINE))
    np.random.seed(3)
    item = dataset[2]
    np.random.seed(3)
    again = dataset[2]
    assert item['inputs']['fixed'].shape == (3, *SIZE)
    assert item['inputs']['fixed'].dtype == torch.uint8
    assert item['inputs']['moving'].shape == (1, *SIZE)
    torch.testing.assert_close(
        item['inputs']['moving'], again['inputs']['moving'])
    sample = item['data_samples']
    assert sample.pair_name == '10' and sample.sample_idx == 2
    torch.testing.assert_close(
        sample.gt_flow,
        G.matrix_to_flow(sample.gt_affine, SIZE).float())
    assert 0.3 < sample.gt_valid.double().mean() <= 1
    assert sample.gt_valid.dtype == torch.bool
    other = dataset[2]['data_samples']
    assert (other.gt_flow - sample.gt_flow).abs().max() > 0.1


def test_fixed_warps_of_a_validation_set():
    warp = RandomPairWarp('hard', seed=4)

    def run(index):
        image = smooth()
        valid = np.ones(SIZE, bool)
        return warp(dict(
            fixed=image, moving=image, fixed_valid=valid,
            moving_valid=valid, sample_idx=index))['gt_flow']

    first = run(3)
    np.random.seed(99)
    np.testing.assert_array_equal(run(3), first)
    assert np.abs(run(4) - first).max() > 1
    with pytest.raises(DataFormatError, match='alike'):
        warp(dict(fixed=smooth((9, 9)), moving=smooth(), sample_idx=0))


def test_masks_follow_their_pixels(root):
    path = root / 'train' / 'sar' / 'sar1.png'
    pixels = np.array(Image.open(path))
    pixels[:, :30] = 0
    Image.fromarray(pixels).save(path)
    loaded = RegistrationPairs(root, pipeline=[
        LoadRegistrationPair(nodata=0)])[0]
    assert not loaded['moving_valid'][:, :30].any()
    assert loaded['moving_valid'][:, 30:].all()
    assert loaded['fixed_valid'].all()
    warped = RandomPairWarp(dict(shift=6, reference=96), seed=0)(
        dict(loaded, sample_idx=0))
    dx = round(float(warped['gt_affine'][0, 2]))
    assert not warped['moving_valid'][:, :29 + dx].any()
    assert not warped['gt_valid'][:, :30].any()
    assert warped['gt_valid'][20:50, 40:80].all()


def test_sizes(root):
    write(root / 'train' / 'sar' / 'sar1.png', size=(50, 50))
    with pytest.raises(DataFormatError, match=r'\(50, 50\)'):
        _ = RegistrationPairs(root, pipeline=[LoadRegistrationPair()])[0]
    item = RegistrationPairs(root, pipeline=[
        LoadRegistrationPair(size=(64, 80)), PackRegistrationInputs()])[0]
    assert {tuple(i.shape[1:]) for i in item['inputs'].values()} == {
        (64, 80)}
    for bad in (dict(size=(4, 4)), dict(size=(64,)),
                dict(nonfinite='ignore')):
        with pytest.raises(ConfigError):
            LoadRegistrationPair(**bad)
    with pytest.raises(DataFormatError, match='modality 5'):
        LoadRegistrationPair()(dict(
            fixed_path=root / 'train' / 'opt' / 'opt1.png',
            fixed_modality=5, moving_path='', moving_modality=1))


def test_appearance_moves_nothing_and_leaves_optical_alone():
    image, flat = smooth() + 100, np.full(SIZE, 3., np.float32)
    optical = np.zeros((*SIZE, 3), np.uint8)
    base = dict(fixed=optical, fixed_modality=0, moving_modality=1)
    changed = SARAppearance(prob=1., looks=(4., 4.))
    found = changed(dict(base, moving=image))
    assert found['fixed'] is optical
    out = found['moving']
    assert out.dtype == np.float32 and np.isfinite(out).all()
    assert out.min() >= 0 and out.max() <= image.max()
    assert np.corrcoef(out.ravel(), image.ravel())[0, 1] > 0.3
    np.testing.assert_array_equal(
        SARAppearance(prob=0.)(dict(base, moving=image))['moving'],
        np.clip(image / image.max(), 0, 1) * image.max())
    np.testing.assert_array_equal(
        changed(dict(base, moving=flat))['moving'], flat)
    with pytest.raises(DataFormatError, match='decibels'):
        changed(dict(base, moving=image - 400))
    for bad in (dict(prob=2.), dict(looks=(0., 1.)), dict(gamma=(2., 1.)),
                dict(blur=-1)):
        with pytest.raises(ConfigError):
            SARAppearance(**bad)


def test_speckle_of_so_many_looks():
    """Intensity over its mean has variance 1 / L."""
    np.random.seed(0)
    image = np.full((200, 200), 50., np.float32)
    image[0, 0] = 500  # room above, where values are cut
    one = SARAppearance(prob=1., looks=(5., 5.), gamma=(1., 1.),
                        gain=(1., 1.), blur=0.)
    out = one(dict(fixed=image, fixed_modality=0, moving=image,
                   moving_modality=1))['moving'][1:]
    intensity = (out / 50.)**2
    assert intensity.mean() == pytest.approx(1, abs=0.02)
    assert intensity.var() == pytest.approx(1 / 5, rel=0.05)


def test_sources_follow_one_another(tmp_path):
    for source in ('B', 'A'):
        for side in ('RGB', 'SAR'):
            folder = tmp_path / source / side
            folder.mkdir(parents=True)
            for name in ('0.png', '1.png'):
                Image.new('L', (16, 16)).save(folder / name)
        (tmp_path / source / 'train.txt').write_text('1.png\n')
    data = RegistrationPairs(str(tmp_path), sources=('B', 'A'))
    rows = [data.get_data_info(i) for i in range(len(data))]
    assert [row['pair_name'] for row in rows] == ['B/1', 'A/1']
    assert Path(rows[1]['moving_path']) == tmp_path / 'A' / 'SAR' / '1.png'
    for wrong in (dict(sources='A'), dict(sources=('A', ), layout='sen12')):
        with pytest.raises(ConfigError, match='sources'):
            RegistrationPairs(str(tmp_path), **wrong)
