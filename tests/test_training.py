"""The tools from end to end, as a user types them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from osar_plugin.utils.checkpoint import read_checkpoint

HOSS_MINI = Path(__file__).resolve().parents[2] / 'shared/data/hoss_mini'
TINY = ('model.backbone.embed_dim=32', 'model.backbone.depth=2',
        'model.backbone.num_heads=2', 'model.neck.embed_dim=32',
        'model.head.in_channels=32', 'model.structure.layer=1',
        'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1')


@pytest.fixture(scope='module')
def world(tmp_path_factory: pytest.TempPathFactory, repo: Path,
          run_python: Callable[..., Any]) -> Path:
    """A small rendered HOSS."""
    root = tmp_path_factory.mktemp('world')
    done = run_python(
        repo / 'tools/make_demo_data.py', root / 'demo', '--sets', 'hoss',
        '--train-ids', '20', '--test-ids', '10', '--distractor-ids', '4')
    assert done.code == 0, done.err
    return root / 'demo'


def test_train_resume_and_test(world: Path, repo: Path, tmp_path: Path,
                               run_python: Callable[..., Any]) -> None:
    """Two epochs, two more, then the table of the stored weights."""
    config = 'configs/demo/sdfnet_hoss.py'
    common = [config, '--work-dir', tmp_path / 'run', '--data-root', world,
              '--cfg-options', *TINY, 'model.head.num_classes=20']
    done = run_python(repo / 'tools/train.py', *common,
                      'train_cfg.max_epochs=2')
    assert done.code == 0, done.err
    assert (tmp_path / 'run/epoch_2.pth').is_file()
    done = run_python(repo / 'tools/train.py', *common,
                      'train_cfg.max_epochs=3', '--resume')
    assert done.code == 0, done.err
    log = done.out + done.err
    assert re.search(r'Epoch\(train\)\s+\[3\]', log)
    assert not re.search(r'Epoch\(train\)\s+\[[12]\]', log)
    done = run_python(
        repo / 'tools/test.py', config, tmp_path / 'run', '--work-dir',
        tmp_path / 'test', '--data-root', world, '--out', tmp_path / 'out',
        '--cfg-options', *TINY, 'model.head.num_classes=20')
    assert done.code == 0, done.err
    results = json.loads((tmp_path / 'out/results.json').read_text())
    table = (tmp_path / 'out/table.md').read_text()
    for protocol in ('ALL', 'O2S', 'S2O'):
        assert protocol in table and protocol in json.dumps(results)
    done = run_python(
        repo / 'tools/test.py', config, 'untrained', '--work-dir',
        tmp_path / 'test', '--data-root', world, '--out', tmp_path / 'raw',
        '--cfg-options', *TINY, 'model.head.num_classes=20')
    assert done.code == 0, done.err
    untrained = json.loads((tmp_path / 'raw/results.json').read_text())
    assert untrained != results
    trained = [json.loads(line) for line in next(
        (tmp_path / 'run').glob('*/vis_data/scalars.json')
    ).read_text().splitlines()]
    assert any('ALL/mAP' in row for row in trained)


def test_resuming_from_weights_alone(repo: Path, tmp_path: Path,
                                     run_tool: Callable[..., Any]) -> None:
    path = tmp_path / 'released.pth'
    torch.save({'base.cls_token': torch.zeros(1, 1, 768)}, path)
    ended = run_tool('train.py', repo / 'configs/sdfnet_hoss.py',
                     '--work-dir', tmp_path, '--resume', path)
    assert ended.code == 2
    assert 'no meta and no optimizer' in ended.err
    assert f'load_from={path}' in ended.err


@pytest.mark.slow
@pytest.mark.skipif(
    not HOSS_MINI.is_dir(), reason='the real chips are not on this machine')
def test_published_config_on_real_chips(
        repo: Path, tmp_path: Path, run_python: Callable[..., Any]) -> None:
    """Full size: one epoch, the three protocols, then a resumed second."""
    common = ['configs/sdfnet_hoss.py', '--work-dir', tmp_path,
              '--data-root', HOSS_MINI, '--cfg-options',
              'train_cfg.val_interval=1',
              'default_hooks.checkpoint.interval=1']
    done = run_python(repo / 'tools/train.py', *common,
                      'train_cfg.max_epochs=1')
    assert done.code == 0, done.err
    log = done.out + done.err
    assert 'NO PRE-TRAINED WEIGHTS' in log
    for protocol in ('ALL', 'O2S', 'S2O'):
        assert f'{protocol}/mAP' in log
    first = read_checkpoint(tmp_path / 'epoch_1.pth')['state_dict']
    assert first['backbone.blocks.11.mlp.fc1.weight'].shape == (3072, 768)
    done = run_python(repo / 'tools/train.py', *common,
                      'train_cfg.max_epochs=2', 'train_cfg.val_interval=9',
                      '--resume')
    assert done.code == 0, done.err
    second = read_checkpoint(tmp_path / 'epoch_2.pth')['state_dict']
    key = 'head.classifier.weight'
    assert not torch.equal(first[key], second[key])
    assert not re.search(r'Epoch\(train\)\s+\[1\]', done.out + done.err)
