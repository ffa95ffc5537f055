# MOS on HOSS-ReID: TransOSS on denoised SAR with the modality alignment loss
# (CMAL), 100 epochs; at test time, pseudo-SAR views of the optical chips join
# the descriptors (CDGF).
# Paper: 60.4 mAP, 68.8 R1 (ALL), 51.4 mAP (O2S), 48.7 mAP (S2O).
_base_ = [
    '_base_/models/transoss.py', '_base_/datasets/hoss_mos.py',
    '_base_/schedules/sgd_100e.py', '_base_/default_runtime.py'
]

model = dict(
    alignment=dict(
        type='osar_plugin.ModalityAlignmentLoss',
        form='official',
        loss_weight=2.0))

# Acts in tools/test.py. Without a checkpoint of the translator it says so and
# leaves the descriptors as they are:
#   --cfg-options custom_hooks.0.translator.checkpoint=FILE
custom_hooks = [
    dict(
        type='osar_plugin.PseudoSARHook',
        translator=dict(
            config='{{ fileDirname }}/bbdm_hoss.py', checkpoint=None),
        views=5,
        tau=0.02)
]

train_cfg = dict(val_interval=1)
default_hooks = dict(
    checkpoint=dict(interval=5, save_best=['ALL/mAP', 'ALL/R1']))
randomness = dict(seed=1234)
