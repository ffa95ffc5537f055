# Ablation of the structure layer: after block 8.
# Paper: 58.4 mAP (ALL), 45.5 (S2O).
_base_ = ['../sdfnet_hoss.py']

model = dict(structure=dict(layer=8))
