"""Evaluate a model: the retrieval table, and what it is made of."""

from __future__ import annotations

import argparse
import copy
import os
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from osar_plugin.utils import launch
from osar_plugin.utils.config import (
    accepted_arguments,
    find_type,
    load_config,
    require_parts,
    set_data_root,
)
from osar_plugin.utils.errors import ConfigError
from osar_plugin.utils.work_dir import checkpoint_file

UNTRAINED = 'untrained'


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        help='checkpoint file, or a work dir: the latest one in it; '
        f'{UNTRAINED!r} for the initial weights')
    parser.add_argument(
        '--work-dir',
        help='where logs go; default: work_dirs/<name of the config>')
    parser.add_argument(
        '--data-root', help="data folder, in place of the config's")
    parser.add_argument(
        '--out',
        help='folder for table.md, results.json and per_query.csv')
    parser.add_argument(
        '--show-dir',
        help='folder for ranked lists of some queries and CMC curves')
    parser.add_argument(
        '--rerank',
        action='store_true',
        help='k-reciprocal re-ranking beside the plain figures')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: float16 on a GPU, bfloat16 on a CPU')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override parts of the config')
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


def set_on_metrics(cfg: Config, flag: str, key: str, value: Any) -> None:
    """Set an argument of every metric of the test that takes it.

    What the config or --cfg-options gave it stays.

    Raises:
        ConfigError: If none does.
    """
    metrics = cfg.test_evaluator
    if not isinstance(metrics, (list, tuple)):
        metrics = [metrics]
    # The config may share its metrics with validation.
    metrics = cfg.test_evaluator = copy.deepcopy(list(metrics))
    found = False
    for metric in metrics:
        for _, target in find_type(metric['type'], cfg.get('default_scope')):
            if key in accepted_arguments(target)[0]:
                metric[key] = metric.get(key) or value
                found = True
    if not found:
        raise ConfigError(
            f'{flag}: no metric of {cfg.filename} takes {key!r}; '
            'osar_plugin.ReIDMetric does.')


def show_in(cfg: Config, folder: str) -> None:
    """Let the test draw, with the settings that the config has for it."""
    name = 'osar_plugin.ReIDVisualizationHook'
    hooks = [dict(hook) for hook in cfg.get('custom_hooks') or []]
    own = [
        hook for hook in hooks
        if hook.get('type') in (name, name.partition('.')[2])]
    if not own:
        own = [dict(type=name)]
        hooks += own
    for hook in own:
        hook['out_dir'] = folder
    # A config copies what it is given.
    cfg.custom_hooks = hooks


def merge_args(cfg: Config, args: argparse.Namespace) -> None:
    """Put the command line into the config."""
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(
        Path('work_dirs', Path(args.config).stem))
    cfg.load_from = None if args.checkpoint == UNTRAINED else (
        str(checkpoint_file(args.checkpoint)))
    cfg.resume = False
    if args.data_root:
        set_data_root(cfg, args.data_root)
    if args.out:
        if Path(args.out).suffix in ('.pkl', '.pickle', '.json'):
            raise ConfigError(
                f'--out {args.out}: expected a folder, which gets table.md, '
                'results.json and per_query.csv.')
        set_on_metrics(cfg, '--out', 'out_dir', args.out)
    if args.show_dir:
        show_in(cfg, args.show_dir)
    if args.rerank:
        set_on_metrics(cfg, '--rerank', 'rerank', {})
    if args.amp:
        # MMEngine's name; on a CPU it means bfloat16.
        cfg.test_cfg['fp16'] = True


def main() -> None:
    """Evaluate."""
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    require_parts(cfg, args.config, 'evaluated', (
        'model', 'test_dataloader', 'test_cfg', 'test_evaluator'))
    merge_args(cfg, args)
    launch.prepare_runtime(cfg, args.launcher)
    runner = Runner.from_cfg(cfg)
    model = runner.model
    if is_model_wrapper(model):
        model = model.module
    if cfg.load_from is None:
        model.init_weights()
    else:
        runner.load_or_resume()
        # MMEngine would evaluate what is left of a partial match.
        if getattr(model, 'load_report', None) is not None:
            model.load_report.require_complete()
    runner.test()


if __name__ == '__main__':
    launch.run(main)
