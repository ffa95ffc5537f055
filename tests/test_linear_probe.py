"""tools/analysis/linear_probe.py."""

from __future__ import annotations

import json

import pytest
import torch
from pretrain_tool_case import build_model, write_config, write_scenes

from osar_plugin.apis.pretraining import FrozenEncoder
from osar_plugin.utils.checkpoint import read_checkpoint

TOOL = 'analysis/linear_probe.py'


@pytest.fixture(scope='module')
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp('probe')
    write_scenes(folder / 'scenes')
    config = write_config(folder)
    torch.save(dict(state_dict=build_model(config).state_dict()),
               folder / 'net.pth')
    return folder


def arguments(case, *extra):
    return (case / 'tiny.py', case / 'net.pth', '--data-root',
            case / 'scenes', '--device', 'cpu', *extra)


def test_both_sensors_and_the_untrained(case, tmp_path, run_tool):
    ended = run_tool(TOOL, *arguments(
        case, '--untrained', '--seeds', '0', '1', '--epochs', '10', '--out',
        tmp_path))
    assert ended.code == 0, ended.err
    assert 'untrained' in ended.out and 'optical' in ended.out
    results = json.loads((tmp_path / 'linear_probe.json').read_text())
    assert results['classes'] == ['width0', 'width1', 'width2']
    assert results['test_images'] == dict(optical=18, sar=18)
    for kind in ('trained', 'untrained'):
        for sensor in ('optical', 'sar'):
            runs = results['runs'][kind][sensor]
            assert [one['seed'] for one in runs] == [0, 1]
            # Stripes of three widths: any convolution tells them apart.
            assert all(one['best']['accuracy'] > 60 for one in runs)
            assert all(one['train_images'] == 18 for one in runs)
    # The checkpoint holds what seed 0 draws; other seeds are other networks.
    runs = results['runs']
    assert runs['trained']['sar'][0] == runs['untrained']['sar'][0]


def test_few_shots(case, tmp_path, run_tool):
    ended = run_tool(TOOL, *arguments(
        case, '--shots', '2', '--balanced', '--sensors', 'sar', '--seeds',
        '3', '--epochs', '2', '--out', tmp_path))
    assert ended.code == 0, ended.err
    results = json.loads((tmp_path / 'linear_probe.json').read_text())
    assert list(results['runs']) == ['trained']
    assert results['runs']['trained']['sar'][0]['train_images'] == 6


@pytest.mark.parametrize('extra, text', [
    (('--balanced', ), '--shots'), (('--shots', '99'), 'shots=99'),
    (('--classes', 'no.txt'), '--classes'),
    (('--source', 'Mars'), 'has Stripes'),
    (('--test-list', 'scenes_train.txt'), 'in both lists'),
    (('--test-list', 'no.txt'), 'no such list'),
    (('--epochs', '0'), 'epochs=0'), (('--batch-size', '0'), 'batch_size'),
    (('--seeds', '-1'), 'seeds')])
def test_what_cannot_be_probed(case, run_tool, extra, text):
    ended = run_tool(TOOL, *arguments(case, *extra))
    assert ended.code == 2 and text in ended.err, ended.err


def test_weights_that_are_not_finite_or_missing(case, tmp_path, run_tool):
    state = read_checkpoint(case / 'net.pth')['state_dict']
    key = 'backbone.blocks.0.mlp.fc1.weight'
    torch.save(dict(state_dict={
        **state, key: state[key] * float('nan')}), tmp_path / 'nan.pth')
    del state[key]
    torch.save(dict(state_dict=state), tmp_path / 'part.pth')
    for name, text in (('nan', 'NaN'), ('part', 'missing')):
        args = list(arguments(case))
        args[1] = tmp_path / f'{name}.pth'
        ended = run_tool(TOOL, *args)
        assert ended.code == 2, ended.err
        assert text in ended.err and key in ended.err


def test_the_untrained_network_is_that_of_its_seed(repo):
    config = repo / 'configs/demo/codemae_ospretrain.py'
    made = []
    for seed in (0, 0, 1):
        torch.rand(len(made) + 1)  # elsewhere, chance goes on
        before = torch.get_rng_state()
        encoder = FrozenEncoder(config, None, 'cpu', seed)
        assert torch.equal(before, torch.get_rng_state())
        made.append(torch.cat([
            p.flatten() for p in encoder.model.parameters()]))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
