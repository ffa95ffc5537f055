# CoDe-MAE fine-tuned on MSTAR, 40 chips of each class.
_base_ = ['codemae_mstar.py']

train_dataloader = dict(dataset=dict(list_shots=40))
