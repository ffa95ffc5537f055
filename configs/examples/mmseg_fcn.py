# A stock FCN of MMSegmentation, trained by iterations, with the hooks of
# this package and nothing else of it; see mmdet_retinanet.py.
_base_ = __import__('mmseg').__path__[0] + \
    '/.mim/configs/fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py'

custom_imports = dict(imports=['osar_plugin.engine'])
default_hooks = dict(
    checkpoint=dict(
        type='osar_plugin.AtomicCheckpointHook', max_keep_ckpts=1))
custom_hooks = [
    dict(type='osar_plugin.ExactResumeHook'),
    dict(type='osar_plugin.PreemptionHook'),
    dict(type='osar_plugin.InvalidLossHook'),
    dict(type='osar_plugin.BadSampleHook'),
]
randomness = dict(seed=0)
