# 36 epochs, as detection_1x.py but with mixed precision, a longer warm-up
# and a rate that does not follow the size of the batch on its own.
max_epochs = 36

optim_wrapper = dict(
    type='mmengine.AmpOptimWrapper',
    loss_scale='dynamic',
    constructor='osar_plugin.LayerDecayConstructor',
    optimizer=dict(
        type='mmengine.AdamW', lr=3e-4, betas=(0.9, 0.999),
        weight_decay=0.05),
    paramwise_cfg=dict(decay_rate=0.85, rule='codemae'),
    clip_grad=dict(max_norm=35, norm_type=2))
param_scheduler = [
    dict(
        type='mmengine.LinearLR',
        start_factor=1e-3,
        by_epoch=False,
        begin=0,
        end=1500),
    dict(
        type='mmengine.MultiStepLR',
        begin=0,
        end=max_epochs,
        by_epoch=True,
        milestones=[27, 33],
        gamma=0.1),
]

train_cfg = dict(
    type='mmengine.EpochBasedTrainLoop',
    max_epochs=max_epochs,
    val_interval=1)
val_cfg = dict(type='mmengine.ValLoop')
test_cfg = dict(type='mmengine.TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=16)
