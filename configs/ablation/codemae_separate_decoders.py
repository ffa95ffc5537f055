# Ablation of the decoders: one for each sensor, embedding included.
_base_ = ['../codemae_ospretrain.py']

model = dict(share_decoders=False)
