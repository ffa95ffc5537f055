# CoDe-MAE on DIOR: Faster R-CNN on the pre-trained iTPN-B, 12 epochs of 800 x
# 800 pixels, 2 images per GPU.
_base_ = [
    '_base_/models/codemae_faster_rcnn.py',
    '_base_/datasets/dior_detection.py', '_base_/schedules/detection_1x.py',
    '_base_/default_runtime.py'
]

default_scope = 'mmdet'
# Draws for --show-dir of tools/test.py and for mmdet's DetInferencer.
visualizer = dict(type='mmdet.DetLocalVisualizer')
default_hooks = dict(
    visualization=dict(type='mmdet.DetVisualizationHook'),
    checkpoint=dict(save_best='coco/bbox_mAP_50', rule='greater'))
