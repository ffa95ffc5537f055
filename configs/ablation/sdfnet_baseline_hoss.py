# Ablation of the modules: neither SCL nor DFL, which is TransOSS under the
# recipe of SDF-Net.
# Paper: 58.6 mAP, 67.6 R1 (ALL), 46.5 (O2S), 44.5 (S2O).
_base_ = ['../sdfnet_hoss.py']

model = dict(
    backbone=dict(modality_token=False),
    neck=dict(_delete_=True, type='osar_plugin.ClassTokenNeck'),
    head=dict(test_feature='before'),
    structure=None,
    loss_orth=None)
