# CoDe-MAE fine-tuned on SAR-ACD, 10 chips of each class; see codemae_fusar.py
# for the five seeds and codemae_mstar.py for what the published code does with
# them. The test images are those that were not drawn, so their list changes
# with that of training. Where the lists are missing:
#   python tools/prepare_data/few_shot_lists.py data/SAR-ACD \
#       --dataset SARACD --shots 10 40 --seeds 0 1 2 3 4 --rest
# The head has ten outputs as published, of which five have a class. No layer
# decay.
_base_ = [
    '_base_/models/classifier_itpn_sar.py', '_base_/datasets/targets_sar.py',
    '_base_/schedules/few_shot_60e.py', '_base_/default_runtime.py'
]

default_scope = 'mmpretrain'
# Draws for --show-dir of tools/test.py and for mmpretrain's inferencer.
visualizer = dict(type='mmpretrain.UniversalVisualizer')
dataset = dict(
    type='osar_plugin.SARACD',
    data_root='data/SAR-ACD',
    list_shots=10,
    list_seed=0)
train_dataloader = dict(
    dataset=dict(
        **dataset,
        list_file='split_fewshot/shot_{shots}-seed_{seed}_train.txt'))
val_dataloader = dict(
    dataset=dict(
        **dataset,
        list_file='split_fewshot/shot_{shots}-seed_{seed}_test.txt'))
test_dataloader = val_dataloader
optim_wrapper = dict(paramwise_cfg=dict(decay_rate=1.0))
default_hooks = dict(checkpoint=dict(interval=5))
