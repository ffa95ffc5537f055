# DamageFormer shrunk to the demo world, tiles of 256 pixels, crops of 128:
#   python tools/make_demo_data.py data/demo --sets bright
#   python tools/train.py configs/demo/codemae_bright.py
# From a pre-trained encoder (configs/demo/codemae_ospretrain.py) instead:
#   --cfg-options model.init_cfg.type=Pretrained \
#     model.init_cfg.checkpoint=work_dirs/codemae_ospretrain/epoch_60.pth
_base_ = [
    '../_base_/models/damageformer.py', '../_base_/datasets/bright.py',
    '../_base_/schedules/bright.py'
]

crop_size = 128
model = dict(
    encoder=dict(
        # The demo's pre-trained encoder.
        arch=dict(
            _delete_=True,
            embed_dim=128,
            mlp_depths=(1, 1),
            depth=6,
            num_heads=4),
        img_size=64,
        fpn_dim=64,
        drop_path_rate=0.05,
        with_cp=False),
    channels=48,
    init_cfg=None,
    inference=dict(mode='slide', window=128, stride=64, batch_size=9))

train_pipeline = [
    dict(type='osar_plugin.LoadDamagePair'),
    dict(type='osar_plugin.DamageRandomCrop', size=crop_size, max_share=0.9),
    dict(type='osar_plugin.DamageRandomFlip', horizontal=0.5, vertical=0.5),
    # Turned, a shadow would fall where no radar of these events has it.
    dict(
        type='osar_plugin.DamageColorJitter',
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        hue=0.1,
        prob=0.8),
    dict(type='osar_plugin.PackDamageInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(data_root='data/demo/BRIGHT', pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root='data/demo/BRIGHT'))
test_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root='data/demo/BRIGHT'))

max_iters = 1000
warmup_iters = 50
optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    # The demo's encoder has no long pre-training to keep.
    paramwise_cfg=dict(decay_rate=1.0))
param_scheduler = [
    dict(
        type='mmengine.LinearLR',
        start_factor=1e-6,
        begin=0,
        end=warmup_iters,
        by_epoch=False),
    dict(
        type='mmengine.PolyLR',
        power=1.0,
        eta_min=0.,
        begin=warmup_iters,
        end=max_iters,
        by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=500)
default_hooks = dict(
    logger=dict(interval=25), checkpoint=dict(interval=500))
randomness = dict(seed=0)
