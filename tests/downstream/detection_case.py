"""Detectors shrunk, and data sets of four images in the real layouts."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner
from PIL import Image

from osar_plugin.datasets.coco_json import to_coco, write_coco
from osar_plugin.datasets.instance_masks import read_hrsid
from osar_plugin.datasets.sardet100k import CLASSES
from osar_plugin.datasets.synthetic import DetectionSettings, write_detection
from osar_plugin.utils.config import load_config

REPO = Path(__file__).resolve().parents[2]
SHARED = REPO.parent / 'shared/data'
CONFIGS = REPO / 'configs'
ITPN = dict(embed_dim=32, mlp_depths=(1, 1), depth=2, num_heads=2)
ARCHS: dict[str, dict[str, Any]] = {
    'osar_plugin.ITPN': ITPN,
    'osar_plugin.HiViT': dict(
        embed_dim=32, depths=(1, 1, 4), num_heads=2),
    'osar_plugin.DenseViT': dict(embed_dim=32, depth=2, num_heads=2)}
NECKS = {'osar_plugin.HiViT': [8, 16, 32, 32],
         'osar_plugin.DenseViT': [32] * 4}
NAMES = ('codemae_dior', 'hivit_dior', 'vit_dior', 'codemae_sardet100k',
         'saratrx_sardet100k', 'vit_sardet100k')


def read(name: str) -> Config:
    return load_config(CONFIGS / f'{name}.py')


def on_meta(name: str) -> tuple[Config, Any]:
    """A config, and its model without values."""
    cfg = read(name)
    with torch.device('meta'):
        return cfg, MODELS.build(cfg.model)


def shrink(cfg: Config, size: int = 128) -> Config:
    """The same detector, thin, on small images, for two steps."""
    model = cfg.model
    kind = model.backbone.type
    # A block that is dropped in both steps would not change.
    model.backbone.update(
        arch=ARCHS[kind], img_size=64, with_cp=False, init_cfg=None,
        drop_path_rate=0.)
    if kind == 'osar_plugin.ITPN':
        model.backbone.fpn_dim = 16
    if 'neck' in model:
        model.neck.update(in_channels=NECKS[kind], out_channels=16)
    model.rpn_head.update(in_channels=16, feat_channels=16)
    model.roi_head.bbox_roi_extractor.out_channels = 16
    head = model.roi_head.bbox_head
    head.update(in_channels=16, fc_out_channels=16)
    if 'conv_out_channels' in head:
        head.conv_out_channels = 16
    model.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=30)
    model.train_cfg.rcnn.sampler.num = 16
    model.test_cfg.rpn.update(nms_pre=50, max_per_img=30)
    # Two steps make nothing certain, and no box at all no figure.
    model.test_cfg.rcnn.score_thr = 0.
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[key].update(num_workers=0)
        cfg[key].pop('persistent_workers', None)
        for step in cfg[key].dataset.pipeline:
            smaller(step, size)
    cfg.optim_wrapper.type = 'mmengine.OptimWrapper'
    cfg.optim_wrapper.pop('loss_scale', None)
    cfg.train_cfg.max_epochs = 1
    cfg.auto_scale_lr.enable = False
    cfg.log_level = 'ERROR'
    return cfg


def smaller(step: Any, size: int) -> None:
    """Scales of a transform, and of those inside it."""
    if step.type == 'mmdet.Resize':
        step.scale = (size, size)
    elif step.type == 'mmdet.RandomCrop':
        step.crop_size = (size // 2, size)
    elif step.type == 'mmengine.RandomChoiceResize':
        step.scales = [(size, 2 * size), (size // 2, 2 * size)]
    elif step.type == 'mmengine.RandomChoice':
        for chain in step.transforms:
            for inner in chain:
                smaller(inner, size)


def point_at(cfg: Config, root: Path, **settings: Any) -> Config:
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[key].dataset.update(data_root=str(root), **settings)
    return cfg


def runner_of(cfg: Config, work_dir: Path) -> Runner:
    cfg = cfg.copy()
    cfg.work_dir, cfg.experiment_name = str(work_dir), uuid.uuid4().hex
    return Runner.from_cfg(cfg)


def demo_world(out: Path) -> Path:
    write_detection(out, DetectionSettings(images=8, size=128, val=.15,
                                           test=.25))
    return out / 'Detection'


def real_dior(root: Path) -> Path:
    """The real image in all splits, in the layout of the XML files."""
    for own, other in (
            ('Annotations_obb', 'Annotations/Oriented Bounding Boxes'),
            ('JPEGImages', 'JPEGImages-trainval')):
        shutil.copytree(SHARED / 'dior' / own, root / other)
    (root / 'ImageSets/Main').mkdir(parents=True)
    for split in ('trainval', 'test'):
        (root / f'ImageSets/Main/{split}.txt').write_text('00001\n')
    return root


def real_sardet(root: Path) -> Path:
    """Real chips of HRSID in SARDet-100K's layout."""
    source = SHARED / 'sar_det_hrsid'
    found = read_hrsid(source)
    rows = [dict(width=w, height=h, instances=[
        dict(bbox=box, bbox_label=0, ignore_flag=0)
        for box in boxes.tolist()]) for _, w, h, boxes in found]
    for split in ('train', 'test'):
        (root / f'JPEGImages/{split}').mkdir(parents=True)
        for name, *_ in found:
            shutil.copy(source / name, root / f'JPEGImages/{split}')
        write_coco(
            root / f'Annotations/{split}.json',
            to_coco(rows, CLASSES, [name for name, *_ in found]))
    return root


def ordered_json(source: Path, target: Path) -> list[str]:
    """A json whose categories are in the order of the labels."""
    content = json.loads(source.read_text())
    content['info'] = {}
    target.write_text(json.dumps(content))
    return [row['name'] for row in content['categories']]


def write_shapes(root: Path) -> Path:
    """Four images that are wide and four that are tall."""
    sizes = [(96, 64) if i % 3 else (64, 96) for i in range(6)]
    sizes += [(64, 96), (64, 96)]
    names = [f'{i}.png' for i in range(8)]
    for split in ('train', 'test'):
        folder = root / f'JPEGImages/{split}'
        folder.mkdir(parents=True)
        for name, size in zip(names, sizes, strict=True):
            Image.new('L', size).save(folder / name)
        rows = [dict(width=w, height=h, instances=[dict(
            bbox=[5, 5, 40, 30], bbox_label=0, ignore_flag=0)])
            for w, h in sizes]
        write_coco(root / f'Annotations/{split}.json',
                   to_coco(rows, CLASSES, names))
    return root
