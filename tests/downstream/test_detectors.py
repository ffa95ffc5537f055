"""Detectors on the backbones, built and trained by mmdet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from downstream import needs

needs('mmdet', 'pycocotools')

import mmdet  # noqa: E402
from detection_case import (  # noqa: E402
    CONFIGS,
    NAMES,
    SHARED,
    demo_world,
    on_meta,
    ordered_json,
    point_at,
    read,
    real_dior,
    real_sardet,
    runner_of,
    shrink,
    write_shapes,
)
from mmengine.config import Config  # noqa: E402
from mmengine.hooks import Hook  # noqa: E402
from mmengine.registry import (  # noqa: E402
    DATASETS,
    METRICS,
    MODELS,
    DefaultScope,
)
from mmengine.runner import Runner  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402
from models.backbones import hierarchical_case  # noqa: E402

from osar_plugin.engine import LayerDecayConstructor  # noqa: E402
from osar_plugin.utils.checkpoint import read_checkpoint  # noqa: E402
from osar_plugin.utils.errors import (  # noqa: E402
    CheckpointError,
    DataFormatError,
)


@pytest.fixture(autouse=True)
def scope(monkeypatch):
    # A Runner formats its config, and looks for compilers, for its log.
    monkeypatch.setattr(Config, 'pretty_text', property(lambda self: ''))
    monkeypatch.setattr(
        'mmengine.runner.runner.collect_env', lambda: {'Python': ''})
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    return demo_world(tmp_path_factory.mktemp('demo'))


@pytest.mark.parametrize('name,modality', [
    ('codemae_dior', 'rgb'), ('codemae_sardet100k', 'sar')])
def test_the_published_detector(name, modality):
    cfg, model = on_meta(name)
    backbone, head = model.backbone, model.roi_head.bbox_head
    assert backbone.embed_names == [f'patch_embed_{modality}']
    assert backbone.with_cp and backbone.pool == 'avg'
    norms = [m.eps for m in backbone.modules()
             if isinstance(m, torch.nn.LayerNorm)]
    assert set(norms) == {1e-5}
    assert backbone.blocks[-1].drop_path.drop_prob == pytest.approx(.15)
    assert len(head.shared_convs) == 4 and len(head.shared_fcs) == 1
    assert all(isinstance(c.norm, torch.nn.SyncBatchNorm)
               for c in head.shared_convs)
    assert head.reg_decoded_bbox and head.loss_bbox.loss_weight == 10.
    assert type(head.loss_bbox).__name__ == 'GIoULoss'
    assert not model.with_neck
    wrapper = cfg.optim_wrapper
    assert wrapper.optimizer.lr == 3e-4 and wrapper.clip_grad.max_norm == 35
    assert wrapper.type == f'mmengine.{"Amp" * (modality == "sar")}' \
        'OptimWrapper'
    assert cfg.auto_scale_lr.enable == (modality == 'rgb')


def test_layer_decay_of_the_detector(capsys):
    """The groups of iTPN-B: .85^32, .85^31, ..., 1 for ids 0, 1, ..., 32."""
    cfg, model = on_meta('codemae_dior')
    constructor = LayerDecayConstructor(
        dict(type='OptimWrapper', optimizer=dict(
            type='AdamW', lr=1., weight_decay=.05)),
        paramwise_cfg=dict(cfg.optim_wrapper.paramwise_cfg))
    groups = constructor(model).optimizer.param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    scale = {names[id(p)]: group['lr'] for group in groups
             for p in group['params']}
    for group in sorted(groups, key=lambda g: g['lr']):
        print(f'{group["lr"]:.6f} {group["weight_decay"]:.2f} '
              f'{names[id(group["params"][0])]}')
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 66
    assert rows[0].startswith('0.005513') and rows[2].startswith('0.006486')
    assert rows[-1].startswith('1.000000')
    for part, value in (
            ('backbone.absolute_pos_embed', .005513),
            ('backbone.patch_embed_rgb.proj.weight', .005513),
            ('backbone.blocks.0.mlp.fc1.weight', .006486),
            ('backbone.blocks.31.attn.qkv.weight', 1.),
            ('backbone.fpn_modules.0.mlp.fc1.weight', 1.),
            ('rpn_head.rpn_conv.weight', 1.),
            ('roi_head.bbox_head.fc_cls.weight', 1.)):
        assert scale[part] == pytest.approx(value, abs=5e-7), part


def test_golden_maps_inside_the_detector():
    """The backbone that the config builds gives the official maps."""
    expected = hierarchical_case.golden('codemae_backbone')
    model = MODELS.build(read('codemae_dior').model.backbone)
    hierarchical_case.filled(model)
    with torch.no_grad():
        maps = model(hierarchical_case.randn(0, 1, 3, 224, 288))
    for level, found in enumerate(maps):
        hierarchical_case.stats_close(
            found, expected[f'det/s{4 << level}_stats'])


CASES = {
    'codemae_dior': 'real', 'codemae_sardet100k': 'real',
    'hivit_dior': 'demo', 'saratrx_sardet100k': 'real',
    'vit_dior': 'real', 'vit_sardet100k': 'demo'}


def placed(name: str, tmp_path: Path, world: Path) -> Config:
    """A shrunk config on data in a real layout."""
    cfg = shrink(read(name))
    sardet = name.endswith('sardet100k')
    if CASES[name] == 'demo':
        return point_at(cfg, world / ('SARDet_100K' if sardet else 'DIOR'))
    if not SHARED.is_dir():
        pytest.skip(f'{SHARED} with real images is not there')
    if sardet:
        return point_at(cfg, real_sardet(tmp_path / 'data'))
    return point_at(cfg, real_dior(tmp_path / 'data'), boxes='oriented')


class Start(Hook):
    """Keeps the weights that the training starts with."""

    def before_train(self, runner):
        self.weights = {
            k: v.clone() for k, v in runner.model.state_dict().items()}


@pytest.mark.parametrize('name', NAMES)
def test_two_steps_and_back(name, tmp_path, world):
    """Train, save, load, test."""
    cfg = placed(name, tmp_path, world)
    count = len(DATASETS.build(cfg.train_dataloader.dataset))
    cfg.train_dataloader.batch_size = max(1, -(-count // 2))
    runner = runner_of(cfg, tmp_path / 'run')
    start = Start()
    runner.register_hook(start)
    runner.train()
    saved = tmp_path / 'run/epoch_1.pth'
    content = read_checkpoint(str(saved))
    classes = runner.train_dataloader.dataset.metainfo['classes']
    assert tuple(content['meta']['dataset_meta']['classes']) == classes
    assert content['meta']['iter'] == -(-count // max(1, -(-count // 2)))
    trained = {k: v.clone() for k, v in runner.model.state_dict().items()}
    cfg.load_from = str(saved)
    again = runner_of(cfg, tmp_path / 'test')
    figures = again.test()
    assert set(figures) >= {'coco/bbox_mAP', 'coco/bbox_mAP_50'}
    for key, value in again.model.state_dict().items():
        assert torch.equal(value, trained[key]), key
    # A step of the warm-up is less than a unit in the last place of a one,
    # so that norms may stay; matrices do not.
    matrices = {
        key for key, value in runner.model.named_parameters()
        if value.requires_grad and value.ndim > 1}
    assert any(key.startswith('backbone.blocks.0.') for key in matrices)
    still = {key for key in matrices
             if torch.equal(start.weights[key], trained[key])}
    assert not still


def test_tools_train_resume_and_test(tmp_path, world, run_tool, monkeypatch):
    """The house's own tools, with the demo config."""
    monkeypatch.chdir(tmp_path)
    # Fewer steps, a smaller trunk; a tool reads no config but from a file.
    (tmp_path / 'tiny.py').write_text(
        f"_base_ = ['{CONFIGS}/demo/codemae_detection.py']\n"
        'model = dict(backbone=dict(arch=dict(embed_dim=32, depth=1, '
        'num_heads=2)))\n'
        'train_cfg = dict(max_epochs=2, val_interval=2)\n'
        'default_hooks = dict(checkpoint=dict(interval=1))\n'
        'train_dataloader = dict(batch_size=3)\n')
    options = ('--work-dir', tmp_path / 'run', '--data-root', world / 'DIOR')
    ended = run_tool('train.py', tmp_path / 'tiny.py', *options)
    assert ended.code == 0, ended.err[-800:]
    assert (tmp_path / 'run/epoch_2.pth').is_file()
    ended = run_tool(
        'train.py', tmp_path / 'tiny.py', *options, '--resume',
        '--cfg-options', 'train_cfg.max_epochs=3')
    assert ended.code == 0, ended.err[-800:]
    assert (tmp_path / 'run/epoch_3.pth').is_file()
    ended = run_tool(
        'test.py', tmp_path / 'tiny.py', tmp_path / 'run', '--work-dir',
        tmp_path / 'test', '--data-root', world / 'DIOR')
    assert ended.code == 0, ended.err[-800:]


