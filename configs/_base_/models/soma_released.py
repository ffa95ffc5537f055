# SOMA as its release computes it, with what is wrong in it: to load its
# weights, and to compare. The fixed image is SAR.
_base_ = ['soma.py']

model = dict(
    data_preprocessor=dict(value_range=255., fixed='sar'),
    encoder=dict(
        dino_raw=True, gradient_stem=False, norm='BN', frozen_norm=True),
    matcher=dict(type='osar_plugin.ReleasedGLAM'),
    loss=dict(match=0., mask=False, detach_certainty=False),
    refit=True)
