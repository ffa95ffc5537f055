# DamageFormer on CoDe-MAE's encoder, the published protocol: train_set.txt to
# train on, and the test list both to choose the checkpoint and to report,
# which makes the figure too good by the choosing;
# codemae_bright_val.py chooses on the validation list.
# The damage head alone decides, as in the published choice of checkpoints;
# BRIGHT's inference script by default (use_loc) keeps damage only where the
# building head sees a building: model.mask_by_building=True.
_base_ = [
    '_base_/models/damageformer.py', '_base_/datasets/bright.py',
    '_base_/schedules/bright.py'
]

val_dataloader = dict(dataset=dict(split='test'))
randomness = dict(seed=729729)
