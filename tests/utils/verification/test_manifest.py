"""Manifests: as coreutils reads and writes them, and hostile ones."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess

import pytest

from osar_plugin.utils.errors import (
    ConfigError,
    DataFormatError,
    DatasetNotFoundError,
)
from osar_plugin.utils.verification import read_manifest, write_manifest
from osar_plugin.utils.verification.manifest import shown

HASH = '0123456789abcdef' * 4
NAMES = (
    'a.png', 'sub folder/b.tif', 'über.png', 'star*.png', ' space', '-',
    'new\nline', 'carriage\rreturn', 'back\\slash', 'back\\nslash',
    os.fsdecode(b'latin\xe9.png'), 'esc\x1b[31m', '*x', '#c')


@pytest.fixture
def folder(tmp_path):
    """Files with all names that a file can have, and their checksums."""
    digests = {}
    for number, name in enumerate(NAMES):
        path = tmp_path / 'data' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]) * number)
        digests[name] = hashlib.sha256(path.read_bytes()).digest()
    return tmp_path / 'data', digests


def test_round_trip_of_all_names(folder, tmp_path):
    _, digests = folder
    write_manifest(tmp_path / 'm.txt', digests)
    assert read_manifest(tmp_path / 'm.txt') == digests


def test_sorted_by_path_whatever_the_order(tmp_path):
    digest = bytes(32)
    write_manifest(tmp_path / '1', {'b': digest, 'a/c': digest, 'a': digest})
    write_manifest(tmp_path / '2', {'a': digest, 'b': digest, 'a/c': digest})
    assert (tmp_path / '1').read_bytes() == (tmp_path / '2').read_bytes()
    assert (tmp_path / '1').read_text() == ''.join(
        f'{"0" * 64}  {name}\n' for name in ('a', 'a/c', 'b'))


@pytest.mark.skipif(
    shutil.which('sha256sum') is None, reason='coreutils are not there')
def test_coreutils_read_what_we_write_and_the_reverse(folder, tmp_path):
    root, digests = folder
    manifest = tmp_path / 'm.txt'
    write_manifest(manifest, digests)
    done = subprocess.run(
        ['sha256sum', '--check', '--strict', '--quiet', manifest], cwd=root,
        capture_output=True)
    assert done.returncode == 0, done
    theirs = subprocess.run(
        ['find', '.', '-type', 'f', '-exec', 'sha256sum', '{}', '+'],
        cwd=root, capture_output=True, check=True).stdout
    manifest.write_bytes(theirs)
    assert read_manifest(manifest) == digests


@pytest.mark.parametrize(
    ('text', 'message'), [
        (f'{HASH}  ok\n{HASH}  ../x\n', 'line 2: .*leads out'),
        (f'{HASH}  a/../../x\n', 'line 1: .*leads out'),
        (f'{HASH}  /etc/passwd\n', 'line 1: .*leads out'),
        (f'{HASH}  a\0b\n', 'line 1: .*leads out'),
        (f'{HASH}  ./\n', 'line 1: .*leads out'),
        (f'{HASH}  a\n{HASH}  b\n{HASH}  a\n', 'line 3: a .*second time'),
        (f'{HASH}  a\n{HASH}  ./a\n', 'line 2: a .*second time'),
        (f'{HASH}  a\n{HASH[:-1]}  b\n', 'line 2: .*63 digits where'),
        (f'{HASH[:32]}  b\n', 'line 1: .*32 digits, as MD5 has'),
        (f'{HASH}  a\n{HASH}  b', 'line 2: .*cut off'),
        (f'{HASH}  a\n{HASH[:20]}', 'line 2: .*cut off'),
        (f'{HASH}  a\r\n', 'line 1: .*CR and LF.*dos2unix'),
        (f'{HASH} a\n', 'line 1: .*no line of a manifest'),
        (f'{HASH}  \n', 'line 1: .*no line of a manifest'),
        (f'{HASH}  a\n\n', 'line 2: .*no line of a manifest'),
        (f'{"g" * 64}  a\n', 'line 1: .*no line of a manifest'),
        ('# by hand\n', 'line 1: # by hand is no line'),
        ('\x1b[2J\n', r'line 1: \\x1b\[2J is no line'),
        (f'\\{HASH}  a\\x\n', r'line 1: .*escape \\x'),
        (f'\\{HASH}  a\\\n', r'line 1: .*escape \\;'),
        ('', 'is empty'),
    ])
def test_hostile_or_broken_manifests_name_the_line(tmp_path, text, message):
    path = tmp_path / 'm.txt'
    path.write_bytes(text.encode())
    with pytest.raises(DataFormatError, match=message) as error:
        read_manifest(path)
    assert 'm.txt' in str(error.value)
    assert '\x1b' not in str(error.value)


def test_escapes_are_only_read_where_the_line_says_so(tmp_path):
    path = tmp_path / 'm.txt'
    path.write_text(f'{HASH}  a\\nb\n\\{HASH}  c\\nd\\\\e\n{HASH} *f\n')
    assert list(read_manifest(path)) == ['a\\nb', 'c\nd\\e', 'f']


def test_upper_case_digits(tmp_path):
    path = tmp_path / 'm.txt'
    path.write_text(f'{HASH.upper()}  a\n')
    assert read_manifest(path) == {'a': bytes.fromhex(HASH)}


def test_an_escaped_way_out_is_seen(tmp_path):
    path = tmp_path / 'm.txt'
    path.write_text(f'\\{HASH}  a\\n/../../x\n')
    with pytest.raises(DataFormatError, match='leads out'):
        read_manifest(path)


def test_no_manifest_and_no_place_for_one(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r'm\.txt.*write ROOT'):
        read_manifest(tmp_path / 'm.txt')
    with pytest.raises(DataFormatError, match='directory'):
        read_manifest(tmp_path)
    (tmp_path / 'file').touch()
    with pytest.raises(ConfigError, match='another place.*-o'):
        write_manifest(tmp_path / 'file' / 'm.txt', {'a': bytes(32)})


def test_a_write_that_fails_leaves_the_old_manifest(tmp_path):
    path = tmp_path / 'm.txt'
    write_manifest(path, {'a': bytes(32)})
    with pytest.raises(AttributeError):
        write_manifest(path, {'a': bytes(32), 'b': None})
    assert read_manifest(path) == {'a': bytes(32)}
    assert os.listdir(tmp_path) == ['m.txt']


def test_names_are_shown_on_one_line():
    assert shown('a\nb\x1b\tc') == r'a\nb\x1b\tc'
    assert shown(os.fsdecode(b'\xff')) == r'\xff'
    assert shown('über\\x') == 'über\\x'
    # Turns the rest of the line around on a terminal.
    assert shown('a\u202egnp') == r'a\u202egnp'
