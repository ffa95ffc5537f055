# DamageFormer as CoDe-MAE's code has it: one iTPN-B encoder for both sensors,
# four maps of 256 channels without an FPN neck.
model = dict(
    type='osar_plugin.DamageFormer',
    data_preprocessor=dict(type='osar_plugin.DamagePreprocessor'),
    encoder=dict(
        type='osar_plugin.ITPN',
        arch='base',
        modality='both',
        num_outs=4,
        pool='max',
        norm_eps=1e-6,
        drop_path_rate=0.15,
        with_cp=True),
    loss_weights='codemae',
    inference=dict(mode='slide', window=512, stride=256),
    # A pre-trained encoder, of ours or of the authors, or a damage mapper.
    # Where the file is not there, training starts from random weights and
    # says so.
    init_cfg=dict(
        type='Pretrained',
        checkpoint='weights/checkpoint-800.pth',
        optional=True))
