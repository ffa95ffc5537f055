# Optical scenes for classification, 224 pixels: augmented as MAE's
# fine-tuning does it. Data set, lists and colours are of the config.
train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    persistent_workers=True,
    collate_fn=dict(type='mmengine.default_collate'),
    sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
    drop_last=True)
val_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    collate_fn=dict(type='mmengine.default_collate'),
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, ))
test_evaluator = val_evaluator

test_pipeline = [
    # The bare name, which inferencers of MMPretrain look for.
    dict(type='LoadImageFromFile'),
    dict(
        type='mmpretrain.ResizeEdge',
        scale=256,
        edge='short',
        backend='pillow',
        interpolation='bicubic'),
    dict(type='mmpretrain.CenterCrop', crop_size=224),
    dict(type='mmpretrain.PackInputs'),
]
