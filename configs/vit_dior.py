# Plain ViT-B on DIOR by the recipe of SelectiveMAE: mmdet's FPN and head, 12
# epochs of 800 x 800 pixels, AdamW 1e-4, layer decay 0.9. Not published, and
# chosen here: how the last map becomes four strides (transposed convolutions
# and pooling), stochastic depth, and, from codemae_dior.py, normalisation,
# weight decay, warm-up, clipping, and batches of 16. Of its 75.7 and 75.8
# mAP50 (pre-trained on 4 and 13 million images) nothing has been repeated
# here; the weights named below are MAE's, of natural images.
_base_ = [
    '_base_/models/faster_rcnn.py', '_base_/datasets/dior_detection.py',
    '_base_/schedules/detection_1x.py', '_base_/default_runtime.py'
]

model = dict(
    backbone=dict(
        type='osar_plugin.DenseViT',
        arch='base',
        # Four strides of 768 channels; the neck has the convolutions.
        num_outs=4,
        fpn_dim=None,
        final_norm=False,
        drop_path_rate=0.1,
        with_cp=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='weights/mae_pretrain_vit_base.pth')),
    neck=dict(
        type='mmdet.FPN',
        in_channels=[768, 768, 768, 768],
        out_channels=256,
        num_outs=5))

optim_wrapper = dict(
    optimizer=dict(lr=1e-4), paramwise_cfg=dict(decay_rate=0.9, rule='vit'))

default_scope = 'mmdet'
# Draws for --show-dir of tools/test.py and for mmdet's DetInferencer.
visualizer = dict(type='mmdet.DetLocalVisualizer')
default_hooks = dict(
    visualization=dict(type='mmdet.DetVisualizationHook'),
    checkpoint=dict(save_best='coco/bbox_mAP_50', rule='greater'))
