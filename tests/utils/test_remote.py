"""Weights behind addresses: whole, checked, once, and never unpickled."""

from __future__ import annotations

import hashlib
import http.server
import importlib.util
import io
import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
import types
from collections import Counter
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as stock
from torch import nn

from osar_plugin.utils import remote
from osar_plugin.utils.checkpoint import fetch_checkpoint, use_safe_loading
from osar_plugin.utils.errors import CheckpointError, UnsafeCheckpointError


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def packed(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


WEIGHTS = {'weight': torch.arange(4.).reshape(2, 2), 'bias': torch.ones(2)}
DATA = packed(dict(state_dict=WEIGHTS))
SHA = hashlib.sha256(DATA).hexdigest()
NAME = f'net-{SHA[:8]}.pth'


@pytest.fixture(scope='module')
def server():
    """Serves `files`; counts what is asked for."""
    state = types.SimpleNamespace(files={}, asked=Counter(), wait=0.)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.partition('?')[0]
            state.asked[name] += 1
            time.sleep(state.wait)
            data, headers = state.files.get(name, (None, {}))
            self.send_response(404 if data is None else 200)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(data or b'')

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as httpd:
        state.address = f'http://127.0.0.1:{httpd.server_port}'
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield state
        httpd.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch, server):
    """A folder of our own for downloads, and what the server has."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path / 'mmengine'))
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    server.files.clear()
    server.asked.clear()
    server.wait = 0.
    offer(server, NAME, DATA)
    use_safe_loading()
    return tmp_path / 'torch' / 'hub' / 'checkpoints'


def offer(server, name, data, **headers):
    server.files[f'/{name}'] = data, {
        'Content-Length': str(len(data)),
        'Content-Type': 'application/octet-stream', **headers}
    return f'{server.address}/{name}'


def only(folder):
    return sorted(path.name for path in folder.iterdir())


def test_once_whole_and_under_its_name(server, hub):
    address = f'{server.address}/{NAME}?download=true'
    path = fetch_checkpoint(address)
    assert path == hub / NAME
    assert path.read_bytes() == DATA
    assert fetch_checkpoint(address) == path
    assert only(hub) == [NAME]
    assert server.asked == {f'/{NAME}': 1}


def test_mmengine_finds_the_same_folder(server, hub):
    """What torch.hub has downloaded before is used as it is."""
    torch.hub.load_state_dict_from_url(f'{server.address}/{NAME}')
    assert fetch_checkpoint(f'{server.address}/{NAME}') == hub / NAME
    assert server.asked == {f'/{NAME}': 1}


class Net(BaseModule):
    def __init__(self, init_cfg=None):
        super().__init__(init_cfg)
        self.layer = nn.Linear(2, 2)

    def load(self):
        self.init_weights()
        return self.layer.weight


def test_stock_configs_keep_working(server):
    """As `init_cfg` of a backbone in any OpenMMLab config."""
    content = {f'layer.{key}': value for key, value in WEIGHTS.items()}
    address = offer(server, 'net.pth', packed(content))
    net = Net(dict(type='Pretrained', checkpoint=address))
    assert torch.equal(net.load(), WEIGHTS['weight'])


def tables(monkeypatch, server):
    """MMEngine's tables of names, with our server in them."""
    address = f'{server.address}/{NAME}'
    names = {'resnet': address, 'new/net': address}
    monkeypatch.setattr(remote, 'get_torchvision_models', lambda: names)
    monkeypatch.setattr(remote, 'get_external_models', lambda: names)
    monkeypatch.setattr(remote, 'get_mmcls_models', lambda: names)
    monkeypatch.setattr(
        remote, 'get_deprecated_model_names', lambda: {'old': 'new/net'})


@pytest.mark.parametrize('filename', [
    'torchvision://resnet', 'modelzoo://resnet', 'open-mmlab://resnet',
    'openmmlab://resnet', 'open-mmlab://old', 'openmmlab://new/net'])
def test_names_for_addresses(server, monkeypatch, filename):
    monkeypatch.setattr(remote, 'require', lambda *_: None)
    tables(monkeypatch, server)
    content = CheckpointLoader.load_checkpoint(filename, 'cpu')
    assert torch.equal(content['state_dict']['bias'], WEIGHTS['bias'])
    assert server.asked == {f'/{NAME}': 1}


