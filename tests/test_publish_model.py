"""tools/publish_model.py, and weights whose names carry checksums."""

from __future__ import annotations

import hashlib
import json
import re
import runpy
import struct

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from search_case import write_config, write_weights
from torch import nn

from osar_plugin import __version__
from osar_plugin.apis.reid import ShipReIDInferencer
from osar_plugin.utils.checkpoint import (
    publish_weights,
    read_checkpoint,
    save_weights,
    sha256_of,
)
from osar_plugin.utils.errors import CheckpointError

TOOL = 'publish_model.py'
META = dict(epoch=3, iter=30, cfg="model = dict(type='é')\n", seed=1,
            mmengine_version='1.2.3' + 20 * 'a4', time='20260101_000000')


@pytest.fixture(scope='module')
def case(tmp_path_factory):
    folder = tmp_path_factory.mktemp('case')
    config = write_config(folder)
    return config, write_weights(folder, config)


@pytest.fixture
def trained(case, tmp_path):
    """A work dir; the averaged weights are the ones in `state_dict`."""
    weights = read_checkpoint(case[1])
    folder = tmp_path / 'run'
    folder.mkdir()
    torch.save(
        dict(meta=META, state_dict=weights, optimizer={}, ema_state_dict={
            key: value * 2 for key, value in weights.items()}),
        folder / 'epoch_3.pth')
    torch.save(dict(meta=dict(META, iter=20), state_dict={}),
               folder / 'epoch_2.pth')
    return folder


def header(path):
    with safe_open(path, 'pt') as file:
        return file.metadata()


@pytest.mark.parametrize('source', ['file', 'work dir'])
def test_a_training_becomes_a_published_file(
        run_tool, case, trained, tmp_path, source):
    given = trained if source == 'work dir' else trained / 'epoch_3.pth'
    ended = run_tool(TOOL, given, tmp_path / 'out' / 'net.safetensors')
    assert ended.code == 0, ended.err
    path, = (tmp_path / 'out').iterdir()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f'net-{digest[:8]}.safetensors'
    for part in (str(path), digest, f'{path.stat().st_size} bytes',
                 'epoch_3.pth'):
        assert part in ended.out
    weights, written = read_checkpoint(case[1]), load_file(path)
    assert weights.keys() == written.keys()
    assert all(torch.equal(weights[k], written[k]) for k in weights)
    assert header(path) == dict(
        format='pt', osar_plugin=__version__, mmengine='1.2.3', epoch='3',
        iter='30', config=META['cfg'])
    inferencer = ShipReIDInferencer(case[0], path, 'cpu')
    image = np.zeros((20, 10, 3), np.uint8)
    feature = inferencer(image, modality='optical')['predictions'][0]
    expected = ShipReIDInferencer(case[0], case[1], 'cpu')(
        image, modality='optical')['predictions'][0]
    np.testing.assert_array_equal(feature['feature'], expected['feature'])


@pytest.mark.parametrize('commit', ['', 20 * 'a4', 'unknown'])
def test_the_commit_of_a_folder_is_left_out(repo, commit):
    describe = runpy.run_path(str(repo / 'tools' / TOOL))['describe']
    meta = dict(meta=dict(mmengine_version='0.10.12' + commit))
    assert describe(meta, False)['mmengine'] == '0.10.12'
    assert 'mmengine' not in describe(dict(meta={}), False)


def test_without_the_config(run_tool, trained, tmp_path):
    ended = run_tool(TOOL, trained, tmp_path / 'net.safetensors',
                     '--no-config')
    assert ended.code == 0, ended.err
    path, = tmp_path.glob('net-*')
    assert 'config' not in header(path)
    assert 'iter' in header(path)


def test_weights_alone_say_less(run_tool, case, tmp_path):
    ended = run_tool(TOOL, case[1], tmp_path / 'net.safetensors')
    assert ended.code == 0, ended.err
    assert header(next(tmp_path.glob('net-*'))) == dict(
        format='pt', osar_plugin=__version__)


def test_what_cannot_be_published(run_tool, trained, tmp_path):
    ended = run_tool(TOOL, trained, tmp_path / 'net.pth')
    assert ended.code == 2
    assert "'.pth', expected .safetensors" in ended.err
    (tmp_path / 'empty').mkdir()
    for source, message in (
            (tmp_path / 'empty', 'There is no checkpoint in'),
            (tmp_path / 'gone.pth', 'gone.pth'),
            (trained / 'epoch_2.pth', 'holds no weights')):
        ended = run_tool(TOOL, source, tmp_path / 'net.safetensors')
        assert ended.code == 2
        assert message in ended.err
    assert not list(tmp_path.glob('net*'))


def test_the_same_weights_give_the_same_file(tmp_path):
    """The library puts metadata into another order each time."""
    weights = dict(a=torch.ones(3), b=torch.ones(2))
    plain = {
        save(weights, {k: k for k in 'dbcafe'}) for _ in range(8)}
    assert len(plain) > 1
    for order in ('dbcafe', 'abcdef') * 4:
        publish_weights(
            dict(reversed(weights.items())), tmp_path / 'net.safetensors',
            {k: k for k in order})
    assert len(list(tmp_path.iterdir())) == 1


def test_any_tensor_and_metadata(tmp_path):
    """Views, shared storages, empty ones, every byte width, odd headers."""
    base = torch.arange(12.).reshape(3, 4)
    weights = dict(
        base=base, view=base.T, row=base[1], empty=torch.ones(0, 3),
        odd=torch.ones(3, dtype=torch.int8), half=base.half(),
        bf16=base.bfloat16(), flag=torch.tensor(True),
        parameter=nn.Parameter(torch.ones(2)))
    for length in range(9):
        metadata = {'ключ "': 'ü\n"\\' + 'x' * length}
        path = tmp_path / 'w.safetensors'
        assert save_weights(weights, path, metadata) == sha256_of(path)
        written = load_file(path)
        assert header(path) == metadata
        assert written.keys() == weights.keys()
        assert all(torch.equal(written[k], weights[k]) for k in weights)
        size, = struct.unpack('<Q', path.read_bytes()[:8])
        assert size % 8 == 0
        assert json.loads(path.read_bytes()[8:8 + size])
    save_weights(weights, path)
    assert header(path) is None
    assert [p.name for p in tmp_path.iterdir()] == ['w.safetensors']


def test_metadata_needs_safetensors(tmp_path):
    with pytest.raises(CheckpointError, match='only .safetensors can'):
        save_weights(dict(a=torch.ones(1)), tmp_path / 'w.pth', dict(a='b'))
    with pytest.raises(CheckpointError, match=re.escape("'.pth'")):
        publish_weights(dict(a=torch.ones(1)), tmp_path / 'w.pth')
    assert not list(tmp_path.iterdir())
