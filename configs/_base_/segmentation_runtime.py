# What the configs of MMSegmentation share; they count iterations.
_base_ = './default_runtime.py'

default_scope = 'mmseg'
# Draws for --show-dir of tools/test.py and for mmseg's MMSegInferencer.
visualizer = dict(type='mmseg.SegLocalVisualizer')
log_processor = dict(by_epoch=False)
default_hooks = dict(
    data_check=dict(classes=True),
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=1000, save_best='mIoU'))
