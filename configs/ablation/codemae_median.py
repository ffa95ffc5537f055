# Ablation of CDR: the other sensor's image behind a 5 x 5 median.
_base_ = ['../codemae_ospretrain.py']

model = dict(degraded=dict(reduction='median'))
