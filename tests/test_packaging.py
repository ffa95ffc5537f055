"""What the package ships, and that its pages name what exists."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
import yaml

from osar_plugin.utils.config import read_config

REPO = Path(__file__).resolve().parents[1]


def metafile() -> dict:
    return yaml.safe_load((REPO / 'configs' / 'metafile.yml').read_text())


def test_no_openmmlab_distribution_is_required() -> None:
    """Both stacks install the same files, so the choice is an extra."""
    setup = configparser.RawConfigParser()
    setup.read(REPO / 'setup.cfg')
    required = setup['options']['install_requires']
    assert not re.search(r'mmengine|mmcv|mmdet|mmseg|mmpretrain', required)
    extras = setup['options.extras_require']
    for stack in ('onedl', 'openmmlab'):
        assert 'mmengine' in extras[stack]
        assert stack not in extras['all']


@pytest.mark.parametrize('name', ['configs', 'tools', 'model-index.yml'])
def test_mim_finds_its_files(name: str) -> None:
    link = REPO / 'osar_plugin' / '.mim' / name
    assert link.is_symlink()
    assert link.resolve() == REPO / name


def test_model_index_leads_to_the_metafile() -> None:
    index = yaml.safe_load((REPO / 'model-index.yml').read_text())
    assert [REPO / path for path in index['Import']] == [
        REPO / 'configs' / 'metafile.yml']  # yapf: disable


@pytest.mark.parametrize('model', metafile()['Models'],
                         ids=lambda model: model['Name'])
def test_metafile_agrees_with_the_configs(model: dict) -> None:
    if model['Name'].startswith('examples/'):
        pytest.importorskip(model['Name'][len('examples/'):].split('_')[0])
    cfg = read_config(REPO / model['Config'])
    length = {key: model['Metadata'].get(name) for key, name in (
        ('max_epochs', 'Epochs'), ('max_iters', 'Iterations'))}
    assert sum(value is not None for value in length.values()) == 1
    assert {key: cfg.train_cfg.get(key) for key in length} == length
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if model['Name'].startswith('demo/'):  # one process
        base = cfg.train_dataloader.batch_size
    assert base == model['Metadata'].get('Batch Size')
    names = {entry['Name'] for entry in metafile()['Collections']}
    assert model['In Collection'] in names


def test_model_index_reads_the_metafile() -> None:
    """A model without a paper of its own has its collection's."""
    modelindex = pytest.importorskip('modelindex')
    index = modelindex.load(str(REPO / 'model-index.yml'))
    assert index.check(silent=True) == []
    index.build_models_with_collections()
    papers = {entry['Name']: entry['Paper']
              for entry in metafile()['Collections']}
    assert len(index.models) == len(metafile()['Models'])
    for model in index.models:
        assert set(model.full_model.paper) == {'Title', 'URL'}
        assert model.full_model.paper == papers[model.in_collection]
    names = [model.name for model in index.models]
    # MIM asks for names in lower case.
    assert len({name.lower() for name in names}) == len(names)
    assert names == [name.lower() for name in names]


@pytest.mark.parametrize('page', ['README.md', 'configs/README.md'])
def test_pages_name_what_exists(page: str) -> None:
    text = (REPO / page).read_text()
    named = set(re.findall(r'\b(?:tools|configs)/[\w/.-]+\w', text))
    for name in named:
        assert (REPO / name).exists(), f'{page}: {name}'
    for target in re.findall(r'\]\((?!http)([^)#]+)\)', text):
        assert (REPO / page).parent.joinpath(target).exists(), target
