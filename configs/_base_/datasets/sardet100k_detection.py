# SARDet-100K for mmdet, with the augmentation of DETR: the short side is
# drawn from 480 to 800, half of the time behind a random crop. The published
# figures are of the best checkpoint on the test split, and so is
# val_dataloader; val_dataloader.dataset.split=val chooses on the split made
# for it.
# Transforms of mmcv are registered in mmengine's scope.
dataset_type = 'osar_plugin.SARDet100KDataset'
data_root = 'data/sardet100k'
test_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor',
             'instances')

short_sides = dict(
    type='mmengine.RandomChoiceResize',
    scales=[(480, 1333), (512, 1333), (544, 1333), (576, 1333), (608, 1333),
            (640, 1333), (672, 1333), (704, 1333), (736, 1333), (768, 1333),
            (800, 1333)],
    resize_type='mmdet.Resize',
    keep_ratio=True)
train_pipeline = [
    dict(type='mmengine.LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(
        type='mmengine.RandomChoice',
        transforms=[
            [short_sides],
            [
                dict(
                    type='mmengine.RandomChoiceResize',
                    # The long side is free.
                    scales=[(400, 4200), (500, 4200), (600, 4200)],
                    resize_type='mmdet.Resize',
                    keep_ratio=True),
                dict(
                    type='mmdet.RandomCrop',
                    crop_type='absolute_range',
                    crop_size=(384, 600),
                    allow_negative_crop=True),
                short_sides,
            ],
        ]),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    # The bare name, which inferencers of MMDetection look for.
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='mmdet.PackDetInputs', meta_keys=test_keys),
]

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
    batch_sampler=dict(type='mmdet.AspectRatioBatchSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='train',
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='test',
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='test',
        test_mode=True,
        pipeline=test_pipeline))
# No ann_file: a json's own order of classes must not decide.
val_evaluator = dict(type='mmdet.CocoMetric', metric='bbox')
test_evaluator = dict(type='mmdet.CocoMetric', metric='bbox')
