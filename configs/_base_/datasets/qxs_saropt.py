# Aligned optical-SAR patches of QXS-SAROPT, 256 x 256, 8 bit. For SEN1-2:
# --cfg-options train_dataloader.dataset.layout=sen12, and its data_root.
dataset_type = 'osar_plugin.AlignedPairs'
data_root = 'data/qxs_saropt'  # holds opt_256_oc_0.2/ and sar_256_oc_0.2/
image_size = (256, 256)  # (H, W)

image_pipeline = [
    dict(type='osar_plugin.LoadOpticalOrSAR'),
    # The files hold 8-bit SAR.
    dict(
        type='osar_plugin.SARToUint8',
        mode='max',
        as_is=['.png', '.tif', '.jpg']),
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
        layout='qxs_saropt',
        pipeline=train_pipeline))
