# hoss_demo.py with the denoising of MOS.
dataset_type = 'osar_plugin.HOSS'
data_root = 'data/demo'
image_size = (128, 64)  # (H, W)

train_pipeline = [
    dict(type='osar_plugin.LoadOpticalOrSAR'),
    dict(type='osar_plugin.ShipSize'),
    dict(type='osar_plugin.SARDenoise', form='official', alpha=5.0),
    dict(
        type='osar_plugin.PillowResize',
        size=image_size,
        interpolation='bicubic'),
    dict(type='osar_plugin.RandomFlip', prob=0.5),
    dict(
        type='osar_plugin.ColorJitter',
        brightness=0.2,
        contrast=0.2,
        saturation=0.2),
    dict(type='osar_plugin.PadRandomCrop', size=image_size, padding=5),
    dict(type='osar_plugin.RandomErasing', prob=0.2),
    dict(type='osar_plugin.PackReIDInputs'),
]
test_pipeline = [
    dict(type='osar_plugin.LoadOpticalOrSAR'),
    dict(type='osar_plugin.ShipSize'),
    dict(type='osar_plugin.SARDenoise', form='official', alpha=5.0),
    dict(
        type='osar_plugin.PillowResize',
        size=image_size,
        interpolation='bilinear'),
    dict(type='osar_plugin.PackReIDInputs'),
]

batch_size = 32
# Two workers would take the cores that train: the chips are small.
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,
    sampler=dict(
        type='osar_plugin.RandomIdentitySampler',
        num_instances=4,
        batch_size=batch_size),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='train',
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='test',
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='osar_plugin.ReIDMetric')
test_evaluator = val_evaluator
