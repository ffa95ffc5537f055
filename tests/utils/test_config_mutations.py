"""Mistakes in configs: what is wrong is named, what is right passes."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest
import torch
from mmengine.config import Config, ConfigDict

from osar_plugin.models.reid import (
    DisentangledNeck,
    IdentityLoss,
    ReIDDataPreprocessor,
    TransOSS,
)
from osar_plugin.utils.config import load_config, require_parts
from osar_plugin.utils.config_check import check_config
from osar_plugin.utils.config_targets import Target, arguments, arguments_of
from osar_plugin.utils.config_values import (
    BOUNDS,
    Buildable,
    describe,
    loosened,
    misfit,
    number_fault,
    require_range,
    resolve,
)
from osar_plugin.utils.errors import (
    ConfigError,
    DataFormatError,
    MissingDependencyError,
)

REPO = Path(__file__).resolve().parents[2]
TOOL = REPO / 'tools' / 'benchmark' / 'config_mutations.py'
MAIN = REPO / 'configs' / 'sdfnet_hoss.py'
NAN = float('nan')


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location('config_mutations', TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their own module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def refusal(text: str, folder: Path) -> str:
    """The message about a config that starts from the main one."""
    file = folder / 'config.py'
    file.write_text(f"_base_ = [r'{MAIN}']\n{text}\n", encoding='utf-8')
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert '\n' not in message
    return message


# ------------------------------------------------------------ the whole way


@pytest.mark.slow
def test_fifty_mistakes(run_python: Callable[..., Any]) -> None:
    """Trained as by the tool: named or harmless, of every kind."""
    done = run_python(
        TOOL, '--count', '50', '--seed', '2', '--show', '--no-unchanged',
        '--jobs', '2')
    assert done.code == 0, done.out + done.err
    cases = re.findall(
        r'^(clear error|error of another package|harmless): '
        r'configs/.* \((.+)\)$', done.out, re.MULTILINE)
    assert len(cases) == 50
    assert len({kind for _, kind in cases}) == 15
    outcomes = Counter(outcome for outcome, _ in cases)
    # Some must have started, or the data or the tool is broken.
    assert outcomes['clear error'] >= 30
    assert outcomes['harmless'] >= 2


def test_a_hang_and_a_crash_are_seen(tool: ModuleType, tmp_path: Path,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """And so is a run that starts in spite of a mistake."""

    class Fake:
        seconds = 1.

        def __init__(self, code: int | None, said: str) -> None:
            self.code = code
            self.said = said

        def output(self) -> str:
            return self.said

    wrong = tool.Mutation(
        'x.py', 'text', ('model', 'backbone', 'depth'), 12, 'abc')
    for code, said, outcome in (
            (None, '', 'hang'), (-11, '', 'unclear traceback'),
            (0, '', 'silently accepted'),
            (1, 'TypeError: unsupported operand', 'unclear traceback'),
            (1, "TypeError: 'abc' is no number", 'error of another package'),
            (2, '\nerror: something is wrong\n', 'unclear error'),
            (2, '\nerror: X takes no argument. It takes: depth, a\n',
             'unclear error'),
            (2, "\nerror: model.backbone.depth='abc': expected\n",
             'clear error')):
        assert tool.judge(Fake(code, said), wrong).outcome == outcome
    unread = tool.Mutation('x.py', 'text', ('my_variable', ), 12, 'abc')
    assert tool.judge(Fake(0, ''), unread).outcome == 'harmless'
    dropped = tool.Mutation('x.py', 'drop', ('model', 'neck'), {}, None)
    assert tool.judge(Fake(0, ''), dropped).outcome == 'harmless'


def test_the_same_seed_makes_the_same_mistakes(tool: ModuleType,
                                               tmp_path: Path) -> None:
    configs = {
        path.name: tool.small_config(path, tmp_path)
        for path in tool.shipped()[:3]}
    first, again, other = (
        [tool.draw(configs, seed, i) for i in range(60)]
        for seed in (1, 1, 2))
    assert list(map(repr, first)) == list(map(repr, again))
    assert list(map(repr, first)) != list(map(repr, other))
    for mutation in first:
        cfg = configs[mutation.config]
        before = repr(cfg)
        assert repr(tool.mutated(cfg, mutation)) != before
        assert repr(cfg) == before


def test_configs_as_text(tool: ModuleType) -> None:
    value = dict(a=[1, (2, ), float('inf')], b=NAN, c='x\'"', d=None)
    names: dict[str, Any] = {}
    exec(f'value = {tool.source(value)}', names)
    assert repr(names['value']) == repr(value)


# ----------------------------------------------------------------- messages


@pytest.mark.parametrize(('text', 'words'), [
    ("model = dict(backbone=dict(depth='12'))",
     ["model.backbone.depth='12'", 'a whole number', 'VisionTransformer, 12']),
    ('model = dict(backbone=dict(depth=12.5))',
     ['depth=12.5', 'a whole number']),
    ('model = dict(backbone=dict(depth=True))', ['depth=True']),
    ('model = dict(backbone=dict(depth=None))', ['depth=None']),
    ('model = dict(backbone=dict(size_token=1))',
     ['size_token=1', 'True or False']),
    ('model = dict(backbone=dict(img_size=256))',
     ['img_size=256', 'a list, each a whole number']),
    ("model = dict(backbone=dict(img_size=(256, 'a')))",
     ["img_size.1='a'", 'a whole number']),
    ("model = dict(backbone=dict(drop_path_rate=float('nan')))",
     ['drop_path_rate=nan', 'not NaN']),
    ('model = dict(backbone=5)', ['model.backbone', 'a dict with a type']),
    ('model = dict(backbone=dict(_delete_=True, depth=3))',
     ['model.backbone has no type']),
    ('model = dict(head=dict(loss_id=dict(_delete_=True)))',
     ['model.head.loss_id has no type']),
    ('model = dict(head=dict(loss_id=[1]))', ['loss_id=[1]', 'or None']),
    ("model = dict(type='osar_plugin.SDFNet', neck=dict(_delete_=True, "
     "type='osar_plugin.ClassTokenNek'))", ["'osar_plugin.ClassTokenNeck'"]),
    ('model = dict(_delete_=True, type="osar_plugin.SDFNet", backbone=dict('
     'type="osar_plugin.VisionTransformer"))', ["SDFNet needs 'neck'"]),
    ('model = dict(init_cfg=dict(checkpoint=3))', ['init_cfg.checkpoint=3']),
    ("model = dict(init_cfg=dict(type='Pretraind'))", ["'Pretrained'"]),
    ('train_dataloader = dict(batch_size=0)',
     ['train_dataloader.batch_size=0', 'of at least 1']),
    ('train_dataloader = dict(num_workers=-1)', ['num_workers=-1']),
    ('train_dataloader = dict(sampler=None)', ['train_dataloader.sampler']),
    ('train_dataloader = dict(_delete_=True, batch_size=3)',
     ["needs 'dataset'"]),
    ('train_dataloader = dict(dataset=dict(pipeline=[dict(size=3)]))',
     ['dataset.pipeline.0 has no type']),
    ('train_dataloader = dict(dataset=dict(pipeline=[7]))',
     ['dataset.pipeline.0=7']),
    ('optim_wrapper = dict(optimizer=dict(lr=-1.))',
     ['optimizer.lr=-1.0', 'above 0 and at most 1000']),
    ("optim_wrapper = dict(optimizer=dict(lr='1e-3'))", ["lr='1e-3'"]),
    ('optim_wrapper = dict(optimizer=dict(momentum=5))', ['momentum=5']),
    ('optim_wrapper = dict(optimizer=None)', ['optim_wrapper.optimizer']),
    ("optim_wrapper = dict(constructor='osar_plugin.MergdGroupsConstructor')",
     ["'osar_plugin.MergedGroupsConstructor'"]),
    ("optim_wrapper = dict(constructor=['a'])", ["constructor=['a']"]),
    ('optim_wrapper = dict(clip_grad=dict(max_nrm=1.))', ["'max_norm'"]),
    ('optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(bias='
     'dict(lr_mul=2.))))', ["'lr_mult'"]),
    ('param_scheduler = dict(total=None)', ['param_scheduler.total=None']),
    ('param_scheduler = [dict(by_epoch=True)]',
     ['param_scheduler.0 has no type']),
    ('optim_wrapper = dict(clip_grad=dict(norm_type=2))', ["'max_norm'"]),
    ("model = dict(neck=dict(_delete_=True, type='mmcv.ConvModul'))",
     ["'mmengine.ConvModule'"]),
    ('train_cfg = dict(max_epochs=0)', ['train_cfg.max_epochs=0']),
    ('train_cfg = dict(_delete_=True, max_epochs=3)', ["'by_epoch'"]),
    ('train_cfg = dict(_delete_=True, by_epoch=True)', ["'max_epochs'"]),
    ('default_hooks = dict(checkpoint=dict(interval=-7))',
     ['interval=-7', 'or -1']),
    ("default_hooks = dict(chekpoint=dict(type='mmengine.EMAHook'))",
     ["'checkpoint'"]),
    ("default_hooks = dict(checkpoint=dict(save_best='ALL/mPA'))",
     ["save_best='ALL/mPA'", "'ALL/mAP'"]),
    ('custom_hooks = [3]', ['custom_hooks.0=3']),
    ('val_evaluator = []', ['val_evaluator=[]', 'names no metric']),
    ('randomness = dict(seed=-1)', ['randomness.seed=-1', '4294967295']),
    ('randomness = dict(_delete_=True)', ["needs 'seed'"]),
    ("env_cfg = dict(dist_cfg=dict(backend='ncl'))", ["'nccl'"]),
    ("env_cfg = dict(mp_cfg=dict(mp_start_method='frok'))", ["'fork'"]),
    ("log_level = 'IFNO'", ["log_level='IFNO'", "'INFO'"]),
    ("resume = 'yes'", ["resume='yes'", 'True or False']),
    ("load_from = ''", ["load_from=''", 'empty']),
    ('visualizer = dict(vis_backends=dict(_delete_=True, a=1))',
     ['visualizer.vis_backends has no type']),
])
def test_mistakes_are_named(text: str, words: list[str],
                            tmp_path: Path) -> None:
    message = refusal(text, tmp_path)
    for word in words:
        assert word in message


def test_misspelt_scope_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(MissingDependencyError) as caught:
        check_config(Config(dict(default_scope='osar_plugn')))
    assert "mean 'osar_plugin'" in str(caught.value)
    cfg = Config(dict(model=dict(type='osar_plugn.SDFNet')))
    with pytest.raises(MissingDependencyError) as caught:
        check_config(cfg)
    assert "mean 'osar_plugin.SDFNet'" in str(caught.value)


def test_a_part_without_its_fellows() -> None:
    cfg = load_config(MAIN)
    cfg.val_cfg = None
    with pytest.raises(ConfigError, match='but no val_cfg') as caught:
        require_parts(cfg, 'x.py', 'trained', ('model', ))
    assert 'val_dataloader and val_evaluator' in str(caught.value)
    cfg.val_dataloader = cfg.val_evaluator = None
    require_parts(cfg, 'x.py', 'trained', ('model', ))
    cfg.optim_wrapper = None
    with pytest.raises(ConfigError, match='has no optim_wrapper'):
        require_parts(cfg, 'x.py', 'trained', ('optim_wrapper', ))


# ------------------------------------------------------- what must not refuse


@pytest.mark.parametrize('text', [
    "optim_wrapper = dict(type='mmengine.AmpOptimWrapper', loss_scale=512.)",
    "optim_wrapper = dict(type='mmengine.AmpOptimWrapper', "
    'loss_scale=dict(init_scale=512.))',
    'train_cfg = dict(max_epochs=3.)',
    'train_cfg = dict(_delete_=True, by_epoch=False, max_iters=9, '
    'val_interval=1e4)',
    "train_cfg = dict(_delete_=True, type='mmengine.IterBasedTrainLoop', "
    'max_iters=9)',
    'default_hooks = dict(timer=None, data_check=None)',
    'default_hooks = dict(checkpoint=dict(interval=-1, max_keep_ckpts=-1))',
    "default_hooks = dict(checkpoint=dict(save_best=['O2S/R1', 'auto']))",
    "default_hooks = dict(my_hook=dict(type='mmengine.EMAHook'))",
    "custom_hooks = [dict(type='mmengine.EMAHook', momentum=2e-4)]",
    "param_scheduler = [dict(type='mmengine.LinearLR', start_factor=1e-3, "
    'begin=0, end=5, convert_to_iter_based=True), '
    "dict(type='mmengine.MultiStepLR', milestones=[3, 4])]",
    'optim_wrapper = dict(optimizer=dict(lr=1, weight_decay=0))',
    "optim_wrapper = dict(clip_grad=dict(type='value', clip_value=1))",
    'optim_wrapper = dict(paramwise_cfg=dict(norm_decay_mult=0, '
    "custom_keys={'backbone.norm': dict(decay_mult=0)}))",
    'model = dict(backbone=dict(img_size=[256, 128], mlp_ratio=4))',
    'model = dict(structure=None, head=dict(loss_triplet=None))',
    "model = dict(init_cfg=dict(_delete_=True, type='Constant', val=1, "
    "layer='Linear'))",
    'val_dataloader = dict(num_workers=0)',
    "train_dataloader = dict(collate_fn=dict(type='pseudo_collate'))",
    "visualizer = dict(type='mmengine.Visualizer', vis_backends=None)",
    "models = ['a variable of stock configs']",
    'log_level = 10',
    "env_cfg = dict(dist_cfg=dict(backend='my_backend', timeout=3))",
])
def test_right_values_pass(text: str, tmp_path: Path) -> None:
    file = tmp_path / 'config.py'
    file.write_text(f"_base_ = [r'{MAIN}']\n{text}\n", encoding='utf-8')
    load_config(file)


def test_layers_are_left_to_their_builders() -> None:
    """They split their arguments between mmcv and torch."""
    check_config(Config(dict(model=dict(
        type='mmengine.ConvModule', in_channels=1, out_channels=1,
        kernel_size=1, norm_cfg=dict(type='BN', requires_grad=True),
        act_cfg=dict(type='ReLU', inplace=True)))))


# ----------------------------------------------------------- values and hints


@pytest.mark.parametrize(('value', 'hint', 'fine'), [
    (1, int, True), (True, int, False), (1., int, False), ('1', int, False),
    (None, int, False), (1, float, True), (True, float, False),
    ('1', float, False), (1, bool, False), (False, bool, True),
    ('a', str, True), (Path('a'), str, True), (1, str, False),
    (None, int | None, True), ([1], int | None, False),
    ('a', int | str, True), (1, int | None, True),
    ('a', Literal['a', 'b'], True), ('c', Literal['a', 'b'], False),
    (True, Literal[1], False),
    ([1, 2], Sequence[int], True), ((1, 2), Sequence[int], True),
    ('12', Sequence[str], False), ({}, Sequence[int], False),
    ([1, 'a'], Sequence[int], False), (3, Sequence[int], False),
    ([1, 2], tuple[int, int], True), ([1], tuple[int, int], False),
    ([1, 2, 3], tuple[int], True), ([1, 2], tuple[int, ...], True),
    ({'a': 1}, Iterable[str], True), ({'a': 1}, Iterable[float], False),
    ({'a': 1}, dict, True), ([1], dict, False),
    ({'a': 1}, dict[str, int], True), ({'a': 'b'}, dict[str, int], False),
    (ConfigDict(type='X'), torch.nn.Module, True),
    (3, torch.nn.Module, False), (None, torch.nn.Module, False),
    ('abc', float | torch.Tensor, False), (1, float | torch.Tensor, True),
    (print, Callable, True), ('name', Callable, True),
    ({'a': 1}, Callable, False), (3, Callable, False),
    (object(), Any, True), (None, Any, True), ('x', object, True),
    (dict(type='X'), Buildable, True), (dict(type=int), Buildable, True),
    (dict(type=''), Buildable, False), (dict(type=None), Buildable, False),
    ({}, Buildable, False), (3, Buildable, False), (None, Buildable, False),
    ([], Buildable, False), (torch.nn.ReLU(), Buildable, True),
    (None, Buildable | None, True),
])
def test_fit(value: Any, hint: Any, fine: bool) -> None:
    assert (misfit(value, hint, 'x') is None) == fine


def test_the_innermost_misfit_is_named() -> None:
    fault = misfit([dict(type='X'), 3], Sequence[Buildable] | None, 'a.b')
    assert fault is not None
    assert (fault.path, fault.value) == ('a.b.1', 3)
    fault = misfit(dict(x=dict()), dict[str, Buildable | None], 'hooks')
    assert fault is not None
    assert fault.path == 'hooks.x'


@pytest.mark.parametrize(('hint', 'words'), [
    (int, 'a whole number'), (float | None, 'a number or None'),
    (float | torch.Tensor, 'a number'),
    (tuple[int, int], 'a list of 2, each a whole number'),
    (tuple[int, str], 'a list of 2: a whole number, a string'),
    (Sequence[str], 'a list, each a string'), (list, 'a list'),
    (Literal['a', 'b'], "'a' or 'b'"), (dict[str, int], 'a dict'),
    (Buildable, 'a dict with a type'), (torch.nn.Module, 'a Module'),
])
def test_descriptions(hint: Any, words: str) -> None:
    assert describe(hint) == words


def test_annotations_that_are_text() -> None:
    assert resolve('int | None', test_fit) == (int | None)
    assert resolve('NoSuchName[int]', test_fit) is Any
    assert resolve('Iterable | None', print) is not Any
    assert resolve(None, test_fit) is type(None)


def test_other_packages_are_read_loosely() -> None:
    assert misfit(4.5, loosened(int), 'x') is None
    assert misfit((1, 2), loosened(float | None), 'x') is None
    assert misfit('a', loosened(float | None), 'x') is not None
    assert misfit(None, loosened(int), 'x') is not None
    assert loosened(dict) is Any
    assert loosened(dict | None) is Any
    assert loosened(Literal['a']) == Literal['a']


def test_required_arguments_are_followed_with_care() -> None:

    class Base:

        def __init__(self, name: str, size: int) -> None: ...

    class Names(Base):
        """Gives one of the two itself."""

        def __init__(self, **kwargs: Any) -> None: ...

    class Mixin(Base):
        """Passes everything on."""

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def required(target: type) -> set[str]:
        return {name for name, a in arguments(target)[0].items()
                if a.required}

    assert required(Base) == {'name', 'size'}
    assert required(Names) == set()
    assert required(Mixin) == {'name', 'size'}
    supplied = arguments_of(Target('visualizer', Base))[0]
    assert not supplied['name'].required and supplied['size'].required
    nested = arguments_of(Target('model', Base, direct=False))
    assert not nested[0]['size'].required and not nested[1]


# -------------------------------------------------------------------- numbers


@pytest.mark.parametrize(('key', 'value', 'fine'), [
    ('interval', 1, True), ('interval', -1, True), ('interval', 0, False),
    ('lr', 1e-3, True), ('lr', 0., False), ('lr', 1e12, False),
    ('momentum', 1, True), ('momentum', 1.5, False),
    ('betas', (0.9, 0.999), True), ('betas', (0.9, 1.), False),
    ('seed', 2**32 - 1, True), ('seed', 2**32, False),
    ('max_norm', float('inf'), True), ('my_own', -1e30, True),
    ('my_own', NAN, False), ('my_own', [1, (NAN, )], False),
    ('batch_size', True, True), ('batch_size', 'no number', True),
])
def test_ranges_by_name(key: str, value: Any, fine: bool) -> None:
    assert (number_fault(key, value) is None) == fine


def test_range_words() -> None:
    assert str(BOUNDS['seed']) == 'of at least 0 and at most 4294967295'
    assert str(BOUNDS['interval']) == 'of at least 1, or -1'
    assert str(BOUNDS['lr']) == 'above 0 and at most 1000'
    assert str(BOUNDS['betas']) == 'of at least 0 and below 1'


def test_ranges_in_constructors() -> None:
    require_range(0, 1, share=0.5, other=None, some=(0, 1))
    with pytest.raises(ConfigError, match=r'share=1\.5 .* at most 1\.'):
        require_range(0, 1, share=1.5)
    with pytest.raises(ConfigError, match=r'rate=0 .*above 0'):
        require_range(0, without=(0, ), rate=0)
    with pytest.raises(ConfigError, match='share=nan'):
        require_range(0, share=NAN)
    with pytest.raises(ConfigError, match=r'label_smoothing=-7'):
        IdentityLoss(label_smoothing=-7)
    with pytest.raises(ConfigError, match='std=.*0'):
        ReIDDataPreprocessor(std=(0.2, 0., 0.2))
    with pytest.raises(ConfigError, match='each channel'):
        ReIDDataPreprocessor(std=(0.2, 0.2))


def test_a_batch_that_was_not_packed() -> None:
    with pytest.raises(DataFormatError, match='PackReIDInputs'):
        ReIDDataPreprocessor()(dict(img=[1]))


def test_widths_that_disagree() -> None:
    parts: dict[str, Any] = dict(
        backbone=dict(
            type='osar_plugin.VisionTransformer', img_size=(32, 32),
            embed_dim=32, depth=1, num_heads=2, modality_token=True),
        neck=dict(type='osar_plugin.DisentangledNeck', embed_dim=32,
                  fusion='concat'),
        head=dict(type='osar_plugin.IdentityHead', in_channels=32,
                  num_classes=4))
    with pytest.raises(ConfigError, match=r'in_channels=32.*makes 64'):
        TransOSS(**parts)
    parts['head']['in_channels'] = 64
    TransOSS(**parts)
    neck = DisentangledNeck(16, source='projection')
    with pytest.raises(ConfigError, match=r'neck\.embed_dim=16'):
        neck.out_channels(32)
