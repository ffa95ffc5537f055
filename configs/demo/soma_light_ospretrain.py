# A SOMA of a quarter of a million weights that learns from rendered pairs to
# register real ones:
#   tools/make_demo_data.py data/demo --sets ospretrain --land-size 256 \
#       --source-pairs 300 --unpaired 4
# It sees orientated gradients alone, matches tiles of what it makes of them,
# and tries rotations first. Ten minutes of a shared CPU core.
#   tools/train_default_soma.sh does both, and publishes the weights.
_base_ = [
    '../_base_/models/soma.py', '../_base_/datasets/sen12_registration.py',
    '../_base_/schedules/soma.py', '../_base_/default_runtime.py'
]

model = dict(
    encoder=dict(
        width=8,
        depths=(1, 1, 1, 1),
        dino=None,
        fge_strides=(4, ),
        # Speckle wants a wide Gaussian, edges a narrow one.
        stem_sigmas=(2., 1.),
        raw_input=False,
        last=8),
    matcher=dict(
        coarse='tiles',
        coarse_strides=(4, 8),
        tiles=dict(width=24, prior=18, tile=64, step=16, radius=32),
        stages=[
            dict(stride=4, channels=16, widths=(32, 32, 16), radius=3),
        ]),
    loss=dict(
        warp=0.1, agreement=0., uniformity=0., update=0.1,
        update_weights={4: 1.}, certainty=0.1, match=1.),
    search=dict(reduction=2, radii=(16, 8), keep=1))

data_root = 'data/demo/OSPretrain'
sources = ('DemoMetre', 'DemoThree', 'DemoTen')
image_size = (128, 128)
ranges = dict(angle=8, scale=0.12, shift=18, reference=128)
load = dict(type='osar_plugin.LoadRegistrationPair')
train_pipeline = [
    load,
    dict(type='osar_plugin.RandomPairView', size=image_size),
    dict(type='osar_plugin.RandomTone', prob=0.3),
    dict(type='osar_plugin.SARAppearance', prob=0.3, looks=(2, 8), blur=1.5),
    dict(type='osar_plugin.RandomPairWarp', ranges=ranges),
    dict(type='osar_plugin.PackRegistrationInputs'),
]
test_pipeline = [
    load,
    dict(type='osar_plugin.RandomPairWarp', ranges='hard', seed=0),
    dict(type='osar_plugin.PackRegistrationInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    sampler=dict(_delete_=True, type='mmengine.InfiniteSampler'),
    dataset=dict(
        data_root=data_root,
        layout='folders',
        sources=sources,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root=data_root,
        layout='folders',
        split='test',
        sources=sources,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(
    _delete_=True,
    type='mmengine.OptimWrapper',
    constructor='osar_plugin.MergedGroupsConstructor',
    optimizer=dict(type='mmengine.AdamW', lr=1.5e-3, weight_decay=1e-4),
    clip_grad=dict(max_norm=1.))
max_iters = 500
param_scheduler = [
    dict(type='mmengine.LinearLR', start_factor=0.1, by_epoch=False, end=50),
    dict(
        type='mmengine.CosineAnnealingLR',
        T_max=max_iters,
        eta_min=1e-5,
        by_epoch=False)
]
custom_hooks = []
train_cfg = dict(
    _delete_=True,
    type='mmengine.IterBasedTrainLoop',
    max_iters=max_iters,
    val_interval=max_iters)
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(
        by_epoch=False,
        interval=100,
        save_best='registration/CMR@3',
        rule='greater'))
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
