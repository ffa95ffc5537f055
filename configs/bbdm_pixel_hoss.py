# BBDM on the pixels of HOSS chips, conditioned on the optical chip: no codec
# to download, and sixteen times the pixels that the network of bbdm_hoss.py
# sees.
_base_ = [
    '_base_/models/bbdm_pixel.py', '_base_/datasets/hoss_pairs.py',
    '_base_/schedules/bbdm.py', '_base_/default_runtime.py'
]

# As published for pixels: a step every 2 batches, 200 epochs.
accumulate = 2
optim_wrapper = dict(accumulative_counts=accumulate)
param_scheduler = dict(interval=accumulate)
custom_hooks = [
    dict(
        type='osar_plugin.BridgeEMAHook',
        momentum=0.005,
        interval=8 * accumulate,
        begin_iter=30000)
]

train_cfg = dict(max_epochs=200)
# Nothing is evaluated on the way: the last checkpoint is the result.
default_hooks = dict(checkpoint=dict(interval=5, save_best=None))
randomness = dict(seed=1234)
