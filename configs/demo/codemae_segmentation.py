# CoDe-MAE's segmentor shrunk to the demo world, tiles of 128 pixels:
#   python tools/make_demo_data.py data/demo --sets segmentation
#   python tools/train.py configs/demo/codemae_segmentation.py --seed 0
# From the demo's own pre-training instead of from random weights:
#   --cfg-options model.backbone.init_cfg.type=Pretrained \
#     model.backbone.init_cfg.checkpoint=work_dirs/codemae_ospretrain/FILE
_base_ = [
    '../_base_/models/upernet_itpn.py', '../_base_/datasets/loveda.py',
    '../_base_/schedules/loveda_10k.py', '../_base_/default_runtime.py'
]

default_scope = 'mmseg'
# Draws for --show-dir of tools/test.py and for mmseg's MMSegInferencer.
visualizer = dict(type='mmseg.SegLocalVisualizer')
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=1000, save_best='mIoU'))

norm_cfg = dict(type='BN', requires_grad=True)  # one process
tile = (128, 128)
model = dict(
    data_preprocessor=dict(
        mean=[90., 90., 80.], std=[50., 50., 50.], size=tile),
    # The backbone of codemae_ospretrain.py.
    backbone=dict(
        _delete_=True,
        type='osar_plugin.ITPN',
        arch=dict(embed_dim=128, mlp_depths=(1, 1), depth=6, num_heads=4),
        img_size=64,
        modality='rgb',
        fpn_dim=64,
        num_outs=4,
        pool='max',
        norm_eps=1e-5),
    decode_head=dict(
        in_channels=[64, 64, 64, 64], channels=48, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=64, channels=32, norm_cfg=norm_cfg),
    test_cfg=dict(
        _delete_=True, mode='slide', crop_size=tile, stride=(64, 64)))

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root='data/demo/LoveDA',
        pipeline=[
            dict(type='mmengine.LoadImageFromFile'),
            dict(type='osar_plugin.LoadLabelMap', num_classes=7),
            dict(
                type='mmengine.RandomResize',
                scale=tile,
                ratio_range=(0.75, 1.5),
                keep_ratio=True),
            dict(type='mmseg.RandomCrop', crop_size=tile),
            dict(type='mmengine.RandomFlip', prob=0.5),
            dict(
                type='mmengine.RandomFlip', prob=0.5, direction='vertical'),
            dict(type='mmseg.PackSegInputs'),
        ]))
test_pipeline = [
    # The bare name, which inferencers of MMSegmentation look for.
    dict(type='LoadImageFromFile'),
    dict(type='osar_plugin.LoadLabelMap', num_classes=7, optional=True),
    dict(type='mmseg.PackSegInputs'),
]
evaluated = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root='data/demo/LoveDA', pipeline=test_pipeline))
val_dataloader = evaluated
test_dataloader = evaluated

max_iters = 3000
optim_wrapper = dict(
    _delete_=True,
    type='mmengine.OptimWrapper',
    constructor='osar_plugin.LayerDecayConstructor',
    optimizer=dict(
        type='mmengine.AdamW', lr=1e-3, betas=(0.9, 0.999),
        weight_decay=0.05),
    # From scratch there is nothing in the first layers to be kept.
    paramwise_cfg=dict(decay_rate=1.))
param_scheduler = [
    dict(
        type='mmengine.LinearLR',
        start_factor=1e-3,
        begin=0,
        end=50,
        by_epoch=False),
    dict(
        type='mmengine.PolyLR',
        power=1.0,
        eta_min=0.0,
        begin=50,
        end=max_iters,
        by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=1000)
auto_scale_lr = dict(base_batch_size=8)
randomness = dict(seed=0)
