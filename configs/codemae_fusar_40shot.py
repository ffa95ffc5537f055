# CoDe-MAE fine-tuned on FUSAR-Ship, 40 chips of each class.
_base_ = ['codemae_fusar.py']

train_dataloader = dict(dataset=dict(list_shots=40))
