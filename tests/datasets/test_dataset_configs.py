"""The shared data configs build what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

CONFIGS = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets'


def types(pipeline):
    return [step['type'].split('.')[-1] for step in pipeline]


def scoped(node):
    """All types in a config."""
    if isinstance(node, dict):
        if isinstance(node.get('type'), str):
            yield node['type']
        for value in node.values():
            yield from scoped(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from scoped(value)


def test_official_order_of_the_transforms():
    load = ['LoadOpticalOrSAR', 'ShipSize', 'SARToUint8', 'PillowResize']
    tail = ['PadRandomCrop', 'RandomErasing', 'PackReIDInputs']
    for name, jitter, prob in (
            ('hoss', [], 0.5), ('hoss_sdfnet', ['ColorJitter'], 0.2)):
        config = Config.fromfile(CONFIGS / f'{name}.py')
        train = config.train_dataloader.dataset.pipeline
        assert types(train) == [*load, 'RandomFlip', *jitter, *tail]
        assert train[3].interpolation == 'bicubic'
        assert train[-2].prob == prob
        test = config.test_dataloader.dataset.pipeline
        assert types(test) == [*load, 'PackReIDInputs']
        assert test[3].interpolation == 'bilinear'
        for pipeline in (train, test):
            assert pipeline[3].size == (256, 128)
        loader = config.train_dataloader
        assert loader.batch_size == loader.sampler.batch_size == 32
        assert config.val_dataloader == config.test_dataloader
        assert config.val_evaluator == config.test_evaluator == dict(
            type='osar_plugin.ReIDMetric')


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('*.py')))
def test_every_type_is_scoped(path):
    found = list(scoped(Config.fromfile(path).to_dict()))
    assert found
    assert all(name.startswith((
        'osar_plugin.', 'mmengine.', 'mmdet.', 'mmpretrain.', 'mmseg.'))
        # Inferencers of the toolboxes look for this name.
        or name == 'LoadImageFromFile' for name in found)


@pytest.mark.parametrize('name', ['hoss', 'hoss_sdfnet'])
@pytest.mark.parametrize('scope', ['mmengine', 'osar_plugin', 'mmdet'])
def test_loaders_on_real_chips(name, scope, hoss_mini):
    config = Config.fromfile(CONFIGS / f'{name}.py')
    with DefaultScope.overwrite_default_scope(scope):
        for key, count in (('train', 32), ('test', 44)):
            settings = config[f'{key}_dataloader']
            settings.dataset.data_root = str(hoss_mini)
            settings.num_workers = 0
            settings.persistent_workers = False
            loader = Runner.build_dataloader(settings, seed=1)
            batches = list(loader)
            images = [x for batch in batches for x in batch['inputs']]
            assert len(images) == count
            assert {image.shape for image in images} == {(3, 256, 128)}
            assert {image.dtype for image in images} == {
                torch.float32 if key == 'train' else torch.uint8}
            for batch in batches:
                for sample in batch['data_samples']:
                    assert sample.size.shape == (3,)
                    assert (sample.label >= 0) == (key == 'train')
