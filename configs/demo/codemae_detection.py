# CoDe-MAE's detector shrunk to the demo world, minutes on one CPU core:
#   python tools/make_demo_data.py data/demo --sets detection
#   python tools/train.py configs/demo/codemae_detection.py
# From a backbone that configs/demo/codemae_ospretrain.py has pre-trained:
#   python tools/train.py configs/demo/codemae_detection.py \
#       --work-dir work_dirs/codemae_detection_pretrained --cfg-options \
#       model.backbone.init_cfg.type=Pretrained \
#       model.backbone.init_cfg.checkpoint=work_dirs/codemae_ospretrain/\
#       epoch_60.pth
_base_ = [
    '../_base_/models/codemae_faster_rcnn.py',
    '../_base_/datasets/dior_detection.py',
    '../_base_/schedules/detection_1x.py', '../_base_/default_runtime.py'
]

data_root = 'data/demo/Detection/DIOR'
dim = 64
model = dict(
    # Of the rendered images: the pre-training, too, has seen them with a mean
    # of 0 and a deviation of 1.
    data_preprocessor=dict(mean=[68., 75., 63.], std=[51., 48., 40.]),
    # The backbone of codemae_ospretrain.py.
    backbone=dict(
        _delete_=True,
        type='osar_plugin.ITPN',
        arch=dict(embed_dim=128, mlp_depths=(1, 1), depth=6, num_heads=4),
        modality='rgb',
        img_size=64,
        fpn_dim=dim,
        num_outs=4,
        pool='avg',
        norm_eps=1e-5),
    rpn_head=dict(
        in_channels=dim,
        feat_channels=dim,
        # Anchors of 16 to 128 pixels.
        anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=dim),
        bbox_head=dict(
            in_channels=dim, conv_out_channels=32, fc_out_channels=128)),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=300, max_per_img=150),
        rcnn=dict(sampler=dict(num=32))),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100)))

image_size = (160, 160)
test_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor',
             'instances')
train_pipeline = [
    dict(type='mmengine.LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True),
    dict(type='mmdet.Resize', scale=image_size, keep_ratio=True),
    dict(
        type='mmdet.RandomFlip',
        prob=[0.25, 0.25, 0.25],
        direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    # The bare name, which inferencers of MMDetection look for.
    dict(type='LoadImageFromFile'),
    dict(type='mmdet.Resize', scale=image_size, keep_ratio=True),
    dict(type='mmdet.PackDetInputs', meta_keys=test_keys),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, pipeline=test_pipeline))

max_epochs = 16
# From scratch there is nothing in the first layers to be kept.
optim_wrapper = dict(
    optimizer=dict(lr=1e-3), paramwise_cfg=dict(decay_rate=1.))
param_scheduler = [
    dict(
        type='mmengine.LinearLR',
        start_factor=1e-3,
        by_epoch=False,
        begin=0,
        end=50),
    dict(
        type='mmengine.CosineAnnealingLR',
        T_max=max_epochs,
        by_epoch=True,
        convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=4)

default_scope = 'mmdet'
# Draws for --show-dir of tools/test.py and for mmdet's DetInferencer.
visualizer = dict(type='mmdet.DetLocalVisualizer')
default_hooks = dict(
    visualization=dict(type='mmdet.DetVisualizationHook'),
    logger=dict(interval=10),
    checkpoint=dict(
        interval=4, save_best='coco/bbox_mAP_50', rule='greater'))
auto_scale_lr = dict(enable=False, base_batch_size=8)
randomness = dict(seed=0)
