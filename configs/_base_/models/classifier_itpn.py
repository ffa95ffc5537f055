# A classifier of MMPretrain on the trunk of CoDe-MAE's iTPN-B: mean of the
# tokens, LayerNorm, linear layer. The pyramid of the checkpoint stays unused.
model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor', to_rgb=True),
    backbone=dict(
        type='osar_plugin.ITPN',
        arch='base',
        modality='rgb',
        num_outs=1,
        norm_eps=1e-6,
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained', checkpoint='weights/checkpoint-800.pth')),
    neck=dict(type='osar_plugin.MeanPoolNeck', dim=512),
    head=dict(
        type='mmpretrain.LinearClsHead',
        in_channels=512,
        num_classes=10,
        loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.0)))
