# Optical-SAR pairs for the pre-training of TransOSS; each image of a pair is
# augmented on its own.
dataset_type = 'osar_plugin.OptiSarPair'
data_root = 'data/optisar_pair'  # holds OptiSar_Pair/, Zenodo record 15860212
image_size = (256, 128)  # (H, W)

image_pipeline = [
    dict(type='osar_plugin.LoadOpticalOrSAR'),
    # The PNG files hold 8-bit SAR that the official code does not rescale.
    dict(type='osar_plugin.SARToUint8', mode='max', as_is=['.png']),
    dict(
        type='osar_plugin.PillowResize',
        size=image_size,
        interpolation='bicubic'),
    dict(type='osar_plugin.RandomFlip', prob=0.5),
    dict(type='osar_plugin.PadRandomCrop', size=image_size, padding=10),
    dict(type='osar_plugin.RandomErasing', prob=0.5),
]
train_pipeline = [
    dict(type='osar_plugin.PairPipeline', transforms=image_pipeline),
    dict(type='osar_plugin.PackPairInputs'),
]

train_dataloader = dict(
    batch_size=256,  # pairs, i.e. 512 images
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type, data_root=data_root, pipeline=train_pipeline))
