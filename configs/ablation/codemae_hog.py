# Ablation of CDR: oriented gradients of the other sensor's grey image.
_base_ = ['../codemae_ospretrain.py']

model = dict(degraded=dict(target='hog'))
