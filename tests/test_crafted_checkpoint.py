"""Files that carry code, against everything that takes a checkpoint.

Each file would make `made` if anything of it ran. None does, and each ends
in an error of ours that names the file. An entry point that is added without
a test here is found by :func:`test_no_reader_without_a_test`.
"""

from __future__ import annotations

import ast
import io
import os
import pickle
import runpy
import shutil
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import translation_case
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner import load_checkpoint as load_with_mmengine
from search_case import (
    CONFIG,
    write_chip,
    write_config,
    write_gallery,
    write_weights,
)
from torch import nn

from osar_plugin.apis.gallery import GalleryIndex
from osar_plugin.apis.reid import ShipReIDInferencer
from osar_plugin.apis.translation import OpticalToSARInferencer
from osar_plugin.engine.pseudo_views import build_translator
from osar_plugin.evaluation.frechet import inception
from osar_plugin.models.backbones.pretrained import load_backbone
from osar_plugin.models.pretraining.teachers import load_teacher
from osar_plugin.models.translation.official import (
    load_codec,
    load_translator,
    read_foreign,
)
from osar_plugin.registry import MODELS
from osar_plugin.utils.checkpoint import (
    find_checkpoint,
    load_checkpoint,
    read_checkpoint,
    read_meta,
    use_safe_loading,
)
from osar_plugin.utils.config import load_config
from osar_plugin.utils.errors import CheckpointMismatchError, OSARError

REPO = Path(__file__).resolve().parents[1]
TRAINING = """
train_dataloader = dict(
    **_loader, sampler=dict(batch_size=8, num_instances=2),
    dataset=dict(pipeline=_pipeline))
"""


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path, how: str = 'mknod') -> None:
        self.path, self.how = str(path), how

    def __reduce__(self) -> tuple:
        return {
            'mknod': (os.mknod, (self.path,)),
            'open': (open, (self.path, 'w')),
            'eval': (eval, (f'open({self.path!r}, "w").close()',)),
            'save': (np.save, (self.path, np.zeros(1))),
            'torch': (torch.save, ([], self.path)),
        }[self.how]


class Deed(Bomb):
    """Calls a method that it reaches through an admitted class."""

    def __reduce__(self) -> tuple:
        method = (getattr, (np.ndarray, 'tofile'))
        return _Call(method), (np.zeros(1), self.path)


class _Call:
    def __init__(self, reduced: tuple) -> None:
        self.reduced = reduced

    def __call__(self, *_: Any) -> None:
        raise AssertionError('only ever pickled')

    def __reduce__(self) -> tuple:
        return self.reduced


class State(Bomb):
    """Hides it in the state of a HistoryBuffer, among the statistics."""

    def __reduce__(self) -> tuple:
        return HistoryBuffer, (), dict(
            _log_history=np.ones(1), _count_history=np.ones(1), max_length=9,
            statistics_methods=dict(mean=Bomb(self.path)))


def objects(bomb: Any) -> np.ndarray:
    array = np.empty(1, object)
    array[0] = bomb
    return array


def nest(content: dict, place: str, bomb: Any) -> dict:
    """The checkpoint with something at a place like ``meta.cfg``."""
    content = dict(content)
    head, _, rest = place.partition('.')
    content[head] = nest(content.get(head, {}), rest, bomb) if rest else bomb
    return content


PLACES = (
    'meta.cfg', 'meta.dataset_meta', 'message_hub.log_scalars.loss',
    'message_hub.runtime_info.best', 'optimizer.state', 'state_dict.extra',
    'ema_state_dict.weight', 'param_schedulers', 'exact_resume', 'anything')


