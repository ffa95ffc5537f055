"""Tools and inferencers on detectors, segmentors and classifiers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from downstream import needs
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from PIL import Image

needs('mmdet', 'mmseg', 'mmpretrain', 'pycocotools')

from detection_case import demo_world  # noqa: E402
from segmentation_case import CONFIGS, demo_tiles  # noqa: E402

from osar_plugin.datasets.dior import CLASSES  # noqa: E402
from osar_plugin.utils.checkpoint import read_checkpoint  # noqa: E402
from osar_plugin.utils.config import load_config  # noqa: E402

SMALL = ("_base_ = ['{configs}/demo/codemae_{task}.py']\n"
         "model = dict(backbone=dict(arch=dict(embed_dim=32, depth=1, "
         "num_heads=2)){more})\n")
MORE = {'detection': '', 'segmentation': '',
        'classification': ', neck=dict(dim=32), head=dict(in_channels=32)'}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        'mmengine.runner.runner.collect_env', lambda: {'Python': ''})
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='module')
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Data of each task."""
    root = tmp_path_factory.mktemp('world')
    scenes = root / 'SEN12'
    rng = np.random.default_rng(0)
    names = load_config(
        CONFIGS / 'demo/codemae_classification.py').dataset['classes']
    for split in ('train', 'test'):
        lines = []
        for number in range(6):
            path = scenes / f'{split}{number}.png'
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(rng.integers(
                0, 256, (64, 64, 3), np.uint8)).save(path)
            lines.append(f'{path.name} {path.name} {number % len(names)}\n')
        (scenes / f'scenes_{split}.txt').write_text(''.join(lines))
    return dict(detection=demo_world(root) / 'DIOR',
                segmentation=demo_tiles(root), classification=scenes)


@pytest.fixture(scope='module')
def small(tmp_path_factory: pytest.TempPathFactory
          ) -> Callable[[str], SimpleNamespace]:
    """Config, weights and model of a small network for a task."""
    folder = tmp_path_factory.mktemp('small')
    made: dict[str, SimpleNamespace] = {}

    def make(task: str) -> SimpleNamespace:
        if task not in made:
            config, weights = folder / f'{task}.py', folder / f'{task}.pth'
            config.write_text(SMALL.format(
                configs=CONFIGS, task=task, more=MORE[task]))
            cfg = load_config(config)
            cfg.work_dir = str(folder / task)
            for part in ('train', 'val', 'test'):
                for key in ('dataloader', 'cfg', 'evaluator'):
                    cfg[f'{part}_{key}'] = None
            cfg.optim_wrapper = cfg.param_scheduler = cfg.auto_scale_lr = None
            model = Runner.from_cfg(cfg).model
            torch.save(dict(
                meta=dict(dataset_meta=meta(task)),
                state_dict=model.state_dict()), weights)
            made[task] = SimpleNamespace(
                config=config, weights=weights, model=model)
        return made[task]

    return make


def meta(task: str) -> dict[str, Any]:
    """What a checkpoint keeps of the data set."""
    if task == 'detection':
        return dict(classes=CLASSES, palette=[(9, 99, 199)] * len(CLASSES))
    if task == 'segmentation':
        from osar_plugin.datasets.loveda import CLASSES as LAND
        from osar_plugin.datasets.loveda import PALETTE
        return dict(classes=LAND, palette=PALETTE)
    return dict(classes=load_config(
        CONFIGS / 'demo/codemae_classification.py').dataset['classes'])


@pytest.mark.parametrize('task, figure, extra', [
    ('detection', 'coco/bbox_mAP_50', 'detections.bbox.json'),
    ('segmentation', 'mIoU', 'maps'),
    ('classification', 'accuracy/top1', None)])
