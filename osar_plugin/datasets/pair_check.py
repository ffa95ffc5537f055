"""Measuring and checking a tree of optical-SAR pairs.

    survey     the names: lists, sides, counts; nothing is opened
    examine    one image: readable, its size, its moments, its checksum
    judge      what the images say about each other: sizes, leaks, copies

Unlike the data sets, which stop at the first fault, this collects them all.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from pathlib import Path
from typing import NamedTuple

from osar_plugin.utils.errors import (
    ConfigError,
    DatasetNotFoundError,
    OSARError,
)
from osar_plugin.utils.verification.apart import Crash, map_apart

from .layout import list_images
from .ospretrain import LISTS, RGB, SAR, UNPAIRED
from .pair_base import read_list, relative_name
from .pair_statistics import Moments, moments
from .sen12 import SOURCE as SEN12_SOURCE
from .sen12 import parse_name
from .transforms.pretrain_pairs import as_optical, as_sar, decode_8bit

SUFFIXES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff')
LAYOUTS = ('ospretrain', 'sen12')
#: Kinds of faults: what they mean, and whether they are warnings only.
KINDS = {
    'unreadable': ('images that cannot be read as 8-bit pictures', False),
    'list': ('lists that are damaged or name files that are not there',
             False),
    'missing': ('images without their partner of the other sensor', False),
    'unequal': ('unpaired folders of unequal numbers', False),
    'size': ('pairs whose two images differ in size', False),
    'leak': ('test images that are in pre-training', False),
    'duplicate': ('images that are there more than once', True),
    'grey': ('optical images without colour', True),
    'small': ('images below the size that the model takes', True),
}


class Fault(NamedTuple):
    """Something that is wrong.

    Attributes:
        kind: One of :data:`KINDS`.
        path: The image or the folder.
        text: What was found.
    """

    kind: str
    path: str
    text: str


class Item(NamedTuple):
    """An image of the tree.

    Attributes:
        source: Of which it is.
        side: ``RGB`` or ``SAR``.
        name: Equal for both images of a pair.
        path: The file.
        test: Whether it is held out of pre-training.
    """

    source: str
    side: str
    name: str
    path: str
    test: bool


class Facts(NamedTuple):
    """What an image is like.

    Attributes:
        digest: SHA-256 of the file.
        size: Width and height in pixels.
        sums: Its moments.
        grey: Whether an optical image has three equal channels.
        problem: Why it could not be used; '' if it could.
    """

    digest: bytes = b''
    size: tuple[int, int] = (0, 0)
    sums: Moments | None = None
    grey: bool = False
    problem: str = ''


@dataclass
class Result:
    """Outcome of :func:`check`.

    Attributes:
        faults: Sorted by kind and path.
        statistics: Optical and SAR moments of each source, of what is in
            pre-training; only of sources that both sides could be read of.
        images: Number of images that were looked at.
    """

    faults: list[Fault] = field(default_factory=list)
    statistics: dict[str, tuple[Moments, Moments]] = field(
        default_factory=dict)
    images: int = 0

    @property
    def sound(self) -> bool:
        """Whether there are no faults but warnings."""
        return all(KINDS[fault.kind][1] for fault in self.faults)


def survey_ospretrain(
        root: Path, drop_test: Sequence[str] | str
) -> tuple[list[Item], list[Fault]]:
    """Images of the OSPretrain layout, and what the names tell.

    Args:
        root: Folder of the sources.
        drop_test: Sources whose test list is held out, or ``'all'``.
    """
    items: list[Item] = []
    faults: list[Fault] = []
    for folder in sorted(root.iterdir()):
        if folder.name.startswith('.') or not any(
                (folder / side).is_dir() for side in (RGB, SAR)):
            continue
        dropped = drop_test == 'all' or folder.name in drop_test
        _survey_source(folder, dropped, items, faults)
    return items, faults


def _survey_source(
        folder: Path, dropped: bool, items: list[Item],
        faults: list[Fault]) -> None:
    """Add the images and the faults of one source."""
    sides = {side: _files(folder / side) for side in (RGB, SAR)}
    test: set[str] = set()
    if folder.name == UNPAIRED:
        counts = [len(files) for files in sides.values()]
        if counts[0] != counts[1]:
            faults.append(Fault(
                'unequal', str(folder), f'{counts[0]} optical and '
                f'{counts[1]} SAR images'))
    else:
        lists = _lists(folder, faults)
        test = set(lists.get('test', ())) if dropped else set()
        faults += _lists_against(folder, lists, sides, test)
        if lists:
            # What no list names is not used.
            used = set().union(*lists.values())
            sides = {
                side: {name: files[name] for name in files if name in used}
                for side, files in sides.items()}
        faults += _partners(sides)
    for side, files in sides.items():
        items += [
            Item(folder.name, side, name, str(path), name in test)
            for name, path in files.items()]


def _lists(folder: Path, faults: list[Fault]) -> dict[str, list[str]]:
    """Names of each list that is there and can be read."""
    lists = {}
    for split in LISTS:
        path = folder / f'{split}.txt'
        if path.is_file():
            try:
                lists[split] = read_list(path)
            except OSARError as error:
                faults.append(Fault('list', str(path), str(error)))
    return lists


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {
        relative_name(path.stem): path
        for path in list_images(folder, SUFFIXES)}


def _partners(sides: Mapping[str, Mapping[str, Path]]) -> Iterable[Fault]:
    """Images of one side that have none on the other."""
    for side, other in ((RGB, SAR), (SAR, RGB)):
        for name in sorted(set(sides[side]) - set(sides[other])):
            yield Fault(
                'missing', str(sides[side][name]), f'no {other} image')


def _lists_against(
        folder: Path, lists: Mapping[str, Sequence[str]],
        sides: Mapping[str, Mapping[str, Path]],
        test: set[str]) -> Iterable[Fault]:
    """Names of lists that are not there, or in test and elsewhere."""
    there = set(sides[RGB]) | set(sides[SAR])
    for split, names in lists.items():
        path = str(folder / f'{split}.txt')
        for name in sorted(set(names) - there):
            yield Fault('list', path, f'{name}: no such image')
        for name in sorted(set(names) & test if split != 'test' else ()):
            yield Fault('leak', path, f'{name}: is in test.txt, too')


def survey_sen12(root: Path) -> tuple[list[Item], list[Fault]]:
    """Images of the SEN1-2 layout; ``test.txt`` is held out."""
    items: list[Item] = []
    faults: list[Fault] = []
    test = set()
    try:
        test = {
            parse_name(Path(name).name)[0]
            for name in read_list(root / 'test.txt')
        } if (root / 'test.txt').is_file() else set()
    except OSARError as error:
        faults.append(Fault('list', str(root / 'test.txt'), str(error)))
    sides: dict[str, dict[str, Path]] = {RGB: {}, SAR: {}}
    for path in sorted(root.glob('ROIs*/s[12]_*/*.png')):
        if path.name.startswith('.'):
            continue
        try:
            key, sensor = parse_name(path.stem)
        except OSARError as error:
            faults.append(Fault('list', str(path), str(error)))
            continue
        side, name = RGB if sensor == 's2' else SAR, ' '.join(map(str, key))
        sides[side][name] = path
        items.append(Item(SEN12_SOURCE, side, name, str(path), key in test))
    return items, [*faults, *_partners(sides)]


def examine(job: tuple[str, str]) -> Facts:
    """Read one image; module level, for other processes.

    Args:
        job: Path and side.
    """
    path, side = job
    try:
        data = Path(path).read_bytes()
        image = decode_8bit(data, path)
        image = as_sar(image, path) if side == SAR else as_optical(image)
        grey = side == RGB and bool((image == image[:, :, :1]).all())
        return Facts(
            hashlib.sha256(data).digest(), image.shape[1::-1],
            moments(image), grey)
    except (OSARError, OSError, MemoryError) as error:
        text = str(error) or 'more memory is needed than there is'
        return Facts(problem=text.removeprefix(f'{path}: '))


def check(
        root: str | Path,
        layout: str = 'ospretrain',
        drop_test: Sequence[str] | str = (),
        test_folders: Sequence[str | Path] = (),
        size: int = 224,
        workers: int | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Look at every image of a tree.

    Args:
        root: Folder of the data set.
        layout: ``'ospretrain'`` or ``'sen12'``.
        drop_test: See :func:`survey_ospretrain`.
        test_folders: Folders of test images of other tasks, searched with
            all below; their images must not be in pre-training.
        size: What the model takes, in pixels.
        workers: Processes; None for one per CPU, 0 for none beside this.
        progress: Called with the images done and their number.

    Raises:
        DatasetNotFoundError: If a folder is missing or holds no image.
        ConfigError: If ``layout`` is not known.
    """
    root = Path(root)
    for folder in (root, *map(Path, test_folders)):
        if not folder.is_dir():
            raise DatasetNotFoundError(
                f'{folder}: no such folder. Check the path.')
    if layout not in LAYOUTS:
        raise ConfigError(
            f'layout={layout!r} is not known: use one of '
            f'{", ".join(LAYOUTS)}.')
    items, faults = survey_sen12(root) if layout == 'sen12' else (
        survey_ospretrain(root, drop_test))
    if not items:
        raise DatasetNotFoundError(
            f'{root}: no image in the layout {layout!r}. Check the path, '
            'or give another layout.')
    others = [
        Item('', RGB, '', str(path), True) for folder in test_folders
        for path in sorted(Path(folder).rglob('*'))
        if path.suffix.lower() in SUFFIXES]
    facts = _examine_all(items, workers, progress)
    result = Result(faults, images=len(items))
    result.faults += judge(items, facts, size)
    result.faults += leaks(
        items, facts, [(item, _digest(item.path)) for item in others])
    result.faults.sort(key=lambda f: (list(KINDS).index(f.kind), *f))
    result.statistics = _statistics(items, facts)
    return result


