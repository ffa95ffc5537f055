# SDF-Net shrunk to the demo world: 8 pixel patches on 128 x 64 chips give the
# published 16 x 8 grid; six narrow blocks, the structure layer halfway up.
# From random weights, hence AdamW in place of the recipe's SGD. Minutes on two
# CPU cores; its figures say nothing about HOSS-ReID.
_base_ = [
    '../_base_/models/sdfnet.py', '../_base_/datasets/hoss_demo.py',
    '../_base_/schedules/sgd_100e.py', '../_base_/default_runtime.py'
]

max_epochs = 30
model = dict(
    backbone=dict(
        img_size=(128, 64),
        patch_size=8,
        embed_dim=128,
        depth=6,
        num_heads=4),
    neck=dict(embed_dim=128),
    head=dict(in_channels=128, num_classes=160),
    structure=dict(layer=3),
    init_cfg=None)

optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type='mmengine.AdamW', lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.),
    paramwise_cfg=dict(_delete_=True))
param_scheduler = dict(total=max_epochs, warmup=3)
train_cfg = dict(max_epochs=max_epochs, val_interval=10)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=10, max_keep_ckpts=1, save_best='ALL/mAP'))
randomness = dict(seed=0)
