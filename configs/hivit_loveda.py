# HiViT-B in place of iTPN-B; all else as in codemae_loveda.py. Relative
# positions as in HiViT's own segmentor; their tables are resized from those
# of the checkpoint, if it has any. SARATR-X takes other images: see README.md.
_base_ = ['codemae_loveda.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='osar_plugin.HiViT',
        arch='base',
        out='maps',
        rpe=True,
        # Relative positions are of one size of image: that of the crops.
        img_size=512,
        drop_path_rate=0.15,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='weights/mae_hivit_base_1600ep.pth')),
    decode_head=dict(in_channels=[128, 256, 512, 512]),
    auxiliary_head=dict(in_channels=512))
optim_wrapper = dict(
    paramwise_cfg=dict(_delete_=True, decay_rate=0.85, rule='hivit'))
