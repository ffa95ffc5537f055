"""Classifiers of mmpretrain on the backbones of this package."""

from __future__ import annotations

import copy
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from downstream import needs
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from osar_plugin.datasets import list_classification
from osar_plugin.datasets.list_classification import fill_name
from osar_plugin.registry import MODELS
from osar_plugin.utils.checkpoint import read_checkpoint
from osar_plugin.utils.config import load_config
from osar_plugin.utils.errors import ConfigError, DataFormatError

needs('mmpretrain')

from models.backbones import hierarchical_case as case  # noqa: E402

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
NAMES = {'codemae_aid': 'AID', 'codemae_resisc45': 'RESISC45',
         'codemae_fusar': 'FUSARShip', 'codemae_mstar': 'MSTAR',
         'codemae_saracd': 'SARACD'}
FEW_SHOT = ('codemae_fusar', 'codemae_mstar', 'codemae_saracd')
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
ARCH = dict(embed_dim=32, mlp_depths=(1, 1), depth=2, num_heads=2)


def read(name: str) -> Config:
    return load_config(CONFIGS / f'{name}.py')


def build(cfg: Config) -> Any:
    with MODELS.switch_scope_and_registry('mmpretrain') as registry:
        return registry.build(copy.deepcopy(cfg.model))


def list_of(dataset: Any) -> str:
    return fill_name(dataset.get('list_file') or '',
                     shots=dataset.get('list_shots'),
                     seed=dataset.get('list_seed'))


def write_tree(root: Path, cfg: Config) -> Path:
    """Two images a class, where the lists and folders want them."""
    kind = getattr(list_classification, cfg.train_dataloader.dataset.type
                   .rpartition('.')[2])
    rng = np.random.default_rng(0)
    lists: dict[str, list[str]] = {}
    for key in ('train_dataloader', 'test_dataloader'):
        dataset = cfg[key].dataset
        for label, name in enumerate(kind.METAINFO['classes']):
            folder = f'{dataset.get("folder") or "images"}/{name}'
            (root / folder).mkdir(parents=True, exist_ok=True)
            shape = (140, 130) if kind.MODALITY == 'sar' else (70, 80, 3)
            for number in range(2):
                file = f'{key[:2]}_{label}_{number}.png'
                Image.fromarray(rng.integers(
                    0, 256, shape, np.uint8)).save(root / folder / file)
                if dataset.get('list_file'):
                    lists.setdefault(list_of(dataset), []).append(
                        f'{file} {folder} {label}\n')
    for list_file, lines in lists.items():
        (root / list_file).parent.mkdir(parents=True, exist_ok=True)
        (root / list_file).write_text(''.join(lines))
    return root


def shrink(cfg: Config, root: Path) -> Config:
    """Two steps of a thin classifier."""
    cfg.model.backbone.update(arch=ARCH, img_size=64, init_cfg=None)
    cfg.model.neck.dim = cfg.model.head.in_channels = 32
    for key in LOADERS:
        cfg[key].update(num_workers=0, persistent_workers=False,
                        batch_size=4)
        cfg[key].dataset.update(data_root=str(root))
        for step in cfg[key].dataset.pipeline:
            if step.type in ('mmpretrain.RandomResizedCrop',
                             'mmpretrain.ResizeEdge'):
                step.scale = 64
            elif step.type == 'mmpretrain.Resize':
                step.scale = (64, 64)
            elif step.type == 'mmpretrain.CenterCrop':
                step.crop_size = min(step.crop_size, 128) if (
                    'sar' in cfg.model.backbone.modality) else 64
    cfg.train_dataloader.dataset.indices = 8
    cfg.optim_wrapper.type = 'mmengine.OptimWrapper'
    for name in ('loss_scale', 'dtype'):
        cfg.optim_wrapper.pop(name, None)
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.param_scheduler = None
    cfg.default_hooks.checkpoint.interval = 1
    cfg.log_level = 'ERROR'
    return cfg


def runner_of(cfg: Config, work_dir: Path) -> Runner:
    cfg = cfg.copy()
    cfg.work_dir, cfg.experiment_name = str(work_dir), uuid.uuid4().hex
    return Runner.from_cfg(cfg)


@pytest.mark.parametrize('name, classes', [
    ('codemae_aid', 30), ('codemae_resisc45', 45), ('codemae_fusar', 10),
    ('codemae_mstar', 10), ('codemae_saracd', 10),
    ('demo/codemae_classification', 7)])
def test_built_at_full_size(name: str, classes: int) -> None:
    cfg = read(name)
    with torch.device('meta'):
        model = build(cfg)
    assert model.head.fc.out_features == classes
    few_shot = name in FEW_SHOT
    assert (model.neck.batch_norm is not None) == few_shot
    if not name.startswith('demo'):
        assert (cfg.model.backbone.modality == 'sar') == few_shot
        assert model.backbone.embed_dim == 512
        eps = {m.eps for m in model.modules()
               if isinstance(m, torch.nn.LayerNorm)}
        assert eps == {1e-6}


