# Ablation of MOS: all three, configs/mos_hoss.py by its row. Its training is
# that of mos_cmal_hoss.py; the views join in tools/test.py, which needs
#   --cfg-options custom_hooks.0.translator.checkpoint=FILE
# Paper: 68.8 R1 (ALL), 40.0 (O2S), 46.3 (S2O).
_base_ = ['../mos_hoss.py']
