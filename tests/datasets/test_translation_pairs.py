"""Pairs for the translator, and what falls on both images alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import DATASETS

from osar_plugin.datasets import HOSS, AlignedPairs, HOSSPairs
from osar_plugin.datasets.transforms import PairFlip
from osar_plugin.utils.config import load_config
from osar_plugin.utils.errors import (
    ConfigError,
    DataFormatError,
    DatasetNotFoundError,
)

REPO = Path(__file__).resolve().parents[2]
TRAIN = ['0002_s01c1_RGB', '0002_s02c1_RGB', '0002_s01c2_SAR',
         '0002_s03c2_SAR', '0002_s04c2_SAR', '0005_s01c1_RGB',
         '0007_s01c1_RGB', '0007_s01c2_SAR']


@pytest.fixture
def root(write_hoss):
    return write_hoss({
        'bounding_box_train': TRAIN, 'query': ['0009_s01c1_RGB'],
        'bounding_box_test': ['0009_s02c1_RGB', '0009_s02c2_SAR']})


def names(dataset):
    rows = [dataset.get_data_info(i) for i in range(len(dataset))]
    return [(Path(row['optical_path']).stem, Path(row['sar_path']).stem,
             row['pid'], row['label']) for row in rows]


def test_every_combination_of_a_ship(root):
    dataset = HOSSPairs(root)
    assert names(dataset) == [
        (optical, sar, 2, 0) for optical in TRAIN[:2] for sar in TRAIN[2:5]
    ] + [('0007_s01c1_RGB', '0007_s01c2_SAR', 7, 1)]
    assert dataset.metainfo['num_ids'] == 2
    assert {name[:2] for name in names(HOSSPairs(root, split='test'))} == {
        (optical, '0009_s02c2_SAR')
        for optical in ('0009_s02c1_RGB', '0009_s01c1_RGB')}


def test_a_drawn_partner(root):
    dataset = HOSSPairs(root, pairing='random')
    assert len(dataset) == 3
    drawn = set()
    for seed in range(30):
        np.random.seed(seed)
        row = dataset.get_data_info(0)
        np.random.seed(seed)
        assert dataset.get_data_info(0) == row
        drawn.add(Path(row['sar_path']).stem)
    assert drawn == set(TRAIN[2:5])


def test_identities_held_out(root):
    # The seed that holds out ship 7; ship 5 has no pair to hold.
    seed = next(
        seed for seed in range(99)
        if HOSS(root, 'val', val_ids=1, val_seed=seed)
        .get_data_info(0)['pid'] == 7)
    options = dict(val_ids=1, val_seed=seed)
    assert {n[2] for n in names(HOSSPairs(root, **options))} == {2}
    assert {n[2] for n in names(
        HOSSPairs(root, split='val', **options))} == {7}


def test_no_pair(write_hoss, tmp_path):
    root = write_hoss({'bounding_box_train': ['0002_s01c1_RGB',
                                              '0003_s01c1_SAR']})
    with pytest.raises(DatasetNotFoundError, match='none of 2 ships'):
        HOSSPairs(root)
    with pytest.raises(DatasetNotFoundError, match='15860212'):
        HOSSPairs(tmp_path / 'none')
    with pytest.raises(ConfigError, match="pairing='first'.*all, random"):
        HOSSPairs(root, pairing='first')


@pytest.fixture
def qxs(tmp_path, chip):
    for seed, number in enumerate((1, 2, 10, 11)):
        chip(tmp_path / 'opt_256_oc_0.2' / f'{number}.png', seed)
        if number != 11:
            chip(tmp_path / 'sar_256_oc_0.2' / f'{number}.png', seed)
    return tmp_path


@pytest.fixture
def sen12(tmp_path, chip):
    for season, scene, patch in (('ROIs1158_spring', 1, 100),
                                 ('ROIs1158_spring', 1, 30),
                                 ('ROIs1868_summer', 12, 30)):
        for sensor in ('s1', 's2'):
            chip(tmp_path / season / f'{sensor}_{scene}'
                 / f'{season}_{sensor}_{scene}_p{patch}.png')
    return tmp_path


def test_qxs_saropt(qxs):
    dataset = AlignedPairs(qxs)
    rows = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [Path(row['optical_path']).name for row in rows] == [
        '1.png', '2.png', '10.png']
    for row in rows:
        assert Path(row['optical_path']).parent.name == 'opt_256_oc_0.2'
        assert Path(row['sar_path']).parent.name == 'sar_256_oc_0.2'
        assert Path(row['optical_path']).name == Path(row['sar_path']).name
    (qxs / 'QXSLAB_SAROPT').mkdir()
    for name in ('opt_256_oc_0.2', 'sar_256_oc_0.2'):
        (qxs / name).rename(qxs / 'QXSLAB_SAROPT' / name)
    assert len(AlignedPairs(qxs)) == 3


def test_sen12(sen12):
    dataset = AlignedPairs(sen12, 'sen12')
    rows = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [Path(row['sar_path']).name for row in rows] == [
        'ROIs1158_spring_s1_1_p30.png', 'ROIs1158_spring_s1_1_p100.png',
        'ROIs1868_summer_s1_12_p30.png']
    for row in rows:
        assert row['sar_path'].replace('s1_', 's2_') == row['optical_path']
    assert [row['pid'] for row in rows] == [0, 1, 2]


def test_pairs_held_out(qxs):
    options = dict(val_pairs=1, val_seed=4)
    train = AlignedPairs(qxs, split='train', **options)
    val = AlignedPairs(qxs, split='val', **options)
    both = [d.get_data_info(i)['pid'] for d in (train, val)
            for i in range(len(d))]
    assert len(val) == 1 and sorted(both) == [0, 1, 2]
    assert len(AlignedPairs(qxs, split='train')) == 3


def test_bad_folders(tmp_path, qxs, chip):
    with pytest.raises(DatasetNotFoundError, match=r'opt_256_oc_0\.2/1\.png'):
        AlignedPairs(tmp_path / 'none')
    with pytest.raises(DatasetNotFoundError, match='ROIs1158_spring'):
        AlignedPairs(tmp_path, 'sen12')
    with pytest.raises(DatasetNotFoundError, match='no such folder'):
        AlignedPairs(tmp_path / 'none', 'sen12')
    with pytest.raises(ConfigError, match="layout='sen1-2'"):
        AlignedPairs(qxs, 'sen1-2')
    with pytest.raises(ConfigError, match="split='test'"):
        AlignedPairs(qxs, split='test')
    with pytest.raises(ConfigError, match='val_pairs=3 of 3'):
        AlignedPairs(qxs, split='train', val_pairs=3)
    with pytest.raises(ConfigError, match='needs val_pairs'):
        AlignedPairs(qxs, split='val')
    chip(tmp_path / 'ROIs1_x' / 's1_1' / 'ROIs1_x_s2_1_p1.png')
    with pytest.raises(DataFormatError, match='ROIs1_x_s2_1_p1'):
        AlignedPairs(tmp_path, 'sen12')


def test_both_images_are_mirrored_or_neither():
    rng = np.random.default_rng(0)
    optical, sar = rng.integers(0, 256, (2, 4, 6, 3), np.uint8)
    seen = set()
    for seed in range(20):
        np.random.seed(seed)
        got = PairFlip()(dict(optical=dict(img=optical), sar=dict(img=sar)))
        turn = slice(None, None, -1 if got['flip'] else 1)
        np.testing.assert_array_equal(
            got['optical']['img'], optical[:, turn])
        np.testing.assert_array_equal(got['sar']['img'], sar[:, turn])
        seen.add(got['flip'])
    assert seen == {True, False}
    got = PairFlip(1., 'vertical')(
        dict(optical=dict(img=optical), sar=dict(img=sar)))
    np.testing.assert_array_equal(got['sar']['img'], sar[::-1])
    with pytest.raises(ConfigError, match='prob=2'):
        PairFlip(2.)
    with pytest.raises(ConfigError, match="direction='diagonal'"):
        PairFlip(direction='diagonal')
    with pytest.raises(ConfigError, match="bright_side='top'"):
        PairFlip(bright_side='top')


@pytest.mark.parametrize('side', ['left', 'right'])
def test_the_bright_side_is_brought_to_one(side: str) -> None:
    """The radar's image decides; the optical one goes with it."""
    optical = np.arange(12, dtype=np.uint8).reshape(2, 6)[..., None]
    left = np.zeros((2, 6, 1), np.uint8)
    left[:, 1] = 200
    left[:, 5] = 10
    for sar in (left, left[:, ::-1].copy()):
        got = PairFlip(bright_side=side)(
            dict(optical=dict(img=optical), sar=dict(img=sar)))
        bright = got['sar']['img'][0, :, 0].argmax()
        assert bright == (1 if side == 'left' else 4)
        # Both are mirrored, or neither.
        same = np.array_equal(got['sar']['img'], sar)
        assert np.array_equal(got['optical']['img'], optical) == same
    dark = np.zeros_like(left)
    got = PairFlip(bright_side=side)(
        dict(optical=dict(img=optical), sar=dict(img=dark)))
    assert got['flip'] is False



