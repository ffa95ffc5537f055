# What every config shares: hooks, logs, seeds.

default_scope = 'osar_plugin'

default_hooks = dict(
    timer=dict(type='mmengine.IterTimerHook'),
    logger=dict(type='mmengine.LoggerHook', interval=50),
    param_scheduler=dict(type='mmengine.ParamSchedulerHook'),
    # Files appear whole or not at all, so that one is enough to go on
    # from; two leave a choice. 'auto' is the first figure of the
    # evaluator: ALL/mAP in re-identification.
    checkpoint=dict(
        type='osar_plugin.AtomicCheckpointHook',
        interval=1,
        max_keep_ckpts=2,
        save_best='auto',
        rule='greater'),
    sampler_seed=dict(type='mmengine.DistSamplerSeedHook'),
    # Ranks that train on their own rows (joint_batch=False) have their own
    # BatchNorm statistics.
    sync_buffers=dict(type='mmengine.SyncBuffersHook'),
    data_check=dict(type='osar_plugin.DataCheckHook'),
    # A resumed run equals the run that was never stopped, bit for bit.
    exact_resume=dict(type='osar_plugin.ExactResumeHook'),
    # SIGTERM and SIGUSR1: save, and leave with status 75.
    preemption=dict(type='osar_plugin.PreemptionHook'),
    # NaN losses and images that cannot be decoded stop the run and are
    # named; both hooks can skip a few instead.
    invalid_loss=dict(type='osar_plugin.InvalidLossHook'),
    bad_sample=dict(type='osar_plugin.BadSampleHook'))

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))

# Curves go to plain files always, and to TensorBoard where it is installed
# (the extra `vis`). No import statement: with one, MMEngine 0.10.7 takes the
# file for a config of its other style.
vis_backends = [dict(type='mmengine.LocalVisBackend')]
if __import__('importlib.util').util.find_spec('tensorboard') is not None:
    vis_backends.append(dict(type='mmengine.TensorboardVisBackend'))
visualizer = dict(type='mmengine.Visualizer', vis_backends=vis_backends)

log_processor = dict(by_epoch=True)
log_level = 'INFO'

load_from = None
resume = False

# No seed: another one each run; --seed sets it.
randomness = dict(seed=None, deterministic=False)
