# UPerNet of MMSegmentation on CoDe-MAE's iTPN-B, whose pyramid is pre-trained
# and stands in for a neck; seven classes, as LoveDA has.
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='mmseg.EncoderDecoder',
    data_preprocessor=dict(
        type='mmseg.SegDataPreProcessor',
        mean=[73.1018, 79.1335, 75.9548],
        std=[39.2882, 35.3748, 34.0695],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 512)),
    backbone=dict(
        type='osar_plugin.ITPN',
        arch='base',
        modality='rgb',
        num_outs=4,
        pool='max',
        norm_eps=1e-5,
        drop_path_rate=0.15,
        init_cfg=dict(
            type='Pretrained', checkpoint='weights/checkpoint-800.pth')),
    decode_head=dict(
        type='mmseg.UPerHead',
        in_channels=[256, 256, 256, 256],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=768,
        dropout_ratio=0.1,
        num_classes=7,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(
            type='mmseg.CrossEntropyLoss',
            use_sigmoid=False,
            loss_weight=1.0)),
    auxiliary_head=dict(
        type='mmseg.FCNHead',
        in_channels=256,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=7,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(
            type='mmseg.CrossEntropyLoss',
            use_sigmoid=False,
            loss_weight=0.4)),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(256, 256)))
