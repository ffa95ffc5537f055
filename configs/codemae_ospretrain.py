# CoDe-MAE-B on OSPretrain-1M, 800 epochs. The published command starts 8
# processes with 128 pairs each:
#   torchrun --nproc_per_node=8 tools/train.py configs/codemae_ospretrain.py \
#       --launcher pytorch
# Its rate is 1.5e-4 * (images of all GPUs) / 256; 8 x 128 pairs are 2048
# images, so 1.2e-3. For other sizes: --auto-scale-lr.
_base_ = [
    '_base_/models/codemae_base.py', '_base_/datasets/ospretrain.py',
    '_base_/schedules/pretrain.py', '_base_/default_runtime.py'
]

# There is nothing to evaluate: the last checkpoint is the result.
default_hooks = dict(checkpoint=dict(interval=50, save_best=None))
randomness = dict(seed=42)
