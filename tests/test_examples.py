"""Stock mmdet and mmseg configs with the reliability hooks only."""

from __future__ import annotations

import contextlib
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from downstream import needs
from engine.training_case import Killed, last, same
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

import osar_plugin.registry  # noqa: F401 - readies torchvision on a CPU

EXAMPLES = Path(__file__).resolve().parents[1] / 'configs/examples'
SIZE = 64


def images(folder: Path, count: int, suffix: str) -> list[Path]:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    paths = [folder / f'{number}{suffix}' for number in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(
            0, 256, (SIZE, SIZE, 3), np.uint8)).save(path)
    return paths


def coco(root: Path) -> None:
    """Ten images, a box in each."""
    paths = images(root / 'train2017', 10, '.jpg')
    (root / 'annotations').mkdir()
    (root / 'annotations/instances_train2017.json').write_text(json.dumps(
        dict(images=[
            dict(id=i, file_name=path.name, width=SIZE, height=SIZE)
            for i, path in enumerate(paths)],
            annotations=[
            dict(id=i, image_id=i, category_id=1, bbox=[4, 4, 30, 20 + i],
                 area=600, iscrowd=0) for i in range(len(paths))],
            categories=[dict(id=1, name='person')])))


def detection(root: Path, work_dir: Path) -> Config:
    cfg = Config.fromfile(EXAMPLES / 'mmdet_retinanet.py')
    cfg.model.backbone.init_cfg = None
    cfg.train_dataloader.dataset.update(data_root=f'{root}/')
    cfg.train_dataloader.dataset.pipeline[2]['scale'] = (SIZE, SIZE)
    cfg.train_dataloader.update(num_workers=2, persistent_workers=True)
    cfg.train_cfg.max_epochs = 3
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=1)
    cfg.optim_wrapper.optimizer.lr = 1e-4
    return cfg


def segmentation(root: Path, work_dir: Path) -> Config:
    cfg = Config.fromfile(EXAMPLES / 'mmseg_fcn.py')
    cfg.model.pretrained = None
    norm = dict(type='BN', requires_grad=True)  # one process
    for part in ('backbone', 'decode_head', 'auxiliary_head'):
        cfg.model[part].norm_cfg = norm
    cfg.model.data_preprocessor.size = (SIZE // 2, SIZE // 2)
    dataset = cfg.train_dataloader.dataset
    dataset.data_root = str(root)
    dataset.pipeline[2].scale = (SIZE, SIZE)
    dataset.pipeline[3].crop_size = (SIZE // 2, SIZE // 2)
    cfg.train_dataloader.num_workers = 2
    cfg.train_cfg.update(max_iters=15)
    cfg.default_hooks.checkpoint.update(interval=1)
    return cfg


def cityscapes(root: Path) -> None:
    """Ten images and their label maps."""
    paths = images(
        root / 'leftImg8bit/train/city', 10, '_leftImg8bit.png')
    labels = root / 'gtFine/train/city'
    labels.mkdir(parents=True)
    for path in paths:
        name = path.name.replace('leftImg8bit', 'gtFine_labelTrainIds')
        Image.fromarray(
            np.asarray(Image.open(path))[..., 0] % 19).save(labels / name)


def train(cfg: Config, work_dir: Path, **changes: Any) -> None:
    cfg = cfg.copy()
    cfg.work_dir, cfg.experiment_name = str(work_dir), uuid.uuid4().hex
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.log_level = 'ERROR'
    kill = changes.pop('kill', 0)
    cfg.update(changes)
    runner = Runner.from_cfg(cfg)
    if kill:
        runner.register_hook(dict(type='mmengine.KillHook', at=kill))
    with contextlib.suppress(Killed):
        runner.train()


@pytest.mark.slow
@pytest.mark.parametrize('package, data, build', [
    ('mmdet', coco, detection), ('mmseg', cityscapes, segmentation)])
def test_resumed_equals_uninterrupted(
        package: str, data: Any, build: Any, tmp_path: Path) -> None:
    """Killed in the middle of an epoch, two workers."""
    needs(package)
    data(tmp_path / 'data')
    cfg = build(tmp_path / 'data', tmp_path)
    train(cfg, tmp_path / 'whole')
    train(cfg, tmp_path / 'killed', kill=7)
    assert last(tmp_path / 'killed')['meta']['iter'] == 7
    train(cfg, tmp_path / 'killed', resume=True)
    whole, killed = last(tmp_path / 'whole'), last(tmp_path / 'killed')
    assert whole['meta']['iter'] == 15
    assert same(whole, killed) == []
    assert len(list((tmp_path / 'killed').glob('iter_*.pth'))) == 1
