"""Every number of the published recipes, config by config.

The tables are written down from the recipes, not from the configs, and are
compared whole; nothing here needs the packages that the configs are for.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

from osar_plugin.datasets import list_classification
from osar_plugin.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
SCENES = ('codemae_aid', 'codemae_resisc45')
TARGETS = ('codemae_fusar', 'codemae_mstar', 'codemae_saracd',
           'codemae_fusar_40shot', 'codemae_mstar_40shot',
           'codemae_saracd_40shot')
SEGMENTORS = ('codemae_loveda', 'codemae_loveda_val')
START = dict(type='Pretrained', checkpoint='weights/checkpoint-800.pth')
READ = dict(type='mmpretrain.LoadImageFromFile')
READ_IN_TESTS = dict(type='LoadImageFromFile')  # as inferencers look for it
PACK = dict(type='mmpretrain.PackInputs')


def read(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'{name}.py')


def plain(node: Any) -> Any:
    """Dicts and lists of numbers that can be compared by eye."""
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [plain(value) for value in node]
    return round(node, 10) if isinstance(node, float) else node


def shares(values: list[float]) -> list[float]:
    """Of 255; the recipes give colours in [0, 1]."""
    return [round(value / 255, 4) for value in values]


def optimizer(lr: float, decay: float) -> dict[str, Any]:
    return dict(
        type='mmengine.AmpOptimWrapper', dtype='float16',
        loss_scale='dynamic',
        constructor='osar_plugin.LayerDecayConstructor',
        optimizer=dict(type='mmengine.AdamW', lr=lr, betas=[.9, .999],
                       weight_decay=.05),
        paramwise_cfg=dict(decay_rate=decay, num_layers=31))


def by_epoch(warmup: int, epochs: int, lr: float) -> list[dict[str, Any]]:
    """Linear from nearly 0, half a cosine to 1e-6, both by iteration."""
    steps = dict(by_epoch=True, convert_to_iter_based=True)
    return [
        dict(type='mmengine.LinearLR', start_factor=1e-6, begin=0,
             end=warmup, **steps),
        dict(type='mmengine.CosineAnnealingLR', eta_min_ratio=1e-6 / lr,
             begin=warmup, end=epochs, T_max=epochs - warmup, **steps)]


def backbone(**more: Any) -> dict[str, Any]:
    return dict(type='osar_plugin.ITPN', arch='base', init_cfg=START, **more)


# Config: classes, mean, deviation, layer decay, lists.
SCENE_TABLE: dict[str, tuple[Any, ...]] = {
    'codemae_aid': (30, [.3978, .4092, .3685], [.217, .1945, .192], .85, 20),
    'codemae_resisc45': (
        45, [.368, .381, .3436], [.2034, .1853, .1848], .95, 10)}


def scene_pipeline(mean: list[float],
                   std: list[float]) -> list[dict[str, Any]]:
    """rand-m9-mstd0.5-inc1, erasing 0.25 with noise; colours BGR."""
    return [
        READ,
        dict(type='mmpretrain.RandomResizedCrop', scale=224,
             backend='pillow', interpolation='bicubic'),
        dict(type='mmpretrain.RandomFlip', prob=.5, direction='horizontal'),
        dict(type='mmpretrain.RandAugment', policies='timm_increasing',
             num_policies=2, total_level=10, magnitude_level=9,
             magnitude_std=.5, hparams=dict(
                 pad_val=[round(255 * x) for x in mean[::-1]],
                 interpolation='bicubic')),
        dict(type='mmpretrain.RandomErasing', erase_prob=.25, mode='rand',
             min_area_ratio=.02, max_area_ratio=1 / 3,
             fill_color=[255 * x for x in mean[::-1]],
             fill_std=[255 * x for x in std[::-1]]),
        PACK]


@pytest.mark.parametrize('name', SCENES)
def test_scenes(name: str) -> None:
    classes, mean, std, decay, share = SCENE_TABLE[name]
    cfg = read(name)
    model = cfg.model
    assert plain(model.backbone) == backbone(
        modality='rgb', num_outs=1, norm_eps=1e-6, drop_path_rate=.1)
    assert plain(model.neck) == dict(type='osar_plugin.MeanPoolNeck', dim=512)
    assert plain(model.head) == dict(
        type='mmpretrain.LinearClsHead', in_channels=512,
        num_classes=classes, loss=dict(
            type='mmpretrain.LabelSmoothLoss', label_smooth_val=.1,
            mode='original'))
    assert plain(model.train_cfg) == dict(augments=[
        dict(type='Mixup', alpha=.8), dict(type='CutMix', alpha=1.)])
    colours = model.data_preprocessor
    assert (colours.num_classes, colours.to_rgb) == (classes, True)
    assert (shares(colours.mean), shares(colours.std)) == (mean, std)
    lr = 1e-3 * 32 / 256
    assert plain(cfg.optim_wrapper) == optimizer(lr, decay)
    assert plain(cfg.param_scheduler) == plain(by_epoch(5, 100, lr))
    assert plain(cfg.train_cfg) == dict(
        by_epoch=True, max_epochs=100, val_interval=5)
    assert plain(cfg.auto_scale_lr) == dict(enable=False, base_batch_size=32)
    train, test = cfg.train_dataloader, cfg.test_dataloader
    assert (train.batch_size, train.drop_last) == (32, True)
    assert train.sampler.shuffle and not test.sampler.shuffle
    assert train.dataset.list_file == f'train_labels_{share}.txt'
    assert test.dataset.list_file == f'val_labels_{share}.txt'
    assert plain(train.dataset.pipeline) == plain(scene_pipeline(mean, std))
    assert plain(test.dataset.pipeline) == [
        READ_IN_TESTS,
        dict(type='mmpretrain.ResizeEdge', scale=256, edge='short',
             backend='pillow', interpolation='bicubic'),
        dict(type='mmpretrain.CenterCrop', crop_size=224), PACK]
    assert cfg.val_dataloader == test


@pytest.mark.parametrize('name', TARGETS)
def test_targets(name: str) -> None:
    cfg = read(name)
    model = cfg.model
    assert plain(model.backbone) == backbone(
        modality='sar', num_outs=1, norm_eps=1e-6, drop_path_rate=.05)
    norm = MODELS.build(model.neck.to_dict()).batch_norm
    assert (norm.num_features, norm.affine, norm.eps) == (512, False, 1e-6)
    assert plain(model.head) == dict(
        type='mmpretrain.LinearClsHead', in_channels=512, num_classes=10,
        loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.))
    assert 'train_cfg' not in model
    colours = model.data_preprocessor
    assert shares(colours.mean) == [.1738] * 3
    assert shares(colours.std) == [.2226] * 3
    lr = 1e-3 * 50 / 256
    decay = 1. if 'saracd' in name else .85
    assert plain(cfg.optim_wrapper) == plain(optimizer(lr, decay))
    assert plain(cfg.param_scheduler) == plain(by_epoch(2, 60, lr))
    assert plain(cfg.train_cfg) == dict(
        by_epoch=True, max_epochs=60, val_interval=5)
    assert plain(cfg.auto_scale_lr) == dict(enable=False, base_batch_size=50)
    train = cfg.train_dataloader
    assert (train.batch_size, train.drop_last) == (50, True)
    assert train.sampler.shuffle
    assert (train.dataset.list_shots, train.dataset.list_seed) == (
        40 if '40' in name else 10, 0)
    for loader in (train, cfg.val_dataloader, cfg.test_dataloader):
        assert plain(loader.dataset.pipeline) == [
            READ_IN_TESTS,
            dict(type='osar_plugin.CenterCropPad', crop_size=128),
            dict(type='mmpretrain.Resize', scale=[224, 224],
                 backend='pillow', interpolation='bilinear'), PACK]


@pytest.mark.parametrize('name', [*SCENES, *TARGETS])
def test_evaluated_by_accuracy_and_checked_for_leaks(name: str) -> None:
    cfg = read(name)
    assert plain(cfg.val_evaluator) == plain(cfg.test_evaluator) == dict(
        type='mmpretrain.Accuracy', topk=[1])
    assert plain(cfg.custom_hooks) == [dict(
        type='osar_plugin.ListOverlapHook')]


def upernet() -> dict[str, Any]:
    sync = dict(type='SyncBN', requires_grad=True)

    def loss(weight: float) -> dict[str, Any]:
        return dict(type='mmseg.CrossEntropyLoss', use_sigmoid=False,
                    loss_weight=weight)

    common = dict(dropout_ratio=.1, num_classes=7, norm_cfg=sync,
                  align_corners=False)
    return dict(
        type='mmseg.EncoderDecoder',
        data_preprocessor=dict(
            type='mmseg.SegDataPreProcessor',
            mean=[73.1018, 79.1335, 75.9548],
            std=[39.2882, 35.3748, 34.0695], bgr_to_rgb=True, pad_val=0,
            seg_pad_val=255, size=[512, 512]),
        backbone=backbone(
            modality='rgb', num_outs=4, pool='max', norm_eps=1e-5,
            drop_path_rate=.15),
        decode_head=dict(
            type='mmseg.UPerHead', in_channels=[256] * 4,
            in_index=[0, 1, 2, 3], pool_scales=[1, 2, 3, 6], channels=768,
            loss_decode=loss(1.), **common),
        auxiliary_head=dict(
            type='mmseg.FCNHead', in_channels=256, in_index=2, channels=256,
            num_convs=1, concat_input=False, loss_decode=loss(.4), **common),
        train_cfg={},
        test_cfg=dict(mode='slide', crop_size=[512, 512], stride=[256, 256]))


@pytest.mark.parametrize('name', SEGMENTORS)
def test_land_cover(name: str) -> None:
    cfg = read(name)
    assert plain(cfg.model) == upernet()
    assert plain(cfg.optim_wrapper) == dict(
        optimizer(3e-5, .85), clip_grad=dict(max_norm=35, norm_type=2))
    assert plain(cfg.param_scheduler) == [
        dict(type='mmengine.LinearLR', start_factor=1e-6, begin=0, end=500,
             by_epoch=False),
        dict(type='mmengine.PolyLR', power=1., eta_min=0., begin=500,
             end=10000, by_epoch=False)]
    assert plain(cfg.train_cfg) == dict(
        type='mmengine.IterBasedTrainLoop', max_iters=10000,
        val_interval=1000)
    # Eight processes of two crops.
    assert plain(cfg.auto_scale_lr) == dict(enable=False, base_batch_size=16)
    train, test = cfg.train_dataloader, cfg.test_dataloader
    assert (train.batch_size, test.batch_size) == (2, 1)
    assert plain(train.dataset.pipeline) == [
        dict(type='mmengine.LoadImageFromFile'),
        dict(type='osar_plugin.LoadLabelMap', num_classes=7),
        dict(type='mmengine.RandomResize', scale=[2048, 512],
             ratio_range=[.5, 2.], keep_ratio=True),
        dict(type='mmseg.RandomCrop', crop_size=[512, 512],
             cat_max_ratio=.75),
        dict(type='mmengine.RandomFlip', prob=.5),
        dict(type='mmseg.PhotoMetricDistortion'),
        dict(type='mmseg.PackSegInputs')]
    resize = next(step for step in test.dataset.pipeline
                  if step.type == 'mmengine.Resize')
    assert plain(resize) == dict(
        type='mmengine.Resize', scale=[1024, 1024], keep_ratio=True)
    published = name == 'codemae_loveda'
    assert train.dataset.splits == (
        ['train', 'val'] if published else ['train'])
    assert test.dataset.splits == ['test' if published else 'val']
    assert (cfg.val_dataloader is None) == published


@pytest.mark.parametrize('name', ['hivit_loveda', 'vit_loveda'])
def test_other_backbones_share_the_recipe(name: str) -> None:
    cfg, ours = read(name), read('codemae_loveda')
    for key in ('param_scheduler', 'train_cfg', 'train_dataloader',
                'test_dataloader', 'auto_scale_lr'):
        assert plain(cfg[key]) == plain(ours[key]), key
    rule = name.partition('_')[0]
    assert plain(cfg.optim_wrapper) == dict(
        plain(ours.optim_wrapper),
        paramwise_cfg=dict(decay_rate=.85, rule=rule))
    heads = upernet()
    assert cfg.model.backbone.drop_path_rate == .15
    for part in ('decode_head', 'auxiliary_head'):
        assert {**plain(cfg.model[part]), 'in_channels': None} == {
            **heads[part], 'in_channels': None}


@pytest.mark.parametrize('names, first, last, digest', [
    (list_classification.AID_CLASSES, ('Beach', 'River', 'Forest'),
     ('MediumResidential', 'Center', 'Port'),
     '269c0ddc54bc6d07b37c46c1e4485633327ea73e70cc6f2af246c0946409ac95'),
    (list_classification.RESISC45_CLASSES,
     ('medium_residential', 'bridge', 'cloud'),
     ('island', 'harbor', 'stadium'),
     '771c3ae1d27815504a48630adf86d62af423dd20ae54f5a32115dced571f9cbd')])
def test_whole_orders_of_classes(names: tuple[str, ...], first: tuple,
                                 last: tuple, digest: str) -> None:
    assert (names[:3], names[-3:]) == (first, last)
    assert hashlib.sha256('\n'.join(names).encode()).hexdigest() == digest


# --- the rates over the whole schedule


class Small(nn.Module):
    """A backbone with layers, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = MODELS.build(dict(
            type='osar_plugin.ITPN', num_outs=1, img_size=32, arch=dict(
                embed_dim=32, mlp_depths=(1, 1), depth=2, num_heads=2)))
        self.head = nn.Linear(32, 2)


