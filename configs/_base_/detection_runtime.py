# What the configs of MMDetection share.
_base_ = './default_runtime.py'

default_scope = 'mmdet'
# Draws for --show-dir of tools/test.py and for mmdet's DetInferencer.
visualizer = dict(type='mmdet.DetLocalVisualizer')
default_hooks = dict(
    data_check=dict(classes=True),
    visualization=dict(type='mmdet.DetVisualizationHook'))