@pytest.mark.parametrize('name, size', [
    ('bbdm_hoss', 256), ('bbdm_pixel_hoss', 256), ('demo/bbdm_hoss', None)])
def test_configs_on_ships(root, name, size):
    cfg = load_config(REPO / f'configs/{name}.py')
    settings = cfg.train_dataloader.dataset
    settings.data_root = str(root)
    item = DATASETS.build(settings)[0]
    shapes = {tuple(image.shape) for image in item['inputs'].values()}
    assert shapes == {(3, size, size) if size else (3, *cfg.image_size)}
    assert item['data_samples'].pid == 2
    assert '_RGB' in item['data_samples'].optical_path


@pytest.mark.parametrize('layout', ['qxs_saropt', 'sen12'])
def test_config_on_aligned_pairs(layout, request):
    root = request.getfixturevalue(
        'qxs' if layout == 'qxs_saropt' else 'sen12')
    cfg = load_config(
        REPO / 'configs/bbdm_qxs_saropt.py',
        {'train_dataloader.dataset.layout': layout})
    settings = cfg.train_dataloader.dataset
    settings.data_root = str(root)
    item = DATASETS.build(settings)[0]
    assert {tuple(i.shape) for i in item['inputs'].values()} == {
        (3, 256, 256)}


def test_real_chips_make_pairs(hoss_mini):
    dataset = HOSSPairs(hoss_mini)
    assert len(dataset) == 11
    assert all(a[:4] == b[:4] for a, b, _, _ in names(dataset))
