# Pair pre-training shrunk to the demo world: aligned pairs of
# `tools/make_demo_data.py data/demo --sets optisar_pair`, and the backbone of
# the other demo configs without the ship-size token. To start those from it:
# --cfg-options load_from=work_dirs/transoss_pretrain/epoch_20.pth
_base_ = [
    '../_base_/datasets/optisar_pair.py', '../_base_/schedules/sgd_100e.py',
    '../_base_/default_runtime.py'
]

max_epochs = 20
image_size = (128, 64)
image_pipeline = [
    dict(type='osar_plugin.LoadOpticalOrSAR'),
    dict(type='osar_plugin.SARToUint8', mode='max', as_is=['.png']),
    dict(
        type='osar_plugin.PillowResize',
        size=image_size,
        interpolation='bicubic'),
    dict(type='osar_plugin.RandomFlip', prob=0.5),
    dict(type='osar_plugin.PadRandomCrop', size=image_size, padding=5),
    dict(type='osar_plugin.RandomErasing', prob=0.2),
]
train_pipeline = [
    dict(type='osar_plugin.PairPipeline', transforms=image_pipeline),
    dict(type='osar_plugin.PackPairInputs'),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root='data/demo', pipeline=train_pipeline))

model = dict(
    type='osar_plugin.TransOSSPretrain',
    data_preprocessor=dict(type='osar_plugin.ReIDDataPreprocessor'),
    backbone=dict(
        type='osar_plugin.VisionTransformer',
        img_size=image_size,
        patch_size=16,
        embed_dim=128,
        depth=6,
        num_heads=4,
        drop_path_rate=0.,
        size_token=False))

optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type='mmengine.AdamW', lr=7e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=5.),
    paramwise_cfg=dict(_delete_=True))
param_scheduler = dict(total=max_epochs, warmup=2)
train_cfg = dict(max_epochs=max_epochs)
val_cfg = None
test_cfg = None
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(interval=20, save_best=None))
randomness = dict(seed=0)
