# Ablation of the fusion: the specific feature alone.
# Paper: 58.7 mAP, 67.6 R1 (ALL), 43.3 (S2O).
_base_ = ['../sdfnet_hoss.py']

model = dict(neck=dict(fusion='specific'))
