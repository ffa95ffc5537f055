# A translator shrunk to the demo world: ships of 96 x 24 pixels, a small
# network on blocks of 2 x 2 of them, predictions kept within the range of an
# image. Minutes on two CPU cores.
_base_ = [
    '../_base_/models/bbdm_pixel.py', '../_base_/datasets/hoss_pairs.py',
    '../_base_/schedules/bbdm.py', '../_base_/default_runtime.py'
]

image_size = (96, 24)
image_pipeline = [
    dict(type='osar_plugin.LoadOpticalOrSAR'),
    dict(type='osar_plugin.SARDenoise', form='official', alpha=5.0),
    dict(
        type='osar_plugin.PillowResize',
        size=image_size,
        interpolation='bilinear'),
]
train_pipeline = [
    dict(type='osar_plugin.PairPipeline', transforms=image_pipeline),
    # The radar lights a ship from one side, which its optical image cannot
    # tell: views are as lit from the left.
    dict(type='osar_plugin.PairFlip', bright_side='left'),
    dict(type='osar_plugin.PackPairInputs'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root='data/demo', pairing='random', pipeline=train_pipeline))

model = dict(
    codec=dict(
        _delete_=True, type='osar_plugin.SpaceToDepthCodec', factor=2),
    denoiser=dict(
        in_channels=12,
        context_channels=12,
        model_channels=32,
        channel_mult=(2, 3),
        num_res_blocks=1,
        attention_factors=(),
        head_channels=32),
    sampler=dict(views=5, steps=20, clip=True, grey=True))

accumulate = 1
max_epochs = 14
optim_wrapper = dict(
    accumulative_counts=accumulate,
    optimizer=dict(lr=1e-3),
    clip_grad=dict(max_norm=1.))
param_scheduler = dict(
    _delete_=True,
    type='osar_plugin.WarmupCosineLR',
    total=max_epochs,
    warmup=1)
custom_hooks = [
    dict(
        type='osar_plugin.BridgeEMAHook',
        momentum=0.01,
        interval=1,
        begin_iter=100)
]
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(
    logger=dict(interval=50), checkpoint=dict(interval=7, save_best=None))
randomness = dict(seed=0)
