"""tools/train.py with MMEngine's FlexibleRunner."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from pair_case import write_source
from pretrain_tool_case import write_config

from osar_plugin.utils.checkpoint import read_checkpoint
from osar_plugin.utils.config import load_config
from osar_plugin.utils.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'


def test_a_resumed_run_equals_one_that_was_not_stopped(tmp_path, run_tool):
    """Our checkpoint and resume hooks work under it."""
    write_source(tmp_path / 'data', 'DFC25', 8)
    base = write_config(tmp_path)
    config = tmp_path / 'flexible.py'
    config.write_text(f"""
_base_ = [{str(base)!r}]
runner_type = 'FlexibleRunner'
strategy = dict(type='mmengine.SingleDeviceStrategy')
train_cfg = dict(max_epochs=2)
default_hooks = dict(checkpoint=dict(interval=1))
""")
    whole, again = tmp_path / 'whole', tmp_path / 'again'
    ended = run_tool('train.py', config, '--work-dir', whole)
    assert ended.code == 0, ended.err
    ended = run_tool('train.py', config, '--work-dir', again, '--resume',
                     whole / 'epoch_1.pth')
    assert ended.code == 0, ended.err
    first, second = (read_checkpoint(folder / 'epoch_2.pth')
                     for folder in (whole, again))
    assert first['meta']['iter'] == second['meta']['iter'] == 4
    for key, value in first['state_dict'].items():
        assert torch.equal(value, second['state_dict'][key]), key
    start = read_checkpoint(whole / 'epoch_1.pth')['state_dict']
    assert any(not torch.equal(value, first['state_dict'][key])
               for key, value in start.items())


@pytest.mark.parametrize(('change', 'gpu', 'launcher', 'text'), [
    ({}, False, 'pytorch', 'GPUs only'), ({}, True, 'none', 'torchrun'),
    ({'strategy.state_dict_cfg': 'local'}, True, 'pytorch', "'full'")])
def test_strategies_that_would_fail(change, gpu, launcher, text,
                                    monkeypatch):
    tool = runpy.run_path(str(CONFIGS.parent / 'tools/train.py'))
    monkeypatch.setattr(
        'osar_plugin.utils.launch.has_accelerator', lambda: gpu)
    cfg = load_config(CONFIGS / 'codemae_large_ospretrain.py')
    cfg.merge_from_dict(dict(change, launcher=launcher))
    with pytest.raises(ConfigError, match=text):
        tool['build_runner'](cfg)


def test_the_large_model_passes(monkeypatch):
    tool = runpy.run_path(str(CONFIGS.parent / 'tools/train.py'))
    monkeypatch.setattr(
        'osar_plugin.utils.launch.has_accelerator', lambda: True)
    cfg = load_config(CONFIGS / 'codemae_large_ospretrain.py')
    cfg.launcher = 'pytorch'
    tool['check_strategy'](cfg)
