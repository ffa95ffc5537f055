"""Config checks: what a run would pass over must not pass."""

from __future__ import annotations

import functools
import re
import sys
from pathlib import Path

import pytest
from downstream import needs
from mmengine.config import Config

from osar_plugin.utils import config_targets
from osar_plugin.utils.config import (
    accepted_arguments,
    check_config,
    check_options,
    edit_distance,
    load_config,
    nearest,
    read_config,
    set_data_root,
    slip,
)
from osar_plugin.utils.errors import ConfigError, MissingDependencyError

REPO = Path(__file__).resolve().parents[2]
CONFIGS = sorted(
    path for path in (REPO / 'configs').rglob('*.py')
    # The examples stand on packages that may not be installed.
    if not {'_base_', 'examples'} & set(path.parts))
MAIN = REPO / 'configs' / 'sdfnet_hoss.py'


# Looked up by mmcv and the toolboxes by themselves, under bare names.
BARE = re.compile(r'(norm_cfg|roi_layer|nms|augments\.\d+)$')

# Inferencers of the toolboxes look for this name in the pipeline of a test.
FIRST_TO_LOAD = 'LoadImageFromFile'


@functools.cache
def shipped(path: Path) -> Config:
    """A config of ours, where what it stands on is installed."""
    scope = Config.fromfile(path).get('default_scope')
    if scope in ('mmdet', 'mmpretrain', 'mmseg'):
        needs(scope)
    return load_config(path)


def test_a_missing_toolbox_names_the_extra(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'mmdet', None)
    monkeypatch.setattr(config_targets, '_known_scopes', frozenset)
    with pytest.raises(MissingDependencyError, match='onedl-full'):
        config_targets.check_scope('a.py', 'mmdet')


@pytest.mark.parametrize('error, cure', [
    (ModuleNotFoundError("No module named 'mmcv._ext'", name='mmcv._ext'),
     ('make setup-full', 'MMCV_WITH_OPS=1 pip install', "'setuptools<81'")),
    (ImportError("mmdet: No module named 'mmcv._ext'"), ('setup-full', )),
    (ModuleNotFoundError("No module named 'mmseg'", name='mmseg'),
     ('mmseg', 'onedl-full', 'openmmlab-full')),
    (ModuleNotFoundError("No module named 'other'", name='other'),
     ('Install what is missing.', ))])
def test_how_to_install(error: ImportError, cure: tuple[str, ...]) -> None:
    for words in cure:
        assert words in config_targets.how_to_install(error)


def test_operators_that_are_missing(tmp_path, monkeypatch) -> None:
    """The registry's look-up ends in the command that compiles them."""
    def look_up(*_: object) -> list:
        raise ModuleNotFoundError(
            "No module named 'mmcv._ext'", name='mmcv._ext')
    monkeypatch.setattr(config_targets, 'find_type', look_up)
    with pytest.raises(MissingDependencyError, match='MMCV_WITH_OPS=1'):
        load_config(MAIN)


def test_an_example_without_its_package(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'mmdet', None)
    path = REPO / 'configs/examples/mmdet_faster_rcnn_itpn.py'
    with pytest.raises(MissingDependencyError, match='onedl-full'):
        read_config(path)


def written(path: Path, text: str) -> Path:
    file = path / 'config.py'
    file.write_text(f"_base_ = [r'{MAIN}']\n{text}\n", encoding='utf-8')
    return file


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_shipped_configs_pass(path: Path) -> None:
    cfg = shipped(path)
    assert cfg.get('model') is not None


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_shipped_configs_survive_a_dump(path: Path, tmp_path: Path) -> None:
    cfg = shipped(path)
    cfg.dump(tmp_path / 'dumped.py')
    again = load_config(tmp_path / 'dumped.py')
    assert again.to_dict() == cfg.to_dict()


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_shipped_configs_name_scopes(path: Path) -> None:
    """A scoped type means the same under every default scope."""

    def walk(node: object, where: str) -> None:
        if isinstance(node, dict):
            name = node.get('type')
            if isinstance(name, str) and not where.endswith(
                    'init_cfg') and not BARE.search(where) and (
                        name != FIRST_TO_LOAD):
                assert '.' in name, f'{where}: {name}'
            for key, value in node.items():
                walk(value, f'{where}.{key}')
        elif isinstance(node, (list, tuple)):
            for i, value in enumerate(node):
                walk(value, f'{where}.{i}')

    walk(shipped(path).to_dict(), path.stem)


