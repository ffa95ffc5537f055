# CoDe-MAE on LoveDA with val kept apart: trained on train, evaluated on val;
# all else as in codemae_loveda.py. The best checkpoint is chosen on val, too:
# the figure of the last one is not.
_base_ = [
    '_base_/models/upernet_itpn.py', '_base_/datasets/loveda.py',
    '_base_/schedules/loveda_10k.py', '_base_/segmentation_runtime.py'
]