def _digest(path: str) -> bytes:
    return hashlib.sha256(Path(path).read_bytes()).digest()


def _examine_all(
        items: Sequence[Item], workers: int | None,
        progress: Callable[[int, int], None]) -> list[Facts]:
    """Facts of all images, in their order."""
    facts = [Facts()] * len(items)
    jobs = [(item.path, item.side) for item in items]
    for done, (index, found) in enumerate(
            map_apart(examine, jobs, workers), 1):
        facts[index] = Facts(problem='its decoder crashed') if isinstance(
            found, Crash) else found
        progress(done, len(items))
    return facts


def judge(
        items: Sequence[Item], facts: Sequence[Facts],
        size: int) -> Iterable[Fault]:
    """Faults of single images and of pairs."""
    pairs: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, (item, found) in enumerate(zip(items, facts, strict=True)):
        if found.problem:
            yield Fault('unreadable', item.path, found.problem)
            continue
        if found.grey:
            yield Fault('grey', item.path, 'three equal channels')
        if min(found.size) < size:
            yield Fault('small', item.path, _pixels(found))
        if item.source != UNPAIRED:
            pairs[item.source, item.name].append(index)
    for members in pairs.values():
        sizes = [facts[index] for index in members]
        if len(members) == 2 and sizes[0].size != sizes[1].size:
            yield Fault(
                'size', items[members[0]].path,
                f'{_pixels(sizes[0])}, its partner {_pixels(sizes[1])}')


