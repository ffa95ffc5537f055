"""tools/convert_checkpoint.py"""

from __future__ import annotations

import argparse
import hashlib

import pytest
import torch
from safetensors.torch import load_file
from search_case import Bomb, write_config, write_weights

from osar_plugin.models.backbones import ITPN
from osar_plugin.models.reid.official import to_official

TOOL = 'convert_checkpoint.py'
BACKBONE = dict(
    arch=dict(embed_dim=32, mlp_depths=(1, 1), depth=2, num_heads=2),
    img_size=64, fpn_dim=16)


@pytest.fixture(scope='module')
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp('case')
    config = write_config(folder)
    return config, write_weights(folder, config)


def read(path):
    if path.suffix == '.safetensors':
        return load_file(path)
    return torch.load(path, weights_only=True)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('checked', [True, False])
def test_there_and_back(run_tool, case, tmp_path, suffix, checked):
    config, weights = case
    more = ['--config', config] if checked else []
    official, ours = (tmp_path / (name + suffix) for name in 'ab')
    there = run_tool(TOOL, weights, official, '--to', 'official', *more)
    assert there.code == 0, there.err
    written = read(official)
    assert equal(written, to_official(read(weights)))
    assert 'base.patch_embed_SAR.proj.weight' in written
    back = run_tool(TOOL, official, ours, '--to', 'ours', '--config', config)
    assert back.code == 0, back.err
    assert equal(read(ours), read(weights))
    assert 'official layout): ' in back.out
    assert '(100.0% of the model), 0 missing' in back.out
    for file in (official, ours):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert f'sha256 {digest}  {file}' in back.out


def test_report_names_what_is_missing_and_left_over(
        run_tool, case, tmp_path):
    config, weights = case
    state = read(weights)
    del state['backbone.norm.bias']
    state['backbone.extra'] = torch.ones(2)
    torch.save(dict(state_dict=state, epoch=3), tmp_path / 'part.pth')
    ended = run_tool(TOOL, tmp_path / 'part.pth', tmp_path / 'o.pth', '--to',
                     'ours', '--config', config)
    assert ended.code == 0, ended.err
    assert 'missing: backbone.norm.bias' in ended.out
    assert 'unexpected: backbone.extra' in ended.out
    assert 'backbone.extra' not in read(tmp_path / 'o.pth')


def test_nothing_is_overwritten(run_tool, case, tmp_path):
    _, weights = case
    target = tmp_path / 'o.pth'
    target.write_text('mine')
    ended = run_tool(TOOL, weights, target, '--to', 'official')
    assert ended.code == 2
    assert '--force' in ended.err
    assert target.read_text() == 'mine'
    ended = run_tool(TOOL, weights, target, '--to', 'official', '--force')
    assert ended.code == 0
    assert 'base.cls_token' in read(target)


def test_a_file_with_code(run_tool, tmp_path):
    torch.save(
        dict(state_dict={}, x=Bomb(tmp_path / 'made')), tmp_path / 'w.pth')
    ended = run_tool(TOOL, tmp_path / 'w.pth', tmp_path / 'o.pth', '--to',
                     'ours')
    assert ended.code == 2
    assert 'could run code' in ended.err
    assert not (tmp_path / 'made').exists()
    assert not (tmp_path / 'o.pth').exists()


@pytest.mark.parametrize('content,to,message', [
    (dict(epoch=1), 'ours', 'holds no weights'),
    (dict(weight=torch.ones(2)), 'official', 'backbone.cls_token')])
def test_files_that_are_no_model(
        run_tool, tmp_path, content, to, message):
    torch.save(content, tmp_path / 'w.pth')
    ended = run_tool(
        TOOL, tmp_path / 'w.pth', tmp_path / 'o.pth', '--to', to)
    assert ended.code == 2
    assert message in ended.err
    assert not (tmp_path / 'o.pth').exists()


def test_another_model(run_tool, case, tmp_path):
    config, _ = case
    torch.save(dict(weight=torch.ones(2)), tmp_path / 'w.pth')
    ended = run_tool(TOOL, tmp_path / 'w.pth', tmp_path / 'o.pth', '--to',
                     'ours', '--config', config)
    assert ended.code == 2
    assert 'fills only' in ended.err


def test_wrong_arguments(run_tool, case, tmp_path):
    ended = run_tool(TOOL, 'gone.pth', tmp_path / 'o.onnx', '--to', 'ours')
    assert ended.code == 2
    assert "'.onnx'" in ended.err
    ended = run_tool(TOOL, 'gone.pth', tmp_path / 'o.pth', '--to', 'ours')
    assert ended.code == 2
    assert 'gone.pth' in ended.err


@pytest.fixture
def pretraining_file(tmp_path):
    torch.manual_seed(0)
    model = ITPN(**BACKBONE)
    weights = {k: torch.randn_like(v) for k, v in model.state_dict().items()}
    rest = dict(mask_token=torch.zeros(1, 1, 32))
    path = tmp_path / 'checkpoint-800.pth'
    torch.save(dict(model={**rest, **weights},
                    args=argparse.Namespace(lr=1.)), path)
    return path, weights


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_backbone_for_other_frameworks(
        run_tool, pretraining_file, tmp_path, suffix):
    path, weights = pretraining_file
    target = tmp_path / f'backbone{suffix}'
    ended = run_tool(TOOL, path, target, '--to', 'backbone', '--modality',
                     'sar', '--prefix', 'backbone.')
    assert ended.code == 0, ended.err
    assert f'{len(weights)} of {len(weights) + 1} entries' in ended.out
    assert equal(read(target), {
        f'backbone.{k}': v for k, v in weights.items() if '_rgb.' not in k})


def test_backbone_held_against_a_config(
        run_tool, pretraining_file, tmp_path):
    path, weights = pretraining_file
    config = tmp_path / 'model.py'
    backbone = dict(BACKBONE, type='osar_plugin.ITPN', modality=None,
                    default_modality='rgb', img_size=96,
                    init_cfg=dict(type='Pretrained', checkpoint='gone.pth'))
    config.write_text(
        "model = dict(type='osar_plugin.HiViTMAE', decoder=dict("
        f"type='osar_plugin.MaskedDecoder'), backbone={backbone!r})")
    target = tmp_path / 'o.pth'
    ended = run_tool(
        TOOL, path, target, '--to', 'backbone', '--config', config)
    assert ended.code == 0, ended.err
    assert '(100.0% of the model), 0 missing' in ended.out
    written = read(target)
    assert torch.equal(written['patch_embed.proj.weight'],
                       weights['patch_embed_rgb.proj.weight'])
    assert written['absolute_pos_embed'].shape == (1, 36, 32)


@pytest.mark.parametrize('flags,message', [
    (['--to', 'ours', '--modality', 'sar'], '--to backbone'),
    (['--to', 'official', '--prefix', 'x.'], '--to backbone')])
def test_flags_of_the_backbone_alone(run_tool, tmp_path, flags, message):
    ended = run_tool(TOOL, 'gone.pth', tmp_path / 'o.pth', *flags)
    assert ended.code == 2
    assert message in ended.err


def test_no_backbone_inside(run_tool, case, tmp_path):
    _, weights = case
    ended = run_tool(
        TOOL, weights, tmp_path / 'o.pth', '--to', 'backbone')
    assert ended.code == 2
    assert 'no hierarchical backbone' in ended.err
    assert not (tmp_path / 'o.pth').exists()
