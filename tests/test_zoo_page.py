"""The page, the metafile and the configs say the same."""

from __future__ import annotations

import argparse
import functools
import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from downstream import needs
from mmengine.config import DictAction

from osar_plugin.apis.zoo import list_models, model_info
from osar_plugin.utils.config import load_config, read_config
from osar_plugin.utils.config_check import dicts
from osar_plugin.utils.errors import MissingDependencyError

REPO = Path(__file__).resolve().parents[1]
CONFIGS = REPO / 'configs'
TOOL = runpy.run_path(str(REPO / 'tools' / 'zoo_table.py'))
PAGE = (CONFIGS / 'README.md').read_text(encoding='utf-8')
MODELS = {
    model['Name']: model for model in yaml.safe_load(
        (CONFIGS / 'metafile.yml').read_text(encoding='utf-8'))['Models']}
FILES = sorted(
    path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob('*.py')
    if '_base_' not in path.parts)
REID = ('ALL/mAP', 'ALL/R1', 'O2S/mAP', 'O2S/R1', 'S2O/mAP', 'S2O/R1')


def paper(name: str) -> dict[str, dict[str, float]]:
    return MODELS[name]['Metadata'].get('Paper Figures', {})


@functools.cache
def ours(name: str) -> dict[str, dict[str, float]]:
    return {one['Dataset']: one['Metrics']
            for one in MODELS[name].get('Results', ())}


def table(section: str, first: str) -> dict[str, dict[str, str]]:
    """Rows of a table by their first cell, cells by the column's title."""
    text = PAGE.split(f'\n## {section}\n')[1] if section else PAGE
    blocks = re.findall(r'(?:^\|.*\n)+', text.split('\n## ')[0], re.M)
    for block in blocks:
        head, _, *rows = [
            [cell.strip() for cell in re.split(r'(?<!\\)\|', line)[1:-1]]
            for line in block.splitlines()]
        if ' | '.join(head).startswith(first):
            return {row[0].replace('`', ''): dict(
                zip(head, row, strict=True)) for row in rows}
    raise AssertionError(f'{section!r} has no table {first!r}')


def number(cell: str) -> float:
    """The first number of a cell, its deviation aside."""
    return float(re.search(r'[\d.]+', cell)[0])


def test_every_config_is_listed() -> None:
    assert sorted(MODELS) == sorted(
        file.removesuffix('.py') for file in FILES)
    for name, model in MODELS.items():
        assert model['Config'] == f'configs/{name}.py'
    for file in FILES:
        assert f'\n| `{file}` | ' in PAGE, file


def test_the_list_is_that_of_the_metafile() -> None:
    """If not: python tools/zoo_table.py --write."""
    made = TOOL['tables'](MODELS.values())
    assert TOOL['placed'](PAGE, made) == PAGE


@pytest.mark.parametrize('name', MODELS)
def test_weights_are_those_of_the_config(name: str) -> None:
    """What model, teachers, codecs and hooks name, in the same order."""
    try:
        cfg = read_config(CONFIGS / f'{name}.py')
    except MissingDependencyError as error:
        pytest.skip(str(error))
    named, open_keys = [], []
    for root in ('model', 'custom_hooks'):
        for path, part in dicts(cfg.get(root), root):
            for key in ('checkpoint', 'pretrained'):
                if isinstance(part.get(key), str):
                    named.append(part[key])
            if part.get('checkpoint', '') is None:
                open_keys.append(f'{path}.checkpoint')
    metadata = MODELS[name]['Metadata']
    assert metadata.get('Starts From', []) == list(dict.fromkeys(named))
    assert metadata.get('Files To Name', []) == open_keys
    info = model_info(name)
    assert list(info.weights) == metadata.get('Starts From', [])
    assert list(info.files_to_name) == open_keys
    # MIM reads the first element of every list.
    assert [] not in metadata.values()


def test_figures_of_papers() -> None:
    rows = table('', 'config | paper')
    for file, row in rows.items():
        figures = paper(file.removesuffix('.py'))['HOSS-ReID']
        for title, metric in (
                ('paper, ALL mAP', 'ALL/mAP'), ('ALL R1', 'ALL/R1'),
                ('O2S mAP', 'O2S/mAP'), ('S2O mAP', 'S2O/mAP')):
            assert number(row[title]) == figures[metric], (file, metric)
    rows = table('MOS', 'config')
    assert len(rows) == 4
    for file, row in rows.items():
        assert paper(file.removesuffix('.py')) == {'HOSS-ReID': {
            f'{key}/R1': number(row[key]) for key in ('ALL', 'O2S', 'S2O')}}
    for file, row in table('Fine-tuning', 'config | task').items():
        for name in re.findall(r'(\w+)\.py', file):
            for figures in paper(name).values():
                for value in figures.values():
                    assert f'{value}' in row['paper'], name


def test_headers_of_ablations_tell_the_same() -> None:
    """`# Paper: 59.2 mAP, 66.5 R1 (ALL), 47.6 (O2S), 46.6 (S2O).`"""
    for name in list_models('ablation/*'):
        text = (CONFIGS / f'{name}.py').read_text(encoding='utf-8')
        line = re.search(r'# Paper: ([^;\n]*)', text)
        told = re.findall(r'\d+\.\d', line[1]) if line else []
        figures = [value for metrics in paper(name).values()
                   for value in metrics.values()]
        assert [float(value) for value in told] == figures, name


