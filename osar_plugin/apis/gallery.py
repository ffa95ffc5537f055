"""Descriptors of a gallery, kept on disk.

An index is a folder::

    index.json                    what it belongs to
    features-<hash>.safetensors   descriptors of up to `flush_every` images;
                                  which ones stands in its header, as JSON

Each file appears whole or not at all and can be read without running
anything. A build that is killed keeps the files it has written; the next one
describes what is missing.

An image is known by its path relative to the gallery, its size and its time
of modification, or by its content (``checksum=True``). An index belongs to
the weights, the config and the metres per pixel that it was built with
(:meth:`ShipReIDInferencer.fingerprint`); another model is refused rather than
allowed to destroy it.

Legend: N images, D channels.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from ..io import atomic_write
from ..utils.checkpoint import sha256_of
from ..utils.errors import (
    ConfigError,
    CorruptImageError,
    DataFormatError,
    OSARError,
)
from .reid import (
    ShipReIDInferencer,
    check_modality,
    list_chips,
    modality_from_name,
    modality_from_pixels,
)
from .search import ChipInfo, DescribedChips, identity_of

FORMAT = 'osar_plugin.gallery/1'
_CURE = (
    'Build it anew with --rebuild (in Python: GalleryIndex.clear), or name '
    'another folder.')


@dataclass
class IndexReport:
    """What an update did.

    Attributes:
        encoded: Images described.
        reused: Images whose descriptors were there.
        removed: Descriptors dropped, of images changed or gone.
        broken: Images left out, with the reason.
    """

    encoded: int = 0
    reused: int = 0
    removed: int = 0
    broken: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return (
            f'{self.encoded} described, {self.reused} taken from the index, '
            f'{self.removed} dropped, {len(self.broken)} unreadable')


@dataclass(frozen=True)
class _Entry:
    """An image of the gallery.

    Attributes:
        path: Relative to the gallery, with forward slashes.
        size: Bytes.
        mtime_ns: Time of modification.
        modality: 0 optical, 1 SAR.
        told: What told it: ``'flag'``, ``'name'`` or ``'pixels'``.
        sha256: Of the content; empty if not asked for.
    """

    path: str
    size: int
    mtime_ns: int
    modality: int
    told: str
    sha256: str = ''


@dataclass
class _Shard:
    """A file of descriptors (N, D) and their images."""

    file: Path
    entries: list[_Entry]
    features: Tensor
    live: list[int] = field(default_factory=list)


class GalleryIndex:
    """Descriptors of a gallery folder, kept on disk.

    Args:
        folder: Where the index lives; made where missing.
        inferencer: What describes the images.
        gsd: Metres per pixel, see :class:`ShipReIDInferencer`.
        flush_every: Images after which a file is written; a killed build
            loses at most these.

    Attributes:
        report: What the last update did.
    """

    def __init__(
            self, folder: str | Path, inferencer: ShipReIDInferencer,
            gsd: Any = None, flush_every: int = 1024) -> None:
        if flush_every < 1:
            raise ConfigError(
                f'flush_every={flush_every}: expected 1 or more.')
        self.folder = Path(folder)
        self.inferencer = inferencer
        self.gsd = gsd
        self.flush_every = flush_every
        self.fingerprint = inferencer.fingerprint(gsd)
        self.report = IndexReport()

    def clear(self) -> None:
        """Delete the files of the index, and nothing else."""
        for file in self._files():
            file.unlink()
        (self.folder / 'index.json').unlink(missing_ok=True)

    def update(
            self, gallery: str | Path, modality: Any = 'auto',
            batch_size: int = 32, checksum: bool = False,
            skip_broken: bool = False) -> DescribedChips:
        """Describe what is new or changed, drop what is gone.

        Args:
            gallery: Folder of images; sub-folders are entered.
            modality: Of the images: ``'auto'``, ``'optical'`` or ``'sar'``.
            batch_size: Images in one run of the model.
            checksum: Recognise images by their content, not by the time of
                modification; every file is read.
            skip_broken: Leave unreadable images out and name them in
                ``report`` rather than raise.

        Returns:
            All images of the gallery, in order of their paths.

        Raises:
            DatasetNotFoundError: If the gallery has no image.
            DataFormatError: If a file of the index is damaged.
            ConfigError: If the index belongs to another model or gallery.
            OSARError: If an image cannot be read.
        """
        gallery = Path(gallery)
        flag = check_modality(modality)
        self.report = IndexReport()
        listed = {
            path.relative_to(gallery).as_posix(): path
            for path in list_chips(gallery)}
        shards = self._open(listed)
        known: dict[str, list[tuple[_Shard, int]]] = {}
        for shard in shards:
            for row, stored in enumerate(shard.entries):
                known.setdefault(stored.path, []).append((shard, row))
        found: dict[str, tuple[_Entry, Tensor]] = {}
        missing: list[_Entry] = []
        for name, path in listed.items():
            entry = self._look(
                path, name, flag, known.get(name, []), checksum, skip_broken)
            if entry is None:
                continue
            for shard, row in known.get(name, []):
                if _matches(shard.entries[row], entry, checksum):
                    shard.live.append(row)
                    found[name] = entry, shard.features[row]
                    break
            else:
                missing.append(entry)
        self.report.reused = len(found)
        found.update(self._describe(
            missing, gallery, batch_size, skip_broken))
        self._prune(shards)
        return self._gather(gallery, listed, found)

    # -------------------------------------------------------------- reading

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob('features-*.safetensors'))

    def _open(self, listed: Iterable[str]) -> list[_Shard]:
        """Read the index; make its head where there is none."""
        head = self.folder / 'index.json'
        files = self._files()
        if not head.exists() and not files:
            self._write_head(head)
            return []
        described = _read_json(head)
        if described.get('format') != FORMAT:
            raise DataFormatError(
                f'{head}: format {described.get("format")!r}, expected '
                f'{FORMAT!r}. {_CURE}')
        if described.get('fingerprint') != self.fingerprint:
            raise ConfigError(
                f'The index {self.folder} was built with other weights, '
                'another config or other metres per pixel. Use those it was '
                f'built with ({described.get("model")}). {_CURE}')
        shards = [self._read(file) for file in files]
        names = {entry.path for shard in shards for entry in shard.entries}
        if names and names.isdisjoint(listed):
            raise ConfigError(
                f'None of the {len(names)} images of the index {self.folder} '
                'is in the gallery: it belongs to another one. '
                f'{_CURE}')
        return shards

    def _write_head(self, head: Path) -> None:
        model = type(self.inferencer.model).__name__
        with atomic_write(head) as file:
            json.dump(
                dict(format=FORMAT, fingerprint=self.fingerprint,
                     model=model), file, indent=2)
            file.write('\n')

    def _read(self, file: Path) -> _Shard:
        """Read one file and see that it is what was written."""
        from safetensors import SafetensorError, safe_open
        try:
            with safe_open(file, 'pt') as content:
                head = content.metadata() or {}
                features = content.get_tensor('feature')
            entries = [_Entry(**row) for row in json.loads(head['entries'])]
            whole = (
                head['fingerprint'] == self.fingerprint
                and head['sha256'] == _digest(features, head['entries'])
                and features.shape[:1] == (len(entries),)
                and features.ndim == 2 and features.dtype == torch.float32
                and all(entry.modality in (0, 1) for entry in entries))
        except (SafetensorError, OSError, KeyError, ValueError, TypeError,
                AttributeError) as error:
            raise DataFormatError(
                f'{file}: this part of the index is damaged ({error}). '
                f'{_CURE}') from error
        if not whole:
            raise DataFormatError(
                f'{file}: this part of the index is damaged or not its own '
                f'(content and checksum differ). {_CURE}')
        return _Shard(file, entries, features)

    def _look(
            self, path: Path, name: str, flag: int | None,
            known: list[tuple[_Shard, int]], checksum: bool,
            skip_broken: bool) -> _Entry | None:
        """What a file is now; None if it cannot be read and may be."""
        try:
            stat = path.stat()
            digest = sha256_of(path) if checksum else ''
            modality, told = flag, 'flag'
            if modality is None:
                modality, told = modality_from_name(path), 'name'
            entry = _Entry(
                name, stat.st_size, stat.st_mtime_ns, -1, 'pixels', digest)
            if modality is None:
                # Told before, by the pixels of this same file.
                told = 'pixels'
                modality = next((
                    s.entries[row].modality for s, row in known
                    if _same_file(s.entries[row], entry, checksum)
                    and s.entries[row].told == told), None)
            if modality is None:
                modality = modality_from_pixels(path)
            return _Entry(
                name, stat.st_size, stat.st_mtime_ns, modality, told, digest)
        except (OSARError, OSError) as error:
            self._broken(name, error, skip_broken)
            return None

    # ----------------------------------------------------------- describing

    def _describe(
            self, missing: list[_Entry], gallery: Path, batch_size: int,
            skip_broken: bool) -> dict[str, tuple[_Entry, Tensor]]:
        """Describe images and write them, a file for each batch of them."""
        done: dict[str, tuple[_Entry, Tensor]] = {}
        pending: list[tuple[_Entry, Tensor]] = []
        batches = self.inferencer.batches(
            [gallery / entry.path for entry in missing],
            [entry.modality for entry in missing], self.gsd, batch_size,
            lambda row, error: self._broken(
                missing[row].path, error, skip_broken))
        total = math.ceil(len(missing) / max(batch_size, 1))
        try:
            for rows, samples in self.inferencer.track(
                    batches, total, 'Indexing'):
                pending += [
                    (missing[row], sample.feature.float())
                    for row, sample in zip(rows, samples, strict=True)]
                if len(pending) >= self.flush_every:
                    done.update(self._flush(pending))
                    pending = []
        finally:
            # An error or Ctrl-C keeps what has been described.
            done.update(self._flush(pending))
        self.report.encoded = len(done)
        return done

    def _broken(self, name: str, error: Exception, skip: bool) -> None:
        """Note an image that cannot be used, or raise with the cure."""
        if skip:
            self.report.broken[name] = str(error)
            print_log(f'Left out: {error}', 'current', logging.WARNING)
            return
        cure = (
            'To search the others, leave it out with --skip-broken (in '
            'Python: skip_broken=True).')
        if isinstance(error, OSARError):
            raise type(error)(f'{error} {cure}') from error
        raise CorruptImageError(
            f'{name}: cannot be read ({error}). {cure}') from error

    def _flush(
            self, part: list[tuple[_Entry, Tensor]]
    ) -> dict[str, tuple[_Entry, Tensor]]:
        if part:
            self._write([entry for entry, _ in part],
                        torch.stack([feature for _, feature in part]))
        return {entry.path: (entry, feature) for entry, feature in part}

    def _write(self, entries: list[_Entry], features: Tensor) -> Path:
        from safetensors.torch import save

        rows = json.dumps([asdict(entry) for entry in entries])
        features = features.contiguous()
        digest = _digest(features, rows)
        file = self.folder / f'features-{digest[:20]}.safetensors'
        head = dict(
            entries=rows, sha256=digest, fingerprint=self.fingerprint)
        with atomic_write(file, 'wb') as out:
            out.write(save({'feature': features}, head))
        return file

    def _prune(self, shards: list[_Shard]) -> None:
        """Rewrite the files that hold descriptors of no further use."""
        for shard in shards:
            stale = len(shard.entries) - len(shard.live)
            if not stale:
                continue
            self.report.removed += stale
            kept = sorted(shard.live)
            if kept:
                self._write([shard.entries[row] for row in kept],
                            shard.features[kept])
            shard.file.unlink(missing_ok=True)

    def _gather(
            self, gallery: Path, listed: Iterable[str],
            found: Mapping[str, tuple[_Entry, Tensor]]) -> DescribedChips:
        names = [name for name in listed if name in found]
        if not names:
            raise DataFormatError(
                f'{gallery}: none of the {len(self.report.broken)} images '
                'can be read.')
        chips = [
            ChipInfo(
                str(gallery / name), found[name][0].modality,
                identity_of(name)) for name in names]
        return DescribedChips(
            chips, torch.stack([found[name][1] for name in names]))


def _same_file(stored: _Entry, now: _Entry, checksum: bool) -> bool:
    if checksum:
        return stored.sha256 == now.sha256
    return (stored.size, stored.mtime_ns) == (now.size, now.mtime_ns)


def _matches(stored: _Entry, now: _Entry, checksum: bool) -> bool:
    """Whether a stored descriptor is that of the file as it is now."""
    return stored.modality == now.modality and _same_file(
        stored, now, checksum)


def _digest(features: Tensor, rows: str) -> str:
    digest = hashlib.sha256(rows.encode())
    digest.update(features.contiguous().numpy().data)
    return digest.hexdigest()


def _read_json(head: Path) -> dict[str, Any]:
    try:
        described = json.loads(head.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise DataFormatError(
            f'{head}: the head of the index is damaged ({error}). {_CURE}'
        ) from error
    if not isinstance(described, dict):
        raise DataFormatError(
            f'{head}: the head of the index is no JSON object. {_CURE}')
    return described