def write(path: Path, form: str, content: dict, made: Path) -> Path:
    """A file that would make `made`, in one of many forms."""
    kind, _, detail = form.partition(':')
    if kind in ('place', 'legacy'):
        torch.save(
            nest(content, detail, Bomb(made)), path,
            _use_new_zipfile_serialization=kind == 'place')
    elif kind == 'call':
        torch.save(dict(content, x=Bomb(made, detail)), path)
    elif kind == 'pickle':
        path.write_bytes(pickle.dumps(
            dict(content, x=Bomb(made)), protocol=int(detail)))
    elif kind == 'class':
        bomb = dict(getattr=Deed, history=State)[detail](made)
        torch.save(dict(content, x=bomb), path)
    elif kind == 'numpy':
        torch.save(dict(content, x=objects(Bomb(made))), path)
    elif kind == 'npz':
        file = io.BytesIO()
        np.savez(file, x=objects(Bomb(made)))
        path.write_bytes(file.getvalue())
    elif kind == 'after':
        # An honest archive behind a pickle: who looks at the end of the
        # file sees the one, who reads from its start the other.
        file = io.BytesIO()
        torch.save(content, file)
        path.write_bytes(pickle.dumps(Bomb(made)) + file.getvalue())
    elif kind == 'member':
        torch.save(content, path)
        with zipfile.ZipFile(path, 'a') as archive:
            root = archive.namelist()[0].partition('/')[0]
            archive.writestr(
                f'{root}/data.pkl', pickle.dumps(Bomb(made), protocol=2))
    return path


FORMS = [
    *(f'place:{place}' for place in PLACES),
    *(f'legacy:{place}' for place in PLACES[:4]),
    *(f'call:{how}' for how in ('open', 'eval', 'save', 'torch')),
    *(f'pickle:{protocol}' for protocol in range(6)),
    'class:getattr', 'class:history', 'numpy', 'npz', 'after']
# For entry points that take long: one of these for each in turn.
FEW = ['place:message_hub.runtime_info.best', 'legacy:meta.cfg', 'pickle:4']


class Case:
    """A tiny model, its config, and where the crafted files go."""

    def __init__(self, config: Path, content: dict, folder: Path, data: Path,
                 run_tool: Any) -> None:
        self.config = config
        self.content = content
        self.folder = folder
        self.data = data
        self.run_tool = run_tool

    @property
    def cfg(self) -> Any:
        return load_config(self.config)

    def model(self) -> Any:
        return MODELS.build(self.cfg.model)

    def tool(self, name: str, *args: Any) -> None:
        """Run a tool; its message becomes an error."""
        ended = self.run_tool(name, *args)
        if ended.code:
            assert ended.code == 2
            raise OSARError(ended.err)

    def train(self, *args: Any) -> None:
        self.tool('train.py', self.config, '--data-root', self.data,
                  '--work-dir', self.folder / 'run', *args)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The config of a tiny model and what a training of it would save."""
    folder = tmp_path_factory.mktemp('tiny')
    config = write_config(folder, CONFIG + TRAINING)
    weights = read_checkpoint(write_weights(folder, config))
    return config, dict(
        meta=dict(epoch=1, iter=1, time='20260101_000000'),
        state_dict=OrderedDict(weights), optimizer=dict(state={}),
        message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}),
        param_schedulers=[])


@pytest.fixture
def case(trained, tmp_path, tiny_hoss, run_tool):
    folder = tmp_path / 'case'
    folder.mkdir()
    return Case(*trained, folder, tiny_hoss, run_tool)


def work_dir(path: Path) -> Path:
    """A work dir whose newest checkpoint is the file."""
    folder = path.parent / 'work_dir'
    folder.mkdir()
    shutil.copy(path, folder / 'epoch_1.pth')
    (folder / 'last_checkpoint').write_text('epoch_1.pth')
    return folder


def pretrained(case: Case, path: Path, **where: Any) -> None:
    """Through an ``init_cfg``, which MMEngine itself reads."""
    cfg = case.cfg.model
    target = cfg.backbone if where.get('backbone') else cfg
    target.init_cfg = dict(type='Pretrained', checkpoint=str(path))
    MODELS.build(cfg).init_weights()


def with_runner(case: Case, path: Path, resume: bool) -> None:
    """MMEngine's runner itself, which nobody told of safe loading."""
    from mmengine.runner import Runner
    runner = Runner(
        case.model(), str(case.folder / 'runner'),
        experiment_name=f'crafted{path.parent.name}{resume}')
    if resume:
        runner.resume(str(path))
    else:
        runner.load_checkpoint(str(path))


