# The classifier of classifier_itpn.py for chips of SAR targets: ten outputs,
# BatchNorm in front of the last layer, colours of the unpaired SAR images of
# the pre-training.
model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor',
        to_rgb=True,
        num_classes=10,
        mean=[44.319, 44.319, 44.319],
        std=[56.763, 56.763, 56.763]),
    backbone=dict(
        type='osar_plugin.ITPN',
        arch='base',
        modality='sar',
        num_outs=1,
        norm_eps=1e-6,
        drop_path_rate=0.05,
        init_cfg=dict(
            type='Pretrained', checkpoint='weights/checkpoint-800.pth')),
    neck=dict(type='osar_plugin.MeanPoolNeck', dim=512, batch_norm=True),
    head=dict(
        type='mmpretrain.LinearClsHead',
        in_channels=512,
        num_classes=10,
        loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.0)))
