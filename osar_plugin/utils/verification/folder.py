"""Verify a folder of images: every byte, every picture, every split.

:func:`verify` compares the files with a manifest, decodes every image as
training does, and looks for images that are there twice or on both sides of
a split. :func:`record` writes the manifest.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from ..errors import ConfigError, DataFormatError, DatasetNotFoundError
from .apart import Crash, map_apart
from .findings import DAMAGED, KINDS, Finding, Report, sort_findings
from .inspection import SUFFIXES, Facts, inspect, is_image, list_files
from .manifest import MANIFEST, read_manifest, shown, write_manifest
from .splits import GALLERY, QUERY, TRAIN, VAL, Place, place_of, places_by_hand

Progress = Callable[[int, int], None]


def verify(
        root: str | Path, manifest: str | Path | None = None, *,
        decode: bool = True, pixels: bool = False,
        workers: int | None = None,
        splits: Mapping[str, Sequence[str]] | None = None,
        allow: Iterable[str] = (),
        progress: Progress | None = None) -> Report:
    """Check a folder of images.

    Files count as images by their suffix. Hidden files are left out, links
    are followed. Equal images are looked for among all that can be decoded;
    label maps are left out of this, since they may well be equal.

    Args:
        root: The folder.
        manifest: What to compare with; None takes ``sha256sums.txt`` of the
            folder, if there is one.
        decode: Decode all images; otherwise they are compared as bytes.
        pixels: Call images equal by their pixels, not by their bytes: finds
            copies in another lossless format.
        workers: Processes, None for one per CPU; 0 works in this process,
            where a decoder that crashes ends all.
        splits: ``train``, ``val``, ``test``, ``query`` or ``gallery`` to
            its folders below ``root``. By default the names of the folders
            tell, see :mod:`.splits`.
        allow: Kinds of findings that are to be warnings only.
        progress: Called with the number of files done and of all.

    Returns:
        What was found.

    Raises:
        DatasetNotFoundError: If there is no such folder, manifest or no
            file.
        DataFormatError: If the manifest is none.
        ConfigError: If an argument cannot be used.
    """
    _check_kinds(allow)
    if pixels and not decode:
        raise ConfigError(
            'pixels cannot be compared without decoding: leave out one of '
            'pixels (--pixels) and decode=False (--no-decode).')
    by_hand = places_by_hand(root, splits) if splits else None
    root = _folder(root)
    path = _find_manifest(root, manifest)
    expected = None if path is None else _read(path, root)
    listing = list_files(root, skip=path)
    # Also what is listed but hidden, which the walk leaves out.
    names = sorted({*listing.names, *(
        name for name in expected or () if os.path.exists(root / name))})
    if expected is None and not any(map(is_image, names)):
        raise DatasetNotFoundError(
            f'{root}: no image in it or below it; files ending in '
            f'{", ".join(SUFFIXES)} are looked for. Check the path.')
    facts = _inspect_all(root, names, decode, pixels, workers, progress)
    report = Report(str(root), None if path is None else str(path), decode)
    where = {
        item.path: place_of(item.path, by_hand) for item in facts
        if is_image(item.path)}
    _count(report, facts, where)
    found = [*listing.findings, *_problems(facts)]
    if expected is not None:
        found += _compare(expected, facts)
    found += _equal_images(facts, where)
    report.findings = sort_findings(found, allow)
    return report


def record(
        root: str | Path, manifest: str | Path | None = None, *,
        decode: bool = True, workers: int | None = None,
        force: bool = False, progress: Progress | None = None) -> Report:
    """Write the manifest of a folder, unless a file is damaged.

    A manifest vouches for what is there, so it is written only if
    everything can be read and, unless told otherwise, decoded.

    Args:
        root: The folder.
        manifest: The file to write; None for ``sha256sums.txt`` in it.
        decode: Decode all images.
        workers: Processes, see :func:`verify`.
        force: Replace a manifest that is there.
        progress: Called with the number of files done and of all.

    Returns:
        What was found; ``manifest`` is None if none was written.

    Raises:
        DatasetNotFoundError: If there is no such folder or no file in it.
        ConfigError: If the manifest exists or cannot be written.
    """
    root = _folder(root)
    path = root / MANIFEST if manifest is None else Path(manifest)
    if path.exists() and not force:
        raise ConfigError(
            f'{path} exists: checking against it tells what has changed. To '
            'replace it, add --force (force=True).')
    listing = list_files(root, skip=path)
    if not listing.names:
        raise DatasetNotFoundError(
            f'{root}: no file in it or below it. Check the path.')
    facts = _inspect_all(
        root, listing.names, decode, False, workers, progress)
    report = Report(str(root), decoded=decode)
    _count(report, facts, {})
    report.findings = sort_findings(
        finding for finding in (*listing.findings, *_problems(facts))
        if finding.kind in DAMAGED)
    if report.ok:
        write_manifest(path, {
            item.path: item.digest for item in facts
            if item.digest is not None})
        report.manifest = str(path)
    return report


def _check_kinds(kinds: Iterable[str]) -> None:
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(
                f'allow={kind!r} is no kind of finding: use '
                f'{", ".join(KINDS)}.')


def _folder(root: str | Path) -> Path:
    root = Path(root)
    if not root.is_dir():
        raise DatasetNotFoundError(
            f'{root}: no such folder. Check the path.')
    return root


def _read(path: Path, root: Path) -> dict[str, bytes]:
    """Read a manifest, which must not be one of its own files."""
    expected = read_manifest(path)
    name = os.path.relpath(os.path.abspath(path), os.path.abspath(root))
    if name in expected:
        raise DataFormatError(
            f'{path}: the manifest lists itself, and no file can hold its '
            'own checksum. Take that line out.')
    return expected


def _find_manifest(root: Path, manifest: str | Path | None) -> Path | None:
    if manifest is not None:
        return Path(manifest)
    path = root / MANIFEST
    return path if path.exists() else None


def _inspect_all(
        root: Path, names: Sequence[str], decode: bool, pixels: bool,
        workers: int | None, progress: Progress | None) -> list[Facts]:
    """Look at all files, each in one of the processes."""
    look = partial(inspect, str(root), decode=decode, pixels=pixels)
    facts: dict[int, Facts] = {}
    # Closing it ends the processes, whatever happens here.
    with closing(map_apart(look, names, workers)) as results:
        for index, result in results:
            if isinstance(result, Crash):
                result = Facts(names[index], problems=(
                    ('crashed', f'the process that decoded it {result}'), ))
            facts[index] = result
            if progress is not None:
                progress(len(facts), len(names))
    return [facts[index] for index in range(len(names))]


def _count(
        report: Report, facts: Sequence[Facts],
        where: Mapping[str, Place]) -> None:
    report.files = len(facts)
    report.images = sum(is_image(item.path) for item in facts)
    report.size = sum(item.size for item in facts)
    report.labels = sum(place.labels for place in where.values())
    report.splits = dict(sorted(Counter(
        place.split for place in where.values()
        if not place.labels).items()))


def _problems(facts: Sequence[Facts]) -> Iterator[Finding]:
    for item in facts:
        for kind, text in item.problems:
            # Label maps of one class are the rule.
            if kind != 'constant' or not place_of(item.path).labels:
                yield Finding(kind, item.path, text)


def _compare(
        expected: Mapping[str, bytes],
        facts: Sequence[Facts]) -> Iterator[Finding]:
    """Differences between a manifest and the files."""
    there = {item.path: item for item in facts}
    moved = {
        item.digest: item.path for item in facts if item.path not in expected}
    for name, digest in expected.items():
        item = there.get(name)
        if item is None:
            now = moved.get(digest)
            yield Finding(
                'missing', name, 'not there' if now is None else
                f'not there, but the same bytes are in {shown(now)}',
                others=() if now is None else (now, ))
        elif item.digest is not None and item.digest != digest:
            yield Finding(
                'altered', name,
                f'SHA-256 {item.digest.hex()[:16]}..., {item.size} bytes',
                f'SHA-256 {digest.hex()[:16]}...')
    for item in facts:
        if item.path not in expected:
            yield Finding(
                'extra', item.path, 'cannot be read' if item.digest is None
                else f'{item.size} bytes')


def _equal_images(
        facts: Sequence[Facts],
        where: Mapping[str, Place]) -> Iterator[Finding]:
    """Images that are there more than once."""
    groups: dict[bytes, list[Facts]] = {}
    bad = {*DAMAGED, 'unsupported'}
    for item in facts:
        place = where.get(item.path)
        if place is None or place.labels or item.digest is None or any(
                kind in bad for kind, _ in item.problems):
            continue
        groups.setdefault(item.pixels or item.digest, []).append(item)
    for group in groups.values():
        if len(group) > 1:
            same = len({item.digest for item in group}) == 1
            names = [item.path for item in group]
            yield from _equal(
                names, where, 'bytes' if same else 'pixels')


def _equal(
        names: Sequence[str], where: Mapping[str, Place],
        what: str) -> Iterator[Finding]:
    """Leaks and duplicates among equal images."""
    leak = _leak(names, where)
    if leak is not None:
        first, others = leak
        splits = dict.fromkeys(where[name].split for name in others)
        yield Finding(
            'leaking', first[0],
            f'same {what} in {" and ".join(splits)}: {_list(others)}',
            others=tuple(others))
    places: dict[tuple[str, str], list[str]] = {}
    for name in names:
        places.setdefault(where[name][:2], []).append(name)
    for copies in places.values():
        if len(copies) > 1:
            yield Finding(
                'duplicated', copies[0],
                f'same {what} as {_list(copies[1:])}',
                others=tuple(copies[1:]))


def _leak(
        names: Sequence[str], where: Mapping[str, Place]
) -> tuple[list[str], list[str]] | None:
    """The two sides of a leak among equal images; None if there is none.

    An image must not be on two of the sides training, validation and test.
    Within a test set it must not be query and gallery at a time, for then
    it is its own first hit.
    """
    for side in (TRAIN, VAL):
        inner = [name for name in names if where[name].split == side]
        outer = [name for name in names if where[name].split not in (side, '')]
        if inner and outer:
            return inner, outer
    scopes = dict.fromkeys(where[name].scope for name in names)
    for scope in scopes:
        sides = [
            [name for name in names if where[name][:2] == (split, scope)]
            for split in (QUERY, GALLERY)]
        if all(sides):
            return sides[0], sides[1]
    return None


def _list(names: Sequence[str], limit: int = 2) -> str:
    text = ', '.join(shown(name) for name in names[:limit])
    rest = len(names) - limit
    return text + (f' and {rest} more' if rest > 0 else '')
