# Pair pre-training of TransOSS's backbone: 60 epochs of contrastive learning
# on aligned optical-SAR pairs, 256 pairs a batch over all GPUs (the official
# run had two: torchrun with batch_size=128 each gives the same batch).
_base_ = [
    '_base_/datasets/optisar_pair.py', '_base_/schedules/sgd_100e.py',
    '_base_/default_runtime.py'
]

model = dict(
    type='osar_plugin.TransOSSPretrain',
    data_preprocessor=dict(type='osar_plugin.ReIDDataPreprocessor'),
    backbone=dict(
        type='osar_plugin.VisionTransformer',
        img_size=(256, 128),
        patch_size=16,
        embed_dim=768,
        depth=12,
        num_heads=12,
        drop_path_rate=0.1,
        modality_coef=3.0,
        size_token=False),
    # ViT-B/16 of timm, release v0.1-weights. Where the file is not there,
    # training starts from random weights and says so.
    init_cfg=dict(
        type='Pretrained',
        checkpoint='weights/vit_base_p16_224-4e355ebd.pth',
        optional=True))

max_epochs = 60
base_lr = 3e-3
optim_wrapper = dict(optimizer=dict(lr=base_lr))
param_scheduler = dict(total=max_epochs)
train_cfg = dict(max_epochs=max_epochs)
# There is nothing to evaluate: the last checkpoint is the result.
val_cfg = None
test_cfg = None
default_hooks = dict(checkpoint=dict(interval=5, save_best=None))
auto_scale_lr = dict(enable=False, base_batch_size=256)
randomness = dict(seed=1234)
