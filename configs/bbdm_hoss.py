# Second stage of MOS's translator: LBBDM-f4 on chips of the same ship, 250
# epochs from the first stage's weights. Its step count, objective and rate
# are not published; these are BBDM's.
_base_ = [
    '_base_/models/bbdm_f4.py', '_base_/datasets/hoss_pairs.py',
    '_base_/schedules/bbdm.py', '_base_/default_runtime.py'
]

# Of configs/bbdm_qxs_saropt.py, or a file of BBDM's own training. Where it
# is not there, training starts from random weights and says so.
model = dict(
    init_cfg=dict(
        type='Pretrained',
        checkpoint='weights/bbdm_qxs_saropt.pth',
        optional=True))

train_cfg = dict(max_epochs=250)
# Nothing is evaluated on the way: the last checkpoint is the result.
default_hooks = dict(checkpoint=dict(interval=5, save_best=None))
randomness = dict(seed=1234)