def test_stock_faster_rcnn_with_our_backbone(tmp_path, world):
    """MMDetection's own config but for the backbone, in its own scope."""
    cfg = Config.fromfile(CONFIGS / 'examples/mmdet_faster_rcnn_itpn.py')
    stock = Config.fromfile(
        Path(mmdet.__path__[0], '.mim/configs/faster_rcnn',
             'faster-rcnn_r50_fpn_1x_coco.py'))
    differing = {
        key for key in stock.model if cfg.model[key] != stock.model[key]}
    assert differing == {'backbone', 'neck'}
    assert cfg.default_scope == 'mmdet'
    cfg.model.backbone.update(arch=dict(
        embed_dim=32, mlp_depths=(1, 1), depth=1, num_heads=2), fpn_dim=16)
    cfg.model.neck.in_channels = [16] * 4
    names = tuple(ordered_json(
        world / 'DIOR/trainval.json', tmp_path / 'a.json'))
    cfg.model.roi_head.bbox_head.num_classes = len(names)
    cfg.model.train_cfg.rpn_proposal.max_per_img = 30
    cfg.model.test_cfg.rpn.max_per_img = 30
    cfg.model.roi_head.bbox_head.fc_out_channels = 16
    for key in ('train_dataloader', 'val_dataloader'):
        cfg[key].update(num_workers=0, persistent_workers=False)
        cfg[key].dataset.update(
            data_root=str(world / 'DIOR') + '/', ann_file=str(
                tmp_path / 'a.json'), data_prefix=dict(img='images/'),
            metainfo=dict(classes=names), indices=4)
        for step in cfg[key].dataset.pipeline:
            if step.type == 'Resize':
                step.scale = (128, 128)
    cfg.val_evaluator.ann_file = str(tmp_path / 'a.json')
    cfg.test_dataloader, cfg.test_evaluator, cfg.test_cfg = None, None, None
    cfg.train_cfg.max_epochs = 1
    cfg.work_dir = str(tmp_path / 'run')
    cfg.log_level = 'ERROR'
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert type(runner.model.backbone).__module__.startswith('osar_plugin')
    assert list((tmp_path / 'run').glob('epoch_1.pth'))


