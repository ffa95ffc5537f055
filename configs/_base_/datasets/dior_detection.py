# DIOR for mmdet, 800 x 800 pixels. `trainval` and `test` as published; the
# best checkpoint is chosen on the test split, as in the published figures.
# Without looking at it: train_dataloader.dataset.split=train
# val_dataloader.dataset.split=val (the XML layout has them).
# Transforms of mmcv are registered in mmengine's scope.
dataset_type = 'osar_plugin.DIORDataset'
data_root = 'data/dior'
image_size = (800, 800)
# `instances` lets the metric compare labels as the data set has them.
test_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor',
             'instances')

train_pipeline = [
    dict(type='mmengine.LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(type='mmdet.Resize', scale=image_size, keep_ratio=True),
    dict(type='mmdet.RandomFlip', prob=0.5),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    # The bare name, which inferencers of MMDetection look for.
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=image_size, keep_ratio=True),
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
        split='trainval',
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
