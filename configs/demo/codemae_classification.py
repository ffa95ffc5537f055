# CoDe-MAE's classifier shrunk to the scene classes of the demo world:
#   python tools/make_demo_data.py data/demo --sets sen12
#   python tools/train.py configs/demo/codemae_classification.py --seed 0
# SAR in place of the optical images, with the mean and deviation of theirs:
#   --cfg-options model.backbone.modality=sar \
#     train_dataloader.dataset.modality=sar \
#     val_dataloader.dataset.modality=sar test_dataloader.dataset.modality=sar \
#     model.data_preprocessor.mean=[66.0,66.0,66.0] \
#     model.data_preprocessor.std=[34.0,34.0,34.0]
# From the demo's own pre-training: as in codemae_segmentation.py.
_base_ = [
    '../_base_/models/classifier_itpn.py',
    '../_base_/schedules/finetune_100e.py',
    '../_base_/default_runtime.py'
]

default_scope = 'mmpretrain'
# Draws for --show-dir of tools/test.py and for mmpretrain's inferencer.
visualizer = dict(type='mmpretrain.UniversalVisualizer')
num_classes = 7
model = dict(
    data_preprocessor=dict(
        num_classes=num_classes, mean=[90., 90., 80.], std=[50., 50., 50.]),
    # The backbone of codemae_ospretrain.py.
    backbone=dict(
        _delete_=True,
        type='osar_plugin.ITPN',
        arch=dict(embed_dim=128, mlp_depths=(1, 1), depth=6, num_heads=4),
        img_size=64,
        modality='rgb',
        num_outs=1),
    neck=dict(dim=128),
    head=dict(in_channels=128, num_classes=num_classes))

dataset = dict(
    type='osar_plugin.ListClassification',
    data_root='data/demo/SEN12',
    columns=('optical', 'sar', 'label'),
    classes=[
        'farmland', 'forest', 'residential', 'industrial', 'coast', 'bare',
        'port'
    ])
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    collate_fn=dict(type='mmengine.default_collate'),
    sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
    dataset=dict(
        **dataset,
        list_file='scenes_train.txt',
        pipeline=[
            dict(type='mmpretrain.LoadImageFromFile'),
            dict(
                type='mmpretrain.RandomResizedCrop',
                scale=64,
                crop_ratio_range=(0.3, 1.0)),
            dict(
                type='mmpretrain.RandomFlip',
                prob=0.5,
                direction='horizontal'),
            dict(type='mmpretrain.PackInputs'),
        ]))
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    collate_fn=dict(type='mmengine.default_collate'),
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset,
        list_file='scenes_test.txt',
        pipeline=[
            # The bare name, which inferencers of MMPretrain look for.
            dict(type='LoadImageFromFile'),
            dict(type='mmpretrain.Resize', scale=(64, 64)),
            dict(type='mmpretrain.PackInputs'),
        ]))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, ))
test_evaluator = val_evaluator

base_lr = 1e-3
max_epochs = 30
optim_wrapper = dict(
    _delete_=True,
    type='mmengine.OptimWrapper',
    constructor='osar_plugin.LayerDecayConstructor',
    optimizer=dict(
        type='mmengine.AdamW', lr=base_lr, betas=(0.9, 0.999),
        weight_decay=0.05),
    # From scratch there is nothing in the first layers to be kept.
    paramwise_cfg=dict(decay_rate=1.))
param_scheduler = [
    dict(
        type='mmengine.LinearLR',
        start_factor=1e-3,
        begin=0,
        end=2,
        by_epoch=True,
        convert_to_iter_based=True),
    dict(
        type='mmengine.CosineAnnealingLR',
        eta_min_ratio=1e-6 / base_lr,
        begin=2,
        end=max_epochs,
        T_max=max_epochs - 2,
        by_epoch=True,
        convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(checkpoint=dict(interval=5))
randomness = dict(seed=0)
