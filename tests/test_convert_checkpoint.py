"""tools/convert_checkpoint.py"""

from __future__ import annotations

import hashlib

import pytest
import torch
from safetensors.torch import load_file
from search_case import Bomb, write_config, write_weights

from osar_plugin.models.reid.official import to_official

TOOL = 'convert_checkpoint.py'


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
