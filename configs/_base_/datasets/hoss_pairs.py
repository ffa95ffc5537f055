# Optical and SAR chips of the same ship, 256 x 256 as BBDM sees them. How MOS
# pairs its chips is not published: here every combination is a pair.
dataset_type = 'osar_plugin.HOSSPairs'
data_root = 'data/hoss'  # holds HOSS/, Zenodo record 15860212
image_size = (256, 256)  # (H, W)

image_pipeline = [
    dict(type='osar_plugin.LoadOpticalOrSAR'),
    # As MOS stretches SAR for its networks.
    dict(type='osar_plugin.SARDenoise', form='official', alpha=5.0),
    dict(
        type='osar_plugin.PillowResize',
        size=image_size,
        interpolation='bilinear'),
]
train_pipeline = [
    dict(type='osar_plugin.PairPipeline', transforms=image_pipeline),
    dict(type='osar_plugin.PairFlip', prob=0.5),
    dict(type='osar_plugin.PackPairInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='train',
        pairing='all',
        pipeline=train_pipeline))
