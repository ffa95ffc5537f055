# TransOSS on HOSS-ReID: 200 epochs of the official recipe.
# Paper: 57.4 mAP, 65.9 R1 (ALL), 48.9 mAP (O2S), 38.7 mAP (S2O).
_base_ = [
    '_base_/models/transoss.py', '_base_/datasets/hoss.py',
    '_base_/schedules/sgd_100e.py', '_base_/default_runtime.py'
]

max_epochs = 200
param_scheduler = dict(total=max_epochs)
train_cfg = dict(max_epochs=max_epochs, val_interval=10)
default_hooks = dict(
    checkpoint=dict(interval=10, save_best='ALL/mAP'))
randomness = dict(seed=1234)
