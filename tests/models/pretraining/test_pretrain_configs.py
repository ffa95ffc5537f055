"""The configs of pre-training: recipes, ablations, a training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from PIL import Image
from torch import nn

from osar_plugin.engine.sharding import wrap_blocks
from osar_plugin.registry import MODELS
from osar_plugin.utils.checkpoint import read_checkpoint
from osar_plugin.utils.config import load_config
from osar_plugin.utils.launch import prepare_runtime

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'
SOURCES = ('SpaceNet6', 'DFC25', 'Unpaired')

OFF: dict[str, Any] = dict(
    okd=dict(distillation=None, teacher=None), cdr=dict(degraded=None),
    ccl=dict(contrast=None))


def flat(node: Any, path: str = '') -> dict[str, Any]:
    """Dotted path to value."""
    if isinstance(node, dict) and node:
        items: Any = node.items()
    elif isinstance(node, (list, tuple)) and node:
        items = enumerate(node)
    else:
        return {path: node}
    out: dict[str, Any] = {}
    for key, value in items:
        out.update(flat(value, f'{path}.{key}' if path else str(key)))
    return out


def test_recipe() -> None:
    """Batch, rate and length of the published command."""
    cfg = load_config(CONFIGS / 'codemae_ospretrain.py')
    assert cfg.train_dataloader.batch_size == 128
    images = 2 * 8 * 128
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(
        1.5e-4 * images / 256)
    assert cfg.auto_scale_lr.base_batch_size == images // 2
    assert cfg.train_cfg.max_epochs == 800
    assert cfg.optim_wrapper.dtype == 'float16'
    assert 'clip_grad' not in cfg.optim_wrapper
    scale = cfg.train_dataloader.dataset.pipeline[1]
    assert (scale['size'], scale['scale']) == (224, (0.2, 1.0))


def test_what_decays() -> None:
    """All but one-dimensional tensors, so mask tokens and positions do."""
    cfg = load_config(CONFIGS / 'codemae_ospretrain.py')
    model = MODELS.build(dict(
        load_config(CONFIGS / 'demo/codemae_ospretrain.py').model))
    wrapper = dict(cfg.optim_wrapper, type='mmengine.OptimWrapper')
    for key in ('dtype', 'loss_scale'):
        del wrapper[key]
    optimizer = build_optim_wrapper(model, wrapper).optimizer
    decay = {id(p): group['weight_decay']
             for group in optimizer.param_groups for p in group['params']}
    assert len(optimizer.param_groups) == 2
    for name, parameter in model.named_parameters():
        expected = 0. if parameter.ndim == 1 else 0.05
        assert decay[id(parameter)] == expected, name
    assert optimizer.defaults['betas'] == (0.9, 0.95)


def test_schedule() -> None:
    """Up from nothing over 15 epochs, down to nothing at the last."""
    from osar_plugin.registry import PARAM_SCHEDULERS
    cfg = load_config(CONFIGS / 'codemae_ospretrain.py')
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.)
    length = 4
    schedulers = [PARAM_SCHEDULERS.build(
        dict(one, epoch_length=length), default_args=dict(
            optimizer=optimizer)) for one in cfg.param_scheduler]
    rates = []
    for _ in range(800 * length):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] == pytest.approx(0, abs=1e-5)
    assert rates[30] == pytest.approx(0.5, abs=0.02)
    assert max(rates) == pytest.approx(1, abs=1e-6)
    assert 58 <= int(np.argmax(rates)) <= 61
    middle = 15 * length + (785 * length) // 2
    assert rates[middle] == pytest.approx(0.5, abs=1e-3)
    assert rates[-1] == pytest.approx(0, abs=1e-5)


def merged(*names: str) -> dict[str, Any]:
    return {k: v for name in names for k, v in OFF[name].items()}


@pytest.mark.parametrize(('name', 'changes'), [
    ('mae_only', merged('okd', 'cdr', 'ccl')), ('okd', merged('cdr', 'ccl')),
    ('cdr', merged('okd', 'ccl')), ('ccl', merged('okd', 'cdr')),
    ('okd-cdr', merged('ccl')), ('okd-ccl', merged('cdr')),
    ('cdr-ccl', merged('okd')),
    ('separate_decoders', {'share_decoders': False}),
    ('vanilla_contrast', {'contrast.conditioned': False}),
    ('differentiable_gather', {'contrast.gather': 'differentiable'}),
    ('full_information', {'degraded.reduction': 'none'}),
    ('median', {'degraded.reduction': 'median'}),
    ('spatial', {'degraded.reduction': 'spatial',
                 'degraded.norm_target': False}),
    ('hog', {'degraded.target': 'hog'}), ('mgf', {'degraded.target': 'mgf'})])
def test_ablations_change_one_thing(name: str,
                                    changes: dict[str, Any]) -> None:
    base, own = (load_config(CONFIGS / file).to_dict() for file in (
        'codemae_ospretrain.py', f'ablation/codemae_{name}.py'))
    first, second = flat(base), flat(own)
    found = {key for key in first.keys() | second.keys()
             if first.get(key, '') != second.get(key, '')}
    expected = {f'model.{key}' for key in changes}
    assert {k for k in found if not any(
        k.startswith(f'{e}.') for e in expected)} == expected
    for key, value in changes.items():
        assert second[f'model.{key}'] == value


def test_every_ablation_has_a_row() -> None:
    """A new file must say here what it changes."""
    marks = test_ablations_change_one_thing.pytestmark
    names = {row[0] for row in marks[0].args[1]}
    files = {path.stem.removeprefix('codemae_')
             for path in (CONFIGS / 'ablation').glob('codemae_*.py')}
    assert files == names


def test_large_model_is_split_by_blocks() -> None:
    from mmengine.registry import FUNCTIONS
    cfg = load_config(CONFIGS / 'codemae_large_ospretrain.py')
    policy = cfg.strategy.model_wrapper.auto_wrap_policy
    assert FUNCTIONS.get(policy) is wrap_blocks
    model = MODELS.build(
        load_config(CONFIGS / 'demo/codemae_ospretrain.py').model)
    split = {name for name, part in model.named_modules()
             if wrap_blocks(part, False, 0)}
    assert 'backbone.blocks.0' in split
    assert 'degraded.decoders.shared.blocks.1' in split
    assert wrap_blocks(model, True, 0)
    # What is called by a method of its own stays with the model.
    assert not split & {'', 'backbone', 'contrast', 'embedding.shared'}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Noise in the layout of OSPretrain: 8 images a side and source."""
    rng = np.random.default_rng(0)
    for source in SOURCES:
        for folder, shape in (('RGB', (72, 80, 3)), ('SAR', (72, 80))):
            path = tmp_path / 'data' / source / folder
            path.mkdir(parents=True)
            for i in range(8):
                Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(
                    path / f'{i}.png')
    return tmp_path


