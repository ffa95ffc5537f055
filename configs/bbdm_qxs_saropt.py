# First stage of MOS's translator: LBBDM-f4 on aligned patches, 100 epochs.
_base_ = [
    '_base_/models/bbdm_f4.py', '_base_/datasets/qxs_saropt.py',
    '_base_/schedules/bbdm.py', '_base_/default_runtime.py'
]

# Nothing is evaluated on the way: the last checkpoint is the result.
default_hooks = dict(checkpoint=dict(interval=5, save_best=None))
randomness = dict(seed=1234)
