"""Train a model from a config."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from osar_plugin.utils import launch
from osar_plugin.utils.checkpoint import (
    bare_model,
    find_checkpoint,
    read_checkpoint,
    watch_loading,
)
from osar_plugin.utils.config import load_config, require_parts, set_data_root
from osar_plugin.utils.errors import CheckpointError, ConfigError
from osar_plugin.utils.published import require_start_weights


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir',
        help='where logs and checkpoints go; default: '
        'work_dirs/<name of the config>')
    parser.add_argument(
        '--data-root', help="data folder, in place of the config's")
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from a checkpoint; without a path, from the newest whole '
        'one in the work dir, or from the start where there is none')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: float16 on a GPU, bfloat16 on a CPU')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the batch size over all '
        'processes')
    parser.add_argument(
        '--no-validate',
        action='store_true',
        help='do not evaluate during training')
    parser.add_argument('--seed', type=int, help='seed of all generators')
    parser.add_argument(
        '--deterministic',
        action='store_true',
        help='repeatable operations only; slower on a GPU')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override parts of the config, e.g. '
        'optim_wrapper.optimizer.lr=1e-3')
    parser.add_argument(
        '--launcher',
        choices=launch.LAUNCHERS,
        default='none',
        help='what started the processes')
    # torchrun and older launchers spell it differently.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def merge_args(cfg: Config, args: argparse.Namespace) -> None:
    """Put the command line into the config."""
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(
        Path('work_dirs', Path(args.config).stem))
    if args.data_root:
        set_data_root(cfg, args.data_root)
    if args.amp:
        launch.apply_amp(cfg)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise ConfigError(
                f'--auto-scale-lr: {args.config} does not say which batch '
                'size its learning rate is for. Add '
                'auto_scale_lr = dict(base_batch_size=...).')
        cfg.auto_scale_lr.enable = True
    if args.seed is not None or args.deterministic:
        randomness = cfg.setdefault('randomness', {})
        if args.seed is not None:
            randomness['seed'] = args.seed
        if args.deterministic:
            randomness['deterministic'] = True
            # cuBLAS repeats itself only with a workspace of its own.
            os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    if args.resume == 'auto':
        resume_newest(cfg)
    elif args.resume is not None:
        cfg.resume = True
        cfg.load_from = args.resume


def resume_newest(cfg: Config) -> None:
    """Resume from the newest whole checkpoint of the work dir, if any.

    Without one the training begins, so that a job that is queued again and
    again can have ``--resume`` from the start.
    """
    path = find_checkpoint(cfg.work_dir)
    if path is None:
        print_log(
            f'--resume: no checkpoint in {cfg.work_dir} yet; training '
            'begins.', logger='current', level=logging.WARNING)
        return
    cfg.resume = True
    cfg.load_from = str(path)


def check_resumable(path: str) -> None:
    """Refuse to resume from a file that holds weights only.

    Raises:
        CheckpointError: Naming what is missing.
    """
    content = read_checkpoint(path)
    missing = [key for key in ('meta', 'optimizer') if key not in content]
    if missing:
        raise CheckpointError(
            f'--resume {path}: the file holds weights, but no '
            f'{" and no ".join(missing)}: it is not of an interrupted '
            'training. To start from its weights, use --cfg-options '
            f'load_from={path}.')


def build_runner(cfg: Config) -> Any:
    """The runner that the config names; MMEngine's usual one by default.

    ``runner_type = 'FlexibleRunner'`` is for models that are split over
    processes (``strategy``).
    """
    if cfg.get('runner_type') is None:
        return Runner.from_cfg(cfg)
    check_strategy(cfg)
    return RUNNERS.build(cfg)


def check_strategy(cfg: Config) -> None:
    """Refuse what would fail, or lose checkpoints, hours later.

    Raises:
        ConfigError: Naming the cure.
    """
    strategy = cfg.get('strategy') or {}
    if not str(strategy.get('type', '')).endswith('FSDPStrategy'):
        return
    if not launch.has_accelerator():
        raise ConfigError(
            'strategy.type=FSDPStrategy: PyTorch splits models (FSDP) over '
            'GPUs only, and there is none here. Leave out runner_type and '
            'strategy to train on CPUs.')
    if cfg.launcher == 'none':
        raise ConfigError(
            'strategy.type=FSDPStrategy needs a process for each GPU: start '
            'with torchrun and --launcher pytorch, or with Slurm.')
    kind = strategy.get('state_dict_cfg', 'local')
    if kind != 'full' and (isinstance(kind, str) or kind.get(
            'state_dict_type') != 'FULL_STATE_DICT'):
        # Each process would write a part, and none knows when all are done.
        raise ConfigError(
            f'strategy.state_dict_cfg={kind!r}: only whole files can be '
            "written safely and resumed from. Set state_dict_cfg='full'.")


def main() -> None:
    """Train."""
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    require_parts(cfg, args.config, 'trained', (
        'model', 'train_dataloader', 'train_cfg', 'optim_wrapper'))
    merge_args(cfg, args)
    if cfg.get('load_from') and not Path(cfg.load_from).is_file():
        raise CheckpointError(
            f'No checkpoint {cfg.load_from!r}. Give the path of a '
            'checkpoint file; --resume alone takes the newest in '
            f'{cfg.work_dir}.')
    if cfg.get('resume') and cfg.get('load_from'):
        check_resumable(cfg.load_from)
    require_start_weights(cfg.get('model'))
    launch.prepare_runtime(cfg, args.launcher)
    runner = build_runner(cfg)
    if cfg.get('load_from') and isinstance(runner, Runner):
        watch_loading(bare_model(runner), partial=not cfg.get('resume'))
    runner.train()


if __name__ == '__main__':
    launch.run(main)
