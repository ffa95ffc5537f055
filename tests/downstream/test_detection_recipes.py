"""Every number of the detection recipes, beside what is published."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from downstream import needs

needs('mmdet', 'pycocotools')

from detection_case import NAMES, on_meta, read  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

HEAD = 'model.roi_head.bbox_head'
REGION = 'model.roi_head.bbox_roi_extractor'
RPN = 'model.rpn_head'
# The same in all six.
COMMON: dict[str, Any] = {
    'model.type': 'mmdet.FasterRCNN',
    'model.data_preprocessor.bgr_to_rgb': True,
    'model.data_preprocessor.pad_size_divisor': 32,
    f'{RPN}.anchor_generator.scales': [8],
    f'{RPN}.anchor_generator.ratios': [.5, 1., 2.],
    f'{RPN}.anchor_generator.strides': [4, 8, 16, 32, 64],
    f'{RPN}.bbox_coder.target_stds': [1., 1., 1., 1.],
    f'{REGION}.roi_layer.type': 'RoIAlign',
    f'{REGION}.roi_layer.output_size': 7,
    f'{REGION}.featmap_strides': [4, 8, 16, 32],
    f'{HEAD}.in_channels': 256,
    f'{HEAD}.fc_out_channels': 1024,
    f'{HEAD}.bbox_coder.target_stds': [.1, .1, .2, .2],
    f'{HEAD}.loss_cls.type': 'mmdet.CrossEntropyLoss',
    f'{HEAD}.loss_cls.loss_weight': 1.,
    'model.test_cfg.rcnn.score_thr': .05,
    'model.test_cfg.rcnn.nms': {'type': 'nms', 'iou_threshold': .5},
    'model.test_cfg.rcnn.max_per_img': 100,
    'optim_wrapper.constructor': 'osar_plugin.LayerDecayConstructor',
    'optim_wrapper.optimizer.type': 'mmengine.AdamW',
    'optim_wrapper.optimizer.betas': [.9, .999],
    'optim_wrapper.optimizer.weight_decay': .05,
    'optim_wrapper.clip_grad': {'max_norm': 35, 'norm_type': 2},
    'param_scheduler.0.type': 'mmengine.LinearLR',
    'param_scheduler.0.start_factor': 1e-3,
    'param_scheduler.0.begin': 0,
    'param_scheduler.0.by_epoch': False,
    'param_scheduler.1.type': 'mmengine.MultiStepLR',
    'param_scheduler.1.gamma': .1,
    'param_scheduler.1.by_epoch': True,
    'train_dataloader.batch_size': 2,
    'auto_scale_lr.base_batch_size': 16,
    'test_dataloader.dataset.split': 'test',
    'val_dataloader.dataset.split': 'test',
    'test_evaluator.metric': 'bbox'}
DIOR: dict[str, Any] = {
    f'{HEAD}.num_classes': 20,
    'train_cfg.max_epochs': 12,
    'param_scheduler.0.end': 500,
    'param_scheduler.1.end': 12,
    'param_scheduler.1.milestones': [8, 11],
    'optim_wrapper.type': 'mmengine.OptimWrapper',
    'optim_wrapper.loss_scale': None,
    'auto_scale_lr.enable': True,
    'train_dataloader.dataset.split': 'trainval',
    'train_dataloader.dataset.pipeline.2': {
        'type': 'mmdet.Resize', 'scale': [800, 800], 'keep_ratio': True},
    'train_dataloader.dataset.pipeline.3': {
        'type': 'mmdet.RandomFlip', 'prob': .5},
    'test_dataloader.dataset.pipeline.1': {
        'type': 'mmdet.Resize', 'scale': [800, 800], 'keep_ratio': True}}
SHORT = [[side, 1333] for side in range(480, 801, 32)]
CHOICE = 'train_dataloader.dataset.pipeline.3.transforms'
SARDET: dict[str, Any] = {
    f'{HEAD}.num_classes': 6,
    'train_cfg.max_epochs': 36,
    'param_scheduler.0.end': 1500,
    'param_scheduler.1.end': 36,
    'param_scheduler.1.milestones': [27, 33],
    'optim_wrapper.type': 'mmengine.AmpOptimWrapper',
    'optim_wrapper.loss_scale': 'dynamic',
    'auto_scale_lr.enable': False,
    'train_dataloader.dataset.split': 'train',
    'train_dataloader.dataset.pipeline.2': {
        'type': 'mmdet.RandomFlip', 'prob': .5},
    'train_dataloader.dataset.pipeline.3.type': 'mmengine.RandomChoice',
    # None: as likely as each other.
    'train_dataloader.dataset.pipeline.3.prob': None,
    f'{CHOICE}.0.0.scales': SHORT,
    f'{CHOICE}.0.0.keep_ratio': True,
    f'{CHOICE}.1.0.scales': [[400, 4200], [500, 4200], [600, 4200]],
    f'{CHOICE}.1.0.keep_ratio': True,
    f'{CHOICE}.1.1': {
        'type': 'mmdet.RandomCrop', 'crop_type': 'absolute_range',
        'crop_size': [384, 600], 'allow_negative_crop': True},
    f'{CHOICE}.1.2.scales': SHORT,
    f'{CHOICE}.1.2.keep_ratio': True,
    'test_dataloader.dataset.pipeline.1': {
        'type': 'mmdet.Resize', 'scale': [1333, 800], 'keep_ratio': True}}
ITPN: dict[str, Any] = {
    'model.backbone.type': 'osar_plugin.ITPN',
    'model.backbone.arch': 'base',
    'model.backbone.num_outs': 5,
    'model.backbone.fpn_dim': 256,
    'model.backbone.pool': 'avg',
    'model.backbone.norm_eps': 1e-5,
    'model.backbone.init_cfg.checkpoint': 'weights/checkpoint-800.pth',
    'model.neck': None,
    f'{HEAD}.type': 'mmdet.Shared4Conv1FCBBoxHead',
    f'{HEAD}.conv_out_channels': 256,
    f'{HEAD}.norm_cfg.type': 'SyncBN',
    f'{HEAD}.reg_decoded_bbox': True,
    f'{HEAD}.loss_bbox': {'type': 'mmdet.GIoULoss', 'loss_weight': 10.},
    'optim_wrapper.optimizer.lr': 3e-4,
    'optim_wrapper.paramwise_cfg': {'decay_rate': .85, 'rule': 'codemae'}}
STOCK_HEAD: dict[str, Any] = {
    f'{HEAD}.type': 'mmdet.Shared2FCBBoxHead',
    f'{HEAD}.norm_cfg': None,
    f'{HEAD}.reg_decoded_bbox': None,
    f'{HEAD}.loss_bbox': {'type': 'mmdet.L1Loss', 'loss_weight': 1.}}
HIVIT: dict[str, Any] = {
    **STOCK_HEAD,
    'model.backbone.type': 'osar_plugin.HiViT',
    'model.backbone.arch': 'base',
    'model.backbone.taps': 'official',
    'model.neck': {
        'type': 'mmdet.FPN', 'in_channels': [128, 256, 512, 512],
        'out_channels': 256, 'num_outs': 5},
    'optim_wrapper.paramwise_cfg': {'decay_rate': .9, 'rule': 'hivit'}}
VIT: dict[str, Any] = {
    **STOCK_HEAD,
    'model.backbone.type': 'osar_plugin.DenseViT',
    'model.backbone.arch': 'base',
    'model.backbone.init_cfg.checkpoint': 'weights/mae_pretrain_vit_base.pth',
    'model.backbone.num_outs': 4,
    'model.backbone.fpn_dim': None,
    'model.neck': {
        'type': 'mmdet.FPN', 'in_channels': [768, 768, 768, 768],
        'out_channels': 256, 'num_outs': 5},
    'optim_wrapper.optimizer.lr': 1e-4,
    'optim_wrapper.paramwise_cfg': {'decay_rate': .9, 'rule': 'vit'}}


def colours(mean: list[float], std: list[float]) -> dict[str, Any]:
    return {'model.data_preprocessor.mean': mean,
            'model.data_preprocessor.std': std}


OPTICAL = colours([98.33, 101.306, 92.275], [51.038, 47.363, 47.672])
RADAR = colours([35.8299] * 3, [51.4447] * 3)
RECIPES: dict[str, dict[str, Any]] = {
    'codemae_dior': {
        **DIOR, **ITPN, **OPTICAL, 'model.backbone.modality': 'rgb'},
    'codemae_sardet100k': {
        **SARDET, **ITPN, **RADAR, 'model.backbone.modality': 'sar'},
    'hivit_dior': {
        **DIOR, **HIVIT, **OPTICAL, 'optim_wrapper.optimizer.lr': 3e-4,
        'model.backbone.init_cfg.checkpoint':
            'weights/mae_hivit_base_1600ep.pth'},
    'saratrx_sardet100k': {
        **SARDET, **HIVIT, **colours([0.] * 3, [1.] * 3),
        'optim_wrapper.optimizer.lr': 5e-4,
        'model.backbone.init_cfg.checkpoint': 'weights/checkpoint-600.pth'},
    'vit_dior': {**DIOR, **VIT, **OPTICAL},
    'vit_sardet100k': {**SARDET, **VIT, **RADAR}}
# Of the built backbone: eps of its norms, stochastic depth of the last block,
# depths of the layer decay.
BUILT = {'osar_plugin.ITPN': (1e-5, .15, 33),
         'osar_plugin.HiViT': (1e-6, .2, 22),
         'osar_plugin.DenseViT': (1e-6, .1, 14)}


@pytest.fixture(autouse=True)
def scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def plain(value: Any) -> Any:
    """Dicts and lists in place of a config's own and of tuples."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(
        value, (list, tuple)) else value