@pytest.mark.parametrize('wrapped', [True, False])
def test_classifiers_give_their_backbone(server, monkeypatch, wrapped):
    content = {'backbone.a': torch.ones(1), 'head.b': torch.ones(1)}
    address = offer(server, 'classifier.pth', packed(
        dict(state_dict=content) if wrapped else content))
    monkeypatch.setattr(remote, 'get_mmcls_models', lambda: {'x': address})
    content = CheckpointLoader.load_checkpoint('mmcls://x')
    assert content == dict(state_dict={'a': torch.ones(1)})


def test_a_table_of_the_user_may_name_files(tmp_path):
    home = tmp_path / 'mmengine'
    home.mkdir()
    (home / 'mine.pth').write_bytes(DATA)
    (home / 'open_mmlab.json').write_text(json.dumps(dict(mine='mine.pth')))
    content = CheckpointLoader.load_checkpoint('open-mmlab://mine')
    assert torch.equal(content['state_dict']['bias'], WEIGHTS['bias'])


def test_the_real_tables_name_addresses():
    """Of both stacks; all of them go through the same download."""
    for table in (stock.get_external_models(), stock.get_mmcls_models()):
        assert len(table) > 40
        assert all(url.startswith('https://') for url in table.values())
    assert 'resnet50' in stock.get_mmcls_models()
    assert stock.get_deprecated_model_names()['resnet50_caffe'] in (
        stock.get_external_models())


def test_the_real_table_of_torchvision(monkeypatch):
    if importlib.util.find_spec('torchvision') is None:
        pytest.skip('torchvision is not installed')
    asked = []
    monkeypatch.setattr(
        remote, 'load_from_http', lambda url, _: asked.append(url))
    CheckpointLoader.load_checkpoint('torchvision://resnet50')
    assert asked[0].startswith('https://')
    assert asked[0].endswith('.pth')
    assert 'resnet50-' in asked[0]


@pytest.mark.parametrize(('filename', 'near'), [
    ('open-mmlab://detectron/resnet50_cafe', 'detectron/resnet50_caffe'),
    ('mmcls://resnet5', 'resnet50')])
def test_unknown_names(filename, near):
    with pytest.raises(CheckpointError) as caught:
        CheckpointLoader.load_checkpoint(filename)
    assert filename in str(caught.value)
    assert near in str(caught.value)


@pytest.mark.parametrize('filename', [
    's3://bucket/x.pth', 'petrel://x.pth', 'open-mmlab:s3://bucket/x.pth',
    'pavi://a/x.pth', 'gs://bucket/x.pth', 'ftp://host/x.pth',
    'file:///etc/hostname', 'hf+x://a/b.pth'])
def test_unchecked_stores_are_refused(filename):
    with pytest.raises(CheckpointError, match='Download it yourself') as info:
        CheckpointLoader.load_checkpoint(filename)
    assert filename in str(info.value)


def refused(address, hub, match):
    with pytest.raises(CheckpointError, match=match) as caught:
        CheckpointLoader.load_checkpoint(address)
    assert address in str(caught.value)
    assert str(hub) in str(caught.value)
    if hub.exists():
        assert only(hub) == []


def test_another_checksum_than_the_name_says(server, hub):
    address = offer(server, 'net-0123456789.pth', DATA)
    refused(address, hub, f'{SHA}, where the name says 0123456789')


@pytest.mark.parametrize('name', [
    'net-20230512.pth', 'net-1234567.pth', 'net-deadbeef-s.pth', 'net.pth',
    'net_deadbeef.pth'])
def test_names_without_a_checksum(server, hub, name):
    address = offer(server, name, DATA)
    assert fetch_checkpoint(address).read_bytes() == DATA


def test_a_download_that_breaks_off(server, hub):
    address = offer(server, 'net.pth', DATA[:100],
                    **{'Content-Length': str(len(DATA))})
    refused(address, hub, f'after 100 of {len(DATA)} bytes')


def test_no_such_file_there(server, hub):
    refused(f'{server.address}/other.pth', hub, '404')


def test_a_login_page(server, hub):
    page = b'<html>Sign in</html>'
    address = offer(server, 'net.pth', page,
                    **{'Content-Type': 'text/html; charset=utf-8'})
    refused(address, hub, 'web page')