@pytest.mark.parametrize(
    ('text', 'wrong', 'right'),
    [
        ('train_dataloder = dict(batch_size=2)', 'train_dataloder',
         'train_dataloader'),
        ('optim_wraper = dict()', 'optim_wraper', 'optim_wrapper'),
        ('model = dict(backbone=dict(depht=3))', 'depht', 'depth'),
        ("model = dict(type='osar_plugin.SDFnet')", 'osar_plugin.SDFnet',
         'osar_plugin.SDFNet'),
        ('train_dataloader = dict(dataset=dict(dataroot=3))', 'dataroot',
         'data_root'),
        ('train_dataloader = dict(batchsize=3)', 'batchsize', 'batch_size'),
        ('train_cfg = dict(max_epoch=3)', 'max_epoch', 'max_epochs'),
        ('optim_wrapper = dict(optimizer=dict(weightdecay=0.))',
         'weightdecay', 'weight_decay'),
        ('default_hooks = dict(checkpoint=dict(intervall=2))', 'intervall',
         'interval'),
        ('val_evaluator = dict(top_k=3)', 'top_k', 'topk'),
        ('randomness = dict(sed=3)', 'sed', 'seed'),
    ])
def test_a_typo_is_named_with_its_cure(text: str, wrong: str, right: str,
                                       tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, text))
    assert repr(wrong) in str(caught.value)
    assert repr(right) in str(caught.value)


@pytest.mark.parametrize('text', [
    'my_own_variable = 3',
    'train_cfg = dict(by_epoch=True, val_begin=3)',
    'optim_wrapper = dict(accumulative_counts=2, clip_grad=dict(max_norm=1))',
    "custom_hooks = [dict(type='mmengine.EMAHook', priority='NORMAL')]",
    'model = dict(init_cfg=None)',
    'load_from = None',
    'find_unused_parameters = True',
])
def test_what_is_right_passes(text: str, tmp_path: Path) -> None:
    load_config(written(tmp_path, text))


def test_package_that_is_not_installed(tmp_path: Path) -> None:
    text = "model = dict(backbone=dict(_delete_=True, type='no_such_pkg.X'))"
    with pytest.raises(MissingDependencyError, match='no_such_pkg'):
        load_config(written(tmp_path, text))


def test_missing_config_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config('configs/sdfnet_hos.py')
    message = str(caught.value)
    assert 'configs/sdfnet_hos.py' in message
    assert 'sdfnet_hoss.py' in message
    assert 'make demo' in message


