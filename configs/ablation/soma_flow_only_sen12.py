# Ablation of GLAM: a flow without any affine.
_base_ = ['../soma_sen12.py']

model = dict(matcher=dict(with_affine=False))
