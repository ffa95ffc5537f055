# Ablation of the modules: SCL and DFL, configs/sdfnet_hoss.py by its row.
# Paper: 60.9 mAP, 69.9 R1 (ALL), 50.0 (O2S), 46.6 (S2O).
_base_ = ['../sdfnet_hoss.py']