def train_from_init_cfg(case: Case, path: Path) -> None:
    named = dict(type='Pretrained', checkpoint=str(path))
    case.config = write_config(case.folder, case.config.read_text().replace(
        'init_cfg=None', f'init_cfg={named!r}'))
    case.train()


def kill_harness(path: Path) -> None:
    module = runpy.run_path(str(REPO / 'tools/benchmark/kill_resume.py'))
    folder = work_dir(path)
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_1.pth'))
    module['weights'](folder)


def published_by_the_hook(case: Case, path: Path) -> None:
    from osar_plugin.engine.checkpointing import AtomicCheckpointHook
    hook = AtomicCheckpointHook(published_keys=['state_dict'], interval=1)
    hook._publish_model(None, str(path))


# What reads through which function, in this process.
CHEAP = {
    'read_checkpoint': lambda case, path: read_checkpoint(path),
    'read_meta': lambda case, path: read_meta(path),
    'find_checkpoint': lambda case, path: find_checkpoint(work_dir(path)),
    'mmengine loader': lambda case, path: (
        use_safe_loading(), CheckpointLoader.load_checkpoint(str(path))),
    'read_foreign': lambda case, path: read_foreign(path),
    'load_translator': lambda case, path: load_translator(
        nn.Identity(), path),
    'load_codec': lambda case, path: load_codec(
        nn.Identity(), path),
    'load_backbone': lambda case, path: load_backbone(
        nn.Identity(), str(path)),
    'load_teacher': lambda case, path: load_teacher(
        nn.Identity(), str(path)),
    'published_keys': published_by_the_hook,
}
LONG = {
    'load_checkpoint': lambda case, path: load_checkpoint(case.model(), path),
    'mmengine load_checkpoint': lambda case, path: load_with_mmengine(
        case.model(), str(path)),
    'init_cfg': pretrained,
    'init_cfg of a backbone': lambda case, path: pretrained(
        case, path, backbone=True),
    'Runner.resume': lambda case, path: with_runner(case, path, True),
    'Runner.load_checkpoint': lambda case, path: with_runner(
        case, path, False),
    'ShipReIDInferencer': lambda case, path: ShipReIDInferencer(
        str(case.config), path, 'cpu'),
    'train --resume FILE': lambda case, path: case.train('--resume', path),
    'train load_from': lambda case, path: case.train(
        '--cfg-options', f'load_from={path}'),
    'train model.init_cfg': train_from_init_cfg,
    'test': lambda case, path: case.tool(
        'test.py', case.config, path, '--data-root', case.data,
        '--work-dir', case.folder / 'test'),
    'search_ships': lambda case, path: case.tool(
        'search_ships.py', '--query',
        write_chip(case.folder / '0001_s01c1_RGB.tif', 1), '--gallery',
        write_gallery(case.folder / 'gallery', 1), '--config', case.config,
        '--weights', path),
    'convert_checkpoint': lambda case, path: case.tool(
        'convert_checkpoint.py', path, case.folder / 'o.pth', '--to', 'ours'),
    'publish_model': lambda case, path: case.tool(
        'publish_model.py', path, case.folder / 'o.safetensors'),
    'kill_resume': lambda case, path: kill_harness(path),
    'inception': lambda case, path: inception(str(path)),
    'OpticalToSARInferencer': lambda case, path: OpticalToSARInferencer(
        translation_case.write_config(case.folder), path, 'cpu'),
    'pseudo views': lambda case, path: build_translator(
        load_config(translation_case.write_config(case.folder)).model, path,
        torch.device('cpu')),
    'translate': lambda case, path: case.tool(
        'translate.py', write_chip(case.folder / '0001_s01c1_RGB.tif', 1),
        '-o', case.folder / 'out', '--config',
        translation_case.write_config(case.folder), '--checkpoint', path),
    'evaluate_translation': lambda case, path: case.tool(
        'analysis/evaluate_translation.py',
        translation_case.write_config(case.folder), path, '--data-root',
        case.data),
}
# Those that are given a work dir and name its file.
DIRS = {
    'train --resume': lambda case, folder: case.train(
        '--resume', '--work-dir', folder),
    'publish_model of a work dir': lambda case, folder: case.tool(
        'publish_model.py', folder, case.folder / 'o.safetensors'),
    'test of a work dir': lambda case, folder: case.tool(
        'test.py', case.config, folder, '--data-root', case.data,
        '--work-dir', case.folder / 'test'),
}
NAMES = {'find_checkpoint': 'epoch_1.pth', 'kill_resume': 'epoch_1.pth'}


