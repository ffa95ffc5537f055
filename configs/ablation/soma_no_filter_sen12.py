# Ablation of FGE: without its directional filters.
_base_ = ['../soma_sen12.py']

model = dict(encoder=dict(fge=dict(with_filter=False)))
