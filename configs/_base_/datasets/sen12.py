# SEN1-2 for pre-training. Its means and deviations are not published:
#   python tools/prepare_data/check_pairs.py data/sen12 --layout sen12 \
#       --statistics data/sen12/statistics.json
dataset_type = 'osar_plugin.SEN12'
data_root = 'data/sen12'
image_size = 224

train_pipeline = [
    dict(type='osar_plugin.LoadPair'),
    dict(
        type='osar_plugin.PairRandomResizedCrop',
        size=image_size,
        scale=(0.2, 1.0),
        ratio=(3 / 4, 4 / 3)),
    dict(type='osar_plugin.PairHorizontalFlip', prob=0.5),
    dict(type='osar_plugin.PackPretrainInputs'),
]

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type='mmengine.default_collate'),
    sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
    batch_sampler=dict(type='osar_plugin.PairedBatchSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        # With a list of test pairs in data_root: split='train'.
        split='all',
        statistics='statistics.json',
        pipeline=train_pipeline))
