"""Evaluate a model: its figures, and what they are made of."""

from __future__ import annotations

import argparse
import copy
import json
import os
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from osar_plugin.evaluation.damage import BRIGHTMetric, BRIGHTSubmission
from osar_plugin.evaluation.reid import ReIDMetric
from osar_plugin.io import atomic_write
from osar_plugin.utils import launch
from osar_plugin.utils.checkpoint import bare_model, watch_loading
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
# Visualizer, hook and what makes it draw (None: the folder) of the toolboxes.
TOOLBOXES: dict[str, tuple[str, str, dict[str, Any]]] = {
    'mmdet': ('mmdet.DetLocalVisualizer', 'mmdet.DetVisualizationHook',
              dict(draw=True, test_out_dir=None)),
    'mmseg': ('mmseg.SegLocalVisualizer', 'mmseg.SegVisualizationHook',
              dict(draw=True)),
    'mmpretrain': ('mmpretrain.UniversalVisualizer',
                   'mmpretrain.VisualizationHook',
                   dict(enable=True, interval=1, out_dir=None))}
# What draws the results that our own metrics look at.
DRAWN_BY: dict[type, str] = {
    ReIDMetric: 'osar_plugin.ReIDVisualizationHook',
    BRIGHTMetric: 'osar_plugin.DamageVisualizationHook',
    BRIGHTSubmission: 'osar_plugin.DamageVisualizationHook'}


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
        help='folder for table.md and results.json, and, by the task, '
        'per_query.csv, detections or label maps')
    parser.add_argument(
        '--show-dir',
        help='folder for pictures: ranked lists of some queries and CMC '
        'curves, or images with their boxes, maps or classes')
    parser.add_argument(
        '--rerank',
        action='store_true',
        help='re-identification: k-reciprocal re-ranking beside the plain '
        'figures')
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


def metrics_of(cfg: Config) -> list[Any]:
    """The metrics of the test, one or several."""
    metrics = cfg.test_evaluator
    return list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]


def set_on_metrics(cfg: Config, key: str, value: Any) -> bool:
    """Set an argument of every metric of the test that takes it.

    What the config or --cfg-options gave it stays.

    Returns:
        Whether one does.
    """
    # The config may share its metrics with validation.
    cfg.test_evaluator = copy.deepcopy(metrics_of(cfg))
    found = False
    for metric in cfg.test_evaluator:
        for _, target in find_type(metric['type'], cfg.get('default_scope')):
            if key in accepted_arguments(target)[0]:
                metric[key] = metric.get(key) or value
                found = True
    return found


def write_to(cfg: Config, folder: str) -> None:
    """Let metrics write what they know of single images.

    Raises:
        ConfigError: If a file is named where a folder is expected.
    """
    if Path(folder).suffix in ('.pkl', '.pickle', '.json'):
        raise ConfigError(
            f'--out {folder}: expected a folder, which gets results.json, '
            'table.md and what the metrics know of single images.')
    set_on_metrics(cfg, 'out_dir', folder)
    # Of mmdet's metrics, and of mmseg's.
    set_on_metrics(cfg, 'outfile_prefix', str(Path(folder, 'detections')))
    if cfg.get('default_scope') == 'mmseg':
        set_on_metrics(cfg, 'output_dir', str(Path(folder, 'maps')))


def write_figures(runner: Runner, figures: dict[str, Any],
                  folder: str) -> None:
    """Write results.json and table.md where no metric does so itself."""
    path = Path(folder)
    if not is_main_process() or any(
            isinstance(metric, ReIDMetric)
            for metric in runner.test_loop.evaluator.metrics):
        return
    plain = {key: value.item() if hasattr(value, 'item') else value
             for key, value in figures.items()}
    with atomic_write(path / 'results.json') as file:
        json.dump(plain, file, indent=2)
        file.write('\n')
    with atomic_write(path / 'table.md') as file:
        file.write('| figure | value |\n|---|--:|\n' + ''.join(
            f'| {key} | {value:.4f} |\n' if isinstance(value, float) else
            f'| {key} | {value} |\n' for key, value in plain.items()))


def show_in(cfg: Config, folder: str) -> None:
    """Let the test draw, with the settings that the config has for it.

    Raises:
        ConfigError: If there is nothing that draws this model's results.
    """
    scope = cfg.get('default_scope')
    if scope in TOOLBOXES:
        kind, hook, switch = TOOLBOXES[scope]
        settings = dict(cfg.get('default_hooks') or {})
        own = settings.get('visualization') or dict(type=hook)
        target = str(Path(folder).resolve())
        cfg.default_hooks = dict(settings, visualization=dict(
            own, **{key: target if value is None else value
                    for key, value in switch.items()}))
        cfg.visualizer = dict(
            type=kind, save_dir=target,
            vis_backends=[dict(type='mmengine.LocalVisBackend')])
        return
    kinds = [target for metric in metrics_of(cfg)
             for _, target in find_type(metric['type'], scope)]
    name = next((hook for own, hook in DRAWN_BY.items() if any(
        isinstance(kind, type) and issubclass(kind, own) for kind in kinds)),
        None)
    if name is None:
        raise ConfigError(
            f'--show-dir: this tool does not draw what {cfg.filename} '
            'predicts; it draws for ReIDMetric, BRIGHTMetric and '
            'BRIGHTSubmission, and for configs of mmdet, mmseg and '
            'mmpretrain. See README.md for the tools that draw the rest.')
    hooks = [dict(hook) for hook in cfg.get('custom_hooks') or []]
    own_hooks = [
        hook for hook in hooks
        if hook.get('type') in (name, name.partition('.')[2])]
    if not own_hooks:
        own_hooks = [dict(type=name)]
        hooks += own_hooks
    for one in own_hooks:
        one['out_dir'] = folder
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
        write_to(cfg, args.out)
    if args.show_dir:
        show_in(cfg, args.show_dir)
    if args.rerank and not set_on_metrics(cfg, 'rerank', {}):
        raise ConfigError(
            f'--rerank: no metric of {cfg.filename} re-ranks; '
            'osar_plugin.ReIDMetric does.')
    if args.amp:
        launch.check_amp(cfg)
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
    model = bare_model(runner)
    if cfg.load_from is None:
        model.init_weights()
    else:
        watch_loading(model)
        runner.load_or_resume()
        # MMEngine would evaluate what is left of a partial match.
        if getattr(model, 'load_report', None) is not None:
            model.load_report.require_complete()
    figures = runner.test()
    if args.out:
        write_figures(runner, figures, args.out)


if __name__ == '__main__':
    launch.run(main)
