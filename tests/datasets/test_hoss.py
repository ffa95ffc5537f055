"""The HOSS data set: rows, labels, protocols, validation, bad data."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from osar_plugin.datasets import HOSS
from osar_plugin.datasets.hoss import hold_out, parse_name, validation_rows
from osar_plugin.utils.errors import (
    ConfigError,
    CorruptImageError,
    DataFormatError,
    DatasetNotFoundError,
)

# 3 has one modality in training; 40 is a query without a match across
# modalities; 77 is a distractor.
WORLD = {
    'bounding_box_train': [
        '0002_s01c1_RGB', '0002_s02c1_SAR', '0002_s03c2_SAR',
        '0003_s01c1_RGB', '0010_s01c1_SAR', '0010_s04c1_RGB'],
    'query': [
        '0020_s05c1_RGB', '0020_s06c1_SAR', '0030_s05c1_RGB',
        '0040_s01c1_RGB'],
    'bounding_box_test': [
        '0020_s01c1_RGB', '0020_s01c2_SAR', '0030_s01c1_SAR',
        '0040_s02c1_RGB', '0077_s01c1_SAR'],
}
SUBSETS = {
    'subset/O2S/query': ['0020_s05c1_RGB', '0030_s05c1_RGB'],
    'subset/O2S/bounding_box_test': [
        '0020_s01c2_SAR', '0030_s01c1_SAR', '0077_s01c1_SAR'],
    'subset/S2O/query': ['0020_s06c1_SAR'],
    'subset/S2O/bounding_box_test': ['0020_s01c1_RGB', '0040_s02c1_RGB'],
}


def rows(dataset):
    return [dataset.get_data_info(index) for index in range(len(dataset))]


def names(dataset, protocol=None, is_query=None):
    return [
        Path(row['img_path']).stem for row in rows(dataset)
        if (protocol is None or protocol in row['protocols'])
        and (is_query is None or row['is_query'] == is_query)]


def test_training_rows(write_hoss):
    dataset = HOSS(write_hoss(WORLD), 'train')
    assert names(dataset) == WORLD['bounding_box_train']
    got = rows(dataset)
    assert [row['pid'] for row in got] == [2, 2, 2, 3, 10, 10]
    assert [row['label'] for row in got] == [0, 0, 0, 1, 2, 2]
    assert [row['modality'] for row in got] == [0, 1, 1, 0, 1, 0]
    assert [row['seq'] for row in got] == [1, 2, 3, 1, 1, 4]
    assert not any(row['is_query'] or row['protocols'] for row in got)
    assert dataset.metainfo['num_ids'] == 3
    assert dataset.metainfo['classes'] == ('0002', '0003', '0010')
    assert dataset.metainfo['protocols'] == ('ALL', 'O2S', 'S2O')
    labels, modality = dataset.identity_table()
    assert labels.dtype == modality.dtype == np.int64
    assert labels.tolist() == [0, 0, 0, 1, 2, 2]
    assert modality.tolist() == [0, 1, 1, 0, 1, 0]
    assert not dataset.test_mode


def test_test_rows_by_filter(write_hoss):
    dataset = HOSS(write_hoss(WORLD), 'test')
    assert dataset.test_mode
    assert names(dataset) == WORLD['query'] + WORLD['bounding_box_test']
    assert names(dataset, is_query=True) == WORLD['query']
    assert names(dataset, 'ALL') == names(dataset)
    # 40 has no SAR image in the gallery; 77 stays as a distractor.
    assert names(dataset, 'O2S', True) == SUBSETS['subset/O2S/query']
    assert names(dataset, 'O2S', False) \
        == SUBSETS['subset/O2S/bounding_box_test']
    assert names(dataset, 'S2O', True) == SUBSETS['subset/S2O/query']
    assert names(dataset, 'S2O', False) \
        == SUBSETS['subset/S2O/bounding_box_test']
    assert {row['label'] for row in rows(dataset)} == {-1}
    assert dataset.identity_table()[0].tolist() \
        == [20, 20, 30, 40, 20, 20, 30, 40, 77]


@pytest.mark.parametrize('source', ['auto', 'folder', 'filter'])
def test_folders_and_filter_agree(write_hoss, source, caplog):
    root = write_hoss({**WORLD, **SUBSETS})
    dataset = HOSS(
        root, 'test', subset_source=source, strict_subsets=True)
    plain = HOSS(write_hoss(WORLD, root=root / 'plain'), 'test')
    strip = [
        (Path(row['img_path']).name, row['is_query'], row['protocols'])
        for row in rows(dataset)]
    assert strip == [
        (Path(row['img_path']).name, row['is_query'], row['protocols'])
        for row in rows(plain)]


def test_unmatched_queries_in_a_folder_are_no_difference(write_hoss):
    # The rule of the evaluation leaves them out on both sides.
    subsets = dict(SUBSETS)
    subsets['subset/O2S/query'] = [
        *SUBSETS['subset/O2S/query'], '0040_s01c1_RGB']
    dataset = HOSS(
        write_hoss({**WORLD, **subsets}), 'test', strict_subsets=True)
    assert names(dataset, 'O2S', True) == subsets['subset/O2S/query']


@pytest.fixture
def different(write_hoss):
    subsets = dict(SUBSETS)
    subsets['subset/S2O/bounding_box_test'] = ['0020_s01c1_RGB']
    subsets['subset/O2S/query'] = ['0020_s05c1_RGB', '0030_s09c1_RGB']
    return write_hoss({**WORLD, **subsets})


def test_differing_subsets_are_named(different, monkeypatch):
    said = []
    monkeypatch.setattr(
        'osar_plugin.datasets.hoss.print_log',
        lambda message, logger, level: said.append((level, message)))
    dataset = HOSS(different, 'test')
    assert [level for level, _ in said] == [logging.WARNING] * 2
    o2s, s2o = (message for _, message in said)
    assert 'query only in the folder: 1 (0030_s09c1_RGB.tif)' in o2s
    assert 'query only by filtering: 1 (0030_s05c1_RGB.tif)' in o2s
    assert 'gallery only by filtering: 1 (0040_s02c1_RGB.tif)' in s2o
    # The folder wins; a file of its own is a member of its subset alone.
    assert names(dataset, 'O2S', True) == ['0020_s05c1_RGB', '0030_s09c1_RGB']
    extra = rows(dataset)[4]
    assert extra['protocols'] == ('O2S',) and extra['is_query']
    assert 'subset/O2S/query/0030_s09c1' in extra['img_path']
    assert len(dataset) == 10
    with pytest.raises(DataFormatError, match=r'0030_s09c1_RGB\.tif'):
        HOSS(different, 'test', strict_subsets=True)
    assert len(HOSS(different, 'test', subset_source='filter')) == 9


def test_query_and_gallery_alone(write_hoss):
    root = write_hoss(WORLD)
    assert names(HOSS(root, 'query')) == WORLD['query']
    assert names(HOSS(root, 'gallery')) == WORLD['bounding_box_test']


def test_data_root_is_hoss_or_its_parent(write_hoss):
    root = write_hoss(WORLD)
    assert names(HOSS(root / 'HOSS')) == names(HOSS(str(root)))


def test_converted_files(write_hoss):
    root = write_hoss(WORLD, suffix='.PNG')
    assert len(HOSS(root, suffixes=['.tif', '.png'])) == 6
    with pytest.raises(DatasetNotFoundError, match=r'\.PNG.*suffixes'):
        HOSS(root)
    with pytest.raises(ConfigError, match='suffixes'):
        HOSS(root, suffixes='.png')


def test_hidden_and_foreign_files_are_left_alone(write_hoss):
    root = write_hoss(WORLD)
    folder = root / 'HOSS' / 'bounding_box_train'
    (folder / '._0002_s01c1_RGB.tif').write_bytes(b'x')
    (folder / 'Thumbs.db').write_bytes(b'x')
    assert len(HOSS(root)) == 6


def test_lazy_and_serialised(write_hoss):
    root = write_hoss(WORLD)
    lazy = HOSS(root / 'later', lazy_init=True)
    with pytest.raises(DatasetNotFoundError):
        lazy.full_init()
    lazy = HOSS(root, lazy_init=True)
    assert not lazy._fully_initialized
    assert len(lazy) == 6
    plain = HOSS(root, serialize_data=False)
    assert rows(plain) == rows(lazy)
    assert rows(pickle.loads(pickle.dumps(lazy))) == rows(lazy)
    assert len(HOSS(root, indices=2)) == 2
    assert len(HOSS(root, indices=[0, 5]).identity_table()[0]) == 2


# ---- held-out identities ---------------------------------------------------

def test_held_out_identities_are_a_partition(write_hoss):
    train = [f'{i:04d}_s{j:02d}c1_{kind}' for i in range(1, 21)
             for j in (1, 2) for kind in ('RGB', 'SAR')]
    root = write_hoss({'bounding_box_train': train})
    whole = {row['pid'] for row in rows(HOSS(root))}
    for amount, count in ((5, 5), (0.3, 6)):
        kept = HOSS(root, val_ids=amount, val_seed=3)
        held = HOSS(root, 'val', val_ids=amount, val_seed=3)
        ids = [{row['pid'] for row in rows(part)} for part in (kept, held)]
        assert len(ids[1]) == count == held.metainfo['num_ids']
        assert not ids[0] & ids[1] and ids[0] | ids[1] == whole
        labels = [row['label'] for row in rows(kept)]
        assert sorted(set(labels)) == list(range(20 - count))
    other = HOSS(root, 'val', val_ids=5, val_seed=4)
    assert {row['pid'] for row in rows(other)} != ids[1]
    assert HOSS(root, 'val', val_ids=5).test_mode


def check_validation(result):
    """No image meets itself; cross protocols keep to their modalities."""
    for protocol in ('ALL', 'O2S', 'S2O'):
        sides = [
            [row for row in result
             if row['is_query'] == side and protocol in row['protocols']]
            for side in (True, False)]
        paths = [{row['img_path'] for row in side} for side in sides]
        assert not paths[0] & paths[1]
        if protocol != 'ALL':
            modalities = (0, 1) if protocol == 'O2S' else (1, 0)
            for side, modality in zip(sides, modalities, strict=True):
                assert {row['modality'] for row in side} <= {modality}


def test_validation_rows():
    source = [
        dict(img_path=f'{pid}_{modality}_{n}', pid=pid, modality=modality)
        for pid, counts in enumerate([(3, 2), (1, 1), (1, 1), (2, 0), (0, 1)])
        for modality, count in enumerate(counts) for n in range(count)]
    result = validation_rows(source, seed=0)
    check_validation(result)
    assert [row['is_query'] for row in result] \
        == sorted((row['is_query'] for row in result), reverse=True)
    members = {
        (name, side): [row for row in result
                       if row['is_query'] == side and name in row['protocols']]
        for name in ('ALL', 'O2S', 'S2O') for side in (True, False)}
    # Across modalities every image is used, on its one side.
    optical = [row['img_path'] for row in source if row['modality'] == 0]
    radar = [row['img_path'] for row in source if row['modality'] == 1]
    for key, want in {
            ('O2S', True): optical, ('O2S', False): radar,
            ('S2O', True): radar, ('S2O', False): optical}.items():
        assert [row['img_path'] for row in members[key]] == want
    # ALL uses every image once; no query without a chance of a match but
    # that of the single image of identity 4.
    everything = members['ALL', True] + members['ALL', False]
    assert sorted(row['img_path'] for row in everything) \
        == sorted(row['img_path'] for row in source)
    gallery = {row['pid'] for row in members['ALL', False]}
    queries = [(row['pid'], row['modality']) for row in members['ALL', True]]
    assert {pid for pid, _ in queries} - gallery == {4}
    # One image per modality: the query is optical and SAR by turns.
    assert sorted(queries) == [(0, 0), (0, 1), (1, 0), (2, 1), (3, 0), (4, 1)]


def test_validation_follows_its_seed():
    source = [
        dict(img_path=f'{pid}_{modality}_{n}', pid=pid, modality=modality)
        for pid in range(9) for modality in (0, 1) for n in range(4)]
    assert validation_rows(source, 1) == validation_rows(source, 1)
    assert validation_rows(source, 1) != validation_rows(source, 2)


@pytest.mark.parametrize('amount', [4, 9, -1, 1.0, 2.5])
def test_holding_out_too_much(amount):
    with pytest.raises(ConfigError, match=f'val_ids={amount}'):
        hold_out([1, 1, 2, 3, 4], amount, 0)


# ---- bad data --------------------------------------------------------------

@pytest.mark.parametrize(('split', 'folder'), [
    ('train', 'bounding_box_train'), ('test', 'query'),
    ('gallery', 'bounding_box_test')])
def test_missing_folder(write_hoss, split, folder):
    world = {key: value for key, value in WORLD.items() if key != folder}
    root = write_hoss(world)
    with pytest.raises(DatasetNotFoundError) as error:
        HOSS(root, split)
    check_help(str(error.value), root / 'HOSS' / folder)
    (root / 'HOSS' / folder).mkdir()
    with pytest.raises(DatasetNotFoundError) as error:
        HOSS(root, split)
    check_help(str(error.value), root / 'HOSS' / folder)


def check_help(message, folder):
    assert str(folder) in message
    for part in (
            '15860212', 'bounding_box_train/*.tif', 'subset/O2S',
            'python tools/make_demo_data.py data/demo',
            'configs/demo/sdfnet_hoss.py'):
        assert part in message


def test_missing_root_through_the_registry(tmp_path):
    # MMEngine rebuilds the exception with its own text around ours.
    with pytest.raises(DatasetNotFoundError) as error:
        DATASETS.build(dict(
            type='osar_plugin.HOSS', data_root=str(tmp_path / 'none')))
    check_help(str(error.value), tmp_path / 'none' / 'bounding_box_train')


def test_missing_subset_folder(write_hoss):
    with pytest.raises(DatasetNotFoundError, match='O2S'):
        HOSS(write_hoss(WORLD), 'test', subset_source='folder')


@pytest.mark.parametrize('name', [
    'ship', '0002_s01c1', '0002-s01c1-SAR', 'x_s01c1_SAR', '0002_s01c1_VH',
    '_s01c1_RGB', '0002_s01c1_sar', '0002_s01c1_SAR_copy', '-1_s01c1_SAR'])
def test_name_that_does_not_parse(write_hoss, chip, name):
    root = write_hoss(WORLD)
    chip(root / 'HOSS' / 'bounding_box_train' / f'{name}.tif')
    with pytest.raises(DataFormatError) as error:
        HOSS(root)
    assert f'{name}.tif' in str(error.value)
    assert '<pid>_s<seq>c<cam>_<RGB|SAR>.tif' in str(error.value)


@pytest.mark.parametrize(('name', 'want'), [
    ('0002_s05c1_SAR', (2, 1, 5)), ('12345_s13c2_RGB', (12345, 0, 13)),
    ('7_RGB', (7, 0, -1)), ('7_anything_else_SAR', (7, 1, -1))])
def test_names_that_the_official_code_takes(name, want):
    row = parse_name(Path(f'{name}.tif'))
    assert (row['pid'], row['modality'], row['seq']) == want


def test_identity_with_one_modality_is_fine(write_hoss):
    world = dict(WORLD, bounding_box_train=['0001_s1c1_RGB', '0002_s1c1_SAR'])
    dataset = HOSS(write_hoss(world))
    assert [row['label'] for row in rows(dataset)] == [0, 1]


def test_damaged_chip_raises_with_its_path(write_hoss):
    root = write_hoss(WORLD)
    path = root / 'HOSS' / 'bounding_box_train' / '0002_s02c1_SAR.tif'
    path.write_bytes(path.read_bytes()[:100])
    dataset = HOSS(root, pipeline=[
        dict(type='osar_plugin.LoadOpticalOrSAR'),
        dict(type='osar_plugin.PackReIDInputs')])
    dataset[0]
    with pytest.raises(CorruptImageError, match='0002_s02c1_SAR'):
        dataset[1]


@pytest.mark.parametrize('split', ['train', 'test'])
def test_a_sample_is_never_replaced_by_another(write_hoss, split):
    dataset = HOSS(
        write_hoss(WORLD), split, pipeline=[lambda results: None])
    with pytest.raises(DataFormatError, match='_RGB.*no sample'):
        dataset[0]


@pytest.mark.parametrize(('arguments', 'match'), [
    (dict(split='validation'), 'validation'),
    (dict(subset_source='files'), 'files'),
    (dict(split='val'), 'val_ids')])
def test_arguments(arguments, match):
    with pytest.raises(ConfigError, match=match):
        HOSS(**arguments)


# ---- real chips ------------------------------------------------------------

PIPELINE = [
    dict(type='osar_plugin.LoadOpticalOrSAR'),
    dict(type='osar_plugin.ShipSize'),
    dict(type='osar_plugin.SARToUint8'),
    dict(type='osar_plugin.PillowResize', size=(256, 128)),
    dict(type='osar_plugin.PackReIDInputs'),
]


def test_real_chips(hoss_mini):
    train = HOSS(hoss_mini, pipeline=PIPELINE)
    assert isinstance(train, BaseDataset)
    assert len(train) == 22 and train.metainfo['num_ids'] == 11
    for index in range(len(train)):
        item = train[index]
        sample = item['data_samples']
        assert item['inputs'].shape == (3, 256, 128)
        assert item['inputs'].float().std() > 5
        assert sample.size[2] == pytest.approx(
            sample.ori_shape[0] / sample.ori_shape[1])
        if sample.modality == 1:
            assert (item['inputs'][0] == item['inputs'][1]).all()


def test_real_protocols(hoss_mini):
    # Its S2O queries are not in query/, nor its S2O gallery in the gallery.
    dataset = HOSS(hoss_mini, 'test')
    assert len(dataset) == 44
    for protocol, queries, gallery in (
            ('ALL', 'RGB', 'SAR'), ('O2S', 'RGB', 'SAR'),
            ('S2O', 'SAR', 'RGB')):
        for side, kind in ((True, queries), (False, gallery)):
            got = names(dataset, protocol, side)
            assert got == [f'{i:04d}_s01c1_{kind}' for i in range(1, 12)]
    assert len(HOSS(hoss_mini, 'test', subset_source='filter')) == 22
