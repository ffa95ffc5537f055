# Ablation of CDR: SARATR-X's gradient ratios of the other sensor's image.
_base_ = ['../codemae_ospretrain.py']

model = dict(degraded=dict(target='mgf'))
