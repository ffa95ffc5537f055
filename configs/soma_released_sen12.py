# SOMA on SEN1-2 as released: its computation, losses and perturbation (50
# px, 20 degrees, no scale). There the fixed image, SAR, is the one that is
# warped; here it is the moving one, by the same range.
_base_ = [
    '_base_/models/soma_released.py',
    '_base_/datasets/sen12_registration.py', '_base_/schedules/soma.py',
    '_base_/default_runtime.py'
]

image_size = (512, 512)
perturbation = 'soma_released'
load = dict(type='osar_plugin.LoadRegistrationPair', size=image_size)
train_pipeline = [
    load,
    dict(type='osar_plugin.RandomPairWarp', ranges=perturbation),
    dict(type='osar_plugin.PackRegistrationInputs'),
]
test_pipeline = [
    load,
    dict(type='osar_plugin.RandomPairWarp', ranges=perturbation, seed=0),
    dict(type='osar_plugin.PackRegistrationInputs'),
]
train_dataloader = dict(dataset=dict(fixed='sar', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(fixed='sar', pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(fixed='sar', pipeline=test_pipeline))

default_hooks = dict(
    checkpoint=dict(save_best='registration/mean_rmse', rule='less'))