def rates(cfg: Config, epoch_length: int) -> torch.Tensor:
    """Learning rates, (iterations, groups), of a whole training."""
    wrapper = cfg.optim_wrapper.to_dict()
    wrapper['type'] = 'mmengine.OptimWrapper'
    for key in ('dtype', 'loss_scale'):
        wrapper.pop(key, None)
    optim = build_optim_wrapper(Small(), wrapper)
    schedulers = [
        PARAM_SCHEDULERS.build(step.to_dict(), default_args=dict(
            optimizer=optim, epoch_length=epoch_length))
        for step in cfg.param_scheduler]
    found = []
    for _ in range(cfg.train_cfg.max_epochs * epoch_length):
        found.append([g['lr'] for g in optim.param_groups])
        for scheduler in schedulers:
            scheduler.step()
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.filterwarnings('ignore:Detected call')
@pytest.mark.parametrize('name, lr', [
    ('codemae_aid', 1.25e-4), ('codemae_resisc45', 1.25e-4),
    ('codemae_fusar', 1e-3 * 50 / 256), ('codemae_mstar', 1e-3 * 50 / 256),
    ('codemae_saracd', 1e-3 * 50 / 256),
    ('demo/codemae_classification', 1e-3)])
def test_the_scale_of_a_layer_multiplies_the_schedule(
        name: str, lr: float) -> None:
    cfg = read(name)
    decay = cfg.optim_wrapper.paramwise_cfg.decay_rate
    found = rates(cfg, 10)
    last = found.max(1, keepdim=True).values
    ratios = found / last
    torch.testing.assert_close(
        ratios, ratios[:1].expand_as(ratios), rtol=1e-9, atol=0)
    assert (ratios.min().item() < .9) == (decay < 1)
    assert last.max().item() == pytest.approx(lr, rel=1e-3)
    assert last[-1].item() == pytest.approx(1e-6, rel=5e-2)
