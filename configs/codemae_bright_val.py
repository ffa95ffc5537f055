# codemae_bright.py, but honest: the checkpoint is chosen on the validation
# list, and the test list is looked at once, with tools/test.py. With DFC
# 2025's lists the choice is on `holdout`:
#   --cfg-options val_dataloader.dataset.split=holdout
_base_ = [
    '_base_/models/damageformer.py', '_base_/datasets/bright.py',
    '_base_/schedules/bright.py'
]

randomness = dict(seed=729729)
