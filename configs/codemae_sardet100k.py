# CoDe-MAE on SARDet-100K: Faster R-CNN on the pre-trained iTPN-B with its SAR
# patch embedding, 36 epochs in mixed precision, 2 images per GPU.
_base_ = [
    '_base_/models/codemae_faster_rcnn.py',
    '_base_/datasets/sardet100k_detection.py',
    '_base_/schedules/detection_3x.py', '_base_/default_runtime.py'
]

model = dict(
    data_preprocessor=dict(
        mean=[35.8299, 35.8299, 35.8299], std=[51.4447, 51.4447, 51.4447]),
    backbone=dict(modality='sar'),
    roi_head=dict(bbox_head=dict(num_classes=6)))

default_scope = 'mmdet'
# Draws for --show-dir of tools/test.py and for mmdet's DetInferencer.
visualizer = dict(type='mmdet.DetLocalVisualizer')
default_hooks = dict(
    visualization=dict(type='mmdet.DetVisualizationHook'),
    checkpoint=dict(save_best='coco/bbox_mAP', rule='greater'))
