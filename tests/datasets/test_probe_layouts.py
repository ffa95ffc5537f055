"""Data sets of the linear probes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from pretrain_tool_case import build_model, write_config

from osar_plugin.apis.pretraining import SceneImages
from osar_plugin.datasets.probe_layouts import (
    LAYOUTS,
    ProbeSet,
    one_hot,
    prefix_class,
    present_classes,
    read_bands,
    read_mask,
)
from osar_plugin.datasets.scene_list import draw_shots
from osar_plugin.utils.errors import (
    ConfigError,
    CorruptImageError,
    DataFormatError,
    DatasetNotFoundError,
)

SIDE = 20


def names_of(layout, count):
    if layout.labels == 'prefix':
        return [f'{layout.classes[i % len(layout.classes)]}_{i}'
                for i in range(count)]
    return [str(i) for i in range(count)]


def write_set(root, name, count=8):
    """A tree of a layout: the class of an image is its number."""
    layout = LAYOUTS[name]
    rng = np.random.default_rng(0)
    classes = len(layout.classes)
    for folder in ('RGB', 'SAR', 'Label'):
        (root / folder).mkdir(parents=True)
    names = names_of(layout, count)
    for i, one in enumerate(names):
        for folder, bands in (('RGB', 13), ('SAR', 2)):
            path = root / folder / f'{one}{layout.suffix}'
            if layout.suffix == '.npy':
                np.save(path, rng.integers(
                    0, 256, (SIDE, SIDE, bands), np.uint8))
            else:
                shape = (SIDE, SIDE, 3)[:3 if folder == 'RGB' else 2]
                Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(
                    path)
        if layout.labels == 'mask':
            mask = np.full((SIDE, SIDE), i % classes, np.uint8)
            mask[:1] = (i + 1) % classes  # a twentieth: absent
            Image.fromarray(mask + np.uint8(layout.zero_ignored)).save(
                root / 'Label' / f'{one}.png')
        elif layout.labels == 'onehot':
            np.save(root / 'Label' / f'{one}.npy',
                    np.eye(classes, dtype=np.uint8)[i % classes])
    for part, listed in ((layout.train, names[:count // 2]),
                         (layout.test, names[count // 2:])):
        (root / f'{part}.txt').write_text(''.join(
            f'{one}{layout.suffix}\n' for one in listed))
    return root


@pytest.mark.parametrize('name', LAYOUTS)
def test_every_layout(tmp_path, name):
    layout = LAYOUTS[name]
    root = write_set(tmp_path, name)
    train, test = (ProbeSet(root, name, part)
                   for part in (layout.train, layout.test))
    classes = len(layout.classes)
    assert [len(p.names) for p in (train, test)] == [4, 4]
    expected = np.arange(8) % classes
    labels = np.concatenate([train.labels, test.labels])
    if layout.labels == 'prefix':
        assert (labels == expected).all()
    else:
        assert (labels == np.eye(classes)[expected]).all()
    assert labels.dtype == np.int64
    for modality, sensor in (('optical', 'rgb'), ('sar', 'sar')):
        images = SceneImages(train.paths(modality), sensor, SIDE)
        channels = 3 if sensor == 'rgb' or layout.suffix == '.npy' else 1
        assert images[0].shape == (channels, SIDE, SIDE)
        mean = getattr(layout.statistics, f'{sensor}_mean')
        assert len(mean) == channels
        assert all(0 < value < 1 for value in mean)


def test_what_the_papers_code_reads():
    assert {name: len(layout.classes) for name, layout in LAYOUTS.items()} \
        == {'PIE': 6, 'DDHR-SK': 5, 'WHU': 7, 'YESeg': 7, 'DFC20': 8,
            'BEN-MM': 19, 'EuroSAT-MM': 10}
    assert (LAYOUTS['DFC20'].train, LAYOUTS['DFC20'].test) == ('test', 'val')
    assert (LAYOUTS['BEN-MM'].train, LAYOUTS['BEN-MM'].test) == (
        'train', 'val')


@pytest.mark.parametrize('name, first, sixth, last', [
    ('PIE', 'background', 'farmland', 'farmland'),
    ('WHU', 'farmland', 'road', 'others'),
    ('YESeg', 'bare ground', 'roads', 'other'),
    ('DFC20', 'Forest', 'Urban/Built-up', 'Water'),
    ('BEN-MM', 'Urban fabric', 'Complex cultivation patterns',
     'Marine waters'),
    ('EuroSAT-MM', 'AnnualCrop', 'Pasture', 'SeaLake')])
def test_names_of_the_classes(name, first, sixth, last):
    classes = LAYOUTS[name].classes
    assert (classes[0], classes[5], classes[-1]) == (first, sixth, last)
    assert len(set(classes)) == len(classes)


def test_the_order_of_bigearthnet_is_not_alphabetical():
    classes = LAYOUTS['BEN-MM'].classes
    assert classes != tuple(sorted(classes))
    assert [classes.index(name) for name in (
        'Agro-forestry areas', 'Mixed forest', 'Beaches, dunes, sands',
        'Inland waters')] == [7, 10, 14, 17]


def test_presence_is_of_the_squared_width():
    mask = np.zeros((10, 20), np.uint8)
    mask[0] = 1  # 20 of 200 pixels, 5 % of 400
    mask[1:3] = 2  # 40: exactly 10 %
    mask[3] = 255
    assert present_classes(mask, 4).tolist() == [1, 0, 1, 0]
    assert present_classes(mask, 4, 0.05).tolist() == [1, 1, 1, 0]


def test_whu_labels(tmp_path):
    """0 is none; the published values are tens."""
    for step in (1, 10):
        values = np.arange(8, dtype=np.uint8)[None] * np.uint8(step)
        Image.fromarray(values).save(tmp_path / 'm.png')
        assert read_mask(tmp_path / 'm.png', 7, True).tolist() == [
            [255, 0, 1, 2, 3, 4, 5, 6]]
    Image.fromarray(np.array([[0, 5, 255]], np.uint8)).save(
        tmp_path / 'm.png')
    assert read_mask(tmp_path / 'm.png', 6, False).tolist() == [[0, 5, 255]]
    for value, zero in ((6, False), (8, True), (75, True), (80, True)):
        Image.fromarray(np.array([[0, value]], np.uint8)).save(
            tmp_path / 'm.png')
        with pytest.raises(DataFormatError, match='labels'):
            read_mask(tmp_path / 'm.png', 6 + zero, zero)


def test_bands(tmp_path):
    bands = np.arange(12, dtype=np.uint8) * np.ones((2, 2, 1), np.uint8)
    np.save(tmp_path / 'o.npy', bands)
    assert read_bands(tmp_path / 'o.npy', 'optical')[0, 0].tolist() == [
        3, 2, 1]
    np.save(tmp_path / 's.npy', np.array([[[250, 255], [0, 3]]], np.uint8))
    assert read_bands(tmp_path / 's.npy', 'sar')[0].tolist() == [
        [250, 255, 252], [0, 3, 1]]


@pytest.mark.parametrize('array, modality', [
    (np.zeros((2, 2, 3), np.uint8), 'optical'),
    (np.zeros((2, 2, 13), np.uint16), 'optical'),
    (np.zeros((2, 2, 13), np.uint8), 'sar'),
    (np.zeros((2, 2), np.uint8), 'sar')])
def test_other_bands(tmp_path, array, modality):
    np.save(tmp_path / 'x.npy', array)
    with pytest.raises(DataFormatError, match=f'{modality} image'):
        read_bands(tmp_path / 'x.npy', modality)


def test_files_that_are_no_arrays(tmp_path):
    path = tmp_path / 'x.npy'
    with pytest.raises(DatasetNotFoundError):
        read_bands(path, 'sar')
    np.save(path, np.zeros((4, 4, 2), np.uint8))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CorruptImageError):
        read_bands(path, 'sar')
    np.save(path, np.array([{}], object))
    with pytest.raises(CorruptImageError, match='cannot be read'):
        read_bands(path, 'sar')


@pytest.mark.parametrize('values', [
    np.zeros(4), np.array([0, 1, 2]), np.array([0., np.nan, 1]),
    np.zeros((0, ))])
def test_what_is_no_one_hot(tmp_path, values):
    np.save(tmp_path / 'x.npy', values)
    with pytest.raises(DataFormatError, match=r'expected \(3,\)'):
        one_hot(tmp_path / 'x.npy', 3)


def test_prefixes():
    assert prefix_class('sub/River_12', ('Forest', 'River')) == 1
    with pytest.raises(DataFormatError, match='Lake'):
        prefix_class('Lake_1', ('Forest', 'River'))


def test_missing_parts(tmp_path):
    root = write_set(tmp_path, 'PIE')
    with pytest.raises(ConfigError, match='PIE'):
        ProbeSet(root, 'PEI', 'train')
    with pytest.raises(DatasetNotFoundError, match='trains on train.txt'):
        ProbeSet(root, 'PIE', 'val')
    (root / 'SAR/2.png').unlink()
    with pytest.raises(DatasetNotFoundError, match='1 images.*2.png'):
        ProbeSet(root, 'PIE', 'train.txt')
    (root / 'Label/5.png').unlink()
    with pytest.raises(DatasetNotFoundError, match='5.png'):
        ProbeSet(root, 'PIE', 'test')


def test_draws_of_images_with_several_classes():
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 4)) < 0.4).astype(np.int64)
    order = np.arange(60)
    np.random.RandomState(730).shuffle(order)
    assert draw_shots(labels, 4, 5, 1, False).tolist() == order[:20].tolist()
    rows = draw_shots(labels, 4, 5, 1, True)
    assert len(set(rows.tolist())) == 20
    for label in range(4):
        assert (labels[rows[5 * label:5 * label + 5], label] == 1).all()
    labels[:, 2] = 0
    with pytest.raises(ConfigError, match=r'classes \[2\]'):
        draw_shots(labels, 4, 5, 1, True)


def test_the_tool_probes_a_layout(tmp_path, run_tool):
    write_set(tmp_path / 'PIE', 'PIE', count=24)
    config = write_config(tmp_path)
    torch.save(dict(state_dict=build_model(config).state_dict()),
               tmp_path / 'net.pth')
    ended = run_tool(
        'analysis/linear_probe.py', config, tmp_path / 'net.pth',
        '--data-root', tmp_path / 'PIE', '--layout', 'PIE', '--shots', '1',
        '--epochs', '2', '--device', 'cpu', '--out', tmp_path)
    assert ended.code == 0, ended.err
    results = json.loads((tmp_path / 'linear_probe.json').read_text())
    assert results['classes'] == list(LAYOUTS['PIE'].classes)
    runs = results['runs']['trained']['sar']
    assert [one['seed'] for one in runs] == [0, 1, 2, 3, 4]
    run = runs[0]
    assert run['train_images'] == 6
    assert set(run['final']) == {'micro_ap', 'micro_f1'}
