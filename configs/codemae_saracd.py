# CoDe-MAE fine-tuned on SAR-ACD, 10 chips of each class; see codemae_fusar.py,
# and codemae_mstar.py for the seeds. The head has ten outputs as published,
# of which five have a class. No layer decay.
_base_ = ['codemae_fusar.py']

dataset = dict(type='osar_plugin.SARACD', data_root='data/SAR-ACD')
train_dataloader = dict(
    dataset=dict(
        **dataset, list_file='split_fewshot/shot_10-seed_0_train.txt'))
val_dataloader = dict(
    dataset=dict(
        **dataset,
        folder=None,
        list_file='split_fewshot/shot_10-seed_0_test.txt'))
test_dataloader = val_dataloader
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=1.0))