def test_metric_needs_no_json(world, tmp_path):
    """Labels of the data set, or a json in their order: one figure."""
    cfg = point_at(shrink(read('codemae_dior')), world / 'DIOR')
    data = DATASETS.build(cfg.test_dataloader.dataset)
    names = ordered_json(world / 'DIOR/test.json', tmp_path / 'test.json')
    assert tuple(names) == data.metainfo['classes']
    own = METRICS.build(dict(cfg.test_evaluator))
    other = METRICS.build(dict(
        cfg.test_evaluator, ann_file=str(tmp_path / 'test.json')))
    rng = np.random.default_rng(0)
    samples = []
    for index in range(len(data)):
        sample = data[index]['data_samples'].to_dict()
        truth = sample['instances']
        boxes = np.array([i['bbox'] for i in truth]).reshape(-1, 4)
        # Near the truth, some with another label, some out of nowhere.
        noisy = boxes + rng.normal(0, 2, boxes.shape)
        labels = np.array([i['bbox_label'] for i in truth], int)
        labels[rng.random(len(labels)) < .2] = 13
        prediction = InstanceData(
            bboxes=torch.tensor(np.concatenate([noisy, noisy[:1] + 30])),
            labels=torch.tensor(np.concatenate([labels, labels[:1]])),
            scores=torch.tensor(rng.random(len(noisy) + len(noisy[:1]))))
        samples.append(dict(sample, pred_instances=prediction))
    figures = []
    for metric in (own, other):
        metric.dataset_meta = data.metainfo
        metric.process({}, samples)
        figures.append(metric.evaluate(len(samples)))
    assert 0.1 < figures[0]['coco/bbox_mAP_50'] < 1
    assert figures[0] == figures[1]


def test_batches_of_one_orientation(world, tmp_path):
    """mmdet's sampler asks the data set for width and height."""
    cfg = point_at(shrink(read('codemae_sardet100k')),
                   write_shapes(tmp_path))
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    batches = list(loader.batch_sampler)
    data = loader.dataset
    assert len(batches) == 4
    for batch in batches:
        wide = {data.get_data_info(i)['width'] > data.get_data_info(i)[
            'height'] for i in batch}
        assert len(wide) == 1


def test_what_a_user_gets_wrong(tmp_path, world):
    cfg = point_at(shrink(read('codemae_dior')), world / 'SARDet_100K')
    cfg.train_dataloader.dataset.update(
        ann_file='Annotations/train.json',
        data_prefix=dict(img='JPEGImages/train'))
    with pytest.raises(DataFormatError, match="'aircraft'.*class_aliases"):
        runner_of(cfg, tmp_path / 'a').train()
    cfg = point_at(shrink(read('codemae_dior')), world / 'DIOR')
    cfg.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint=str(tmp_path / 'none.pth'))
    with pytest.raises((CheckpointError, FileNotFoundError),
                       match=r'none\.pth'):
        runner_of(cfg, tmp_path / 'b').train()


