# Ablation of CDR: the mean of each unit of the other sensor's image.
# Normalised by unit, as the other targets are, nothing would be left of it.
_base_ = ['../codemae_ospretrain.py']

model = dict(degraded=dict(reduction='spatial', norm_target=False))
