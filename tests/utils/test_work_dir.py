"""What to resume from, and what a killed run left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MMLogger

from osar_plugin.io import atomic_write
from osar_plugin.utils import work_dir as module
from osar_plugin.utils.checkpoint import (
    checkpoint_file,
    clean_leftovers,
    find_checkpoint,
    read_checkpoint,
    read_meta,
)
from osar_plugin.utils.errors import CheckpointError


def save(path, iteration, saved='20260101_000000', legacy=False, **content):
    meta = dict(iter=iteration, epoch=iteration // 10, time=saved)
    torch.save(
        dict(meta=meta, state_dict=dict(a=torch.arange(3.)), **content), path,
        _use_new_zipfile_serialization=not legacy)
    return path


def point(folder, target):
    (folder / 'last_checkpoint').write_text(str(target))


@pytest.fixture
def warned(caplog, monkeypatch):
    """What is warned of, also where another test has made a logger."""
    monkeypatch.setattr(
        module, 'print_log', lambda text, **_: texts.append(text))
    texts: list[str] = []
    return texts


@pytest.mark.parametrize('folder', ['empty', 'absent', 'other files'])
def test_nothing_to_resume_from(tmp_path, folder, warned):
    if folder == 'other files':
        for name in ('best_mAP_epoch_3.pth', 'epoch_1.txt', '.epoch_1.pth.tmp',
                     'model.pth'):
            save(tmp_path / name, 3)
        (tmp_path / 'epoch_9.pth').mkdir()
        assert find_checkpoint(tmp_path) is None
    elif folder == 'absent':
        assert find_checkpoint(tmp_path / 'absent') is None
    assert find_checkpoint(tmp_path) is None
    assert not warned


@pytest.mark.parametrize('legacy', [False, True])
def test_the_most_iterations_win_whatever_the_name(tmp_path, legacy):
    """A file's number counts epochs or iterations; names sort badly."""
    save(tmp_path / 'epoch_9.pth', 90, legacy=legacy)
    save(tmp_path / 'iter_85.pth', 85, legacy=legacy)
    newest = save(tmp_path / 'epoch_10.pth', 100, legacy=legacy)
    os.utime(newest, (0, 0))  # a copy may have any time
    assert find_checkpoint(tmp_path) == newest
    newest = save(tmp_path / 'iter_104.pth', 104, legacy=legacy)
    assert find_checkpoint(str(tmp_path)) == newest


def test_of_two_at_the_same_step_the_later(tmp_path):
    save(tmp_path / 'iter_20.pth', 20, '20260101_000001')
    later = save(tmp_path / 'epoch_2.pth', 20, '20260101_000002')
    assert find_checkpoint(tmp_path) == later
    point(tmp_path, tmp_path / 'iter_20.pth')
    assert find_checkpoint(tmp_path) == later


def test_an_older_pointer(tmp_path):
    """Killed between the file and the pointer to it."""
    point(tmp_path, save(tmp_path / 'iter_5.pth', 5, '20260101_000001'))
    newest = save(tmp_path / 'iter_10.pth', 10, '20260101_000002')
    assert find_checkpoint(tmp_path) == newest


def test_files_of_an_earlier_run_do_not_count(tmp_path, warned):
    """Begun anew in the same folder: further is not newer."""
    old = save(tmp_path / 'iter_100.pth', 100, '20260101_000001')
    behind = save(tmp_path / 'iter_5.pth', 5, '20260102_000000')
    newest = save(tmp_path / 'iter_10.pth', 10, '20260102_000001')
    point(tmp_path, behind)
    assert find_checkpoint(tmp_path) == newest
    assert str(old) in warned[0]
    assert 'run before' in warned[0]


@pytest.mark.parametrize('text', [
    '', '\n', 'gone.pth', '/nowhere/gone.pth', 's3://bucket/x.pth', '\0',
    'x' * 5000, '\udcff'])
def test_a_pointer_that_leads_nowhere(tmp_path, text):
    newest = save(tmp_path / 'epoch_1.pth', 10)
    (tmp_path / 'last_checkpoint').write_bytes(
        text.encode('utf-8', 'surrogateescape'))
    assert find_checkpoint(tmp_path) == newest


