# HiViT-B as a masked auto-encoder: one sensor, one decoder, own pixels.
model = dict(
    type='osar_plugin.HiViTMAE',
    data_preprocessor=dict(type='osar_plugin.PairPretrainPreprocessor'),
    backbone=dict(
        type='osar_plugin.HiViT',
        arch='base',
        img_size=224,
        # Relative positions start at zero in fine-tuning.
        rpe=False),
    decoder=dict(
        type='osar_plugin.MaskedDecoder',
        dim=512,
        depth=6,
        num_heads=16,
        img_size=224,
        mask_copies=1),
    modality='rgb',
    target='pixel',
    mask_ratio=0.75)
