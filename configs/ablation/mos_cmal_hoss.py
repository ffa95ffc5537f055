# Ablation of MOS: denoised SAR and the modality alignment loss.
# Paper: 67.6 R1 (ALL), 38.5 (O2S), 40.3 (S2O).
_base_ = ['../mos_hoss.py']

custom_hooks = []
