# SOMA on SEN1-2, perturbed as in the paper's main tables, with the matcher
# put right; configs/soma_released_sen12.py is the release.
_base_ = [
    '_base_/models/soma.py', '_base_/datasets/sen12_registration.py',
    '_base_/schedules/soma.py', '_base_/default_runtime.py'
]

default_hooks = dict(
    checkpoint=dict(save_best='registration/CMR@1', rule='greater'))
