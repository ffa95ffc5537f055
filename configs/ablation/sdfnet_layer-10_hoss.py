# Ablation of the structure layer: after block 10.
# Paper: 58.7 mAP (ALL), 44.7 (S2O).
_base_ = ['../sdfnet_hoss.py']

model = dict(structure=dict(layer=10))
