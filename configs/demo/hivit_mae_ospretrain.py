# A small teacher for the demo world: a masked auto-encoder of the optical
# side alone. tools/benchmark/codemae_ablation.py trains it once and takes it
# for the rows with OKD. Fixed mean and deviation, so that the teacher needs
# to know no source.
_base_ = ['codemae_ospretrain.py']

model = dict(
    _delete_=True,
    type='osar_plugin.HiViTMAE',
    data_preprocessor=dict(
        type='osar_plugin.PairPretrainPreprocessor',
        statistics='fixed',
        mean=(0.35, 0.35, 0.35, 0.25),
        std=(0.2, 0.2, 0.2, 0.2)),
    backbone=dict(
        type='osar_plugin.HiViT',
        arch=dict(embed_dim=128, depths=(1, 1, 6), num_heads=4),
        img_size=64,
        rpe=False),
    decoder=dict(
        type='osar_plugin.MaskedDecoder',
        dim=96,
        depth=2,
        num_heads=4,
        img_size=64,
        mask_copies=1),
    modality='rgb',
    target='pixel',
    mask_ratio=0.75)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
