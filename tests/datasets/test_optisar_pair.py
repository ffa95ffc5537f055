"""The pair set of the pre-training."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS

from osar_plugin.datasets import OptiSarPair
from osar_plugin.utils.errors import DataFormatError, DatasetNotFoundError

NAMES = [
    '0000/a_000007_x_RGB.tif', '0000/a_000007_x_SAR.tif',
    '0000/a_000007_y_SAR.png', '0001/b_12_SAR.png', '0001/b_12_RGB.png',
    '0001/c_13_RGB.png', '0002/c_7_RGB.png']


@pytest.fixture
def root(tmp_path, chip):
    for seed, name in enumerate(NAMES):
        chip(tmp_path / 'OptiSar_Pair' / name, seed)
    return tmp_path


def test_every_combination_of_an_identity(root):
    dataset = OptiSarPair(root)
    got = [dataset.get_data_info(index) for index in range(len(dataset))]
    base = root / 'OptiSar_Pair'
    short = [
        (str(Path(row['optical_path']).relative_to(base)),
         str(Path(row['sar_path']).relative_to(base)),
         row['pid'], row['label']) for row in got]
    assert short == [
        ('0000/a_000007_x_RGB.tif', '0000/a_000007_x_SAR.tif', 7, 0),
        ('0000/a_000007_x_RGB.tif', '0000/a_000007_y_SAR.png', 7, 0),
        ('0002/c_7_RGB.png', '0000/a_000007_x_SAR.tif', 7, 0),
        ('0002/c_7_RGB.png', '0000/a_000007_y_SAR.png', 7, 0),
        ('0001/b_12_RGB.png', '0001/b_12_SAR.png', 12, 1)]
    assert dataset.metainfo['num_ids'] == 2
    assert len(OptiSarPair(root / 'OptiSar_Pair')) == 5
    assert len(OptiSarPair(root, suffixes=['.png'])) == 2


def test_pre_training_config_gives_two_images(root):
    config = Config.fromfile('configs/_base_/datasets/optisar_pair.py')
    settings = config.train_dataloader.dataset
    settings.data_root = str(root)
    item = DATASETS.build(settings)[0]
    assert set(item['inputs']) == {'optical', 'sar'}
    for image in item['inputs'].values():
        assert image.shape == (3, 256, 128)
    assert item['data_samples'].pid == 7


def test_bad_folders_and_names(tmp_path, chip):
    with pytest.raises(DatasetNotFoundError, match=r'pretrain_data\.z01'):
        OptiSarPair(tmp_path / 'none')
    chip(tmp_path / 'OptiSar_Pair' / '0000' / 'a_1_RGB.png')
    with pytest.raises(DatasetNotFoundError, match='both an optical and a'):
        OptiSarPair(tmp_path)
    chip(tmp_path / 'OptiSar_Pair' / '0000' / 'a_one_SAR.png')
    with pytest.raises(DataFormatError, match=r'a_one_SAR\.png.*<pid>'):
        OptiSarPair(tmp_path)


def test_damaged_image_of_a_pair_is_named(root):
    path = root / 'OptiSar_Pair' / '0001' / 'b_12_SAR.png'
    path.write_bytes(path.read_bytes()[:60])
    dataset = OptiSarPair(root, pipeline=[
        dict(type='osar_plugin.PairPipeline', transforms=[
            dict(type='osar_plugin.LoadOpticalOrSAR')])])
    dataset[0]
    with pytest.raises(OSError, match=r'b_12_SAR\.png'):
        dataset[4]
