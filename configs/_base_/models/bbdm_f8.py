# BBDM in the latent space of VQ-f8: latents of 4 x 32 x 32.
_base_ = ['bbdm_f4.py']

model = dict(
    denoiser=dict(in_channels=4),
    codec=dict(
        channel_mult=(1, 2, 2, 4),
        latent_channels=4,
        codes=16384,
        attention_factors=(8, ),
        init_cfg=dict(checkpoint='weights/vq-f8.ckpt')))
