# Ablation of the structure layer: after block 6.
# Paper: 60.9 mAP (ALL), 46.6 (S2O).
_base_ = ['../sdfnet_hoss.py']

model = dict(structure=dict(layer=6))
