# A stock RetinaNet of MMDetection. All that is of this package are the hooks
# that make its training safe to kill, exact to resume and deaf to damaged
# input; `python -m mmdet...` or `mim train mmdet` run it like any other.
# Not `mmdet::retinanet/...`: which distribution is looked for under that name
# differs between stacks.
_base_ = __import__('mmdet').__path__[0] + \
    '/.mim/configs/retinanet/retinanet_r18_fpn_1x_coco.py'

# Before the model is built, in case it reads a checkpoint by itself.
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
# A seed makes data order and augmentation repeatable from the start; without
# one, a resumed run still goes on as it would have.
randomness = dict(seed=0)
