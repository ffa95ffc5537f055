# BRIGHT, trained on crops of 512, tested on whole tiles of 1024. The split is
# that of the lists in data_root: the standard one (train, val, test), or DFC
# 2025's (train, holdout, val, test).
dataset_type = 'osar_plugin.BRIGHTDataset'
data_root = 'data/bright'
crop_size = 512

train_pipeline = [
    dict(type='osar_plugin.LoadDamagePair'),
    dict(type='osar_plugin.DamageRandomScale', scale=(0.5, 2.0)),
    dict(type='osar_plugin.DamageRandomCrop', size=crop_size, max_share=0.75),
    dict(type='osar_plugin.DamageRandomFlip', horizontal=0.5, vertical=0.5),
    # As published, no sample stays upright; with a 0, some do.
    dict(type='osar_plugin.DamageRotate90', turns=(1, 2, 3)),
    dict(
        type='osar_plugin.DamageColorJitter',
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        hue=0.1,
        prob=0.8),
    dict(type='osar_plugin.PackDamageInputs'),
]
test_pipeline = [
    dict(type='osar_plugin.LoadDamagePair'),
    dict(type='osar_plugin.PackDamageInputs'),
]

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    collate_fn=dict(type='mmengine.pseudo_collate'),
    sampler=dict(type='mmengine.InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='train',
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='mmengine.pseudo_collate'),
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='val',
        pipeline=test_pipeline))
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='mmengine.pseudo_collate'),
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='test',
        pipeline=test_pipeline))
val_evaluator = dict(type='osar_plugin.BRIGHTMetric')
test_evaluator = dict(type='osar_plugin.BRIGHTMetric')
