# Ablation of the objectives: self reconstruction and CCL.
_base_ = ['../codemae_ospretrain.py']

model = dict(distillation=None, teacher=None, degraded=None)