def test_a_pointer_of_another_name(tmp_path):
    """filename_tmpl and out_dir of the hook decide; the pointer knows."""
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    target = save(elsewhere / 'step-7.pth', 7)
    work_dir = tmp_path / 'work_dir'
    work_dir.mkdir()
    point(work_dir, target)
    assert find_checkpoint(work_dir) == target


@pytest.mark.parametrize('moved', [True, False], ids=['moved', 'copied'])
def test_a_work_dir_that_was_moved_or_copied(tmp_path, moved):
    old, new = tmp_path / 'old', tmp_path / 'new'
    old.mkdir()
    point(old, save(old / 'step-7.pth', 7))
    (shutil.move if moved else shutil.copytree)(old, new)
    assert find_checkpoint(new) == new / 'step-7.pth'


def test_deepspeed_writes_folders(tmp_path):
    (tmp_path / 'epoch_3.pth').mkdir()
    point(tmp_path, tmp_path / 'epoch_3.pth')
    assert find_checkpoint(tmp_path) == tmp_path / 'epoch_3.pth'


def test_every_flipped_bit_is_seen_or_harmless(tmp_path, warned):
    """Of a small checkpoint, every byte: refused, or read as it was."""
    path = save(tmp_path / 'epoch_1.pth', 10)
    expected = read_checkpoint(path)
    original = path.read_bytes()
    refused = 0
    for place in range(len(original)):
        damaged = bytearray(original)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            assert find_checkpoint(tmp_path) == path
        except CheckpointError as error:
            assert 'epoch_1.pth' in str(error)
            refused += 1
            continue
        content = read_checkpoint(path)
        assert content['meta'] == expected['meta']
        assert torch.equal(
            content['state_dict']['a'], expected['state_dict']['a'])
    # The rest is padding and notes of the archive that nobody reads.
    assert refused > len(original) / 4


@pytest.mark.parametrize('legacy', [False, True])
def test_truncated_files_are_passed_over(tmp_path, warned, legacy):
    whole = save(tmp_path / 'iter_5.pth', 5, legacy=legacy)
    newer = save(tmp_path / 'iter_10.pth', 10, legacy=legacy)
    point(tmp_path, newer)
    original = newer.read_bytes()
    for length in range(0, len(original), 97):
        newer.write_bytes(original[:length])
        warned.clear()
        assert find_checkpoint(tmp_path) == whole
        assert str(newer) in warned[0]
    # Room that was reserved, but never written.
    newer.write_bytes(original[:200].ljust(len(original), b'\0'))
    assert find_checkpoint(tmp_path) == whole


def test_wrong_bytes_of_a_tensor_are_seen(tmp_path, warned):
    """Whoever reads the archive without its checksums sees nothing."""
    whole = save(tmp_path / 'epoch_1.pth', 10)
    newer = save(tmp_path / 'epoch_2.pth', 20)
    values = np.arange(3, dtype=np.float32)
    data = newer.read_bytes()
    assert values.tobytes() in data
    newer.write_bytes(data.replace(values.tobytes(), (values + 1).tobytes()))
    assert torch.load(newer, weights_only=True)['state_dict']['a'][0] == 1
    assert find_checkpoint(tmp_path) == whole
    assert 'epoch_2.pth' in warned[0]
    assert 'checksum' in warned[0]


def test_none_is_whole(tmp_path, warned):
    (tmp_path / 'epoch_1.pth').write_bytes(b'')
    path = save(tmp_path / 'epoch_2.pth', 20)
    path.write_bytes(path.read_bytes()[:-10])
    torch.save(dict(a=torch.ones(2)), tmp_path / 'epoch_3.pth')
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint(tmp_path)
    for name in ('epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth'):
        assert str(tmp_path / name) in str(caught.value)
    assert 'begin anew' in str(caught.value)
    assert len(warned) == 3


def test_meta_is_read_without_the_tensors(tmp_path):
    """Of files as stock MMEngine writes them, too."""
    path = save(
        tmp_path / 'epoch_1.pth', 10,
        message_hub=dict(log_scalars=dict(loss=HistoryBuffer([1.], [1]))),
        optimizer=torch.ones(2**22))
    assert read_meta(path)['iter'] == 10
    taken = []
    for read in (read_meta, read_checkpoint) * 3:
        start = time.perf_counter()
        read(path)
        taken.append(time.perf_counter() - start)
    assert min(taken[::2]) < min(taken[1::2])
    torch.save([1], path)
    assert read_meta(path) == {}


