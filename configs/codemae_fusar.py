# CoDe-MAE fine-tuned on FUSAR-Ship, 10 chips of each class. Other draws:
#   --cfg-options \
#     train_dataloader.dataset.list_file=split_fewshot/shot_40-seed_3.txt
# Published figures are means over seeds 0 to 4, of --seed and of the list.
# Where the lists are missing:
#   python tools/prepare_data/few_shot_lists.py data/FUSAR-Ship \
#       --dataset FUSARShip --folder Train --shots 10 40 --seeds 0 1 2 3 4
_base_ = [
    '_base_/models/classifier_itpn.py', '_base_/datasets/targets_sar.py',
    '_base_/schedules/few_shot_60e.py', '_base_/classification_runtime.py'
]

model = dict(
    data_preprocessor=dict(
        num_classes=10,
        mean=[44.319, 44.319, 44.319],
        std=[56.763, 56.763, 56.763]),
    backbone=dict(modality='sar', drop_path_rate=0.05),
    neck=dict(batch_norm=True))

dataset = dict(type='osar_plugin.FUSARShip', data_root='data/FUSAR-Ship')
train_dataloader = dict(
    dataset=dict(**dataset, list_file='split_fewshot/shot_10-seed_0.txt'))
val_dataloader = dict(dataset=dict(**dataset, folder='Val'))
test_dataloader = val_dataloader
default_hooks = dict(checkpoint=dict(interval=5))
