# Ablation of the objectives: self reconstruction alone.
_base_ = ['../codemae_ospretrain.py']

model = dict(distillation=None, teacher=None, degraded=None, contrast=None)
