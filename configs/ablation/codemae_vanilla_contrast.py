# Ablation of CCL: means of tokens compared without conditioning.
_base_ = ['../codemae_ospretrain.py']

model = dict(contrast=dict(conditioned=False))
