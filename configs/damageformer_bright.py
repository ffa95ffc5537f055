# The official recipe of BRIGHT: two encoders, crops of 640, mean and
# deviation of ImageNet for both sensors, a constant rate, whole tiles in
# test. There the encoders are Swin-T; here they are iTPN-B, of which each has
# the embedding of its own sensor. The README does not say how long to train;
# this is as long as CoDe-MAE does.
_base_ = [
    '_base_/models/damageformer.py', '_base_/datasets/bright.py',
    '_base_/schedules/bright.py'
]

imagenet_mean = (123.675, 116.28, 103.53)
imagenet_std = (58.395, 57.12, 57.375)
model = dict(
    data_preprocessor=dict(
        pre_mean=imagenet_mean,
        pre_std=imagenet_std,
        post_mean=imagenet_mean,
        post_std=imagenet_std),
    encoder=dict(modality='rgb', drop_path_rate=0.2),
    encoder_post=dict(
        type='osar_plugin.ITPN',
        arch='base',
        modality='sar',
        num_outs=4,
        pool='max',
        norm_eps=1e-6,
        drop_path_rate=0.2,
        with_cp=True),
    loss_weights='bright',
    inference=dict(mode='whole'))

train_pipeline = [
    dict(type='osar_plugin.LoadDamagePair'),
    dict(type='osar_plugin.DamageRandomCrop', size=640, max_share=0.75),
    dict(type='osar_plugin.DamageRandomFlip', horizontal=0.5, vertical=0.5),
    dict(type='osar_plugin.DamageRotate90', turns=(1, 2, 3)),
    dict(type='osar_plugin.PackDamageInputs'),
]
# 16 as in the README of BRIGHT; its script has 8.
train_dataloader = dict(
    batch_size=16, dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(
    _delete_=True,
    type='mmengine.OptimWrapper',
    constructor='osar_plugin.MergedGroupsConstructor',
    optimizer=dict(type='mmengine.AdamW', lr=1e-4, weight_decay=5e-3))
param_scheduler = []
auto_scale_lr = dict(base_batch_size=16)
