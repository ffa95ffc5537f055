# Ablation of CDR: the other sensor's image with its colours.
_base_ = ['../codemae_ospretrain.py']

model = dict(degraded=dict(reduction='none'))
