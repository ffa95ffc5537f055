# MOS shrunk to the demo world: the TransOSS of transoss_hoss.py under the same
# recipe, on denoised SAR and with the modality alignment loss. The views come
# from a translator trained with configs/demo/bbdm_hoss.py:
#   tools/test.py configs/demo/mos_hoss.py RUN --cfg-options \
#       custom_hooks.0.translator.checkpoint=FILE
_base_ = [
    '../_base_/models/transoss.py', '../_base_/datasets/hoss_demo_mos.py',
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
    head=dict(in_channels=128, num_classes=480),
    alignment=dict(
        type='osar_plugin.ModalityAlignmentLoss',
        form='official',
        loss_weight=2.0),
    init_cfg=None)
custom_hooks = [
    dict(
        type='osar_plugin.PseudoSARHook',
        translator=dict(
            config='{{ fileDirname }}/bbdm_hoss.py', checkpoint=None),
        views=5,
        tau=0.02)
]

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
