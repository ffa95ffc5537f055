# BBDM in the latent space of VQ-f16: latents of 8 x 16 x 16, attention also
# at the lowest level of the network.
_base_ = ['bbdm_f4.py']

model = dict(
    denoiser=dict(in_channels=8, attention_factors=(16, 8, 4)),
    codec=dict(
        channel_mult=(1, 1, 2, 2, 4),
        latent_channels=8,
        codes=16384,
        attention_factors=(16, ),
        init_cfg=dict(checkpoint='weights/vq-f16.ckpt')))
