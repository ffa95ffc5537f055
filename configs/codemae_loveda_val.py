# CoDe-MAE on LoveDA with val kept apart: trained on train, evaluated on val;
# all else as in codemae_loveda.py. The best checkpoint is chosen on val, too:
# the figure of the last one is not.
_base_ = [
    '_base_/models/upernet_itpn.py', '_base_/datasets/loveda.py',
    '_base_/schedules/loveda_10k.py', '_base_/default_runtime.py'
]

default_scope = 'mmseg'
# Draws for --show-dir of tools/test.py and for mmseg's MMSegInferencer.
visualizer = dict(type='mmseg.SegLocalVisualizer')
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=1000, save_best='mIoU'))
