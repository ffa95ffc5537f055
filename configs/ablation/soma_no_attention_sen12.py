# Ablation of FGE: without its attention ("filter only" of the paper).
_base_ = ['../soma_sen12.py']

model = dict(encoder=dict(fge=dict(with_attention=False)))
