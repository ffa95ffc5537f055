# The recipe of SOMA's release: AdamW, half the rate for the encoder, five
# epochs of linear warm-up, the rate halved when the validation error has not
# fallen for five epochs, an end after fifteen.
optim_wrapper = dict(
    type='mmengine.AmpOptimWrapper',
    dtype='float16',
    loss_scale='dynamic',
    constructor='osar_plugin.MergedGroupsConstructor',
    optimizer=dict(type='mmengine.AdamW', lr=5e-5, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={'encoder': dict(lr_mult=0.5)}),
    clip_grad=dict(max_norm=1.))
param_scheduler = [
    dict(
        type='mmengine.LinearLR',
        start_factor=0.2,
        begin=0,
        end=4,
        by_epoch=True),
    dict(
        type='mmengine.ReduceOnPlateauLR',
        monitor='registration/mean_rmse',
        rule='less',
        factor=0.5,
        patience=5,
        by_epoch=True),
]
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
val_cfg = dict()
test_cfg = dict()
custom_hooks = [
    dict(
        type='mmengine.EarlyStoppingHook',
        monitor='registration/mean_rmse',
        rule='less',
        patience=15)
]
auto_scale_lr = dict(enable=False, base_batch_size=4)
