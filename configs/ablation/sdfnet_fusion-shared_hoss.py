# Ablation of the fusion: the shared feature alone.
# Paper: 59.2 mAP, 68.8 R1 (ALL), 43.1 (S2O).
_base_ = ['../sdfnet_hoss.py']

model = dict(neck=dict(fusion='shared'))