def refused(read: Any, case: Case, path: Path, made: Path, name: str) -> str:
    with pytest.raises(OSARError) as caught:
        read(case, path)
    assert name in str(caught.value)
    assert not made.exists()
    return str(caught.value)


def written(folder: Path, content: dict, forms: list[str]) -> Any:
    """Each form in a folder of its name, beside what it would make."""
    for form in forms:
        own = folder / form.replace(':', '-')
        own.mkdir()
        yield write(own / 'evil.pth', form, content, own / 'made')


@pytest.mark.parametrize('entry', CHEAP)
def test_every_form(case, tmp_path, entry):
    for path in written(tmp_path, case.content, FORMS):
        refused(CHEAP[entry], case, path, path.with_name('made'),
                NAMES.get(entry, 'evil.pth'))


@pytest.mark.parametrize(('entry', 'form'), zip(
    LONG, FEW * len(LONG), strict=False))
def test_every_entry_point(case, tmp_path, entry, form):
    made = tmp_path / 'made'
    path = write(tmp_path / 'evil.pth', form, case.content, made)
    text = refused(LONG[entry], case, path, made,
                   NAMES.get(entry, 'evil.pth'))
    assert 'mknod' in text
    assert 'could run code' in text


@pytest.mark.parametrize('entry', DIRS)
def test_work_dirs(case, tmp_path, entry):
    made = tmp_path / 'made'
    path = write(tmp_path / 'evil.pth', FEW[0], case.content, made)
    refused(DIRS[entry], case, work_dir(path), made, 'epoch_1.pth')


@pytest.mark.parametrize('entry', [
    'read_checkpoint', 'mmengine loader', 'load_checkpoint', 'init_cfg',
    'ShipReIDInferencer', 'test', 'search_ships', 'convert_checkpoint',
    'publish_model'])
def test_a_pickle_under_the_name_of_safetensors(case, tmp_path, entry):
    made = tmp_path / 'made'
    for form in ('pickle:2', 'place:meta.cfg'):
        path = write(tmp_path / 'evil.safetensors', form, case.content, made)
        refused(
            {**CHEAP, **LONG}[entry], case, path, made, 'evil.safetensors')


def test_an_index_of_a_gallery(case, tmp_path):
    made = tmp_path / 'made'
    weights = write_weights(tmp_path, case.config)
    index = GalleryIndex(tmp_path / 'index', ShipReIDInferencer(
        str(case.config), weights, 'cpu'))
    gallery = write_gallery(tmp_path / 'gallery', 1)
    index.update(gallery)
    for file in list(index.folder.iterdir()):
        before = file.read_bytes()
        for form in FORMS:
            write(file, form, case.content, made)
            refused(lambda *_: index.update(gallery), case, file, made,
                    file.name)
        file.write_bytes(before)
    index.update(gallery)


def test_two_members_of_one_name(case, tmp_path):
    """Readers may take the first or the last; neither runs anything."""
    made = tmp_path / 'made'
    with pytest.warns(UserWarning, match='Duplicate name'):
        path = write(tmp_path / 'evil.pth', 'member', case.content, made)
    try:
        assert read_checkpoint(path).keys() == case.content.keys()
    except OSARError as error:
        assert 'evil.pth' in str(error)
    assert not made.exists()


