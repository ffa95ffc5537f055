# LoveDA: trained on train, evaluated on val. The published layout and that of
# MMSegmentation's converter are both read as they are.
dataset_type = 'osar_plugin.LoveDA'
data_root = 'data/loveDA'
crop_size = (512, 512)

train_pipeline = [
    dict(type='mmengine.LoadImageFromFile'),
    # In place of mmseg.LoadAnnotations: refuses labels that are no class.
    dict(type='osar_plugin.LoadLabelMap', num_classes=7),
    dict(
        type='mmengine.RandomResize',
        scale=(2048, 512),
        ratio_range=(0.5, 2.0),
        keep_ratio=True),
    dict(type='mmseg.RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='mmengine.RandomFlip', prob=0.5),
    dict(type='mmseg.PhotoMetricDistortion'),
    dict(type='mmseg.PackSegInputs'),
]
test_pipeline = [
    # The bare name, which inferencers of MMSegmentation look for.
    dict(type='LoadImageFromFile'),
    dict(type='mmengine.Resize', scale=(1024, 1024), keep_ratio=True),
    # Behind the resizing: labels keep their size. Images of an inferencer
    # have none.
    dict(type='osar_plugin.LoadLabelMap', num_classes=7, optional=True),
    dict(type='mmseg.PackSegInputs'),
]

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmengine.InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        splits=['train'],
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        splits=['val'],
        test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
