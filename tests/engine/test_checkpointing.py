"""Checkpoints appear whole or not at all, and hold plain data."""

from __future__ import annotations

import errno
import inspect
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from osar_plugin.registry import HOOKS
from osar_plugin.utils.checkpoint import read_checkpoint
from osar_plugin.utils.errors import CheckpointError, ConfigError

from .training_case import CaseDataset, CaseMetric, last, same, train

# Everything that changes a file or a folder while a checkpoint is saved.
CHANGES = ((os, 'replace'), (os, 'fsync'), (LocalBackend, 'put'),
           (LocalBackend, 'remove'))


def killed_at(change: int, work_dir: Path, **arguments: Any) -> bool:
    """Train in a process of its own that is killed at the n-th change.

    Returns:
        Whether it came to that: False if it ended before.
    """
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        left = [change]

        def counted(function: Any) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **kwargs)
            return call

        for owner, name in CHANGES:
            setattr(owner, name, counted(getattr(owner, name)))
        try:
            train(work_dir, **arguments)
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def names(folder: Path) -> list[str]:
    """Files of a work dir, but for the config that carries the time."""
    return sorted(
        path.name for path in folder.iterdir()
        if path.is_file() and path.suffix != '.py')


@pytest.mark.parametrize('keep', [1, 2])
def test_killed_at_any_change_of_a_file(keep: int, tmp_path: Path) -> None:
    """Killed before the n-th rename, flush, write or removal."""
    arguments = dict(keep=keep, val=1, epochs=3)
    train(tmp_path / 'whole', **arguments)
    whole = last(tmp_path / 'whole')
    points = 0
    for change in range(keep - 1, 1000, 3 if keep == 1 else 4):
        folder = tmp_path / str(change)
        if not killed_at(change, folder, **arguments):
            break
        points += 1
        train(folder, **arguments, resume=True)
        assert same(whole, last(folder)) == [], change
        assert names(folder) == names(tmp_path / 'whole'), change
    assert points >= 7


def test_content_is_plain(tmp_path: Path) -> None:
    train(tmp_path, ema=True, optimizer='AdamW')
    files = list(tmp_path.glob('*.pth'))
    assert len(files) == 2  # the last and the best
    for path in files:
        assert torch.serialization.get_unsafe_globals_in_checkpoint(
            path) == []
        assert torch.load(path, weights_only=True)['state_dict']
    content = torch.load(files[0], weights_only=True)
    assert 'CaseModel' in content['meta']['cfg']
    assert content['message_hub']['runtime_info']['best_score'] is not None


def test_stock_runner_resumes_it(tmp_path: Path) -> None:
    """A file of ours in MMEngine's hands, whose hooks know nothing of it."""
    train(tmp_path, kill=12)
    runner = train(tmp_path, resume=True, exact=False,
                   checkpoint='CheckpointHook')
    assert runner.iter == 24
    assert runner.message_hub.get_info('best_score') is not None


def test_stock_file_resumes_with_us(tmp_path: Path) -> None:
    train(tmp_path, kill=12, exact=False, checkpoint='CheckpointHook')
    runner = train(tmp_path, resume=True)
    history = runner.message_hub.get_scalar('train/loss')
    assert runner.iter == 24 and len(history.data[0]) == 24


@pytest.mark.parametrize('keep', [1, 2, -1])
def test_what_is_kept_is_what_the_stock_hook_keeps(
        keep: int, tmp_path: Path) -> None:
    for kind in ('CheckpointHook', 'osar_plugin.AtomicCheckpointHook'):
        train(tmp_path / kind, keep=keep, val=1, checkpoint=kind)
    ours, stock = (
        names(tmp_path / kind) for kind in (
            'osar_plugin.AtomicCheckpointHook', 'CheckpointHook'))
    assert ours == stock
    info = [
        read_checkpoint(tmp_path / kind / 'epoch_4.pth')['message_hub'][
            'runtime_info'] for kind in (
            'osar_plugin.AtomicCheckpointHook', 'CheckpointHook')]
    assert info[0]['best_score'] == info[1]['best_score']
    assert Path(info[0]['best_ckpt']).name == Path(info[1]['best_ckpt']).name


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EROFS])
def test_disk_that_cannot_be_written(
        number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path, kill=12)
    before = (tmp_path / 'last_checkpoint').read_text()

    def put(self: Any, data: bytes, filepath: str) -> None:
        Path(filepath).write_bytes(data[:1000])
        raise OSError(number, os.strerror(number), filepath)

    monkeypatch.setattr(LocalBackend, 'put', put)
    with pytest.raises(CheckpointError, match='could not be written') as info:
        train(tmp_path, resume=True)
    cure = 'MiB left' if number == errno.ENOSPC else '--work-dir'
    assert cure in str(info.value) and '--resume' in str(info.value)
    monkeypatch.undo()
    assert (tmp_path / 'last_checkpoint').read_text() == before
    assert read_checkpoint(before)['meta']['epoch'] == 1
    assert not list(tmp_path.glob('.*.tmp'))