def test_figures_and_pictures(task: str, figure: str, extra: str | None,
                              world: dict, small: Callable, tmp_path: Path,
                              run_tool: Callable) -> None:
    case = small(task)
    out, shown = tmp_path / 'out', tmp_path / 'shown'
    out.mkdir()
    (out / 'results.json').write_text('of an earlier test')
    ended = run_tool(
        'test.py', case.config, case.weights, '--data-root', world[task],
        '--out', out, '--show-dir', shown, '--work-dir', tmp_path / 'run',
        '--cfg-options', *(['model.test_cfg.rcnn.score_thr=0.0']
                           if task == 'detection' else ['log_level=ERROR']))
    assert ended.code == 0, ended.err[-800:]
    assert figure in json.loads((out / 'results.json').read_text())
    assert f'| {figure} | ' in (out / 'table.md').read_text()
    if extra is not None:
        assert (out / extra).exists()
    pictures = [path for path in shown.rglob('*')
                if path.suffix in ('.png', '.jpg')]
    assert len(pictures) == len(list_images(task, world[task]))
    assert np.asarray(Image.open(pictures[0])).std() > 5


def list_images(task: str, root: Path) -> list[str]:
    """Names of the test images."""
    if task == 'detection':
        return [row['file_name'] for row in json.loads(
            (root / 'test.json').read_text())['images']]
    if task == 'segmentation':
        return [path.name for path in root.glob('Val/*/images_png/*.png')]
    return (root / 'scenes_test.txt').read_text().split('\n')[:-1]


@pytest.mark.parametrize('task', ['detection', 'segmentation',
                                  'classification'])
def test_weights_of_something_else(task: str, world: dict, small: Callable,
                                   tmp_path: Path, run_tool: Callable
                                   ) -> None:
    """MMEngine would evaluate what is left of the initial weights."""
    case = small(task)
    weights = read_checkpoint(case.weights)['state_dict']
    files = {
        'other.pth': (dict(model={'a': torch.zeros(3)}), 'fills only 0.0%'),
        'part.pth': (dict(state_dict={
            key: value for key, value in weights.items()
            if key.startswith('backbone')}), 'not in the checkpoint|fills'),
        'shape.pth': (dict(state_dict={
            key: torch.cat([value, value]) if value.ndim > 1 and (
                'head' in key) else value
            for key, value in weights.items()}), 'have other shapes')}
    for name, (content, words) in files.items():
        torch.save(content, tmp_path / name)
        ended = run_tool('test.py', case.config, tmp_path / name,
                         '--data-root', world[task])
        assert ended.code == 2
        assert any(word in ended.err for word in words.split('|')), ended.err


def test_classes_in_another_order(world: dict, small: Callable,
                                  tmp_path: Path, run_tool: Callable) -> None:
    """As a json's own order gives them to mmdet's CocoDataset."""
    case = small('detection')
    content = dict(read_checkpoint(case.weights))
    content['meta'] = dict(dataset_meta=dict(classes=CLASSES[::-1]))
    torch.save(content, tmp_path / 'reversed.pth')
    arguments = ('test.py', case.config, tmp_path / 'reversed.pth',
                 '--data-root', world['detection'])
    ended = run_tool(*arguments)
    assert ended.code == 2
    assert "label 0 is 'windmill' in the checkpoint" in ended.err
    given = f'test_dataloader.dataset.metainfo.classes={CLASSES[::-1]}'
    ended = run_tool(*arguments, '--cfg-options', given.replace(' ', ''))
    assert ended.code == 0, ended.err[-800:]


@pytest.mark.parametrize('outputs', [6, 30])
def test_another_number_of_classes(outputs: int, world: dict,
                                   small: Callable, run_tool: Callable
                                   ) -> None:
    ended = run_tool(
        'train.py', small('detection').config, '--data-root',
        world['detection'], '--cfg-options',
        f'model.roi_head.bbox_head.num_classes={outputs}')
    assert ended.code == 2
    assert f'model.roi_head.bbox_head.num_classes={outputs}, but' in ended.err


def test_fine_tuning_on_other_classes(world: dict, small: Callable,
                                      tmp_path: Path, run_tool: Callable
                                      ) -> None:
    """Weights of a detector with fewer classes are a start, not an error."""
    case = small('detection')
    content = dict(read_checkpoint(case.weights))
    content['state_dict'] = {
        key: value[:7] if key.endswith(('fc_cls.weight', 'fc_cls.bias'))
        else value for key, value in content['state_dict'].items()}
    content['meta'] = dict(dataset_meta=dict(classes=CLASSES[:6]))
    torch.save(content, tmp_path / 'six.pth')
    arguments = (
        'train.py', case.config, '--data-root', world['detection'],
        '--work-dir', tmp_path / 'run', '--no-validate', '--cfg-options',
        'train_cfg.max_epochs=1', 'default_hooks.checkpoint.interval=1')
    ended = run_tool(*arguments, f'load_from={tmp_path / "six.pth"}')
    assert ended.code == 0, ended.err[-800:]
    assert (tmp_path / 'run/epoch_1.pth').is_file()
    torch.save(dict(model={}), tmp_path / 'none.pth')
    ended = run_tool(*arguments, f'load_from={tmp_path / "none.pth"}')
    assert ended.code == 2 and 'fills only 0.0%' in ended.err


