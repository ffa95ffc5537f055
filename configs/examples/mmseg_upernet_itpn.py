# A stock UPerNet of MMSegmentation with another backbone: the line of the
# backbone and the channels that it gives. For weights of CoDe-MAE, HiViT or
# iTPN add init_cfg=dict(type='Pretrained', checkpoint=FILE) to the backbone,
# and read in configs/README.md which settings belong to them.
_base_ = __import__('mmseg').__path__[0] + \
    '/.mim/configs/upernet/upernet_r50_4xb2-40k_cityscapes-512x1024.py'

model = dict(
    pretrained=None,
    backbone=dict(
        _delete_=True, type='osar_plugin.ITPN', modality='rgb', num_outs=4),
    decode_head=dict(in_channels=[256, 256, 256, 256]),
    auxiliary_head=dict(in_channels=256))
