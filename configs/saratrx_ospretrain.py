# SARATR-X's second stage on the SAR side of OSPretrain: HiViT-B, started from
# optical pre-training, predicts multi-scale gradient features; images on the
# scale 0..1 without mean and deviation. Downstream, its weights expect the
# same (mean 0), unlike those of CoDe-MAE. The published run has its own SAR
# images; its batch is not published.
_base_ = [
    '_base_/models/hivit_mae_base.py', '_base_/datasets/ospretrain.py',
    '_base_/schedules/pretrain.py', '_base_/default_runtime.py'
]

model = dict(
    data_preprocessor=dict(statistics='none'),
    modality='sar',
    target='mgf',
    init_cfg=dict(
        type='Pretrained',
        checkpoint='weights/mae_hivit_base_1600ep.pth',
        optional=True))

train_pipeline = [
    dict(type='osar_plugin.LoadPair'),
    dict(
        type='osar_plugin.PairRandomResizedCrop',
        size=224,
        scale=(0.2, 1.0),
        ratio=(3 / 4, 4 / 3)),
    dict(type='osar_plugin.PairHorizontalFlip', prob=0.5),
    dict(type='osar_plugin.SARContrast', contrast=0.5),
    dict(type='osar_plugin.PackPretrainInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

max_epochs = 800
warmup_epochs = 5
# 1.5e-4 * 1024 images / 256.
optim_wrapper = dict(optimizer=dict(lr=6e-4))
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

# There is nothing to evaluate: the last checkpoint is the result.
default_hooks = dict(checkpoint=dict(interval=50, save_best=None))
randomness = dict(seed=42)
