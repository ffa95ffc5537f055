# TransOSS shrunk to the demo world, under the recipe of the demo's SDF-Net:
# the first row of its ablation.
_base_ = ['sdfnet_hoss.py']

model = dict(
    backbone=dict(modality_token=False),
    neck=dict(_delete_=True, type='osar_plugin.ClassTokenNeck'),
    head=dict(test_feature='before'),
    structure=None,
    loss_orth=None)
