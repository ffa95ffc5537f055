# The recipe of BBDM for latents: Adam, batches of 8, a step of the optimizer
# every 4 batches, a rate that follows the training loss, averaged weights.
accumulate = 4

optim_wrapper = dict(
    type='mmengine.OptimWrapper',
    constructor='osar_plugin.MergedGroupsConstructor',
    accumulative_counts=accumulate,
    optimizer=dict(
        type='mmengine.Adam', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.))
param_scheduler = dict(
    type='osar_plugin.TrainingPlateauLR',
    by_epoch=False,
    factor=0.5,
    patience=3000,
    cooldown=3000,
    threshold=1e-4,
    min_lr=5e-7,
    interval=accumulate)
custom_hooks = [
    dict(
        type='osar_plugin.BridgeEMAHook',
        momentum=0.005,
        interval=8 * accumulate,
        begin_iter=30000),
    # Acts where model.normalize_latent is True.
    dict(type='osar_plugin.LatentStatisticsHook')
]

train_cfg = dict(by_epoch=True, max_epochs=100)
val_cfg = None
test_cfg = None
auto_scale_lr = dict(enable=False, base_batch_size=8)
