# SAR chips for few-shot classification: the middle 128 pixels, smaller chips
# with zeros around them, enlarged to 224, and nothing else.
pipeline = [
    # The bare name, which inferencers of MMPretrain look for.
    dict(type='LoadImageFromFile'),
    dict(type='osar_plugin.CenterCropPad', crop_size=128),
    dict(
        type='mmpretrain.Resize',
        scale=(224, 224),
        backend='pillow',
        interpolation='bilinear'),
    dict(type='mmpretrain.PackInputs'),
]
# Incomplete batches are left out, as published. 10 and 40 shots of 5 and of 10
# classes are whole batches; with fewer images than one batch, also on each of
# several GPUs, nothing would be left, which stops the training: lower
# batch_size then.
train_dataloader = dict(
    batch_size=50,
    num_workers=8,
    persistent_workers=True,
    collate_fn=dict(type='mmengine.default_collate'),
    sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
    drop_last=True,
    dataset=dict(pipeline=pipeline))
val_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    collate_fn=dict(type='mmengine.default_collate'),
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(pipeline=pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, ))
test_evaluator = val_evaluator
