# The stock Faster R-CNN of MMDetection with another backbone, and nothing
# else of this package. Its four maps have the channels that the neck is told.
# Not `mmdet::faster_rcnn/...`: which distribution is looked for under that
# name differs between stacks.
_base_ = __import__('mmdet').__path__[0] + \
    '/.mim/configs/faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

model = dict(
    backbone=dict(_delete_=True, type='osar_plugin.ITPN', modality='rgb',
                  num_outs=4),
    neck=dict(in_channels=[256, 256, 256, 256]))
