# HOSS-ReID with the augmentation of TransOSS; hoss_mos.py denoises, too.
dataset_type = 'osar_plugin.HOSS'
data_root = 'data/hoss'  # holds HOSS/, Zenodo record 15860212
image_size = (256, 128)  # (H, W)

train_pipeline = [
    dict(type='osar_plugin.LoadOpticalOrSAR'),
    dict(type='osar_plugin.ShipSize'),
    dict(type='osar_plugin.SARToUint8', mode='max'),
    dict(
        type='osar_plugin.PillowResize',
        size=image_size,
        interpolation='bicubic'),
    dict(type='osar_plugin.RandomFlip', prob=0.5),
    dict(type='osar_plugin.PadRandomCrop', size=image_size, padding=10),
    dict(type='osar_plugin.RandomErasing', prob=0.5),
    dict(type='osar_plugin.PackReIDInputs'),
]
test_pipeline = [
    dict(type='osar_plugin.LoadOpticalOrSAR'),
    dict(type='osar_plugin.ShipSize'),
    dict(type='osar_plugin.SARToUint8', mode='max'),
    # Official: bicubic in training, bilinear in testing.
    dict(
        type='osar_plugin.PillowResize',
        size=image_size,
        interpolation='bilinear'),
    dict(type='osar_plugin.PackReIDInputs'),
]

# The sampler makes whole batches of 8 identities x 4 images: its batch_size
# and that of the data loader must be equal.
batch_size = 32
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(
        type='osar_plugin.RandomIdentitySampler',
        num_instances=4,
        batch_size=batch_size),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='train',
        pipeline=train_pipeline))
# Validation is on the test split, as published. To choose a model without
# it, set val_ids in the training and the validation data set and
# split='val' in the latter.
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='test',
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(type='osar_plugin.ReIDMetric')
test_evaluator = val_evaluator
