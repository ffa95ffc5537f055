"""The zip file for the server of DFC 2025, track 2."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from bright_case import TEST, write_list, write_tile
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from mmengine.structures import PixelData
from PIL import Image

from osar_plugin.evaluation import BRIGHTSubmission
from osar_plugin.structures import DamageDataSample
from osar_plugin.utils.config import load_config
from osar_plugin.utils.errors import ConfigError, DataFormatError
from osar_plugin.utils.launch import prepare_runtime

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


def sample(name: str, seed: int = 0) -> DamageDataSample:
    labels = torch.randint(
        0, 4, (1, 9, 11), dtype=torch.uint8,
        generator=torch.Generator().manual_seed(seed))
    out = DamageDataSample(metainfo=dict(image_id=name, ori_shape=(9, 11)))
    out.pred_damage = out.pred_sem_seg = PixelData(data=labels)
    return out


def write(path: Path, samples: list) -> dict:
    evaluator = Evaluator(BRIGHTSubmission(str(path)))
    for one in samples:
        evaluator.process([one])
    return evaluator.evaluate(len(samples))


def test_what_the_server_gets(tmp_path) -> None:
    samples = [sample('noto-earthquake_00000002', 1),
               sample('marshall-wildfire_00000001', 2)]
    assert write(tmp_path / 'a.zip', samples) == {'bright/tiles': 2.0}
    with zipfile.ZipFile(tmp_path / 'a.zip') as archive:
        assert archive.namelist() == [
            'marshall-wildfire_00000001_building_damage.png',
            'noto-earthquake_00000002_building_damage.png']
        for one in samples:
            image = Image.open(BytesIO(archive.read(
                f'{one.image_id}_building_damage.png')))
            assert image.mode == 'L'
            np.testing.assert_array_equal(
                np.asarray(image), one.pred_damage.data[0].numpy())
    write(tmp_path / 'b.zip', samples[::-1])
    assert (tmp_path / 'a.zip').read_bytes() == (
        tmp_path / 'b.zip').read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {'a.zip', 'b.zip'}


def test_bad_input(tmp_path) -> None:
    with pytest.raises(ConfigError, match='zip file'):
        BRIGHTSubmission('out')
    with pytest.raises(DataFormatError, match='more than once'):
        write(tmp_path / 'a.zip', [sample('x'), sample('x')])
    nameless = DamageDataSample()
    nameless.pred_sem_seg = sample('x').pred_sem_seg
    with pytest.raises(DataFormatError, match='image_id'):
        write(tmp_path / 'a.zip', [nameless])
    with pytest.raises(DataFormatError, match='no pred_sem_seg'):
        write(tmp_path / 'a.zip', [DamageDataSample(
            metainfo=dict(image_id='x'))])
    wrong = sample('x')
    wrong.pred_sem_seg.data[0, 0, 0] = 255
    with pytest.raises(DataFormatError, match='0 to 3'):
        write(tmp_path / 'a.zip', [wrong])
    assert not list(tmp_path.iterdir())


def test_unlabelled_tiles_by_options_alone(tmp_path) -> None:
    """As the docstring says, with tools/test.py."""
    root = tmp_path / 'bright'
    for name in TEST:
        write_tile(root, name, (48, 64), labels=False)
    write_list(root / 'val_setlevel.txt', TEST)
    cfg = load_config(CONFIGS / 'demo/codemae_bright.py', {
        'test_dataloader.dataset.split': 'val',
        'test_dataloader.dataset.with_labels': False,
        'test_dataloader.dataset.data_root': str(root),
        'test_evaluator.type': 'osar_plugin.BRIGHTSubmission',
        'test_evaluator.out_file': str(tmp_path / 'out.zip'),
        'model.encoder.arch.embed_dim': 32, 'model.encoder.arch.depth': 2,
        'model.encoder.fpn_dim': 16, 'model.channels': 8,
        'work_dir': str(tmp_path / 'run')})
    for part in ('train', 'val'):
        for kind in ('dataloader', 'cfg', 'evaluator'):
            cfg[f'{part}_{kind}'] = None
    cfg.optim_wrapper = cfg.param_scheduler = None
    prepare_runtime(cfg, 'none')
    assert Runner.from_cfg(cfg).test() == {'bright/tiles': 2.0}
    with zipfile.ZipFile(tmp_path / 'out.zip') as archive:
        assert archive.namelist() == sorted(
            f'{name}_building_damage.png' for name in TEST)
