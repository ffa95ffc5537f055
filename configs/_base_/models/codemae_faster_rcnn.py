# CoDe-MAE's detector: Faster R-CNN on iTPN-B, whose own pyramid gives the
# five maps, so there is no neck; a head of four convolutions and one linear
# layer that regresses decoded boxes with GIoU.
_base_ = ['./faster_rcnn.py']

model = dict(
    backbone=dict(
        type='osar_plugin.ITPN',
        arch='base',
        modality='rgb',
        img_size=224,
        fpn_dim=256,
        fpn_depth=1,
        num_outs=5,
        pool='avg',
        # The published detectors leave it at the class's default, unlike
        # pre-training (1e-6).
        norm_eps=1e-5,
        drop_path_rate=0.15,
        # All attention is global: up to 4,150 tokens for 1333 x 800 pixels.
        with_cp=True,
        init_cfg=dict(
            type='Pretrained', checkpoint='weights/checkpoint-800.pth')),
    roi_head=dict(
        bbox_head=dict(
            _delete_=True,
            type='mmdet.Shared4Conv1FCBBoxHead',
            in_channels=256,
            conv_out_channels=256,
            fc_out_channels=1024,
            roi_feat_size=7,
            num_classes=20,
            # In a single process it is plain BatchNorm; several processes
            # on CPUs, which have no kernel for it, get BN from the tools.
            norm_cfg=dict(type='SyncBN', requires_grad=True),
            bbox_coder=dict(
                type='mmdet.DeltaXYWHBBoxCoder',
                target_means=[0., 0., 0., 0.],
                target_stds=[0.1, 0.1, 0.2, 0.2]),
            reg_class_agnostic=False,
            reg_decoded_bbox=True,
            loss_cls=dict(
                type='mmdet.CrossEntropyLoss',
                use_sigmoid=False,
                loss_weight=1.),
            loss_bbox=dict(type='mmdet.GIoULoss', loss_weight=10.))))
