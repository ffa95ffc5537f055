# SDF-Net as released: TransOSS's transformer with a second class token per
# sensor, structure consistency on block 6, additive fusion.
model = dict(
    type='osar_plugin.SDFNet',
    data_preprocessor=dict(type='osar_plugin.ReIDDataPreprocessor'),
    backbone=dict(
        type='osar_plugin.VisionTransformer',
        img_size=(256, 128),
        patch_size=16,
        embed_dim=768,
        depth=12,
        num_heads=12,
        drop_path_rate=0.1,
        modality_coef=3.0,
        modality_token=True,
        size_token=True),
    neck=dict(
        type='osar_plugin.DisentangledNeck',
        embed_dim=768,
        source='token',
        fusion='sum'),
    head=dict(
        type='osar_plugin.IdentityHead',
        in_channels=768,
        num_classes=361,
        test_feature='after',
        loss_id=dict(type='osar_plugin.IdentityLoss'),
        loss_triplet=dict(type='osar_plugin.TripletLoss')),
    structure=dict(
        type='osar_plugin.StructureConsistency',
        layer=6,
        difference='forward',
        distance='mse',
        loss_weight=1.0),
    loss_orth=dict(type='osar_plugin.OrthogonalityLoss', loss_weight=10.0),
    # The pair-pre-trained backbone (Hugging Face: Alioth2000/TransOSS), or
    # your own from configs/transoss_pretrain.py. Where the file is not
    # there, training starts from random weights and says so.
    init_cfg=dict(
        type='Pretrained',
        checkpoint='weights/vit_b512_pre.pth',
        optional=True))
