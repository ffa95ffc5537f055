# Demo ablation: disentangled features without structure consistency.
_base_ = ['sdfnet_hoss.py']

model = dict(structure=None)
