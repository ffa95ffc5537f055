# HiViT-B, masked auto-encoder on the optical side of OSPretrain. The
# published weights are of ImageNet: 1600 epochs at 1e-4 * images / 256, 8
# GPUs x 256 images x 2 accumulated = 4096 images.
_base_ = [
    '_base_/models/hivit_mae_base.py', '_base_/datasets/ospretrain.py',
    '_base_/schedules/pretrain.py', '_base_/default_runtime.py'
]

max_epochs = 1600
warmup_epochs = 40
train_dataloader = dict(batch_size=256)
optim_wrapper = dict(
    accumulative_counts=2, optimizer=dict(lr=1.6e-3))
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
# Of 8 GPUs, without what is accumulated.
auto_scale_lr = dict(base_batch_size=2048)

# There is nothing to evaluate: the last checkpoint is the result.
default_hooks = dict(checkpoint=dict(interval=50, save_best=None))
randomness = dict(seed=42)
