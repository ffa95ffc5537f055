# CoDe-MAE fine-tuned on FUSAR-Ship, 10 chips of each class; 40 of them in
# codemae_fusar_40shot.py. Where the lists are missing:
#   python tools/prepare_data/few_shot_lists.py data/FUSAR-Ship \
#       --dataset FUSARShip --folder Train --shots 10 40 --seeds 0 1 2 3 4
#
# Published figures are means over seeds 0 to 4. list_seed names the list; the
# seed of everything else is --seed:
#   for seed in 0 1 2 3 4; do
#       python tools/train.py configs/codemae_fusar.py --seed $seed \
#           --work-dir work_dirs/codemae_fusar/$seed \
#           --cfg-options train_dataloader.dataset.list_seed=$seed
#   done
#   python tools/analysis/average_runs.py work_dirs/codemae_fusar/*
# The last line gives mean and deviation of the last and of the best
# evaluation. Lists of val and test that are of the same draw (SAR-ACD) follow
# the option.
_base_ = [
    '_base_/models/classifier_itpn_sar.py', '_base_/datasets/targets_sar.py',
    '_base_/schedules/few_shot_60e.py', '_base_/default_runtime.py'
]

default_scope = 'mmpretrain'
# Draws for --show-dir of tools/test.py and for mmpretrain's inferencer.
visualizer = dict(type='mmpretrain.UniversalVisualizer')
dataset = dict(type='osar_plugin.FUSARShip', data_root='data/FUSAR-Ship')
train_dataloader = dict(
    dataset=dict(
        **dataset,
        list_file='split_fewshot/shot_{shots}-seed_{seed}.txt',
        list_shots=10,
        list_seed=0))
val_dataloader = dict(dataset=dict(**dataset, folder='Val'))
test_dataloader = val_dataloader
default_hooks = dict(checkpoint=dict(interval=5))
