# Ablation of MOS: the baseline on denoised SAR.
# Paper: 66.5 R1 (ALL), 35.4 (O2S), 32.8 (S2O).
_base_ = ['../mos_hoss.py']

model = dict(alignment=None)
custom_hooks = []
