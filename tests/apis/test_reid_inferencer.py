"""Descriptors and search."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from PIL import Image
from search_case import (
    CONFIG,
    HOSS_MINI,
    Bomb,
    write_chip,
    write_config,
    write_gallery,
    write_weights,
)

from osar_plugin.apis import ShipReIDInferencer, search
from osar_plugin.apis.reid import list_chips, tell_modalities
from osar_plugin.apis.search import (
    ChipInfo,
    DescribedChips,
    nearest,
    rank_gallery,
)
from osar_plugin.datasets import HOSS
from osar_plugin.datasets.transforms import ship_size
from osar_plugin.io import read_optical, read_sar
from osar_plugin.registry import INFERENCERS
from osar_plugin.utils.config import load_config
from osar_plugin.utils.errors import (
    ConfigError,
    CorruptImageError,
    DataFormatError,
    DatasetNotFoundError,
    MissingDependencyError,
    UnsafeCheckpointError,
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('case')


@pytest.fixture(scope='module')
def config(folder):
    return write_config(folder)


@pytest.fixture(scope='module')
def weights(folder, config):
    return write_weights(folder, config)


@pytest.fixture(scope='module')
def inferencer(config, weights):
    return ShipReIDInferencer(str(config), weights, 'cpu')


@pytest.fixture(scope='module')
def gallery(folder):
    return write_gallery(folder / 'gallery')


def features(inferencer, *args, **kwargs):
    return np.stack([
        p['feature'] for p in inferencer(*args, **kwargs)['predictions']])


# ----------------------------------------------------------------- features


def hoss(root, config):
    pipeline = load_config(config).test_dataloader.dataset.pipeline
    data = HOSS(data_root=str(root), split='test', pipeline=pipeline)
    return [data[i] for i in range(len(data))]


def check_like_the_data_set(inferencer, items):
    with torch.no_grad():
        samples = inferencer.model.test_step(dict(
            inputs=[item['inputs'] for item in items],
            data_samples=[item['data_samples'] for item in items]))
    expected = torch.stack([s.feature for s in samples]).numpy()
    paths = [s.img_path for s in samples]
    together = inferencer(paths, batch_size=len(paths))['predictions']
    assert np.array_equal([p['feature'] for p in together], expected)
    assert [p['pid'] for p in together] == [s.pid for s in samples]
    assert [p['modality'] for p in together] == [s.modality for s in samples]
    alone = features(inferencer, paths, batch_size=3)
    np.testing.assert_allclose(alone, expected, atol=2e-6)
    # The comparison would not notice a network that ignores its input.
    assert np.abs(expected - expected[0]).max() > 0.1


def test_feature_is_that_of_the_evaluation(tiny_hoss, inferencer, config):
    check_like_the_data_set(inferencer, hoss(tiny_hoss, config))


def test_real_chips(inferencer, config):
    if not HOSS_MINI.is_dir():
        pytest.skip('real chips not there: ../shared/data/hoss_mini')
    check_like_the_data_set(inferencer, hoss(HOSS_MINI, config))


def test_arrays_are_files(inferencer, gallery):
    files = list_chips(gallery)
    arrays = [
        read_sar(path) if 'SAR' in path.name else read_optical(path)
        for path in files]
    mixture = [
        array if i % 3 else path
        for i, (path, array) in enumerate(zip(files, arrays, strict=True))]
    expected = features(inferencer, gallery)
    assert np.array_equal(features(inferencer, arrays), expected)
    assert np.array_equal(features(inferencer, mixture), expected)
    # Types and layouts that mean the same.
    sar = arrays[1] if arrays[1].ndim == 2 else arrays[0]
    variants = [
        sar, sar[:, :, None], sar.astype(np.float64),
        np.repeat(sar[:, :, None], 3, axis=2)]
    same = features(inferencer, variants, modality='sar')
    assert np.array_equal(same, np.repeat(same[:1], 4, axis=0))


def test_inputs_are_files_folders_and_mixtures(inferencer, gallery, tmp_path):
    write_chip(gallery / '.hidden' / '0009_s01c1_RGB.tif', 3)
    write_chip(gallery / '._0009_s01c1_RGB.tif', 3)
    file = write_chip(tmp_path / 'single_RGB.PNG', 4)
    result = inferencer([file, str(gallery)])
    paths = [p['img_path'] for p in result['predictions']]
    assert paths == [str(file), *map(str, list_chips(gallery))]
    assert len(paths) == 11
    assert [p['pid'] for p in result['predictions']][:3] == [None, 2, 2]
    one = inferencer(file, return_datasamples=True)['predictions']
    assert one[0].feature.shape == (24,)
    assert one[0].ori_shape == (34, 14)
    assert result['visualization'] == []


def test_registered(inferencer):
    assert INFERENCERS.get('ShipReIDInferencer') is type(inferencer)


# ----------------------------------------------------------------- modality


def image(path, array):
    Image.fromarray(array).save(path)
    return path


@pytest.mark.parametrize('name,expected', [
    ('1_s1c1_RGB.png', 0), ('x_rgb.png', 0), ('0001_s01c1_SAR.tif', 1),
    ('y_sar.jpg', 1), ('RGB.tif', 0)])
def test_modality_by_name(tmp_path, name, expected):
    # The file is not there: its name is enough.
    assert tell_modalities([tmp_path / name], 'auto') == [expected]


@pytest.mark.parametrize('name,array,expected', [
    ('grey.png', np.zeros((4, 3), np.uint8), 1),
    ('deep.png', np.full((4, 3), 999, np.uint16), 1),
    ('float.tif', np.ones((4, 3), np.float32), 1),
    ('viewer.png', np.ones((4, 3, 3), np.uint8), 1),
    ('colour.png', np.arange(36, dtype=np.uint8).reshape(4, 3, 3), 0),
    ('RGB_of_ship.png', np.zeros((4, 3), np.uint8), 1),
])
def test_modality_by_channels(tmp_path, name, array, expected):
    file = image(tmp_path / name, array)
    assert tell_modalities([file], 'auto') == [expected]


@pytest.mark.parametrize('array,expected', [
    (np.zeros((4, 3), np.float32), 1), (np.zeros((4, 3), np.uint8), 1),
    (np.zeros((4, 3, 1), np.uint16), 1), (np.zeros((4, 3, 3), np.uint8), 0)])
def test_modality_of_arrays(array, expected):
    assert tell_modalities([array], 'auto') == [expected]


def test_the_flag_overrules_the_name(inferencer, gallery):
    file = list_chips(gallery)[1]
    assert 'SAR' in file.name
    told = inferencer(file, modality='optical')['predictions'][0]
    assert told['modality'] == 0
    assert not np.array_equal(
        told['feature'], features(inferencer, file)[0])
    assert tell_modalities([file, file], [0, 'auto']) == [0, 1]
    assert tell_modalities([file, file], np.array([0, 1])) == [0, 1]


@pytest.mark.parametrize('modality,message', [
    ('radar', "'radar'"), (2, '2'), (True, 'True'), (1.0, '1.0'),
    ([0, 1, 0], '3 modalities were given for 1')])
def test_wrong_flags(inferencer, gallery, modality, message):
    with pytest.raises(ConfigError, match=message):
        inferencer(list_chips(gallery)[0], modality=modality)


# ---------------------------------------------------------------------- gsd


def test_gsd(inferencer, gallery):
    files = list_chips(gallery)[:2]
    default = features(inferencer, files)
    assert np.array_equal(
        features(inferencer, files, gsd=(0.75, 1.0)), default)
    for gsd, pair in ((1.5, (1.5, 1.5)), ([0.3, 3.0], (0.3, 3.0))):
        samples = inferencer(
            files, gsd=gsd, return_datasamples=True)['predictions']
        for sample in samples:
            height, width = sample.ori_shape
            expected = ship_size(width, height, pair[sample.modality])
            assert np.array_equal(sample.size.numpy(), expected)
        assert not np.allclose(samples[0].feature, default[0])
    # The inferencer itself is as before.
    assert np.array_equal(features(inferencer, files), default)


@pytest.mark.parametrize('gsd', [0, -1.0, float('nan'), (1, 2, 3), (), 'x'])
def test_wrong_gsd(inferencer, gallery, gsd):
    with pytest.raises(ConfigError, match='metres per pixel'):
        inferencer(list_chips(gallery)[0], gsd=gsd)


def test_gsd_without_ship_size(folder, weights, tmp_path, gallery):
    text = CONFIG.replace("    dict(type='osar_plugin.ShipSize'),\n", '')
    config = write_config(tmp_path, text)
    inferencer = ShipReIDInferencer(config, weights, 'cpu')
    with pytest.raises(ConfigError, match='no ShipSize'):
        inferencer(list_chips(gallery)[0], gsd=1.0)


# ------------------------------------------------------------------ refusals


def test_weights_with_code_are_refused(config, tmp_path):
    torch.save(
        dict(state_dict={}, x=Bomb(tmp_path / 'made')), tmp_path / 'w.pth')
    with pytest.raises(UnsafeCheckpointError, match=r'w\.pth'):
        ShipReIDInferencer(config, tmp_path / 'w.pth', 'cpu')
    assert not (tmp_path / 'made').exists()


def test_the_config_is_not_taken_from_a_checkpoint(weights):
    with pytest.raises(ConfigError, match='a config is a program'):
        ShipReIDInferencer(None, weights)


def test_no_weights_is_said(config, caplog):
    from mmengine.logging import MMLogger
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.WARNING):
            ShipReIDInferencer(config, device='cpu')
    finally:
        logger.removeHandler(caplog.handler)
    assert 'No weights given' in caplog.text


def test_configs_that_cannot_be_used(tmp_path):
    with pytest.raises(ConfigError, match=r'nothing\.py'):
        ShipReIDInferencer(tmp_path / 'nothing.py')
    with pytest.raises(ConfigError, match='no model'):
        ShipReIDInferencer({'x': 1})
    text = CONFIG.replace(
        'test_dataloader = val_dataloader', 'test_dataloader = None')
    with pytest.raises(ConfigError, match='pipeline'):
        ShipReIDInferencer(write_config(tmp_path, text), device='cpu')


@pytest.mark.parametrize('array,modality,message', [
    (np.ones((4, 3, 3), np.float32), 'optical', 'Scale it to 8 bit'),
    (np.ones((4, 3, 3), np.float32), 'auto', 'either modality'),
    (np.ones((4, 3, 2), np.uint8), 'sar', r'\(4, 3, 2\)'),
    (np.ones((0, 3), np.float32), 'sar', r'\(0, 3\)'),
    (np.ones((4, 3), complex), 'sar', 'real amplitudes'),
    (np.full((4, 3), np.nan), 'sar', 'NaN'),
    (np.zeros((4, 3)), 'sar', 'zero everywhere')])
def test_arrays_that_are_no_chips(inferencer, array, modality, message):
    with pytest.raises((DataFormatError, ConfigError), match=message):
        inferencer(array, modality=modality)


def test_inputs_that_are_no_images(inferencer, tmp_path):
    with pytest.raises(DataFormatError, match='empty'):
        inferencer([])
    with pytest.raises(DataFormatError, match='NoneType'):
        inferencer([None])
    with pytest.raises(DatasetNotFoundError, match='no image'):
        inferencer(tmp_path)
    with pytest.raises(DatasetNotFoundError, match='gone_RGB'):
        inferencer(tmp_path / 'gone_RGB.tif')
    (tmp_path / 'bad_RGB.tif').write_bytes(b'II*\0nonsense')
    with pytest.raises(CorruptImageError, match='bad_RGB'):
        inferencer(tmp_path)
    with pytest.raises(ConfigError, match='batch_size=0'):
        inferencer(tmp_path, batch_size=0)


# ------------------------------------------------------------------- search


def brute_force(query, gallery):
    """(Q, G) distances, in float64 and by the definition."""
    q, g = (
        x / np.linalg.norm(x, axis=1, keepdims=True)
        for x in (query.astype(float), gallery.astype(float)))
    return ((q[:, None] - g[None]) ** 2).sum(2)


def test_search_is_sorting(inferencer, gallery, tmp_path):
    write_gallery(tmp_path, 3)
    lists = inferencer.search(tmp_path, gallery, topk=4)
    distance = brute_force(
        features(inferencer, tmp_path), features(inferencer, gallery))
    files = [str(path) for path in list_chips(gallery)]
    assert len(lists) == 6
    for row, ranked in enumerate(lists):
        order = np.argsort(distance[row])[:4]
        assert [hit.chip.path for hit in ranked.hits] == [
            files[i] for i in order]
        assert [hit.rank for hit in ranked.hits] == [1, 2, 3, 4]
        np.testing.assert_allclose(
            [hit.distance for hit in ranked.hits], distance[row][order],
            atol=1e-5)
        for hit in ranked.hits:
            assert hit.correct is (hit.chip.pid == ranked.query.pid)
        # The same pixels under another path are found, at no distance.
        assert ranked.hits[0].distance == pytest.approx(0, abs=1e-5)


def test_target_and_unknown_identity(inferencer, gallery, tmp_path):
    query = write_chip(tmp_path / 'ship_RGB.png', 1)
    ranked, = inferencer.search(query, gallery, 50, 'sar')
    assert len(ranked.hits) == 5
    assert {hit.chip.modality for hit in ranked.hits} == {1}
    assert {hit.correct for hit in ranked.hits} == {None}
    optical = [p for p in list_chips(gallery) if 'RGB' in p.name]
    with pytest.raises(ConfigError, match='None of the 5'):
        inferencer.search(query, optical, target='sar')
    with pytest.raises(ConfigError, match="target='radar'"):
        inferencer.search(query, gallery, target='radar')
    with pytest.raises(ConfigError, match='topk=0'):
        inferencer.search(query, gallery, topk=0)


def test_own_file(inferencer, gallery, tmp_path):
    file = list_chips(gallery)[0]
    link = tmp_path / file.name
    link.symlink_to(file)
    for query in (file, link):
        without, = inferencer.search(query, gallery, topk=3)
        assert str(file) not in [hit.chip.path for hit in without.hits]
        assert len(without.hits) == 3
        kept, = inferencer.search(query, gallery, 3, exclude_self=False)
        assert kept.hits[0].chip.path == str(file)
        assert [h.chip for h in kept.hits[1:]] == [
            h.chip for h in without.hits[:2]]


@pytest.mark.parametrize('num,k', [(3, 3), (40, 1), (700, 25)])
def test_faiss_is_exact(num, k):
    pytest.importorskip('faiss')
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(30, 16, generator=generator)
    gallery = torch.randn(num, 16, generator=generator)
    # Equal entries: ties go by row, as in a stable sort.
    gallery[num // 2] = gallery[0]
    rows, distance = nearest(query, gallery, k, 'exact')
    found, other = nearest(query, gallery, k, 'faiss')
    assert torch.equal(rows, found)
    torch.testing.assert_close(distance, other, atol=2e-6, rtol=0)


def test_faiss_is_used_when_it_should_be(monkeypatch):
    gallery = torch.randn(50, 8)
    called = []

    def spy(query, gallery, k):
        called.append(k)
        return search.top_k(query, gallery, k)

    monkeypatch.setattr(search, '_nearest_by_faiss', spy)
    monkeypatch.setattr(search, '_has_faiss', lambda: True)
    nearest(gallery, gallery, 2)
    assert not called
    monkeypatch.setattr(search, 'FAISS_FROM', 50)
    nearest(gallery, gallery, 2)
    assert called == [2]
    monkeypatch.setattr(search, '_has_faiss', lambda: False)
    nearest(gallery, gallery, 2)
    assert called == [2]


def test_without_faiss(monkeypatch):
    def missing(*_):
        raise MissingDependencyError('pip install "osar_plugin[index]"')

    monkeypatch.setattr(search, 'require', missing)
    with pytest.raises(MissingDependencyError, match='index'):
        nearest(torch.randn(3, 4), torch.randn(3, 4), 1, 'faiss')
    assert not search._has_faiss()
    with pytest.raises(ConfigError, match="'ivf'"):
        nearest(torch.randn(3, 4), torch.randn(3, 4), 1, 'ivf')


def test_features_of_two_models():
    chip = [ChipInfo('a', 0)]
    with pytest.raises(DataFormatError, match='one model'):
        rank_gallery(DescribedChips(chip, torch.ones(1, 3)),
                     DescribedChips(chip, torch.ones(1, 4)))


# --------------------------------------------------------------- housekeeping


def test_no_progress_bar_off_a_terminal(inferencer, gallery, capsys):
    assert inferencer.show_progress is False
    inferencer(gallery)
    assert capsys.readouterr() == ('', '')


def test_progress_bar(inferencer, gallery, capsys, monkeypatch):
    monkeypatch.setattr(inferencer, 'show_progress', True)
    inferencer(gallery)
    captured = capsys.readouterr()
    assert 'Describing' in captured.err
    assert captured.out == ''


def test_fingerprint(folder, config, weights, inferencer, tmp_path):
    own = inferencer.fingerprint()
    assert own == inferencer.fingerprint()
    assert own != inferencer.fingerprint(gsd=1.0)
    # The file does not matter, its content does.
    same = write_weights(tmp_path, config, 0, 'other.safetensors')
    other = write_weights(tmp_path, config, 1, 'other.pth')
    assert ShipReIDInferencer(config, same, 'cpu').fingerprint() == own
    assert ShipReIDInferencer(config, other, 'cpu').fingerprint() != own
    percentile = write_config(tmp_path, CONFIG.replace(
        "SARToUint8'", "SARToUint8', mode='percentile'"))
    assert ShipReIDInferencer(
        percentile, weights, 'cpu').fingerprint() != own
