# Plain ViT-B on DIOR by the recipe of SelectiveMAE: 12 epochs of 800 x 800
# pixels, AdamW 1e-4, layer decay 0.9, mmdet's own head. Of its 75.7 and 75.8
# mAP50 (pre-trained on 4 and 13 million images) nothing has been repeated
# here; the weights named below are MAE's, of natural images.
_base_ = [
    '_base_/models/faster_rcnn.py', '_base_/datasets/dior_detection.py',
    '_base_/schedules/detection_1x.py', '_base_/detection_runtime.py'
]

model = dict(
    backbone=dict(
        type='osar_plugin.DenseViT',
        arch='base',
        # The pyramid of ViTDet takes the place of a neck.
        num_outs=5,
        fpn_dim=256,
        final_norm=False,
        drop_path_rate=0.1,
        with_cp=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='weights/mae_pretrain_vit_base.pth')))

optim_wrapper = dict(
    optimizer=dict(lr=1e-4), paramwise_cfg=dict(decay_rate=0.9, rule='vit'))

default_hooks = dict(
    checkpoint=dict(save_best='coco/bbox_mAP_50', rule='greater'))