def test_what_cannot_be_saved_ends_the_run_at_its_start(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CaseDataset, 'metainfo', dict(palette=object()))
    with pytest.raises(CheckpointError, match='dataset_meta.palette is a'):
        train(tmp_path)
    assert not list(tmp_path.glob('*.pth'))


def test_a_checkpoint_cannot_have_anything_else_deleted(
        tmp_path: Path) -> None:
    """The note of replaced files comes from the file that is resumed."""
    work_dir = tmp_path / 'runs' / 'mine'
    train(work_dir, kill=12)
    path = Path((work_dir / 'last_checkpoint').read_text())
    content = torch.load(path, weights_only=True)
    (work_dir / 'iter_7.pth').mkdir()
    (work_dir / 'iter_7.pth' / 'data').write_text('of the user')
    (work_dir / 'notes.txt').write_text('of the user')
    content['message_hub']['runtime_info']['superseded_ckpts'] = [
        f'{work_dir}/..', f'{work_dir}/', f'{work_dir}/.', '..', 7,
        f'{work_dir}/notes.txt', f'{work_dir}/iter_7.pth',
        str(tmp_path / 'runs'), f'{work_dir}/../mine/notes.txt']
    torch.save(content, path)
    train(work_dir, resume=True)
    assert (work_dir / 'notes.txt').exists()
    assert (work_dir / 'iter_7.pth' / 'data').exists()


def test_a_metric_that_is_no_plain_data(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        CaseMetric, 'compute_metrics',
        lambda self, results: dict(acc=sum(results), table=object()))
    assert train(tmp_path).iter == 24
    info = last(tmp_path)['message_hub']['runtime_info']
    assert 'best_score' in info and not any('table' in key for key in info)


def test_names_of_ones_own_are_pruned(tmp_path: Path) -> None:
    from .training_case import config
    cfg = config(tmp_path, epochs=3, val=9)
    cfg.default_hooks.checkpoint.filename_tmpl = 'mine-{}.pth'
    Runner.from_cfg(cfg).train()
    assert [p.name for p in tmp_path.glob('mine*')] == ['mine-3.pth']


def test_leftovers_are_cleaned_at_the_next_start(tmp_path: Path) -> None:
    dead = 2**22 + 1  # above the largest process number
    left = tmp_path / f'.epoch_3.pth.{dead}.tmp'
    left.write_bytes(b'half')
    other = tmp_path / 'notes.tmp'
    other.write_text('of the user')
    train(tmp_path, epochs=1)
    assert not left.exists() and other.exists()


def test_unknown_figure_of_the_best_checkpoint(tmp_path: Path) -> None:
    hook = HOOKS.build(dict(
        type='osar_plugin.AtomicCheckpointHook', save_best='acc/top2',
        rule='greater'))
    with pytest.raises(ConfigError, match="'acc/top2'.*acc/top1"):
        hook._save_if_best(None, {'acc/top1': 1.}, 'acc/top2', 'greater', 1,
                           {})


def test_published_parts(tmp_path: Path) -> None:
    hook = dict(type='osar_plugin.AtomicCheckpointHook', interval=1,
                published_keys=['state_dict'])
    from .training_case import config
    cfg = config(tmp_path, epochs=1)
    cfg.default_hooks.checkpoint = hook
    Runner.from_cfg(cfg).train()
    path, = tmp_path.glob('epoch_1-*.pth')
    assert list(read_checkpoint(path)) == ['state_dict']
    from osar_plugin.utils.checkpoint import sha256_of
    assert path.stem.endswith(sha256_of(path)[:8])


def test_what_is_touched_of_mmengine() -> None:
    """Private methods that are replaced or called, on the stack at hand."""
    def parameters(name: str) -> list[str]:
        return list(inspect.signature(
            getattr(CheckpointHook, name)).parameters)

    assert parameters('_save_checkpoint_with_step') == [
        'self', 'runner', 'step', 'meta']
    assert parameters('_save_best_checkpoint') == [
        'self', 'runner', 'metrics']
    assert parameters('_publish_model') == ['self', 'runner', 'ckpt_path']
    assert parameters('_init_rule') == ['self', 'rules', 'key_indicators']
    assert parameters('_save_checkpoint') == ['self', 'runner']
    assert '_save_checkpoint_with_step(runner, step, meta=meta)' in (
        inspect.getsource(CheckpointHook._save_checkpoint))
    source = inspect.getsource(Runner.resume)
    assert 'self.load_checkpoint' in source
    for name in ('_resume', '_has_loaded'):
        assert name in inspect.getsource(Runner)
