# Ablation of the fusion: both side by side.
# Paper: 59.5 mAP, 69.3 R1 (ALL), 44.1 (S2O).
_base_ = ['../sdfnet_hoss.py']

model = dict(
    neck=dict(fusion='concat'), head=dict(in_channels=1536))
