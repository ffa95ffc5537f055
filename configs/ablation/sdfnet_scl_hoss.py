# Ablation of the modules: SCL without DFL.
# Paper: 59.2 mAP, 66.5 R1 (ALL), 47.6 (O2S), 46.6 (S2O).
_base_ = ['../sdfnet_hoss.py']

model = dict(
    backbone=dict(modality_token=False),
    neck=dict(_delete_=True, type='osar_plugin.ClassTokenNeck'),
    head=dict(test_feature='before'),
    loss_orth=None)