def _pixels(found: Facts) -> str:
    return f'{found.size[0]} x {found.size[1]} pixels'


def leaks(
        items: Sequence[Item], facts: Sequence[Facts],
        others: Sequence[tuple[Item, bytes]] = ()) -> Iterable[Fault]:
    """Images that are there twice: in test and training, or anywhere.

    Args:
        items: Images of the tree.
        facts: What they are like.
        others: Test images of other tasks with their checksums.
    """
    copies: dict[bytes, list[Item]] = defaultdict(list)
    for item, found in zip(items, facts, strict=True):
        if not found.problem:
            copies[found.digest].append(item)
    for item, digest in others:
        copies[digest].append(item)
    for group in copies.values():
        held = [item for item in group if item.test]
        for item in group:
            if item.test or len(group) == 1:
                continue
            if held:
                yield Fault(
                    'leak', item.path, f'is the test image {held[0].path}')
            elif item is not group[0]:
                yield Fault(
                    'duplicate', item.path, f'is also {group[0].path}')


def _statistics(
        items: Sequence[Item],
        facts: Sequence[Facts]) -> dict[str, tuple[Moments, Moments]]:
    """Moments of each source, of what is in pre-training."""
    groups: dict[tuple[str, str], list[Moments]] = defaultdict(list)
    for item, found in zip(items, facts, strict=True):
        if found.sums is not None and not item.test:
            groups[item.source, item.side].append(found.sums)
    sides = Counter(source for source, _ in groups)
    return {
        source: (reduce(add, groups[source, RGB]),
                 reduce(add, groups[source, SAR]))
        for source, count in sorted(sides.items()) if count == 2}
