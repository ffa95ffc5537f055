# CoDe-MAE-L (iTPN-L, decoders of 768 channels): the published code has the
# model, weights are not published. Its parameters, gradients and the state of
# the optimizer are split over all GPUs (FSDP):
#   torchrun --nproc_per_node=8 tools/train.py \
#       configs/codemae_large_ospretrain.py --launcher pytorch
_base_ = [
    '_base_/models/codemae_base.py', '_base_/datasets/ospretrain.py',
    '_base_/schedules/pretrain.py', '_base_/default_runtime.py'
]

model = dict(
    backbone=dict(arch='large', with_cp=True),
    decoder=dict(dim=768, with_cp=True),
    distillation=dict(num_heads=12),
    # An iTPN-L file does, where there is one.
    init_cfg=dict(checkpoint='weights/itpn_large_fpn256.pth'))

runner_type = 'FlexibleRunner'
strategy = dict(
    type='mmengine.FSDPStrategy',
    model_wrapper=dict(
        type='mmengine.MMFullyShardedDataParallel',
        use_orig_params=True,
        auto_wrap_policy='osar_plugin.wrap_blocks'),
    # One file that any number of GPUs can read.
    state_dict_cfg='full')
# bfloat16 needs no loss scale.
optim_wrapper = dict(
    dtype='bfloat16', loss_scale=1.0, use_fsdp=True)

# There is nothing to evaluate: the last checkpoint is the result.
default_hooks = dict(checkpoint=dict(interval=50, save_best=None))
randomness = dict(seed=42)
