# OSPretrain-1M as CoDe-MAE is pre-trained on it: 128 pairs per GPU, three
# sources and four test splits left out (the defaults of the data set).
dataset_type = 'osar_plugin.OSPretrain'
data_root = 'data/ospretrain'
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
    # Stacked by the workers: one piece of shared memory for a batch, not
    # one for each image.
    collate_fn=dict(type='mmengine.default_collate'),
    # Says data set and seed; its order is not used.
    sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
    # Batches of pairs or of unpaired images, never both.
    batch_sampler=dict(type='osar_plugin.PairedBatchSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        # Other sources: tools/prepare_data/check_pairs.py writes a JSON
        # file of their means and deviations.
        statistics=None,
        pipeline=train_pipeline))
