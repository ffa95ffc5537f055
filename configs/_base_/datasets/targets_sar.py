# SAR chips for few-shot classification: the middle 128 pixels, enlarged to
# 224, and nothing else.
pipeline = [
    dict(type='mmpretrain.LoadImageFromFile'),
    dict(type='mmpretrain.CenterCrop', crop_size=128),
    dict(
        type='mmpretrain.Resize',
        scale=(224, 224),
        backend='pillow',
        interpolation='bicubic'),
    dict(type='mmpretrain.PackInputs'),
]
train_dataloader = dict(
    batch_size=50,
    num_workers=8,
    persistent_workers=True,
    collate_fn=dict(type='mmengine.default_collate'),
    sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
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