def dead_process():
    with subprocess.Popen([sys.executable, '-c', '']) as process:
        process.wait()
    return process.pid


def test_leftovers_of_dead_processes_go(tmp_path):
    dead = dead_process()
    gone = [tmp_path / f'.epoch_3.pth.{dead}.tmp',
            tmp_path / f'.epoch_3.pth.{os.getpid()}.tmp',
            tmp_path / f'.any-name_tmpl.pth.{dead}.tmp',
            tmp_path / f'.last_checkpoint.{dead}.tmp']
    kept = [tmp_path / f'.epoch_3.pth.{os.getppid()}.tmp',
            tmp_path / '.epoch_3.pth.1.tmp',
            tmp_path / '.epoch_3.pth.0.tmp',
            tmp_path / f'epoch_3.pth.{dead}.tmp',
            tmp_path / f'.epoch_3.pth.{dead}',
            tmp_path / 'epoch_3.pth', tmp_path / 'last_checkpoint']
    for path in gone + kept:
        path.write_text('x')
    folder = tmp_path / f'.epoch_4.pth.{dead}.tmp'
    folder.mkdir()
    (folder / 'part').write_text('x')
    assert sorted(clean_leftovers(tmp_path)) == sorted([*gone, folder])
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    assert clean_leftovers(tmp_path) == []


def test_files_being_written_stay(tmp_path):
    """Of `atomic_write`: nobody knows whose they are, but how old."""
    now = time.time()
    for name in ('epoch_3.pth', 'iter_3.pth', 'best_mAP_iter_3.pth',
                 'last_checkpoint', 'notes.txt'):
        with atomic_write(tmp_path / name) as file:
            copy, = tmp_path.glob(f'.{name}.*.tmp')
            assert clean_leftovers(tmp_path) == []
            file.write('x')
        copy.write_text('x')
        os.utime(copy, (now - 3700, now - 3700))
        expected = [] if name == 'notes.txt' else [copy]
        assert clean_leftovers(tmp_path) == expected
        assert copy.exists() == (name == 'notes.txt')


def test_a_link_is_removed_and_not_what_it_points_to(tmp_path):
    precious = tmp_path / 'precious'
    precious.mkdir()
    (precious / 'file').write_text('x')
    link = tmp_path / f'.epoch_1.pth.{dead_process()}.tmp'
    link.symlink_to(precious)
    assert clean_leftovers(tmp_path) == [link]
    assert (precious / 'file').exists()


def test_cleaning_where_nothing_is(tmp_path):
    assert clean_leftovers(tmp_path / 'absent') == []


def test_what_cannot_be_removed_is_named(tmp_path, monkeypatch, warned):
    path = tmp_path / f'.epoch_1.pth.{dead_process()}.tmp'
    path.write_text('x')

    def refuse(self, *_, **__):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(type(path), 'unlink', refuse)
    assert clean_leftovers(tmp_path) == []
    assert str(path) in warned[0]
    assert 'Permission denied' in warned[0]


def test_warnings_go_to_the_log_of_the_run(tmp_path):
    logger = MMLogger.get_instance(
        'find', log_file=str(tmp_path / 'log'), logger_name='find')
    assert logger is MMLogger.get_current_instance()
    save(tmp_path / 'iter_5.pth', 5)
    (tmp_path / 'iter_6.pth').write_bytes(b'no checkpoint')
    find_checkpoint(tmp_path)
    for handler in logger.handlers:
        handler.flush()
    text = (tmp_path / 'log').read_text()
    assert 'WARNING' in text
    assert 'iter_6.pth is passed over' in text


def test_a_checkpoint_that_a_user_names(tmp_path):
    file = tmp_path / 'any.pth'
    file.write_bytes(b'its reader judges it')
    assert checkpoint_file(str(file)) == file
    folder = tmp_path / 'run'
    folder.mkdir()
    with pytest.raises(CheckpointError, match="in the folder '.*run'"):
        checkpoint_file(folder)
    with pytest.raises(CheckpointError, match="at '.*absent'"):
        checkpoint_file(tmp_path / 'absent')
    (folder / 'last_checkpoint').write_text('/gone/epoch_1.pth')
    with pytest.raises(CheckpointError, match='/gone/epoch_1.pth'):
        checkpoint_file(folder)
