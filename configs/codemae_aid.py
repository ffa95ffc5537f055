# CoDe-MAE fine-tuned on AID, 20 % of each class to train on. The lists are the
# published ones (name yours below), or of
#   python tools/prepare_data/few_shot_lists.py data/AID --dataset AID \
#       --share 0.2
_base_ = [
    '_base_/models/classifier_itpn.py', '_base_/datasets/scenes_rgb.py',
    '_base_/schedules/finetune_100e.py', '_base_/default_runtime.py'
]

default_scope = 'mmpretrain'
# Draws for --show-dir of tools/test.py and for mmpretrain's inferencer.
visualizer = dict(type='mmpretrain.UniversalVisualizer')
num_classes = 30
mean = [101.439, 104.346, 93.9675]
std = [55.335, 49.5975, 48.96]
bgr_mean = mean[::-1]
bgr_std = std[::-1]

model = dict(
    data_preprocessor=dict(num_classes=num_classes, mean=mean, std=std),
    head=dict(
        num_classes=num_classes,
        loss=dict(
            _delete_=True,
            type='mmpretrain.LabelSmoothLoss',
            label_smooth_val=0.1,
            mode='original')),
    # MMPretrain keeps these in a registry that no other one leads to.
    train_cfg=dict(augments=[
        dict(type='Mixup', alpha=0.8),
        dict(type='CutMix', alpha=1.0),
    ]))

train_pipeline = [
    dict(type='mmpretrain.LoadImageFromFile'),
    dict(
        type='mmpretrain.RandomResizedCrop',
        scale=224,
        backend='pillow',
        interpolation='bicubic'),
    dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='mmpretrain.RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(
            pad_val=[round(x) for x in bgr_mean], interpolation='bicubic')),
    dict(
        type='mmpretrain.RandomErasing',
        erase_prob=0.25,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=bgr_mean,
        fill_std=bgr_std),
    dict(type='mmpretrain.PackInputs'),
]
dataset = dict(type='osar_plugin.AID', data_root='data/AID')
tested = dict(
    list_file='val_labels_20.txt', pipeline={{_base_.test_pipeline}})
train_dataloader = dict(
    dataset=dict(
        **dataset, list_file='train_labels_20.txt', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**dataset, **tested))
test_dataloader = dict(dataset=dict(**dataset, **tested))
default_hooks = dict(checkpoint=dict(interval=5))
