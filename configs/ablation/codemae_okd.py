# Ablation of the objectives: self reconstruction and OKD.
_base_ = ['../codemae_ospretrain.py']

model = dict(degraded=None, contrast=None)
