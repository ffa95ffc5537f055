# 10,000 iterations of 8 GPUs with 2 crops each; AdamW with rates that fall
# from layer to layer, mixed precision, a linear warm-up, then linear to zero.
max_iters = 10000
warmup_iters = 500

optim_wrapper = dict(
    type='mmengine.AmpOptimWrapper',
    dtype='float16',
    loss_scale='dynamic',
    constructor='osar_plugin.LayerDecayConstructor',
    # The file of the published recipe says 1e-4 in its name and 3e-5 inside.
    optimizer=dict(
        type='mmengine.AdamW', lr=3e-5, betas=(0.9, 0.999),
        weight_decay=0.05),
    paramwise_cfg=dict(decay_rate=0.85, num_layers=31),
    clip_grad=dict(max_norm=35, norm_type=2))
param_scheduler = [
    dict(
        type='mmengine.LinearLR',
        start_factor=1e-6,
        begin=0,
        end=warmup_iters,
        by_epoch=False),
    dict(
        type='mmengine.PolyLR',
        power=1.0,
        eta_min=0.0,
        begin=warmup_iters,
        end=max_iters,
        by_epoch=False),
]

train_cfg = dict(
    type='mmengine.IterBasedTrainLoop',
    max_iters=max_iters,
    val_interval=1000)
val_cfg = dict(type='mmengine.ValLoop')
test_cfg = dict(type='mmengine.TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=16)
