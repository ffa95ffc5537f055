# Ablation of the structure layer: after block 4.
# Paper: 60.4 mAP (ALL), 45.3 (S2O).
_base_ = ['../sdfnet_hoss.py']

model = dict(structure=dict(layer=4))
