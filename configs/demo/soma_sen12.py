# SOMA shrunk to the demo world: `tools/make_demo_data.py data/demo --sets
# sen12`, 128 pixels, a small ResNet on orientated gradients, no DINOv2.
# Minutes on two CPU cores.
_base_ = [
    '../_base_/models/soma.py', '../_base_/datasets/sen12_registration.py',
    '../_base_/schedules/soma.py', '../_base_/default_runtime.py'
]

image_size = (128, 128)
small = dict(angle=5, scale=0.1, shift=8, reference=128)
load = dict(type='osar_plugin.LoadRegistrationPair', size=image_size)
train_pipeline = [
    load,
    dict(type='osar_plugin.SARAppearance'),
    dict(type='osar_plugin.RandomPairWarp', ranges=small),
    dict(type='osar_plugin.PackRegistrationInputs'),
]
test_pipeline = [
    load,
    dict(type='osar_plugin.RandomPairWarp', ranges=small, seed=0),
    dict(type='osar_plugin.PackRegistrationInputs'),
]
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(
        data_root='data/demo/SEN12', split='all', pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root='data/demo/SEN12', split='all', pipeline=test_pipeline))
test_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root='data/demo/SEN12', split='all', pipeline=test_pipeline))

model = dict(
    encoder=dict(
        width=16, depths=(1, 1, 1, 1), dino=None, fge_strides=(2, 8),
        last=16),
    matcher=dict(
        # Cells of 8 pixels: 128 pixels have only 8 x 8 of 16.
        coarse_strides=(8, 16),
        coarse_channels=64,
        stages=[
            dict(
                stride=8,
                affine=True,
                channels=64,
                widths=(64, 64, 32),
                radius=4),
            dict(stride=2, channels=16, widths=(32, 32, 16), radius=3),
        ]))

optim_wrapper = dict(
    _delete_=True,
    type='mmengine.OptimWrapper',
    constructor='osar_plugin.MergedGroupsConstructor',
    optimizer=dict(type='mmengine.AdamW', lr=1e-3, weight_decay=1e-4),
    clip_grad=dict(max_norm=1.))
max_epochs = 20
param_scheduler = [
    dict(
        type='mmengine.CosineAnnealingLR',
        T_max=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True)
]
custom_hooks = []
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(
        interval=5, save_best='registration/CMR@3', rule='greater'))
randomness = dict(seed=0)
