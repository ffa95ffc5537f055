# Ablation of the objectives: all but CCL.
_base_ = ['../codemae_ospretrain.py']

model = dict(contrast=None)
