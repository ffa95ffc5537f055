# Registered pairs of SEN1-2, a tenth of its scenes for validation and for
# test. The moving image is taken off by the perturbation of the paper's main
# tables; SOMA works on 512 pixels, so the patches of 256 are enlarged.
dataset_type = 'osar_plugin.RegistrationPairs'
data_root = 'data/sen12'
image_size = (512, 512)
perturbation = 'soma_main'

load = dict(type='osar_plugin.LoadRegistrationPair', size=image_size)
train_pipeline = [
    load,
    dict(type='osar_plugin.RandomPairWarp', ranges=perturbation),
    dict(type='osar_plugin.PackRegistrationInputs'),
]
# The same perturbation for a pair at every evaluation.
test_pipeline = [
    load,
    dict(type='osar_plugin.RandomPairWarp', ranges=perturbation, seed=0),
    dict(type='osar_plugin.PackRegistrationInputs'),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    collate_fn=dict(type='mmengine.pseudo_collate'),
    sampler=dict(type='mmengine.DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        layout='sen12',
        split='train',
        fixed='optical',
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='mmengine.pseudo_collate'),
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        layout='sen12',
        split='val',
        fixed='optical',
        pipeline=test_pipeline))
test_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    collate_fn=dict(type='mmengine.pseudo_collate'),
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        layout='sen12',
        split='test',
        fixed='optical',
        pipeline=test_pipeline))
# CMR of the dense flow over all pixels, as the paper has it.
val_evaluator = dict(type='osar_plugin.RegistrationMetric')
test_evaluator = dict(type='osar_plugin.RegistrationMetric')
