# Demo ablation: structure consistency without disentangled features.
_base_ = ['sdfnet_hoss.py']

model = dict(
    backbone=dict(modality_token=False),
    neck=dict(_delete_=True, type='osar_plugin.ClassTokenNeck'),
    head=dict(test_feature='before'),
    loss_orth=None)
