"""The recipes, number by number, against what was published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from osar_plugin.utils.config import load_config

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'

FLIP = dict(type='osar_plugin.DamageRandomFlip', horizontal=0.5, vertical=0.5)
TURN = dict(type='osar_plugin.DamageRotate90', turns=(1, 2, 3))
LOAD = dict(type='osar_plugin.LoadDamagePair')
PACK = dict(type='osar_plugin.PackDamageInputs')


def crop(size: int) -> dict[str, Any]:
    return dict(type='osar_plugin.DamageRandomCrop', size=size,
                max_share=0.75)


CODEMAE: dict[str, Any] = dict(
    pipeline=[
        LOAD, dict(type='osar_plugin.DamageRandomScale', scale=(0.5, 2.0)),
        crop(512), FLIP, TURN,
        dict(type='osar_plugin.DamageColorJitter', brightness=0.2,
             contrast=0.2, saturation=0.2, hue=0.1, prob=0.8),
        PACK],
    optimizer=dict(type='mmengine.AdamW', lr=1e-4, betas=(0.9, 0.999),
                   weight_decay=0.05),
    # float32: no AmpOptimWrapper.
    wrapper='mmengine.OptimWrapper',
    layers=dict(decay_rate=0.85, rule='codemae'),
    schedule=[('mmengine.LinearLR', 0, 100),
              ('mmengine.PolyLR', 100, 15000)],
    drop_path=[0.15],
    batch=8,
    iterations=15000,
    interval=250,
    seed=729729,
    loss='codemae',
    inference=dict(mode='slide', window=512, stride=256),
    pre_mean=[88.76, 85.20, 76.74],
    pre_std=[67.49, 58.56, 54.09],
    post_mean=[56.29],
    post_std=[45.01])
IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
RECIPES: dict[str, dict[str, Any]] = dict(
    codemae_bright=dict(CODEMAE, splits=('train', 'test', 'test')),
    codemae_bright_val=dict(CODEMAE, splits=('train', 'val', 'test')),
    damageformer_bright=dict(
        pipeline=[LOAD, crop(640), FLIP, TURN, PACK],
        optimizer=dict(type='mmengine.AdamW', lr=1e-4, weight_decay=5e-3),
        wrapper='mmengine.OptimWrapper',
        layers=None,
        schedule=[],
        drop_path=[0.2, 0.2],
        batch=16,
        iterations=15000,
        interval=250,
        seed=None,
        loss='bright',
        inference=dict(mode='whole'),
        pre_mean=IMAGENET['mean'],
        pre_std=IMAGENET['std'],
        post_mean=IMAGENET['mean'],
        post_std=IMAGENET['std'],
        splits=('train', 'val', 'test')))


def constants(cfg: Any) -> dict[str, list[float]]:
    """Means and deviations that the built preprocessor has."""
    from osar_plugin.registry import MODELS

    built = MODELS.build(cfg.model.data_preprocessor)
    return {f'{side}_{what}': [round(value, 4) for value in getattr(
        built, f'{side}_{what}').flatten().tolist()]
        for side in ('pre', 'post') for what in ('mean', 'std')}


def facts(cfg: Any) -> dict[str, Any]:
    """What a config says of all that the table lists."""
    encoders = [cfg.model[key] for key in ('encoder', 'encoder_post')
                if key in cfg.model]
    loader = cfg.train_dataloader
    wrapper = cfg.optim_wrapper
    return dict(
        pipeline=[dict(step) for step in loader.dataset.pipeline],
        optimizer=dict(wrapper.optimizer),
        wrapper=wrapper.type,
        layers=wrapper.get('paramwise_cfg') and dict(wrapper.paramwise_cfg),
        schedule=[(step.type, step.begin, step.end)
                  for step in cfg.param_scheduler],
        drop_path=[encoder.drop_path_rate for encoder in encoders],
        batch=loader.batch_size,
        iterations=cfg.train_cfg.max_iters,
        interval=cfg.train_cfg.val_interval,
        seed=cfg.randomness.seed,
        loss=cfg.model.loss_weights,
        # Windows are nothing to whole images.
        inference=dict(cfg.model.inference) if (
            cfg.model.inference.mode == 'slide') else dict(mode='whole'),
        splits=tuple(cfg[f'{part}_dataloader'].dataset.split
                     for part in ('train', 'val', 'test')),
        **constants(cfg))


@pytest.mark.parametrize('name', RECIPES)
def test_recipe_is_the_published_one(name) -> None:
    cfg = load_config(CONFIGS / f'{name}.py')
    found = facts(cfg)
    for key, expected in RECIPES[name].items():
        assert found[key] == expected, key
    assert set(found) == set(RECIPES[name])
    # Test images are not augmented.
    for part in ('val', 'test'):
        assert [dict(step) for step in cfg[
            f'{part}_dataloader'].dataset.pipeline] == [LOAD, PACK]
    for step in cfg.param_scheduler:
        assert step.by_epoch is False
        if step.type == 'mmengine.PolyLR':
            assert (step.power, step.eta_min) == (1, 0)
        else:  # from next to nothing
            assert step.start_factor <= 1e-5


def test_crops_are_drawn_ten_times() -> None:
    """Which the configs leave to the default."""
    from osar_plugin.datasets.transforms.damage import DamageRandomCrop

    assert DamageRandomCrop().tries == 10
