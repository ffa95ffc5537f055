# DamageFormer among the metrics and hooks of MMSegmentation: its samples have
# the names of a segmentor's, with the classes of damage.
_base_ = [
    '../_base_/models/damageformer.py', '../_base_/datasets/bright.py',
    '../_base_/schedules/bright.py'
]

default_scope = 'mmseg'
val_evaluator = [
    dict(type='osar_plugin.BRIGHTMetric'),
    dict(type='mmseg.IoUMetric', iou_metrics=['mIoU', 'mFscore']),
]
test_evaluator = val_evaluator
# Draws truth and prediction over the optical image.
default_hooks = dict(
    visualization=dict(
        type='mmseg.SegVisualizationHook', draw=True, interval=50))
visualizer = dict(
    _delete_=True,
    type='mmseg.SegLocalVisualizer',
    vis_backends=[dict(type='mmengine.LocalVisBackend')])