def lists_of(cfg: Config) -> list[str]:
    return [list_of(cfg[key].dataset) for key in LOADERS]


def test_lists_of_the_few_shot_configs() -> None:
    for shots, end in ((10, ''), (40, '_40shot')):
        name = f'split_fewshot/shot_{shots}-seed_0'
        for config in ('codemae_fusar', 'codemae_mstar'):
            assert lists_of(read(config + end)) == [f'{name}.txt', '', '']
        assert lists_of(read(f'codemae_saracd{end}')) == [
            f'{name}_train.txt', f'{name}_test.txt', f'{name}_test.txt']


@pytest.mark.parametrize('name', FEW_SHOT)
def test_forty_shots_change_the_lists_alone(name: str) -> None:
    few, many = read(name), read(f'{name}_40shot')
    for key in LOADERS:
        few[key].dataset.list_shots = many[key].dataset.list_shots = None
    assert few.to_dict() == many.to_dict()


def test_one_option_switches_all_lists() -> None:
    path = CONFIGS / 'codemae_saracd.py'
    seed = 'train_dataloader.dataset.list_seed'
    name = 'split_fewshot/shot_40-seed_3'
    cfg = load_config(path, {
        seed: 3, 'train_dataloader.dataset.list_shots': 40})
    assert lists_of(cfg) == [
        f'{name}_train.txt', f'{name}_test.txt', f'{name}_test.txt']
    cfg = load_config(path, {
        seed: 3, 'val_dataloader.dataset.list_seed': 2})
    assert [cfg[key].dataset.list_seed for key in LOADERS] == [3, 2, 3]
    cfg = load_config(CONFIGS / 'codemae_fusar.py', {seed: 3})
    assert lists_of(cfg) == ['split_fewshot/shot_10-seed_3.txt', '', '']


def test_training_on_test_images_is_refused(tmp_path: Path) -> None:
    """As where the list of training alone is another draw."""
    cfg = read('codemae_saracd')
    cfg = shrink(cfg, write_tree(tmp_path / 'data', cfg))
    lists = tmp_path / 'data/split_fewshot'
    lines = [(lists / f'shot_10-seed_0_{part}.txt').read_text().splitlines()
             for part in ('train', 'test')]
    (lists / 'shot_10-seed_3_train.txt').write_text(
        '\n'.join([*lines[0][:6], *lines[1][-4:]]))
    cfg.train_dataloader.dataset.update(list_seed=3, indices=None)
    with pytest.raises(DataFormatError, match='4 images.*seed_0_test'):
        runner_of(cfg, tmp_path).train()


def test_logits_of_the_built_classifier_are_official() -> None:
    cfg = read('codemae_resisc45')
    cfg.model.backbone.init_cfg = None
    model = build(cfg)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            official = name.removeprefix('backbone.').removeprefix(
                'neck.').replace('head.fc.', 'head.')
            parameter.copy_(case.weight(official, tuple(parameter.shape)))
        logits = model.eval()(case.images())
    case.close(logits, case.golden('codemae_backbone')['cls/logits45'])


@pytest.mark.parametrize('name', NAMES)
def test_two_steps_save_load_test(name: str, tmp_path: Path) -> None:
    cfg = read(name)
    cfg = shrink(cfg, write_tree(tmp_path / 'data', cfg))
    runner_of(cfg, tmp_path).train()
    content = read_checkpoint(tmp_path / 'epoch_1.pth')
    assert content['meta']['iter'] == 2
    kind = getattr(list_classification, NAMES[name])
    assert tuple(content['meta']['dataset_meta']['classes']) == (
        kind.METAINFO['classes'])
    cfg.load_from = str(tmp_path / 'epoch_1.pth')
    runner = runner_of(cfg, tmp_path / 'test')
    figures = runner.test()
    assert 0 <= figures['accuracy/top1'] <= 100
    assert len(runner.test_dataloader.dataset) == 2 * len(
        kind.METAINFO['classes'])
    for key, value in runner.model.state_dict().items():
        assert torch.equal(value, content['state_dict'][key]), key


def test_labels_reach_the_loss_in_the_order_of_the_list(
        tmp_path: Path) -> None:
    cfg = read('codemae_mstar')
    cfg = shrink(cfg, write_tree(tmp_path / 'data', cfg))
    loader = Runner.build_dataloader(cfg.test_dataloader, seed=0)
    found = {}
    for batch in loader:
        for sample in batch['data_samples']:
            found[Path(sample.img_path).parent.name] = int(sample.gt_label)
    assert found == {name: label for label, name in enumerate(
        list_classification.MSTAR_CLASSES)}


def test_channels_that_do_not_fit(tmp_path: Path) -> None:
    cfg = read('codemae_mstar')
    cfg = shrink(cfg, write_tree(tmp_path / 'data', cfg))
    cfg.model.backbone.num_outs = 4
    with pytest.raises((ConfigError, ValueError), match='MeanPoolNeck|dim'):
        runner_of(cfg, tmp_path).train()
