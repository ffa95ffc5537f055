# The recipe of masked pre-training: AdamW, nothing of one dimension decays
# (biases, norms; mask tokens and positions do), mixed precision with float16,
# a linear warm-up, then half a cosine to zero, both by iteration.
#
# The rate is for a whole batch of `base_batch_size` pairs over all GPUs;
# --auto-scale-lr makes it follow another one, in proportion. With gradient
# accumulation, multiply it by accumulative_counts yourself.
max_epochs = 800
warmup_epochs = 15

optim_wrapper = dict(
    type='mmengine.AmpOptimWrapper',
    dtype='float16',
    loss_scale='dynamic',
    constructor='osar_plugin.MergedGroupsConstructor',
    optimizer=dict(
        type='mmengine.AdamW',
        lr=1.2e-3,
        betas=(0.9, 0.95),
        weight_decay=0.05,
        fused=True),  # one pass over the weights
    paramwise_cfg=dict(flat_decay_mult=0.))
param_scheduler = [
    dict(
        type='mmengine.LinearLR',
        # Officially from 0, which MMEngine does not allow.
        start_factor=1e-6,
        begin=0,
        end=warmup_epochs,
        by_epoch=True,
        convert_to_iter_based=True),
    dict(
        type='mmengine.CosineAnnealingLR',
        eta_min=0.,
        begin=warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - warmup_epochs,
        by_epoch=True,
        convert_to_iter_based=True),
]

train_cfg = dict(by_epoch=True, max_epochs=max_epochs)
# Nothing is evaluated on the way.
val_cfg = None
test_cfg = None
auto_scale_lr = dict(enable=False, base_batch_size=1024)
