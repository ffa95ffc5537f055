"""tools/verify_dataset.py: what it says, writes and ends with."""

from __future__ import annotations

import csv
import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
TOOL = 'verify_dataset.py'


@pytest.fixture
def tool(run_tool):
    return functools.partial(run_tool, TOOL)


@pytest.fixture
def root(tiny_hoss, tmp_path):
    """A copy to do harm to; links would be harmed at their ends."""
    import shutil
    return Path(shutil.copytree(tiny_hoss, tmp_path / 'data'))


def test_write_and_check(tool, root):
    ended = tool('write', root)
    assert (ended.code, ended.err) == (0, '')
    assert ended.out.endswith(
        f'48 checksums written to {root}/sha256sums.txt\n')
    ended = tool('check', root)
    assert (ended.code, ended.err) == (0, '')
    assert '48 images (16 gallery, 16 query, 16 train)' in ended.out
    assert 'nothing wrong; contents compared with' in ended.out


def test_findings(tool, root):
    tool('write', root)
    path = root / 'HOSS/query/0004_s01c1_RGB.tif'
    path.write_bytes(path.read_bytes()[:-50])
    ended = tool('check', root)
    assert ended.code == 1
    lines = ended.out.splitlines()
    counts = {
        line.split()[0]: line.split()[1] for line in lines
        if len(line.split()) > 2 and line.split()[1].isdigit()}
    assert counts['altered'] == counts['undecodable'] == '1'
    assert counts['missing'] == counts['leaking'] == '0'
    name = 'HOSS/query/0004_s01c1_RGB.tif'
    assert any(
        line.startswith(f'  {name}: SHA-256') and '; expected SHA-256' in line
        for line in lines)
    assert any(
        line.startswith(f'  {name}: cannot be decoded') for line in lines)
    assert lines[-1].startswith('2 problems; ')
    # The bytes alone.
    ended = tool('check', root, '--no-decode')
    assert ended.code == 1 and '1 problem;' in ended.out
    assert 'truncated or damaged; not looked for' in ended.out


def test_without_manifest_it_says_so(tool, root):
    ended = tool('check', root)
    assert ended.code == 0
    assert 'other bytes than the manifest says; not looked for' in ended.out
    assert 'nothing wrong; contents not compared' in ended.out


def test_damaged_files_get_no_manifest(tool, root):
    path = root / 'HOSS/query/0004_s01c1_RGB.tif'
    path.write_bytes(path.read_bytes()[:-50])
    ended = tool('write', root)
    assert ended.code == 1
    assert 'no manifest written' in ended.out and path.name in ended.out
    assert not (root / 'sha256sums.txt').exists()


def test_limit(tool, root):
    for path in sorted((root / 'HOSS/query').iterdir())[:4]:
        path.write_bytes(b'')
    ended = tool('check', root, '--limit', '3')
    assert ended.out.count(': 0 bytes') == 3
    assert 'and 1 more; --limit 0' in ended.out
    assert tool('check', root, '--limit', '0').out.count(': 0 bytes') == 4


@pytest.mark.parametrize('suffix', ['.json', '.csv'])
def test_report(tool, root, tmp_path, suffix):
    (root / 'HOSS/query/odd\nname.tif').write_bytes(b'')
    out = tmp_path / f'report{suffix}'
    ended = tool('check', root, '--report', out)
    assert ended.code == 1 and r'odd\nname.tif: 0 bytes' in ended.out
    if suffix == '.json':
        report = json.loads(out.read_text())
        assert report['ok'] is False and report['counts']['empty'] == 1
        rows = report['findings']
    else:
        rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 1
    assert rows[0]['kind'] == 'empty'
    assert rows[0]['path'] == r'HOSS/query/odd\nname.tif'
    assert rows[0]['found'] == '0 bytes' and 'download' in rows[0]['cure']


def test_splits_by_hand_and_allow(tool, root):
    import shutil
    shutil.copytree(root / 'HOSS/query', root / 'HOSS/mine')
    assert tool('check', root).code == 0
    args = ('check', root, '--train', 'HOSS/mine', '--test', 'HOSS/query')
    ended = tool(*args)
    assert ended.code == 1 and '16 problems' in ended.out
    ended = tool(*args, '--allow', 'leaking')
    assert ended.code == 0 and 'nothing wrong, 16 warnings' in ended.out
    assert 'leaking (warning)' in ended.out


@pytest.mark.parametrize(
    ('args', 'message'), [
        (('check', 'gone'), 'no such folder'),
        (('check', '{root}', '--manifest', 'gone.txt'), 'no such manifest'),
        (('check', '{root}', '--report', 'x.txt'), r'\.json or \.csv'),
        (('check', '{root}', '--report', '{root}/x.csv'), 'in the data set'),
        (('check', '{root}', '--train', 'gone'), 'gone: no such folder'),
        (('check', '{root}', '--limit', '-1'), '--limit -1'),
        (('check', '{root}', '--workers', '-2'), 'workers=-2'),
        (('check', '{root}', '--pixels', '--no-decode'), '--no-decode'),
        (('check', '{root}', '--allow', 'nothing'), 'invalid choice'),
        (('write', '{root}', '-o', '/dev/null/x'), 'another place'),
        ((), 'required'),
        (('check', ), 'root'),
    ])
def test_user_errors(tool, root, args, message):
    import re
    ended = tool(*(arg.format(root=root) for arg in args))
    assert ended.code == 2
    assert re.search(message, ended.err), ended.err
    assert 'Traceback' not in ended.err


def test_hostile_manifest_names_the_line(tool, root):
    (root / 'sha256sums.txt').write_text(f'{"0" * 64}  ../../etc/passwd\n')
    ended = tool('check', root)
    assert ended.code == 2
    assert 'sha256sums.txt, line 1: ' in ended.err


_SLOW = """
import signal
# Ignored where the tests themselves run in the background of a shell.
signal.signal(signal.SIGINT, signal.default_int_handler)
import runpy, sys, time
import osar_plugin.utils.verification.inspection as inspection
def decode(data, path):
    time.sleep(30)
inspection.decode_bytes = decode
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='uses fork')
@pytest.mark.parametrize(
    ('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(root, number, code):
    with subprocess.Popen(
            [sys.executable, '-c', _SLOW, f'tools/{TOOL}', 'write', root,
             '--workers', '2'],
            cwd=REPO, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True) as process:
        deadline = time.monotonic() + 20
        while len(_children(process.pid)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = _children(process.pid)
        time.sleep(0.2)
        # As a terminal does: to all processes.
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=10)
    assert process.returncode == code
    assert 'Traceback' not in err
    assert not any(Path(f'/proc/{pid}').exists() for pid in children)
    assert not (root / 'sha256sums.txt').exists()


def _children(pid: int) -> list[int]:
    path = Path(f'/proc/{pid}/task/{pid}/children')
    return [int(child) for child in path.read_text().split()]
