# HiViT-B, pre-trained by its MAE on natural images, on DIOR: the detector of
# saratrx_sardet100k.py with the schedule of codemae_dior.py. Not a published
# recipe; it is the baseline for CoDe-MAE's backbone.
_base_ = [
    '_base_/models/faster_rcnn.py', '_base_/datasets/dior_detection.py',
    '_base_/schedules/detection_1x.py', '_base_/default_runtime.py'
]

model = dict(
    backbone=dict(
        type='osar_plugin.HiViT',
        arch='base',
        out='maps',
        taps='official',
        drop_path_rate=0.2,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='weights/mae_hivit_base_1600ep.pth')),
    neck=dict(
        type='mmdet.FPN',
        in_channels=[128, 256, 512, 512],
        out_channels=256,
        num_outs=5))

optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.9, rule='hivit'))

default_scope = 'mmdet'
# Draws for --show-dir of tools/test.py and for mmdet's DetInferencer.
visualizer = dict(type='mmdet.DetLocalVisualizer')
default_hooks = dict(
    visualization=dict(type='mmdet.DetVisualizationHook'),
    checkpoint=dict(save_best='coco/bbox_mAP_50', rule='greater'))
