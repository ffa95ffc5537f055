# CoDe-MAE fine-tuned on NWPU-RESISC45, 10 % of each class to train on; all
# else as in codemae_aid.py.
_base_ = ['codemae_aid.py']

num_classes = 45
mean = [93.84, 97.155, 87.618]
std = [51.867, 47.2515, 47.124]
bgr_mean = mean[::-1]
bgr_std = std[::-1]

model = dict(
    data_preprocessor=dict(num_classes=num_classes, mean=mean, std=std),
    head=dict(num_classes=num_classes))
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
dataset = dict(type='osar_plugin.RESISC45', data_root='data/NWPU-RESISC45')
train_dataloader = dict(
    dataset=dict(
        **dataset, list_file='train_labels_10.txt', pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(**dataset, list_file='val_labels_10.txt'))
test_dataloader = val_dataloader
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=0.95))
