# CoDe-MAE shrunk to the demo world, crops of 64 pixels, 16 units of which 4
# are seen:
#   python tools/make_demo_data.py data/demo --sets ospretrain sen12
#   python tools/train.py configs/demo/codemae_ospretrain.py
#   python tools/analysis/linear_probe.py configs/demo/codemae_ospretrain.py \
#       work_dirs/codemae_ospretrain --data-root data/demo/SEN12
# There is no teacher that knows rendered land, so OKD is left out here;
# tools/benchmark/codemae_ablation.py adds it with a teacher of its own.
_base_ = [
    '../_base_/models/codemae_base.py', '../_base_/datasets/ospretrain.py',
    '../_base_/schedules/pretrain.py', '../_base_/default_runtime.py'
]

image_size = 64
dim = 96
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dim=128,
            mlp_depths=(1, 1),
            depth=6,
            num_heads=4),
        img_size=image_size,
        fpn_dim=64),
    decoder=dict(dim=dim, depth=2, num_heads=4, img_size=image_size),
    distillation=None,
    teacher=None,
    contrast=dict(num_heads=4),
    init_cfg=None)

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
    batch_size=64,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(
        data_root='data/demo/OSPretrain',
        drop_test='all',
        statistics='statistics.json',
        pipeline=train_pipeline))

max_epochs = 60
warmup_epochs = 3
# At 2e-3 the trunk collapses to few directions within the first epochs.
optim_wrapper = dict(
    _delete_=True,
    type='mmengine.OptimWrapper',
    constructor='osar_plugin.MergedGroupsConstructor',
    optimizer=dict(
        type='mmengine.AdamW', lr=5e-4, betas=(0.9, 0.95),
        weight_decay=0.05),
    paramwise_cfg=dict(flat_decay_mult=0.))
param_scheduler = [
    dict(
        type='mmengine.LinearLR',
        start_factor=1e-6,
        begin=0,
        end=warmup_epochs,
        by_epoch=True,
        convert_to_iter_based=True),
    dict(
        type='mmengine.CosineAnnealingLR',
        eta_min=0.,
        begin=warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - warmup_epochs,
        by_epoch=True,
        convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(interval=10, save_best=None))
auto_scale_lr = dict(base_batch_size=64)
randomness = dict(seed=0)