def test_no_server_there(hub):
    with socket.socket() as closed:
        closed.bind(('127.0.0.1', 0))  # and listens to nobody
        port = closed.getsockname()[1]
        refused(f'http://127.0.0.1:{port}/net.pth', hub, 'refused')


def test_no_name_in_the_address(server):
    for path in ('', '/', '/folder/', '/..', '/.'):
        with pytest.raises(CheckpointError, match='name of a file'):
            fetch_checkpoint(server.address + path)


def test_a_folder_that_cannot_be_written(server, hub):
    hub.parent.parent.mkdir(parents=True, exist_ok=True)
    hub.parent.write_text('a file where the folder should be')
    with pytest.raises(CheckpointError, match='cannot be downloaded'):
        fetch_checkpoint(f'{server.address}/{NAME}')


def test_a_read_only_folder_that_has_the_file(server, hub, monkeypatch):
    """Shared by a group, filled by one of it: no lock can be made there."""
    hub.mkdir(parents=True)
    (hub / NAME).write_bytes(DATA)

    def refuse(*_):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(remote, '_one_at_a_time', refuse)
    monkeypatch.setattr(Path, 'mkdir', refuse)
    assert fetch_checkpoint(f'{server.address}/{NAME}') == hub / NAME


def test_a_damaged_file_from_before_is_replaced(server, hub):
    hub.mkdir(parents=True)
    (hub / NAME).write_bytes(DATA[:-5])
    assert fetch_checkpoint(
        f'{server.address}/{NAME}').read_bytes() == DATA
    # Without a checksum in the name, nobody can tell.
    (hub / 'net.pth').write_bytes(b'x')
    offer(server, 'net.pth', DATA)
    assert fetch_checkpoint(
        f'{server.address}/net.pth').read_bytes() == b'x'


def test_a_failed_download_leaves_the_file_from_before(server, hub):
    hub.mkdir(parents=True)
    (hub / NAME).write_bytes(DATA[:-5])
    offer(server, NAME, DATA[:-9])
    with pytest.raises(CheckpointError):
        fetch_checkpoint(f'{server.address}/{NAME}')
    assert (hub / NAME).read_bytes() == DATA[:-5]
    assert only(hub) == [NAME]


def test_what_is_downloaded_is_not_unpickled(server, tmp_path):
    address = offer(server, 'bomb.pth', packed(
        dict(state_dict=WEIGHTS, meta=Bomb(tmp_path / 'made'))))
    with pytest.raises(UnsafeCheckpointError, match='bomb.pth'):
        CheckpointLoader.load_checkpoint(address)
    assert not (tmp_path / 'made').exists()


FETCH = textwrap.dedent("""
    import sys
    from osar_plugin.utils.remote import fetch_checkpoint
    print('ready', flush=True)
    sys.stdin.readline()
    print(fetch_checkpoint(sys.argv[1]).stat().st_size)
""")


def test_one_process_downloads_and_the_others_wait(server, hub, repo):
    server.wait = 0.3
    processes = [subprocess.Popen(
        [sys.executable, '-c', FETCH, f'{server.address}/{NAME}'], cwd=repo,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == 'ready\n'
    for process in processes:
        process.stdin.write('go\n')
        process.stdin.flush()
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert int(out.strip().splitlines()[-1]) == len(DATA)
    assert server.asked == {f'/{NAME}': 1}
    assert only(hub) == [NAME]


def test_a_disk_without_locks(server, hub, monkeypatch):
    def refuse(*_):
        raise OSError(95, 'Operation not supported')

    monkeypatch.setattr(remote.fcntl, 'flock', refuse)
    assert fetch_checkpoint(f'{server.address}/{NAME}').is_file()
    assert only(hub) == [NAME]


def test_every_scheme_of_mmengine_is_taken_over():
    """One that a new version brings would read as MMEngine does."""
    for name, loader in CheckpointLoader._schemes.items():
        assert loader.__module__ == remote.__name__, name
    before = dict(CheckpointLoader._schemes)
    use_safe_loading()
    assert dict(CheckpointLoader._schemes) == before


def test_asking_again_costs_nothing():
    start = time.perf_counter()
    for _ in range(100):
        use_safe_loading()
    assert time.perf_counter() - start < 0.2
