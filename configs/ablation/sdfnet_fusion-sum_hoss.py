# Ablation of the fusion: the sum, as published.
# Paper: 60.9 mAP, 69.9 R1 (ALL), 46.6 (S2O).
_base_ = ['../sdfnet_hoss.py']

model = dict(neck=dict(fusion='sum'))
