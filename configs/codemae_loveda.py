# CoDe-MAE fine-tuned on LoveDA, the published protocol: train and val
# together, 10,000 iterations, the last checkpoint on the test split. The
# labels of that are with the server (https://www.codabench.org, competition
# 13030); the test writes the zip file for it:
#   python tools/test.py configs/codemae_loveda.py work_dirs/codemae_loveda
# codemae_loveda_val.py keeps val apart.
_base_ = [
    '_base_/models/upernet_itpn.py', '_base_/datasets/loveda.py',
    '_base_/schedules/loveda_10k.py', '_base_/default_runtime.py'
]

default_scope = 'mmseg'
# Draws for --show-dir of tools/test.py and for mmseg's MMSegInferencer.
visualizer = dict(type='mmseg.SegLocalVisualizer')
log_processor = dict(by_epoch=False)


train_dataloader = dict(dataset=dict(splits=['train', 'val']))
val_cfg = None
val_dataloader = None
val_evaluator = None
test_dataloader = dict(dataset=dict(splits=['test']))
test_evaluator = dict(
    _delete_=True,
    type='osar_plugin.LoveDASubmission',
    out_file='work_dirs/loveda_submission.zip')
# There is nothing to evaluate: the last checkpoint is the result.
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=1000, save_best=None))
