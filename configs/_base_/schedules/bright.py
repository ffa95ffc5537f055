# CoDe-MAE's fine-tuning on BRIGHT: 120,000 samples in batches of 8, AdamW
# with layer-wise rates, 100 iterations of linear warm-up, then a straight
# line to zero; float32. With the hooks that count iterations.
_base_ = '../default_runtime.py'

max_iters = 15000
warmup_iters = 100

optim_wrapper = dict(
    type='mmengine.OptimWrapper',
    constructor='osar_plugin.LayerDecayConstructor',
    optimizer=dict(
        type='mmengine.AdamW', lr=1e-4, betas=(0.9, 0.999),
        weight_decay=0.05),
    paramwise_cfg=dict(decay_rate=0.85, rule='codemae'))
param_scheduler = [
    dict(
        type='mmengine.LinearLR',
        # Officially from 0, which MMEngine does not allow.
        start_factor=1e-6,
        begin=0,
        end=warmup_iters,
        by_epoch=False),
    dict(
        type='mmengine.PolyLR',
        power=1.0,
        eta_min=0.,
        begin=warmup_iters,
        end=max_iters,
        by_epoch=False),
]
train_cfg = dict(by_epoch=False, max_iters=max_iters, val_interval=250)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(
    checkpoint=dict(
        by_epoch=False,
        interval=250,
        save_best='bright/mIoU',
        rule='greater'))
log_processor = dict(by_epoch=False)
auto_scale_lr = dict(enable=False, base_batch_size=8)
