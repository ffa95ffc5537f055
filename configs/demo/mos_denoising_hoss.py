# Demo ablation of MOS: transoss_hoss.py on denoised SAR.
_base_ = ['mos_hoss.py']

model = dict(alignment=None)
custom_hooks = []
