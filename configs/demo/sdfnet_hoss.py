# SDF-Net shrunk to the demo world: 128 x 64 chips, six narrow blocks, the
# structure layer halfway up, and the paper's 2 optical + 2 SAR images of each
# identity. From random weights, hence AdamW in place of the recipe's SGD.
# Minutes on two CPU cores; its figures say nothing about HOSS-ReID.
_base_ = [
    '../_base_/models/sdfnet.py', '../_base_/datasets/hoss_demo.py',
    '../_base_/schedules/sgd_100e.py', '../_base_/default_runtime.py'
]

max_epochs = 24
model = dict(
    backbone=dict(
        img_size=(128, 64),
        patch_size=16,
        embed_dim=128,
        depth=6,
        num_heads=4,
        drop_path_rate=0.),
    neck=dict(embed_dim=128),
    head=dict(in_channels=128, num_classes=480),
    structure=dict(layer=3),
    init_cfg=None)

optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type='mmengine.AdamW', lr=7e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=5.),
    paramwise_cfg=dict(_delete_=True))
train_dataloader = dict(
    sampler=dict(type='osar_plugin.ModalityBalancedSampler'))
param_scheduler = dict(total=max_epochs, warmup=2)
train_cfg = dict(max_epochs=max_epochs, val_interval=8)
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(interval=8, save_best='ALL/mAP'))
randomness = dict(seed=0)
