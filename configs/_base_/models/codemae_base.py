# CoDe-MAE-B as published: iTPN-B, decoders of 8 blocks for both sensors, all
# four objectives; 142 M weights beside the teacher's.
model = dict(
    type='osar_plugin.CoDeMAE',
    # Mean and deviation of each image's own source.
    data_preprocessor=dict(type='osar_plugin.PairPretrainPreprocessor'),
    backbone=dict(
        type='osar_plugin.ITPN',
        arch='base',
        modality='both',
        img_size=224,
        fpn_dim=256,
        # iTPN's own pyramid is 2 deep; of its file the second blocks stay
        # unused.
        fpn_depth=1,
        # The pyramid's own three levels.
        num_outs=3,
        # The published position table is resampled by 0.7 % where images
        # are masked, and only there.
        masked_position='official'),
    decoder=dict(
        type='osar_plugin.MaskedDecoder',
        dim=512,
        depth=8,
        num_heads=16,
        img_size=224,
        mask_copies=3),
    share_decoders=True,
    mask_ratio=0.75,
    reconstruction=dict(type='osar_plugin.SelfReconstruction'),
    degraded=dict(
        type='osar_plugin.DegradedReconstruction',
        target='pixel',
        reduction='channel'),
    distillation=dict(
        type='osar_plugin.OpticalDistillation', depth=2, tap=0.75),
    contrast=dict(
        type='osar_plugin.PairContrast',
        conditioned=True,
        temperature=0.07,
        gather='official'),
    # ViT-L/16 of DINOv3, SAT-493M: model.safetensors as Meta publishes it
    # under its own licence. 'hub' fetches timm's copy.
    teacher=dict(
        type='osar_plugin.DINOv3Teacher',
        checkpoint='weights/dinov3_vitl16_sat493m.safetensors'),
    # iTPN-B. Where the file is not there, training starts from random
    # weights and says so.
    init_cfg=dict(
        type='Pretrained',
        checkpoint='weights/itpn_base_fpn256.pth',
        optional=True))
