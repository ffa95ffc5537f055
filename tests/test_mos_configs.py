"""The configs of MOS: its recipe, and ablations that change one thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from osar_plugin.models.reid.alignment import ModalityAlignmentLoss
from osar_plugin.registry import MODELS
from osar_plugin.utils.config import load_config

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
MAX = {'type': 'osar_plugin.SARToUint8', 'mode': 'max'}
DENOISE = {'type': 'osar_plugin.SARDenoise', 'form': 'official', 'alpha': 5.0}
PLACES = {
    f'{name}_dataloader.dataset.pipeline.2.{key}'
    for name in ('train', 'val', 'test')
    for key in ('type', 'mode', 'form', 'alpha')}


def flat(node: Any, path: str = '') -> dict[str, Any]:
    """Dotted path to value."""
    if isinstance(node, dict) and node:
        items = node.items()
    elif isinstance(node, (list, tuple)) and node:
        items = enumerate(node)
    else:
        return {path: node}
    out: dict[str, Any] = {}
    for key, value in items:
        out.update(flat(value, f'{path}.{key}' if path else str(key)))
    return out


def differences(a: str, b: str) -> set[str]:
    """Paths that two configs do not share; variables of the files aside."""
    one, two = (flat(load_config(CONFIGS / name).to_dict())
                for name in (a, b))
    found = {key for key in one.keys() | two.keys()
             if one.get(key, '') != two.get(key, '')}
    return {key for key in found
            if not key.startswith(('train_pipeline', 'test_pipeline'))}


def test_recipe() -> None:
    """TransOSS's, in 100 epochs, all protocols after each."""
    cfg = load_config(CONFIGS / 'mos_hoss.py')
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler.total == 100
    assert cfg.train_cfg.val_interval == 1
    assert cfg.randomness.seed == 1234
    assert cfg.default_hooks.checkpoint.save_best == ['ALL/mAP', 'ALL/R1']
    loader = cfg.train_dataloader
    assert loader.batch_size == 32
    assert loader.sampler.type == 'osar_plugin.RandomIdentitySampler'
    assert loader.dataset.pipeline[6].prob == 0.5  # random erasing
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay) == (
        5e-4, 0.9, 1e-4)
    assert cfg.model.head.test_feature == 'before'
    loss = MODELS.build(cfg.model.alignment)
    assert isinstance(loss, ModalityAlignmentLoss)
    assert (loss.form, loss.normalize, loss.loss_weight) == (
        'official', True, 2.)
    hook, = cfg.custom_hooks
    assert (hook.views, hook.tau) == (5, 0.02)
    assert load_config(hook.translator.config).model.type == (
        'osar_plugin.BrownianBridgeTranslator')


@pytest.mark.parametrize('name', ['train', 'val', 'test'])
def test_every_pipeline_denoises(name: str) -> None:
    for config in ('mos_hoss.py', 'demo/mos_hoss.py'):
        cfg = load_config(CONFIGS / config)
        assert cfg[f'{name}_dataloader'].dataset.pipeline[2] == DENOISE
    base = load_config(CONFIGS / 'transoss_hoss.py')
    assert base[f'{name}_dataloader'].dataset.pipeline[2] == MAX


@pytest.mark.parametrize('folder, base', [
    ('ablation', 'ablation/mos_baseline_hoss.py'),
    ('demo', 'demo/transoss_hoss.py')])
def test_denoising_row_changes_the_pipelines(folder: str, base: str) -> None:
    found = differences(base, f'{folder}/mos_denoising_hoss.py')
    # A model of SDF-Net without its parts is one of TransOSS.
    written = {'custom_hooks', 'model.alignment'}
    if folder == 'demo':
        written |= {'model.type', 'model.structure', 'model.loss_orth'}
        written |= {'model.backbone.modality_token'}
    assert found - written == PLACES


@pytest.mark.parametrize('row, after', [
    ('ablation/mos_denoising_hoss.py', 'ablation/mos_cmal_hoss.py'),
    ('demo/mos_denoising_hoss.py', 'demo/mos_hoss.py')])
def test_cmal_row_adds_the_loss(row: str, after: str) -> None:
    found = differences(row, after)
    found = {key for key in found if not key.startswith('custom_hooks')}
    assert found and all(
        key.startswith('model.alignment') for key in found)


def test_cdgf_row_adds_the_hook() -> None:
    found = differences(
        'ablation/mos_cmal_hoss.py', 'ablation/mos_cdgf_hoss.py')
    assert found and all(key.startswith('custom_hooks') for key in found)
    assert differences('ablation/mos_cdgf_hoss.py', 'mos_hoss.py') == set()
