# What the configs of MMPretrain share.
_base_ = './default_runtime.py'

default_scope = 'mmpretrain'
# Draws for --show-dir of tools/test.py and for mmpretrain's inferencer.
visualizer = dict(type='mmpretrain.UniversalVisualizer')
default_hooks = dict(data_check=dict(classes=True))