@pytest.mark.skipif(torch.cuda.is_available(), reason='of CPUs')
def test_mixed_precision_without_a_gpu(world: dict, small: Callable,
                                       tmp_path: Path, run_tool: Callable,
                                       monkeypatch: pytest.MonkeyPatch
                                       ) -> None:
    case = small('detection')
    for arguments in (('train.py', case.config),
                      ('test.py', case.config, case.weights)):
        ended = run_tool(
            *arguments, '--amp', '--data-root', world['detection'])
        assert ended.code == 2 and 'no bfloat16 on a CPU' in ended.err
    # A config for GPUs trains in float32.
    told: list[str] = []
    monkeypatch.setattr('osar_plugin.utils.launch.print_log',
                        lambda text, **_: told.append(text))
    (tmp_path / 'amp.py').write_text(
        f"_base_ = ['{case.config}']\n"
        "optim_wrapper = dict(type='mmengine.AmpOptimWrapper', "
        "loss_scale='dynamic')\n")
    ended = run_tool(
        'train.py', tmp_path / 'amp.py', '--data-root', world['detection'],
        '--work-dir', tmp_path / 'run', '--no-validate', '--cfg-options',
        'train_cfg.max_epochs=1', 'default_hooks.checkpoint.interval=1')
    assert ended.code == 0, ended.err[-800:]
    assert any('float32 is used' in text for text in told)


def test_inferencer_of_mmdet(small: Callable, world: dict,
                             tmp_path: Path) -> None:
    from mmdet.apis import DetInferencer
    case = small('detection')
    image = next((world['detection'] / 'images').glob('*'))
    found = DetInferencer(
        str(case.config), str(case.weights), device='cpu',
        show_progress=False)(
            str(image), out_dir=str(tmp_path), pred_score_thr=0.)
    assert set(found['predictions'][0]) >= {'labels', 'scores', 'bboxes'}
    assert (tmp_path / 'vis' / image.name).is_file()


def test_inferencers_of_mmseg(small: Callable, world: dict,
                              tmp_path: Path) -> None:
    from mmseg.apis import MMSegInferencer, inference_model
    case = small('segmentation')
    image = next(world['segmentation'].glob('Val/*/images_png/*.png'))
    found = MMSegInferencer(
        str(case.config), str(case.weights), device='cpu')(
            str(image), out_dir=str(tmp_path))
    assert found['predictions'].shape == (64, 64)
    assert (tmp_path / 'vis' / image.name).is_file()
    # mmseg's other way; it reads `test_pipeline`.
    model = case.model.eval()
    model.cfg = Config.fromfile(case.config)
    with DefaultScope.overwrite_default_scope('mmseg'):
        sample = inference_model(model, str(image))
    assert np.array_equal(
        sample.pred_sem_seg.data[0].numpy(), found['predictions'])


@pytest.mark.parametrize('name', [
    'codemae_loveda', 'codemae_loveda_val', 'hivit_loveda', 'vit_loveda'])
def test_pipeline_of_inference_is_that_of_the_test(name: str) -> None:
    cfg = load_config(CONFIGS / f'{name}.py')
    assert cfg.test_pipeline == cfg.test_dataloader.dataset.pipeline


def test_inferencer_of_mmpretrain(small: Callable, world: dict,
                                  tmp_path: Path) -> None:
    from mmpretrain import ImageClassificationInferencer
    case = small('classification')
    image = world['classification'] / 'test0.png'
    found, = ImageClassificationInferencer(
        str(case.config), str(case.weights), device='cpu')(
            str(image), show_dir=str(tmp_path))
    assert found['pred_class'] in meta('classification')['classes']
    assert list(tmp_path.glob('*.png'))
