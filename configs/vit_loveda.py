# A plain ViT-B with a simple pyramid, as MAE or SelectiveMAE pre-train it; all
# else as in codemae_loveda.py.
_base_ = ['codemae_loveda.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='osar_plugin.DenseViT',
        arch='base',
        num_outs=4,
        fpn_dim=256,
        drop_path_rate=0.15,
        init_cfg=dict(
            type='Pretrained', checkpoint='weights/mae_pretrain_vit_base.pth'
        )))
optim_wrapper = dict(
    paramwise_cfg=dict(_delete_=True, decay_rate=0.85, rule='vit'))
