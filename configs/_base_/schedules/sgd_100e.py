# The recipe of SDF-Net and MOS: SGD, 100 epochs, evaluation every 5.
base_lr = 5e-4
max_epochs = 100

optim_wrapper = dict(
    type='mmengine.OptimWrapper',
    constructor='osar_plugin.MergedGroupsConstructor',
    optimizer=dict(
        type='mmengine.SGD', lr=base_lr, momentum=0.9, weight_decay=1e-4),
    # Every tensor with "bias" in its name learns twice as fast; nothing is
    # spared weight decay.
    paramwise_cfg=dict(custom_keys=dict(bias=dict(lr_mult=2.))))
param_scheduler = dict(
    type='osar_plugin.WarmupCosineLR', total=max_epochs, warmup=5)

train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=5)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=32)
