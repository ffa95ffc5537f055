"""Models by name."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
import yaml

import osar_plugin
from osar_plugin.apis import zoo
from osar_plugin.utils.config import read_config
from osar_plugin.utils.errors import (
    CheckpointError,
    ConfigError,
    DataFormatError,
    MissingDependencyError,
)

REPO = Path(__file__).resolve().parents[2]
# A whole SDF-Net, small enough for a test.
SMALL = {
    'backbone.embed_dim': 48, 'backbone.depth': 2, 'backbone.num_heads': 2,
    'neck.embed_dim': 48, 'head.in_channels': 48, 'head.num_classes': 4,
    'structure.layer': 2}


def test_names_are_those_of_the_configs():
    names = osar_plugin.list_models()
    assert names == sorted(
        path.stem for path in (REPO / 'configs').glob('*.py'))
    assert osar_plugin.list_models('sdfnet_*') == [
        'sdfnet_hoss', 'sdfnet_paper_hoss']
    assert osar_plugin.list_models('none*') == []
    assert {'get_model', 'list_models'} <= set(dir(osar_plugin))
    assert osar_plugin.list_models('SDFNet_*') == [
        'sdfnet_hoss', 'sdfnet_paper_hoss']
    with pytest.raises(AttributeError, match='get_modle'):
        osar_plugin.get_modle  # noqa: B018


def test_folders_are_asked_for_by_name():
    """And a pattern without a slash finds nothing of them."""
    for folder in ('demo', 'ablation', 'examples'):
        assert osar_plugin.list_models(f'{folder}/*') == sorted(
            f'{folder}/{path.stem}'
            for path in (REPO / 'configs' / folder).glob('*.py'))
    assert osar_plugin.list_models('Demo/SDFNet_[hs]*') == [
        'demo/sdfnet_hoss', 'demo/sdfnet_scl_hoss']
    everything = osar_plugin.list_models() + osar_plugin.list_models('*/*')
    assert sorted(everything) == sorted(zoo._entries())
    assert not any('/' in name for name in osar_plugin.list_models('*mos*'))


def test_a_model_of_a_folder():
    info = osar_plugin.model_info('demo/sdfnet_hoss')
    assert (info.name, info.task) == ('demo/sdfnet_hoss', 'reid')
    assert info.config.parts[-2:] == ('demo', 'sdfnet_hoss.py')
    assert info.ours['Demo HOSS-ReID']['ALL/mAP'] == 34.0
    model = osar_plugin.get_model('demo/sdfnet_hoss')
    assert model.backbone.embed_dim == 128
    row = osar_plugin.model_info('ablation/sdfnet_layer-8_hoss')
    assert row.paper == {'HOSS-ReID': {'ALL/mAP': 58.4, 'S2O/mAP': 45.5}}


@pytest.mark.parametrize('name, task, dataset', [
    ('sdfnet_hoss', 'reid', 'HOSS-ReID'),
    ('bbdm_hoss', 'translation', 'HOSS-ReID'),
    ('codemae_ospretrain', 'pretraining', 'OSPretrain-1M'),
    ('soma_sen12', 'registration', 'SEN1-2'),
    ('codemae_loveda', 'segmentation', 'LoveDA'),
    ('codemae_aid', 'classification', 'AID')])
def test_what_is_known_of_a_model(name, task, dataset):
    info = osar_plugin.model_info(name)
    assert (info.name, info.task, info.dataset) == (name, task, dataset)
    assert info.config.is_file() and info.config.stem == name


def test_figures_and_weights():
    info = osar_plugin.model_info('sdfnet_hoss')
    assert info.paper['HOSS-ReID']['ALL/mAP'] == 60.9
    assert info.ours is None
    assert info.weights == ('weights/vit_b512_pre.pth', )
    assert 'weights/checkpoint-800.pth' in osar_plugin.model_info(
        'codemae_loveda').weights


def test_files_of_hooks():
    """MOS's translator has no default; named, it is among the weights."""
    info = osar_plugin.model_info('mos_hoss')
    place = 'custom_hooks.0.translator.checkpoint'
    assert info.files_to_name == (place, )
    cfg = read_config(info.config)
    cfg.merge_from_dict({place: 'translator.pth'})
    assert list(zoo._weights(cfg)) == [*info.weights, 'translator.pth']
    assert list(zoo._files_to_name(cfg)) == []


