# Ablation of the modules: DFL without SCL.
# Paper: 59.8 mAP, 69.9 R1 (ALL), 49.3 (O2S), 41.4 (S2O).
_base_ = ['../sdfnet_hoss.py']

model = dict(structure=None)
