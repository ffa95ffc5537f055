"""Checkpoints that appear whole or not at all.

MMEngine's hook deletes the old file, then writes the new one in place, then
the pointer: a kill in between leaves nothing to resume from. Here the order
is: write beside, flush, rename, point, and only then delete.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook

from ..io import sync_folder
from ..registry import HOOKS
from ..utils.checkpoint import (
    clean_leftovers,
    read_checkpoint,
    sha256_of,
    use_safe_loading,
)
from ..utils.config import nearest
from ..utils.errors import CheckpointError, ConfigError
from ..utils.plain import from_plain, to_plain
from ..utils.work_dir import POINTER

use_safe_loading()

# In the message hub, and so in every checkpoint: files that this checkpoint
# replaces. A run killed before it could delete them does so when it resumes.
SUPERSEDED = 'superseded_ckpts'
_CHECKPOINT_NAME = re.compile(r'(?:iter_\d+\.pth|best_[^/\\]+)')


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` that a kill cannot hurt.

    Takes the place of ``default_hooks.checkpoint`` in the config of any
    OpenMMLab package, with the same arguments, file names and rules::

        default_hooks = dict(checkpoint=dict(
            type='osar_plugin.AtomicCheckpointHook', interval=1,
            max_keep_ckpts=1))

    * A file has its name only once it is complete and on the disk; then
      ``last_checkpoint`` points to it; then old files are deleted.
    * The content is plain (tensors, numbers, strings, lists, dicts): it
      loads with ``torch.load(..., weights_only=True)`` and nothing else,
      and MMEngine without this hook can resume from it.
    * Checkpoints are read through :func:`.read_checkpoint`, which runs
      nothing that a file contains, from wherever they are asked for. This
      begins when ``osar_plugin.engine`` is imported, with the first hook
      that is built; a model that reads a file in its constructor is built
      before, so a config with such a model needs
      ``custom_imports = dict(imports=['osar_plugin.engine'])``.
    * A full disk or a folder that cannot be written ends the run with the
      last checkpoint intact.

    Files on a remote backend (``out_dir='s3://...'``), which appear whole
    by themselves, are written straight away under their names.

    Args:
        *args: See ``mmengine.hooks.CheckpointHook``.
        **kwargs: See ``mmengine.hooks.CheckpointHook``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tag = ''
        self._dropped: set[str] = set()
        # (epoch, iteration) of the last file that can be resumed from.
        self.saved_at: tuple[int, int] | None = None

    def before_train(self, runner: Any) -> None:
        """Find the folder and clear what a killed run left there."""
        super().before_train(runner)
        # Temporary files carry the process that writes them; all processes
        # must agree on the name where they write together.
        tag = [f'{os.getpid()}.tmp']
        broadcast_object_list(tag)
        self._tag = tag[0]
        if is_main_process() and self._is_local():
            for folder in {self.out_dir, runner.work_dir}:
                for path in clean_leftovers(folder):
                    runner.logger.info(f'Removed {path}, left by a run that '
                                       'was killed while it wrote.')
        self.last_ckpt = runner.message_hub.runtime_info.get('last_ckpt')
        self._delete_superseded(runner)
        # What cannot be saved should end the run now, not at its first save.
        to_plain(getattr(runner.train_dataloader.dataset, 'metainfo', None),
                 'meta.dataset_meta')

    def after_load_checkpoint(
            self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Turn plain content back into what MMEngine works with."""
        for key in checkpoint:
            if not key.endswith('state_dict'):
                checkpoint[key] = from_plain(checkpoint[key])
        if runner._resume and 'meta' in checkpoint:
            meta = checkpoint['meta']
            self.saved_at = (meta.get('epoch'), meta.get('iter'))

    def before_save_checkpoint(
            self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Make the content plain; other hooks have added theirs."""
        self._drop_odd_entries(runner, checkpoint)
        for key in list(checkpoint):
            checkpoint[key] = to_plain(checkpoint[key], key)

    def _drop_odd_entries(
            self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Leave out of the message hub what is no plain data.

        A metric may return any object and MMEngine notes it there; no run
        should end for the sake of that.
        """
        info = checkpoint.get('message_hub', {}).get('runtime_info', {})
        for name in list(info):
            try:
                to_plain(info[name])
            except CheckpointError:
                kind = type(info.pop(name)).__name__
                if name not in self._dropped:
                    self._dropped.add(name)
                    runner.logger.warning(
                        f'{name} of the message hub is a {kind}, no plain '
                        'data: it is left out of the checkpoints.')

    def save_now(self, runner: Any, epoch: int, iteration: int) -> str:
        """Save a checkpoint outside of the intervals.

        It is deleted when the next regular one is there.

        Args:
            runner: The runner.
            epoch: Whole epochs done.
            iteration: Iterations done.

        Returns:
            Path of the checkpoint.
        """
        name = f'iter_{iteration}.pth'
        meta = dict(epoch=epoch, iter=iteration)
        self._supersede(runner, [self._path(name)])
        self._save_last(runner, name, meta)
        return str(self.last_ckpt)

    def _save_checkpoint_with_step(
            self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        """Save the checkpoint of a step and drop those beyond the limit."""
        if self.max_keep_ckpts > 0:
            kept = [other for other in self.keep_ckpt_ids if other != step]
            kept.append(step)
            outdated = kept[:-self.max_keep_ckpts]
            self.keep_ckpt_ids.clear()
            self.keep_ckpt_ids.extend(kept[-self.max_keep_ckpts:])
            runner.message_hub.update_info(
                'keep_ckpt_ids', list(self.keep_ckpt_ids))
            self._supersede(runner, [
                self._path(self.filename_tmpl.format(other))
                for other in outdated])
        self._save_last(runner, self.filename_tmpl.format(step), meta)
        self._delete_superseded(runner)

    def _save_last(
            self, runner: Any, name: str, meta: dict[str, Any]) -> None:
        """Write a checkpoint to resume from, and point to it."""
        self.last_ckpt = self._path(name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.call_hook('before_gather_checkpoint')
        with self._explained():
            self._write(
                runner, name, meta=meta, by_epoch=self.by_epoch,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler, **self.args)
            if is_main_process():
                self._point(Path(runner.work_dir))
        self.saved_at = (meta['epoch'], meta['iter'])

    def _point(self, folder: Path) -> None:
        """Let the pointer name the last checkpoint."""
        temporary = folder / f'.{POINTER}.{self._tag}'
        temporary.write_text(str(self.last_ckpt), encoding='utf-8')
        _publish(temporary, folder / POINTER)

    def _write(self, runner: Any, name: str, **arguments: Any) -> None:
        """Let the runner write beside, then give the file its name."""
        arguments.update(
            file_client_args=self.file_client_args,
            backend_args=self.backend_args)
        if not self._is_local():
            runner.save_checkpoint(self.out_dir, name, **arguments)
            return
        temporary = Path(self.out_dir, f'.{name}.{self._tag}')
        try:
            runner.save_checkpoint(
                self.out_dir, temporary.name, **arguments)
            if is_main_process():
                _publish(temporary, Path(self.out_dir, name))
        except BaseException:
            if is_main_process():
                _remove(temporary)
            raise

    def _save_best_checkpoint(
            self, runner: Any, metrics: dict[str, Any]) -> None:
        """Save the weights if a score is the best so far."""
        if not self.save_best:
            return
        if 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        step = runner.epoch if self.by_epoch else runner.iter
        meta = dict(epoch=runner.epoch, iter=runner.iter)
        updated = [
            self._save_if_best(runner, metrics, name, rule, step, meta)
            for name, rule in zip(
                self.key_indicators, self.rules, strict=True)]
        # The last checkpoint tells a resumed run which one is the best.
        if any(updated) and self.last_ckpt is not None:
            self._save_checkpoint_with_step(runner, step, meta)
        elif any(updated):
            self._delete_superseded(runner)

    def _save_if_best(
            self, runner: Any, metrics: dict[str, Any], name: str, rule: str,
            step: int, meta: dict[str, Any]) -> bool:
        """Compare one score with the best, and save where it is better."""
        if name not in metrics:
            near = ', '.join(nearest(name, metrics) or sorted(metrics))
            raise ConfigError(
                f'checkpoint.save_best={name!r}: the evaluation gave no such '
                f'figure. Use one of: {near}.')
        single = len(self.key_indicators) == 1
        suffix = '' if single else f'_{name}'
        info = runner.message_hub.runtime_info
        best = info.get(f'best_score{suffix}', self.init_value_map[rule])
        score = metrics[name]
        if score is None or not self.is_better_than[name](score, best):
            return False
        old: str | None = info.get(f'best_ckpt{suffix}')
        file = self.filename_tmpl.format(step)
        file = f'best_{name}_{file}'.replace('/', '_')
        path = self._path(file)
        runner.message_hub.update_info(f'best_score{suffix}', score)
        runner.message_hub.update_info(f'best_ckpt{suffix}', path)
        with self._explained():
            self._write(
                runner, file, meta=dict(meta), by_epoch=False,
                save_optimizer=False, save_param_scheduler=False)
        if single:
            self.best_ckpt_path = path
        else:
            self.best_ckpt_path_dict[name] = path
        if old and old != path:
            self._supersede(runner, [old])
        runner.logger.info(
            f'The best checkpoint with {score:0.4f} {name} at {step} '
            f'{"epoch" if self.by_epoch else "iter"} is saved to {file}.')
        return True

    def _publish_model(self, runner: Any, ckpt_path: str) -> None:
        """Write the parts of a checkpoint that are to be given away."""
        if not is_main_process():
            return
        content = read_checkpoint(ckpt_path)
        part = {
            key: value for key, value in content.items()
            if key in (self.published_keys or ())}
        path = Path(ckpt_path)
        with self._explained():
            temporary = path.with_name(f'.{path.stem}.{self._tag}')
            with open(temporary, 'wb') as file:
                torch.save(part, file)
            final = path.with_name(
                f'{path.stem}-{sha256_of(temporary)[:8]}.pth')
            _publish(temporary, final)
        runner.logger.info(f'{ckpt_path} is published as {final}, with '
                           f'{", ".join(part)} of it.')

    def _path(self, name: str) -> str:
        path: str = self.file_backend.join_path(self.out_dir, name)
        return path

    def _is_local(self) -> bool:
        # A FileClient, which `file_client_args` asks for, has one inside.
        backend = getattr(self.file_backend, 'client', self.file_backend)
        return isinstance(backend, LocalBackend)

    def _supersede(self, runner: Any, paths: list[str]) -> None:
        """Note files to delete once the next checkpoint is there."""
        known = runner.message_hub.runtime_info.get(SUPERSEDED, [])
        runner.message_hub.update_info(
            SUPERSEDED, known + [p for p in paths if p not in known])

    def _delete_superseded(self, runner: Any) -> None:
        """Delete what the checkpoint on the disk has replaced.

        The checkpoint holds the note too: a run killed before this point
        deletes the files when it resumes. A checkpoint saved out of turn is
        noted from the start and stays until another one is the last.
        """
        info = runner.message_hub.runtime_info
        noted = info.get(SUPERSEDED)
        if not noted or not isinstance(noted, list):
            return
        needed = {
            value for key, value in info.items()
            if key == 'last_ckpt' or key.startswith('best_ckpt')}
        for path in noted:
            if path not in needed and is_main_process():
                self._delete(path)
        runner.message_hub.update_info(
            SUPERSEDED, [path for path in noted if path in needed])

    def _delete(self, path: Any) -> None:
        """Delete a checkpoint, and nothing else.

        The path may come from a file that somebody else has written, or
        from a work dir that has been moved since.
        """
        name = os.path.basename(str(path))
        regular = re.escape(self.filename_tmpl).replace(r'\{\}', r'\d+')
        if path != self._path(name) or not (
                re.fullmatch(regular, name)
                or _CHECKPOINT_NAME.fullmatch(name)):
            return
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self._is_local() and _is_sharded(Path(path)):
            shutil.rmtree(path)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say what to do where a file cannot be written."""
        try:
            yield
        except OSError as error:
            cure = 'Give --work-dir a folder that can be written.'
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                free = shutil.disk_usage(self.out_dir).free / 2**20
                cure = (f'The disk has {free:.0f} MiB left: make room, or '
                        'keep fewer files (max_keep_ckpts).')
            raise CheckpointError(
                f'The checkpoint could not be written to {self.out_dir}: '
                f'{error.strerror or error}. {cure} Checkpoints written '
                'before are intact; go on with --resume.') from error


def _is_sharded(path: Path) -> bool:
    """Whether a folder is a checkpoint in the form of DeepSpeed or DCP."""
    return path.is_dir() and not path.is_symlink() and any(
        any(path.glob(pattern))
        for pattern in ('*/*_model_states.pt', '*_model_states.pt',
                        '.metadata', '*/.metadata'))


def _publish(temporary: Path, final: Path) -> None:
    """Flush what was written and give it its name."""
    paths = [temporary]
    if temporary.is_dir():
        paths = [path for path in temporary.rglob('*') if path.is_file()]
        if final.is_dir():
            shutil.rmtree(final)
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    os.replace(temporary, final)
    sync_folder(final.parent)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
