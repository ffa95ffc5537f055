# Ablation of MOS: TransOSS under the schedule of MOS.
# Paper: 65.9 R1 (ALL), 33.8 (O2S), 29.9 (S2O); that is TransOSS as published,
# which trained for 200 epochs.
_base_ = ['../transoss_hoss.py']

max_epochs = 100
param_scheduler = dict(total=max_epochs)
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
default_hooks = dict(
    checkpoint=dict(interval=5, save_best=['ALL/mAP', 'ALL/R1']))
