# Ablation of the objectives: all but OKD.
_base_ = ['../codemae_ospretrain.py']

model = dict(distillation=None, teacher=None)
