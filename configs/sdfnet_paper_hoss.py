# SDF-Net with everything as the paper writes it; configs/sdfnet_hoss.py is
# what the released code and weights do. The differences, one a line:
_base_ = ['sdfnet_hoss.py']

model = dict(
    # two linear heads instead of a second class token
    backbone=dict(modality_token=False),
    neck=dict(source='projection'),
    head=dict(
        # label-smoothed cross-entropy instead of the plain one
        loss_id=dict(label_smoothing=0.1),
        # weighted instead of batch-hard triplet
        loss_triplet=dict(weighted=True)),
    # central instead of forward differences, Euclidean distance instead of
    # the mean square
    structure=dict(difference='central', distance='euclidean'))

# strictly 2 optical + 2 SAR images per identity instead of 4 at random
train_dataloader = dict(
    sampler=dict(
        type='osar_plugin.ModalityBalancedSampler', single_modality='drop'))