def test_the_files_would_do_it(case, tmp_path, monkeypatch):
    """Read without care, each of them makes the file: the proof counts."""
    # One of them changes the statistics of the whole process.
    monkeypatch.setattr(HistoryBuffer, '_statistics_methods',
                        dict(HistoryBuffer._statistics_methods))
    forms = [form for form in FORMS if form != 'npz']
    for path in written(tmp_path, case.content, forms):
        if path.parent.name == 'after' or 'pickle' in path.parent.name:
            with open(path, 'rb') as file:
                pickle.load(file)
        else:
            torch.load(path, weights_only=False)
        assert list(path.parent.glob('made*')), path


@pytest.mark.parametrize('entry', [
    *CHEAP, 'load_checkpoint', 'init_cfg', 'ShipReIDInferencer',
    'convert_checkpoint', 'publish_model', 'kill_resume'])
def test_without_the_code_they_are_read(case, tmp_path, entry):
    """Else they might be refused for another reason."""
    path = tmp_path / 'good.pth'
    torch.save(case.content, path)
    try:
        {**CHEAP, **LONG}[entry](case, path)
    except (AttributeError, CheckpointMismatchError):
        # No runner and a module that is no model: reading is over by then.
        assert entry in ('load_translator', 'load_codec', 'load_backbone',
                         'load_teacher', 'published_keys')


# Functions that hand a file to a reader, and the entry points above through
# which this is tested. `None`: no file of the user's choosing.
CALLERS: dict[str, tuple[str, ...] | None] = {
    'osar_plugin/apis/damage.py:__init__': (
        'find_checkpoint', 'load_checkpoint'),
    'osar_plugin/apis/gallery.py:_read': None,  # test_an_index_of_a_gallery
    'osar_plugin/apis/pretraining.py:_fill': ('load_checkpoint',),
    'osar_plugin/apis/reid.py:_init_model': ('ShipReIDInferencer',),
    'osar_plugin/apis/translation.py:_weights': (
        'OpticalToSARInferencer',),
    'osar_plugin/apis/translation.py:_build': ('OpticalToSARInferencer',),
    'osar_plugin/apis/zoo.py:get_model': (
        'find_checkpoint', 'load_checkpoint'),
    # Safetensors only; tests/test_teacher_features.py.
    'osar_plugin/datasets/teacher_features.py:read_features': None,
    'osar_plugin/engine/checkpointing.py:_publish_model': (
        'published_keys',),
    'osar_plugin/engine/pseudo_views.py:_weights': (
        'find_checkpoint', 'pseudo views'),
    'osar_plugin/engine/pseudo_views.py:prepare': ('pseudo views',),
    'osar_plugin/evaluation/frechet.py:inception': ('inception',),
    'osar_plugin/models/backbones/pretrained.py:load_backbone': (
        'load_backbone',),
    'osar_plugin/models/backbones/pretrained.py:init_weights': (
        'load_backbone',),
    'osar_plugin/models/backbones/dinov2.py:init_weights': (
        'load_checkpoint',),
    'osar_plugin/models/registration/pyramid.py:init_weights': (
        'read_checkpoint',),
    'osar_plugin/models/registration/soma_matcher.py:__init__': (
        'load_checkpoint',),
    'osar_plugin/models/pretraining/trunk_teacher.py:__init__': (
        'load_backbone', 'load_checkpoint'),
    'osar_plugin/models/pretraining/teachers.py:load_teacher': (
        'load_teacher',),
    'osar_plugin/models/pretraining/teachers.py:__init__': (
        'load_teacher',),
    'osar_plugin/models/weights.py:_load_pretrained': ('init_cfg',),
    'osar_plugin/models/translation/official.py:read_foreign': (
        'read_foreign',),
    'osar_plugin/models/translation/official.py:load_translator': (
        'load_translator',),
    'osar_plugin/models/translation/official.py:load_codec': ('load_codec',),
    'osar_plugin/models/translation/codec.py:init_weights': ('load_codec',),
    'osar_plugin/models/translation/translator.py:init_weights': (
        'load_translator',),
    'osar_plugin/utils/checkpoint.py:load_checkpoint': ('load_checkpoint',),
    'osar_plugin/utils/loading.py:read_checkpoint': ('read_checkpoint',),
    'osar_plugin/utils/loading.py:read_meta': ('read_meta',),
    'osar_plugin/utils/loading.py:_read_safetensors': ('read_checkpoint',),
    'osar_plugin/utils/loading.py:_read_pickle': ('read_checkpoint',),
    'osar_plugin/utils/remote.py:load_from_local': ('mmengine loader',),
    'osar_plugin/utils/remote.py:load_from_http': ('mmengine loader',),
    'osar_plugin/utils/work_dir.py:checkpoint_file': ('find_checkpoint',),
    'osar_plugin/utils/work_dir.py:_damage': ('find_checkpoint',),
    'osar_plugin/utils/work_dir.py:_progress': ('find_checkpoint',),
    'tools/analysis/evaluate_translation.py:main': ('evaluate_translation',),
    'tools/analysis/evaluate_translation.py:retrieval': (
        'ShipReIDInferencer',),
    'tools/analysis/analyse_pretraining.py:load_encoder': (
        'find_checkpoint', 'load_checkpoint'),
    'tools/analysis/linear_probe.py:main': (
        'find_checkpoint', 'load_checkpoint'),
    'tools/benchmark/codemae_ablation.py:pretrain': ('find_checkpoint',),
    'tools/benchmark/demo_ablation.py:check': ('find_checkpoint',),
    'tools/benchmark/demo_finetuning.py:check': ('find_checkpoint',),
    'tools/benchmark/kill_resume.py:weights': ('kill_resume',),
    'tools/benchmark/checkpointing.py:build': None,  # writes only
    'tools/convert_checkpoint.py:main': ('convert_checkpoint',),
    'tools/publish_model.py:main': (
        'publish_model', 'publish_model of a work dir'),
    'tools/search_ships.py:main': ('search_ships',),
    'tools/test.py:main': ('test', 'test of a work dir'),
    'tools/test.py:merge_args': ('test of a work dir',),
    'tools/train.py:check_resumable': ('train --resume FILE',),
    'tools/train.py:resume_newest': ('train --resume',),
    'tools/translate.py:main': ('translate',),
    'tools/train.py:build_runner': (
        'train load_from', 'train model.init_cfg'),
}
# What reads files without these, `torch.load` and the like, is an error of
# the lint rules everywhere else.
READERS = {
    'read_checkpoint', 'read_meta', 'load_checkpoint', 'find_checkpoint',
    'checkpoint_file', 'read_foreign', 'load_translator', 'load_codec',
    'load_backbone', 'load_teacher', 'fetch_checkpoint',
    'ShipReIDInferencer', 'OpticalToSARInferencer', 'build_translator',
    'from_cfg', 'load_or_resume', 'safe_open',
    'load_file', '_load_checkpoint', '_read_pickle', '_unpickle'}


