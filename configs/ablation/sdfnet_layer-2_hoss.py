# Ablation of the structure layer: after block 2.
# Paper: 59.7 mAP (ALL), 46.0 (S2O).
_base_ = ['../sdfnet_hoss.py']

model = dict(structure=dict(layer=2))
