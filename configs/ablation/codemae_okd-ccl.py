# Ablation of the objectives: all but CDR.
_base_ = ['../codemae_ospretrain.py']

model = dict(degraded=None)
