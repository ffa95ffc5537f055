"""Which module may import which, and what may not be imported at all."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'osar_plugin'

FOUNDATION = {'registry', 'compat', 'utils', 'io', 'version'}
DATA = {'structures'} | FOUNDATION
# Part of the package to the parts it may import, itself aside.
ALLOWED = {
    'apis': {'models', 'evaluation', 'visualization', 'datasets'} | DATA,
    'models': DATA,
    'evaluation': {'datasets'} | DATA,
    'visualization': {'datasets'} | DATA,
    'engine': {'datasets', 'evaluation', 'visualization'} | DATA,
    'datasets': DATA,
    'structures': FOUNDATION,
    'io': {'compat', 'utils'},
    'registry': {'compat'},
    'utils': {'registry', 'compat', 'io', 'version'},
    'compat': {'utils'},
    'version': set(),
    '__init__': {'version'},
}
# Mathematics that knows no Runner and no registry.
PURE = ('evaluation/ranking.py', 'evaluation/rerank.py')
OPTIONAL = {
    'mmdet', 'mmseg', 'mmpretrain', 'torchreid', 'timm', 'diffusers',
    'rasterio', 'faiss', 'torchvision', 'tensorboard'
}
FILES = sorted(
    path for path in PACKAGE.rglob('*.py') if '.mim' not in path.parts)


def imports(path: Path, top_level: bool = False) -> set[str]:
    """Absolute names of what a file imports; TYPE_CHECKING blocks aside."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    module = ('osar_plugin', *path.relative_to(PACKAGE).parts[:-1])
    found = set()
    for node in _statements(tree, into_functions=not top_level):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = module[:len(module) - node.level + 1] if node.level else ()
            name = '.'.join((*base, *([node.module] if node.module else [])))
            found |= {f'{name}.{alias.name}' for alias in node.names}
    return found


def _statements(node: ast.AST, into_functions: bool):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and (
                not into_functions):
            continue
        if isinstance(child, ast.If) and 'TYPE_CHECKING' in ast.unparse(
                child.test):
            continue
        yield child
        yield from _statements(child, into_functions)


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix('.py')


@pytest.mark.parametrize(
    'path', FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_one_way(path: Path) -> None:
    part = part_of(path)
    assert part in ALLOWED, f'say in {__file__} what {part} may import'
    for name in imports(path):
        if not name.startswith('osar_plugin.'):
            continue
        target = name.split('.')[1]
        # `from . import x` and `from osar_plugin import __version__`.
        if target in ('__version__', part):
            continue
        assert target in ALLOWED[part], f'{part} must not import {name}'


@pytest.mark.parametrize('name', PURE)
def test_mathematics_knows_no_framework(name: str) -> None:
    path = PACKAGE / name
    for imported in imports(path):
        assert 'registry' not in imported.split('.'), imported
        assert not imported.startswith('mmengine.runner'), imported


@pytest.mark.parametrize(
    'path', FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_optional_packages_are_imported_where_used(path: Path) -> None:
    packages = {n.split('.')[0] for n in imports(path, top_level=True)}
    assert not packages & OPTIONAL


@pytest.mark.parametrize(
    'path', FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_unpickles(path: Path) -> None:
    """torch.load only with weights_only, and no other unpickler."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in (
            'pickle.load', 'pickle.loads', 'pickle.Unpickler',
            'mmengine.load', 'np.load') or (
                called == 'np.load' and 'allow_pickle=True' not in
                ast.unparse(node)), called
        if called == 'torch.load':
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert keywords.get('weights_only') == 'True'


BLOCKED = f"""
import sys, importlib, pkgutil

# None in sys.modules is a package that is not installed.
sys.modules.update(dict.fromkeys({sorted(OPTIONAL)!r}))
import osar_plugin
assert 'torch' not in sys.modules, 'import osar_plugin imports torch'
import osar_plugin.registry as registry
from mmengine.registry import Registry
for value in vars(registry).values():
    if isinstance(value, Registry) and value.scope == 'osar_plugin':
        value.import_from_location()
for found in pkgutil.walk_packages(osar_plugin.__path__, 'osar_plugin.'):
    importlib.import_module(found.name)
print(len(registry.MODELS), 'models')
"""


def test_imports_without_optional_packages(run_python) -> None:
    """Every module, every registry, with none of the extras installed."""
    ended = run_python('-c', BLOCKED)
    assert ended.code == 0, ended.err
    assert 'models' in ended.out


def test_startup_time(run_python) -> None:
    """``import osar_plugin`` adds under 0.3 s to mmengine and mmcv.

    Of the processor: the clock would measure the machine's other work.
    """
    ended = run_python(
        ROOT / 'tools' / 'benchmark' / 'startup.py', '--runs', '3', '--json')
    assert ended.code == 0, ended.err
    import json
    measured = json.loads(ended.out)
    added = statistics.median(measured['import osar_plugin'])
    assert added < 0.3
    # With all registries, datasets and models behind them.
    assert statistics.median(measured['all registries']) < 3