def reading_functions() -> set[str]:
    """``file:function`` of every call of something in `READERS`."""
    found = set()
    for folder in ('osar_plugin', 'tools'):
        for path in sorted((REPO / folder).rglob('*.py')):
            text = path.read_text(encoding='utf-8')
            if '.mim' in path.parts or not any(n in text for n in READERS):
                continue
            name = path.relative_to(REPO).as_posix()
            found |= {f'{name}:{function}'
                      for function in _reading(ast.parse(text), '')}
    return found


def _reading(node: ast.AST, function: str) -> set[str]:
    """Names of the innermost functions that call a reader."""
    found = set()
    if isinstance(node, ast.FunctionDef):
        function = node.name
    elif isinstance(node, ast.Call):
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(
            called, 'id', None)
        found = {function} if name in READERS else found
    for child in ast.iter_child_nodes(node):
        found |= _reading(child, function)
    return found


def test_no_reader_without_a_test() -> None:
    """What reads a checkpoint is in `CALLERS`, with the test that shows it.

    A new one fails here until somebody has added both.
    """
    entries = {*CHEAP, *LONG, *DIRS}
    for tests in CALLERS.values():
        assert set(tests or ()) <= entries
    found = reading_functions()
    assert found - set(CALLERS) == set()
    known = {name for name in CALLERS
             if (REPO / name.partition(':')[0]).is_file()}
    assert known - found == set(), 'no longer there'
