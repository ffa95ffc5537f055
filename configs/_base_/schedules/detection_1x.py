# Twelve epochs for a backbone that knows its trade already: AdamW with
# learning rates that fall from the heads to the first layer.
#
# The rate is for batches of 16 images over all GPUs, and follows other sizes
# in proportion.
max_epochs = 12

optim_wrapper = dict(
    type='mmengine.OptimWrapper',
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
        end=500),
    dict(
        type='mmengine.MultiStepLR',
        begin=0,
        end=max_epochs,
        by_epoch=True,
        milestones=[8, 11],
        gamma=0.1),
]

train_cfg = dict(
    type='mmengine.EpochBasedTrainLoop',
    max_epochs=max_epochs,
    val_interval=1)
val_cfg = dict(type='mmengine.ValLoop')
test_cfg = dict(type='mmengine.TestLoop')
auto_scale_lr = dict(enable=True, base_batch_size=16)
