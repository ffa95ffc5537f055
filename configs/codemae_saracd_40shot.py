# CoDe-MAE fine-tuned on SAR-ACD, 40 chips of each class.
_base_ = ['codemae_saracd.py']

train_dataloader = dict(dataset=dict(list_shots=40))
val_dataloader = dict(dataset=dict(list_shots=40))
test_dataloader = val_dataloader
