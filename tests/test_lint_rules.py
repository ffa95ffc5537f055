"""Nothing but one function reads what could carry code: the lint rule."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path for folder in ('osar_plugin', 'tools', 'configs', 'tests')
    for path in (REPO / folder).rglob('*.py') if '.mim' not in path.parts)

if find_spec('ruff') is None:
    pytest.skip('ruff is not installed', allow_module_level=True)


def ruff(*args: str, code: str | None = None) -> list[dict]:
    """What ruff finds, with the configuration of this project."""
    done = subprocess.run(
        [sys.executable, '-m', 'ruff', 'check', '--no-cache',
         '--output-format', 'json', *args],
        input=code, capture_output=True, text=True, cwd=REPO)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


def banned(code: str, name: str) -> list[str]:
    """Messages of the rule on a file of that name."""
    found = ruff('--stdin-filename', name, '-', code=code)
    return [f['message'] for f in found if f['code'] == 'TID251']


@pytest.mark.parametrize('code', [
    'import pickle\n', 'import pickle as p\n', 'from pickle import loads\n',
    'from pickle import Unpickler\n', 'import _pickle\n', 'import joblib\n',
    'from joblib import load\n', 'import dill\n', 'import cloudpickle\n',
    'import shelve\n', 'import marshal\n', 'import jsonpickle\n',
    'import torch\ntorch.load("x")\n', 'from torch import load\n',
    'import torch as t\nt.load("x", weights_only=True)\n',
    'from torch.serialization import load\n',
    'import torch\ntorch.jit.load("x")\n',
    'import torch\ntorch.hub.load("a", "b")\n',
    'from torch.hub import load_state_dict_from_url\n',
    'from torch.utils.model_zoo import load_url\n',
    'import mmengine\nmmengine.load("x.pkl")\n',
    'from mmengine import load\n', 'from mmengine.fileio import load\n',
    'from mmengine.runner import load_checkpoint\n',
    'from mmengine.runner.checkpoint import _load_checkpoint\n',
    'import pandas as pd\npd.read_pickle("x")\n',
])
def test_other_readers_are_errors(code: str) -> None:
    messages = banned(code, 'osar_plugin/models/new.py')
    assert messages
    assert all('utils.checkpoint' in message for message in messages)


@pytest.mark.parametrize('name', [
    'osar_plugin/utils/checkpoint.py', 'osar_plugin/utils/stand_ins.py',
    'osar_plugin/utils/new.py', 'osar_plugin/loading.py', 'tools/new.py',
    'tools/train.py', 'configs/new.py', 'tests/test_new.py',
    'tests/conftest.py', 'setup.py'])
def test_they_are_errors_everywhere(name: str) -> None:
    assert banned('import pickle\n', name)
    assert banned('import torch\ntorch.load("x")\n', name)


def test_the_reader_itself_may(tmp_path: Path) -> None:
    assert not banned('import pickle\n', 'osar_plugin/utils/loading.py')


def test_the_whole_tree_is_clean() -> None:
    found = ruff('--select', 'TID251,S301,S302,S307', '.')
    assert not [(f['filename'], f['message']) for f in found]


def test_every_exception_is_needed() -> None:
    """A file that no longer needs it must not keep it."""
    flagged = {
        Path(f['filename']).relative_to(REPO).as_posix() for f in ruff(
            '--select', 'TID251', '--config', 'lint.per-file-ignores = {}',
            '.')}
    table = (REPO / 'pyproject.toml').read_text(encoding='utf-8')
    exempt = {
        line.split('"')[1] for line in table.splitlines()
        if line.startswith('"') and '"TID251"' in line}
    assert flagged == exempt
    assert [name for name in exempt if not name.startswith('tests/')] == [
        'osar_plugin/utils/loading.py']


def unpickling_arrays(code: str) -> list[int]:
    """Lines that let NumPy unpickle, which the rule cannot tell."""
    return [
        node.value.lineno for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.keyword) and node.arg == 'allow_pickle'
        and not (isinstance(node.value, ast.Constant)
                 and node.value.value is False)]


def test_numpy_never_unpickles() -> None:
    found = {
        path.relative_to(REPO).as_posix(): lines for path in SOURCES
        if 'allow_pickle' in (text := path.read_text(encoding='utf-8'))
        and (lines := unpickling_arrays(text))}
    assert not found


def test_numpys_argument_is_seen() -> None:
    assert unpickling_arrays('np.load(x, allow_pickle=True)') == [1]
    assert unpickling_arrays('np.load(x,\n allow_pickle=flag)') == [2]
    assert not unpickling_arrays('np.load(x, allow_pickle=False)')
    assert not unpickling_arrays('np.load(x)')
