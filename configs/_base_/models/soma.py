# SOMA with the matcher put right: correlation and least squares for the
# coarse affine, one convention for every flow. The encoder is the paper's:
# ResNet-50 and FGE for each sensor, DINOv2 ViT-L/14 with registers for both.
#   https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/
#       dinov2_vitl14_reg4_pretrain.pth
model = dict(
    type='osar_plugin.SOMA',
    data_preprocessor=dict(type='osar_plugin.RegistrationPreprocessor'),
    encoder=dict(
        type='osar_plugin.TwoBranchEncoder',
        fge=dict(
            with_filter=True, with_attention=True, kernel_init='nearest'),
        dino=dict(
            type='osar_plugin.DINOv2',
            arch='large',
            num_registers=4,
            frozen=True,
            init_cfg=dict(
                type='Pretrained',
                checkpoint='weights/dinov2_vitl14_reg4_pretrain.pth')),
        dino_raw=False,
        gradient_stem=True,
        # Nothing of the ResNets is pre-trained.
        norm='GN'),
    matcher=dict(type='osar_plugin.GLAM'),
    loss=dict(type='osar_plugin.SOMALoss', match=0.1))
