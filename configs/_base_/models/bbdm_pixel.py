# BBDM on pixels: no codec, and the optical image beside x_t at every step.
_base_ = ['bbdm_f4.py']

model = dict(
    denoiser=dict(context_channels=3),
    codec=None,
    condition='source')
