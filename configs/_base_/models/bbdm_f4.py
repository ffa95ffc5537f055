# BBDM in the latent space of VQ-f4, as published: 256 x 256 images, latents
# of 3 x 64 x 64, 237 M weights beside the codec's 55 M.
model = dict(
    type='osar_plugin.BrownianBridgeTranslator',
    denoiser=dict(
        type='osar_plugin.BridgeUNet',
        in_channels=3,
        model_channels=128,
        channel_mult=(1, 4, 8),
        num_res_blocks=2,
        # As published; none of the three levels is among them, so attention
        # is in the middle only.
        attention_factors=(32, 16, 8),
        head_channels=64),
    codec=dict(
        type='osar_plugin.VQCodec',
        channels=128,
        channel_mult=(1, 2, 4),
        num_res_blocks=2,
        latent_channels=3,
        codes=8192,
        # VQ-f4 of latent diffusion. Where the file is not there, training
        # starts with a random codec, says so, and learns nothing of use.
        init_cfg=dict(
            type='Pretrained',
            checkpoint='weights/vq-f4.ckpt',
            optional=True)),
    schedule=dict(kind='linear', num_timesteps=1000, max_var=1.0),
    objective='grad',
    loss='l1',
    condition='none',
    # Five samples of each image; linear steps, noise in full, no clipping.
    sampler=dict(
        views=5, steps=200, spacing='linear', eta=1.0, clip=False))