def entry(cfg: Any, path: str) -> Any:
    """An entry by its path; None where there is none."""
    for key in path.split('.'):
        cfg = cfg[int(key)] if key.isdigit() else cfg.get(key)
        if cfg is None:
            return None
    return plain(cfg)


@pytest.mark.parametrize('name', NAMES)
def test_every_number(name):
    cfg = read(name)
    expected = {**COMMON, **RECIPES[name]}
    assert {path: entry(cfg, path) for path in expected} == expected


@pytest.mark.parametrize('name', NAMES)
def test_numbers_arrive_in_the_model(name):
    cfg, model = on_meta(name)
    backbone, head = model.backbone, model.roi_head.bbox_head
    eps, drop_path, depths = BUILT[cfg.model.backbone.type]
    assert {m.eps for m in backbone.modules()
            if isinstance(m, torch.nn.LayerNorm)} == {eps}
    assert backbone.blocks[-1].drop_path.drop_prob == pytest.approx(drop_path)
    assert backbone.num_layers(cfg.optim_wrapper.paramwise_cfg.rule) == depths
    strides = [s[0] for s in model.rpn_head.prior_generator.strides]
    assert strides == [4, 8, 16, 32, 64]
    outs = len(backbone.out_channels)
    if model.with_neck:
        assert list(model.neck.in_channels) == list(backbone.out_channels)
        outs = model.neck.num_outs
    assert outs == 5
    assert head.num_classes == (6 if name.endswith('sardet100k') else 20)
    assert len(head.shared_convs) == (4 if name.startswith('codemae') else 0)
    assert len(head.shared_fcs) == (1 if name.startswith('codemae') else 2)
    synced = [m for m in head.modules()
              if isinstance(m, torch.nn.SyncBatchNorm)]
    assert len(synced) == len(head.shared_convs)
