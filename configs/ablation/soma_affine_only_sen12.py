# Ablation of GLAM: affines alone. Its stages of strides 2 and 1 have none,
# so the features of stride 2 are not needed.
_base_ = ['../soma_sen12.py']

model = dict(
    encoder=dict(fge_strides=(4, 8)), matcher=dict(with_flow=False))