def test_training(tree: Path) -> None:
    """Two epochs of the demo config; both kinds of batches."""
    cfg = load_config(CONFIGS / 'demo/codemae_ospretrain.py')
    cfg.merge_from_dict({
        'train_dataloader.dataset.data_root': str(tree / 'data'),
        'train_dataloader.dataset.statistics': None,
        'train_dataloader.batch_size': 4, 'train_cfg.max_epochs': 2,
        'default_hooks.checkpoint.interval': 2,
        'default_hooks.logger.interval': 1,
        'model.backbone.arch.embed_dim': 32,
        'model.backbone.arch.depth': 2, 'model.decoder.dim': 32,
        'work_dir': str(tree / 'run'), 'visualizer.name': 'pretrain'})
    prepare_runtime(cfg, 'none')
    runner = Runner.from_cfg(cfg)
    runner.train()
    rows = [json.loads(line) for line in next(
        (tree / 'run').glob('*/vis_data/scalars.json')
    ).read_text().splitlines()]
    rows = [row for row in rows if 'loss' in row]
    # 16 pairs and 8 unpaired images in batches of 4, twice.
    assert len(rows) == 12
    for row in rows:
        assert row['loss'] == pytest.approx(
            row['loss_self'] + row['loss_cross'] + row['loss_contrast'],
            rel=1e-4)
    content = read_checkpoint(tree / 'run/epoch_2.pth')
    again = MODELS.build(cfg.model)
    again.load_state_dict(content['state_dict'])
    assert not again.load_report.missing
