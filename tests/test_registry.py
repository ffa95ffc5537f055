"""Every component is found by its scoped name, wherever the user stands."""

from __future__ import annotations

import json

import pytest
from mmengine import registry as roots
from mmengine.registry import Registry

from osar_plugin import registry as ours

REGISTRIES = {
    name: value
    for name, value in vars(ours).items()
    if isinstance(value, Registry) and value.scope == 'osar_plugin'
}
for _registry in REGISTRIES.values():
    _registry.import_from_location()
NAMES = [(registry, name) for registry, value in sorted(REGISTRIES.items())
         for name in sorted(value.module_dict)]

# A fresh interpreter that has not imported this package: the scoped string
# alone must bring it in.
PROGRAM = """
import json, sys
from mmengine import registry as roots
from mmengine.registry import DefaultScope
scope, names = json.loads(sys.argv[1])
DefaultScope.get_instance('test', scope_name=scope)
assert 'osar_plugin' not in sys.modules
found = []
for registry, name in names:
    with getattr(roots, registry).switch_scope_and_registry(None) as here:
        value = here.get('osar_plugin.' + name)
        found.append(None if value is None else value.__module__)
print('found:' + json.dumps(found))
"""


@pytest.mark.parametrize('scope', ['mmengine', 'mmdet', 'osar_plugin'])
def test_found_from_a_fresh_interpreter(run_python, scope: str) -> None:
    ended = run_python('-W', 'ignore', '-c', PROGRAM,
                       json.dumps([scope, NAMES]))
    assert ended.code == 0, ended.err
    line = next(
        line for line in ended.out.splitlines() if line.startswith('found:'))
    for (registry, name), module in zip(
            NAMES, json.loads(line.removeprefix('found:')), strict=True):
        here = REGISTRIES[registry].module_dict[name].__module__
        assert module == here, f'{registry}: osar_plugin.{name}'


@pytest.mark.parametrize('name', sorted(REGISTRIES))
def test_is_a_child_of_the_root(name: str) -> None:
    assert REGISTRIES[name].parent is getattr(roots, name)


@pytest.mark.parametrize(('registry', 'name'), NAMES)
def test_is_documented(registry: str, name: str) -> None:
    value = REGISTRIES[registry].module_dict[name]
    assert value.__doc__, f'{value.__module__}.{name}'


def test_bases_open_to_other_packages() -> None:
    """``_base_ = 'osar_plugin::...'`` and mmengine.hub know the package."""
    from mmengine.config.utils import MODULE2PACKAGE
    assert MODULE2PACKAGE['osar_plugin'] == 'osar_plugin'