@pytest.mark.parametrize(('text', 'message'), [
    ("_base_ = ['no_such_base.py']", 'no_such_base.py'),
    ('a = (', 'SyntaxError'),
    ('a = undefined_name', 'undefined_name'),
    ("a = int('x')", 'ValueError'),
])
def test_unreadable_config(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / 'broken.py'
    file.write_text(text, encoding='utf-8')
    with pytest.raises(ConfigError, match='broken.py') as caught:
        load_config(file)
    assert message in str(caught.value)


@pytest.mark.parametrize('options', [
    {'train_dataloader.batch_size': 3},
    {'train_dataloader.dataset.pipeline.0.type':
     'osar_plugin.LoadOpticalOrSAR'},
    {'optim_wrapper.clip_grad.max_norm': 1},
    {'custom_hooks': []},
    {'train_cfg.max_epochs': 1},
    {'val_evaluator.topk': 5},
    {'randomness.seed': 0},
    {'load_from': 'somewhere.pth'},
])
def test_options_that_reach_something(options: dict) -> None:
    cfg = load_config(MAIN, options)
    for path, value in options.items():
        node = cfg
        for part in path.split('.'):
            node = node[int(part) if isinstance(node, list) else part]
        assert node == value


@pytest.mark.parametrize(('path', 'cure'), [
    ('train_dataloder.batch_size', 'train_dataloader'),
    ('train_dataloader.batchsize', 'batch_size'),
    ('train_dataloader.dataset.pipeline.99.size', 'from 0 to'),
    ('train_dataloader.batch_size.more', 'not a dict'),
    ('optim_wrapper.optimizer.lrr', "'lr'"),
    ('model.backbone.depht', "'depth'"),
    ('env_cfg.dist_cfg.backendd', 'backend'),
    ('data_root', '--data-root'),
    ('max_epochs', 'train_cfg.max_epochs'),
])
def test_options_that_lead_nowhere(path: str, cure: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(MAIN, {path: 1})
    assert path in str(caught.value)
    assert cure in str(caught.value)


def test_options_do_not_change_a_refused_config() -> None:
    cfg = load_config(MAIN)
    before = cfg.to_dict()
    with pytest.raises(ConfigError):
        check_options(cfg, {'train_cfg.max_epochs': 1, 'mdel.x': 2})
    assert cfg.to_dict() == before


def test_data_root_reaches_every_data_set() -> None:
    cfg = load_config(MAIN)
    set_data_root(cfg, 'elsewhere')
    for name in ('train', 'val', 'test'):
        assert cfg[f'{name}_dataloader'].dataset.data_root == 'elsewhere'
    with pytest.raises(ConfigError, match='no data set'):
        set_data_root(Config(dict(model=dict())), 'elsewhere')


def test_check_config_reads_foreign_scopes() -> None:
    """_scope_ moves the look-up of unscoped names, as in MMEngine."""
    cfg = Config(
        dict(
            default_scope='mmengine',
            model=dict(type='ClassTokenNeck', _scope_='osar_plugin')))
    check_config(cfg)
    cfg.model.type = 'ClasTokenNeck'
    with pytest.raises(ConfigError, match="mean 'ClassTokenNeck'"):
        check_config(cfg)


@pytest.mark.parametrize(('a', 'b', 'distance'), [
    ('', '', 0),
    ('abc', 'abc', 0),
    ('abc', '', 3),
    ('kitten', 'sitting', 3),
    ('modle', 'model', 1),
    ('abcd', 'badc', 2),
    ('train_dataloder', 'train_dataloader', 1),
])
def test_edit_distance(a: str, b: str, distance: int) -> None:
    assert edit_distance(a, b) == edit_distance(b, a) == distance


def test_slip_and_nearest() -> None:
    assert slip('model', ['model', 'models']) is None
    assert slip('modle', ['model']) == 'model'  # a swap is one slip
    assert slip('mole', ['model']) is None  # two edits in a short name
    assert slip('mdel', ['model']) == 'model'
    assert nearest('sdfnet', ['SDFNet', 'TransOSS']) == ['SDFNet']


def test_arguments_are_followed_up_the_bases() -> None:

    class Base:

        def __init__(self, a: int) -> None: ...

    class Child(Base):

        def __init__(self, b: int, **kwargs: int) -> None: ...

    class Open:

        def __init__(self, **kwargs: int) -> None: ...

    assert accepted_arguments(Child) == ({'a', 'b'}, True)
    assert accepted_arguments(Open) == (set(), False)


def test_no_workers_need_no_persistence(repo: Path) -> None:
    cfg = load_config(
        repo / 'configs/sdfnet_hoss.py',
        {'train_dataloader.num_workers': 0, 'val_dataloader.num_workers': 0})
    for name in ('train_dataloader', 'val_dataloader'):
        assert 'persistent_workers' not in cfg[name]
    assert cfg.test_dataloader.persistent_workers


def depth(path: Path) -> int:
    """How many files one after the other a config inherits from."""
    bases = Config._get_base_files(str(path))
    return max((1 + depth(path.parent / base) for base in bases), default=0)


def test_configs_inherit_two_levels_deep_at_most() -> None:
    found = {path: depth(path) for path in (REPO / 'configs').rglob('*.py')
             # Examples on a stock config have the depth of that one.
             if not {'_base_', 'examples'} & set(path.parts)}
    assert len(found) > 80
    assert not [str(path) for path, levels in found.items() if levels > 2]


def test_an_override_where_there_is_nothing_yet() -> None:
    path = REPO / 'configs/demo/codemae_bright.py'
    assert load_config(path).model.init_cfg is None
    cfg = load_config(path, {'model.init_cfg.type': 'Pretrained',
                             'model.init_cfg.checkpoint': 'some.pth'})
    assert cfg.model.init_cfg == dict(
        type='Pretrained', checkpoint='some.pth')
    assert load_config(path, {'model.init_cfg': None}).model.init_cfg is None
