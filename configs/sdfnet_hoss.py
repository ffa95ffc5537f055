# SDF-Net on HOSS-ReID, the recipe of the released code.
# Paper: 60.9 mAP, 69.9 R1 (ALL), 50.0 mAP (O2S), 46.6 mAP (S2O).
_base_ = [
    '_base_/models/sdfnet.py', '_base_/datasets/hoss_sdfnet.py',
    '_base_/schedules/sgd_100e.py', '_base_/default_runtime.py'
]

default_hooks = dict(
    checkpoint=dict(interval=5, save_best='ALL/mAP'))
randomness = dict(seed=1949)
