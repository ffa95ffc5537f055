# TransOSS: ViT-B/16 with a tokenizer per sensor, 256 x 128 chips.
model = dict(
    type='osar_plugin.TransOSS',
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
        size_token=True),
    neck=dict(type='osar_plugin.ClassTokenNeck'),
    head=dict(
        type='osar_plugin.IdentityHead',
        in_channels=768,
        num_classes=361,
        test_feature='before',
        loss_id=dict(type='osar_plugin.IdentityLoss'),
        loss_triplet=dict(type='osar_plugin.TripletLoss')),
    # The pair-pre-trained backbone (Hugging Face: Alioth2000/TransOSS), or
    # your own from configs/transoss_pretrain.py. Where the file is not
    # there, training starts from random weights and says so.
    init_cfg=dict(
        type='Pretrained',
        checkpoint='weights/vit_b512_pre.pth',
        optional=True))
