# Ablation of CCL: gradients also through the gathered negatives.
_base_ = ['../codemae_ospretrain.py']

model = dict(contrast=dict(gather='differentiable'))
