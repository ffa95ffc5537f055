# Ablation of the objectives: self reconstruction and CDR.
_base_ = ['../codemae_ospretrain.py']

model = dict(distillation=None, teacher=None, contrast=None)
