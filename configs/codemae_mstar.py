# CoDe-MAE fine-tuned on MSTAR, 10 chips of each class; see codemae_fusar.py.
# The published code reads the list of seed 0 whatever the seed: for its
# protocol keep the list and change --seed; for the stated one change both.
_base_ = ['codemae_fusar.py']

dataset = dict(type='osar_plugin.MSTAR', data_root='data/MSTAR')
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dict(**dataset, folder='TEST'))
test_dataloader = val_dataloader
