# Plain ViT-B on SARDet-100K: the detector and rates of vit_dior.py with the
# data and length of codemae_sardet100k.py. Not a published recipe; it is the
# baseline without a hierarchy.
_base_ = [
    '_base_/models/faster_rcnn.py', '_base_/datasets/sardet100k_detection.py',
    '_base_/schedules/detection_3x.py', '_base_/default_runtime.py'
]

model = dict(
    data_preprocessor=dict(
        mean=[35.8299, 35.8299, 35.8299], std=[51.4447, 51.4447, 51.4447]),
    backbone=dict(
        type='osar_plugin.DenseViT',
        arch='base',
        num_outs=4,
        fpn_dim=None,
        final_norm=False,
        drop_path_rate=0.1,
        with_cp=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='weights/mae_pretrain_vit_base.pth')),
    neck=dict(
        type='mmdet.FPN',
        in_channels=[768, 768, 768, 768],
        out_channels=256,
        num_outs=5),
    roi_head=dict(bbox_head=dict(num_classes=6)))

optim_wrapper = dict(
    optimizer=dict(lr=1e-4), paramwise_cfg=dict(decay_rate=0.9, rule='vit'))

default_scope = 'mmdet'
# Draws for --show-dir of tools/test.py and for mmdet's DetInferencer.
visualizer = dict(type='mmdet.DetLocalVisualizer')
default_hooks = dict(
    visualization=dict(type='mmdet.DetVisualizationHook'),
    checkpoint=dict(save_best='coco/bbox_mAP', rule='greater'))
