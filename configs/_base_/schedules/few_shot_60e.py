# Few-shot fine-tuning on SAR targets; see finetune_100e.py.
base_lr = 1e-3 * 50 / 256
max_epochs = 60
warmup_epochs = 2

optim_wrapper = dict(
    type='mmengine.AmpOptimWrapper',
    dtype='float16',
    loss_scale='dynamic',
    constructor='osar_plugin.LayerDecayConstructor',
    optimizer=dict(
        type='mmengine.AdamW',
        lr=base_lr,
        betas=(0.9, 0.999),
        weight_decay=0.05),
    paramwise_cfg=dict(decay_rate=0.85, num_layers=31))
param_scheduler = [
    dict(
        type='mmengine.LinearLR',
        start_factor=1e-6,
        begin=0,
        end=warmup_epochs,
        by_epoch=True,
        convert_to_iter_based=True),
    dict(
        type='mmengine.CosineAnnealingLR',
        # 1e-6 for the last layer; the scale of a layer multiplies the whole
        # schedule.
        eta_min_ratio=1e-6 / base_lr,
        begin=warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - warmup_epochs,
        by_epoch=True,
        convert_to_iter_based=True),
]

train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=5)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=50)
# No image is both trained on and tested on.
custom_hooks = [dict(type='osar_plugin.ListOverlapHook')]