@pytest.mark.parametrize('section, first, rows, dataset', [
    ('The ablation on the demo world', 'model', {
        'TransOSS': 'transoss_hoss', '+ SCL': 'sdfnet_scl_hoss',
        '+ DFL': 'sdfnet_dfl_hoss', 'SDF-Net': 'sdfnet_hoss'},
     'Demo HOSS-ReID'),
    ('MOS', 'model', {
        'TransOSS': 'transoss_hoss', '+ denoising': 'mos_denoising_hoss',
        '+ CDGF, tau 0.02, K 5': 'mos_hoss'},
     'Demo HOSS-ReID, table of MOS'),
    ('MOS', 'model', {'+ CMAL': 'mos_hoss'},
     'Demo HOSS-ReID, table of MOS, without views')])
def test_means_of_the_demo(section: str, first: str, rows: dict[str, str],
                           dataset: str) -> None:
    found = table(section, first)
    for title, name in rows.items():
        assert ours(f'demo/{name}')[dataset] == {
            metric: number(found[title][metric]) for metric in REID}


def test_other_figures_of_the_demo() -> None:
    found = table('Fine-tuning', 'config | figure')
    assert len(found) == 3
    for file, row in found.items():
        (figures, ) = ours(file.removesuffix('.py')).values()
        told = [float(text) for text in re.findall(
            r'[\d.]*\d(?= [mA-Z])|(?<=[a-z] )[\d.]*\d', row['figure'])]
        assert told == list(figures.values()), file
    found = table('Fine-tuning', 'task | figure')
    for title, dataset in (('scenes, optical', 'Demo SEN1-2, optical'),
                           ('scenes, SAR', 'Demo SEN1-2, SAR')):
        assert ours('demo/codemae_classification')[dataset] == {
            'accuracy': number(found[title]['random weights'])}
    row = table('CoDe-MAE and its backbones', 'objectives')['all']
    (figures, ) = ours('demo/codemae_ospretrain').values()
    assert list(figures.values()) == [number(row[key]) for key in (
        'optical', 'SAR', 'rank optical', 'rank SAR')]
    row = table('Speed', 'steps')['20 (fast)']
    (figures, ) = ours('demo/bbdm_hoss').values()
    assert figures == {key: number(row[key]) for key in figures}


def test_figures_of_the_light_soma() -> None:
    found = table('SOMA', 'protocol')
    for dataset, figures in ours('demo/soma_light_ospretrain').items():
        _, protocol, *alone = dataset.split(', ')
        row = found[f'{protocol}, SOMA{" alone" if alone else ""}']
        assert figures == {key: number(row[key]) for key in figures}


def options_of(line: str) -> dict[str, object]:
    """What tools/train.py makes of a documented line."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    _, _, said = line.partition('--cfg-options')
    return parser.parse_args(['--cfg-options', *said.split()]).cfg_options


# One config for each way of naming what it starts from; all of them differ
# in nothing else that these lines touch.
@pytest.mark.parametrize('name', [
    'codemae_dior', 'vit_dior', 'codemae_loveda', 'codemae_aid',
    'codemae_bright', 'codemae_bright_val', 'damageformer_bright',
    'demo/codemae_detection', 'demo/codemae_segmentation',
    'demo/codemae_classification', 'demo/codemae_bright'])
def test_documented_starts(name: str) -> None:
    """From a file and from random weights, as the page says it."""
    path = CONFIGS / f'{name}.py'
    scope = read_config(path).get('default_scope')
    if scope in ('mmdet', 'mmseg', 'mmpretrain'):
        needs(scope)
    lines = re.findall(r'^python tools/train.py CONFIG (.*init_cfg.*)$',
                       PAGE, re.M)
    assert len(lines) == 2
    key = 'model.backbone.init_cfg'
    if 'bright' in name:
        lines = [line.replace(key, 'model.init_cfg') for line in lines]
    from_file, scratch = (
        load_config(path, options_of(line)) for line in lines)
    for cfg, wanted in ((from_file, 'FILE'), (scratch, None)):
        node = cfg.model if 'bright' in name else cfg.model.backbone
        if wanted is None:
            assert node.init_cfg is None
        else:
            assert node.init_cfg.type == 'Pretrained'
            assert node.init_cfg.checkpoint == wanted


def test_sar_scenes_as_the_header_says() -> None:
    """The same settings as in the comparison of starts."""
    needs('mmpretrain')
    path = CONFIGS / 'demo/codemae_classification.py'
    header = path.read_text(encoding='utf-8').split('_base_')[0]
    said = re.search(r'--cfg-options((?:.*\\\n#)*.*)', header)[1]
    options = options_of('--cfg-options' + re.sub(r'\\\n#', ' ', said))
    tool = runpy.run_path(str(REPO / 'tools/benchmark/demo_finetuning.py'))
    wanted = tool['TASKS']['scenes, SAR'].options
    assert options == options_of(f'--cfg-options {" ".join(wanted)}')
    assert load_config(path, options).test_dataloader.dataset.modality == 'sar'


def test_a_page_without_marks(
        run_tool: Callable, tmp_path: Path) -> None:
    with pytest.raises(Exception, match='begin: made by'):
        TOOL['placed']('# Configs', '')
    done = run_tool('zoo_table.py')
    assert done.code == 0
    assert done.out.strip() in PAGE


@pytest.mark.parametrize('text, said', [
    ('# One thing: two.\n# Three.\n_base_ = []', 'One thing: two'),
    ('# Of x.py, 0.5 m\n# wide:\n#   python tools/x.py\n', 'Of x.py, 0.5 m '
     'wide'),
    ('a = 1', '')])
def test_description_of_a_config(text: str, said: str) -> None:
    assert TOOL['summary'](text) == said