def test_measured_figures(monkeypatch):
    entry = dict(Results=[dict(
        Task='Re-identification', Dataset='HOSS-ReID',
        Metrics={'ALL/mAP': 1.5})])
    assert zoo._measured(entry) == {'HOSS-ReID': {'ALL/mAP': 1.5}}


def test_new_weights_follow_the_seed():
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(osar_plugin.get_model('sdfnet_hoss', **SMALL))
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert type(models[0]).__name__ == 'SDFNet'
    assert models[0].backbone.embed_dim == 48


def test_dicts_are_merged_into_dicts_and_replace_the_rest():
    arch = dict(embed_dim=32, mlp_depths=(1, 1), depth=2, num_heads=2)
    model = osar_plugin.get_model(
        'codemae_ospretrain', teacher=None, distillation=None,
        backbone=dict(arch=arch), decoder=dict(dim=32, depth=1, num_heads=2),
        contrast=dict(num_heads=2))
    assert model.backbone.embed_dim == 32  # the config says 'base'
    assert model.backbone.num_outs == 3  # as in the config
    assert model.distillation is None
    assert zoo._over(dict(a=None, b=dict(c=1)), dict(
        a=dict(x=1), b=dict(c=2, d=dict(y=1)), e=dict(z=1))) == dict(
            a=dict(x=1, _delete_=True), b=dict(c=2, d=dict(y=1)),
            e=dict(z=1))


def test_weights_of_a_file(tmp_path):
    torch.manual_seed(0)
    model = osar_plugin.get_model('sdfnet_hoss', **SMALL)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'net.pth')
    other = osar_plugin.get_model(
        'sdfnet_hoss', tmp_path / 'net.pth', **SMALL)
    for key, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


def test_weights_that_are_not_there(tmp_path, monkeypatch):
    """True insists, even where the config would start without."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match='vit_b512_pre'):
        osar_plugin.get_model('sdfnet_hoss', True, **SMALL)
    with pytest.raises((CheckpointError, ConfigError), match='nowhere'):
        osar_plugin.get_model('sdfnet_hoss', 'nowhere.pth', **SMALL)


@pytest.mark.parametrize('name, near', [
    ('sdfnet_hos', 'sdfnet_hoss'), ('SDFNet_HOSS', 'sdfnet_hoss'),
    ('codemae_lovda', 'codemae_loveda')])
def test_names_that_are_nearly_right(name, near):
    for function in (osar_plugin.get_model, osar_plugin.model_info):
        with pytest.raises(ConfigError, match=f'Did you mean.*{near}'):
            function(name)


def test_arguments_that_the_model_does_not_take():
    with pytest.raises(ConfigError, match="argument 'backbone.dept'") as err:
        osar_plugin.get_model('sdfnet_hoss', **{'backbone.dept': 2})
    assert '--cfg-options' not in str(err.value)
    with pytest.raises(ConfigError, match="argument 'head.num") as err:
        osar_plugin.get_model('sdfnet_hoss', **{'head.num_classes.x': 2})
    assert '--cfg-options' not in str(err.value)


def test_device_and_no_weights():
    """None is as good as False, and the device is checked first."""
    models = []
    for pretrained in (None, False):
        torch.manual_seed(3)
        models.append(osar_plugin.get_model(
            'sdfnet_hoss', pretrained, device='cpu', **SMALL))
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[key], second[key]) for key in first)
    meta = osar_plugin.get_model('demo/sdfnet_hoss', device='meta')
    assert {p.device.type for p in meta.parameters()} == {'meta'}
    for device in ('gpu', 'cuda:99'):
        with pytest.raises(ConfigError, match=f'device=.{device}'):
            osar_plugin.get_model('sdfnet_hoss', device=device)


def test_a_package_that_is_missing():
    if importlib.util.find_spec('mmseg') is not None:
        pytest.skip('mmseg is installed')
    with pytest.raises(MissingDependencyError, match='mmseg.*pip install'):
        osar_plugin.get_model('codemae_loveda')


def test_a_table_that_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, 'CONFIGS', tmp_path)
    for text in (None, 'Models: [1', yaml.safe_dump(dict(Collections=[]))):
        zoo._entries.cache_clear()
        if text is not None:
            (tmp_path / 'metafile.yml').write_text(text)
        with pytest.raises(DataFormatError, match='metafile.yml'):
            osar_plugin.list_models()
    zoo._entries.cache_clear()
