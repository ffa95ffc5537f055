# SARATR-X on SARDet-100K: HiViT-B with windows and mmdet's FPN. Published are
# the backbone, rate, layer decay and 36 epochs; the head is mmdet's own, the
# augmentation that of codemae_sardet100k.py.
_base_ = [
    '_base_/models/faster_rcnn.py', '_base_/datasets/sardet100k_detection.py',
    '_base_/schedules/detection_3x.py', '_base_/default_runtime.py'
]

model = dict(
    # Images on their own scale, 0 to 255: SARATR-X was pre-trained so.
    data_preprocessor=dict(mean=[0., 0., 0.], std=[1., 1., 1.]),
    backbone=dict(
        type='osar_plugin.HiViT',
        arch='base',
        out='maps',
        taps='official',
        drop_path_rate=0.2,
        init_cfg=dict(
            type='Pretrained', checkpoint='weights/checkpoint-600.pth')),
    neck=dict(
        type='mmdet.FPN',
        in_channels=[128, 256, 512, 512],
        out_channels=256,
        num_outs=5),
    roi_head=dict(bbox_head=dict(num_classes=6)))

optim_wrapper = dict(
    optimizer=dict(lr=5e-4),
    paramwise_cfg=dict(decay_rate=0.9, rule='hivit'))

default_scope = 'mmdet'
# Draws for --show-dir of tools/test.py and for mmdet's DetInferencer.
visualizer = dict(type='mmdet.DetLocalVisualizer')
default_hooks = dict(
    visualization=dict(type='mmdet.DetVisualizationHook'),
    checkpoint=dict(save_best='coco/bbox_mAP', rule='greater'))
