r"""Damaged images: how many a manifest finds, and how many decoding does.

    python tools/benchmark/damaged_images.py --images data/hoss data/loveda

Images, or crops of them, are written as JPEG, PNG and TIFF (uncompressed,
LZW and deflate by turns) and a manifest of them; then each is cut at a random
byte, or five random bits of it are flipped. Without --images, demo chips are
rendered.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import mmcv
import numpy as np
from PIL import Image

from osar_plugin.io import decode
from osar_plugin.utils.errors import CorruptImageError, DataFormatError
from osar_plugin.utils.verification import record, verify
from osar_plugin.utils.verification.inspection import is_image, list_files

FORMATS = ('JPEG', 'PNG', 'TIFF')
COMPRESSIONS = (None, 'tiff_lzw', 'tiff_adobe_deflate')
DAMAGES = ('truncated', '5 bits flipped')
FLIPS = 5


class Row(NamedTuple):
    """One kind of damage to one format: how many were found by whom."""

    format: str
    damage: str
    images: int
    manifest: int
    osar_plugin: int
    pillow: int
    mmcv: int


def load_images(folders: Sequence[Path], size: int) -> list[np.ndarray]:
    """All images below some folders, large ones cropped to their middle."""
    images = []
    for folder in folders:
        for name in list_files(folder, skip=None).names:
            if is_image(name):
                images.append(_crop(decode(folder / name), size))
    if not images:
        raise DataFormatError(
            f'--images {" ".join(map(str, folders))}: no image in it.')
    return images


def _crop(image: np.ndarray, size: int) -> np.ndarray:
    top, left = (max(0, (side - size) // 2) for side in image.shape[:2])
    return image[top:top + size, left:left + size]


def render_images(folder: Path, seed: int, size: int) -> list[np.ndarray]:
    """Chips of the demo world."""
    from osar_plugin.datasets.synthetic import HossSettings, write_hoss

    write_hoss(
        folder, workers=1, force=False, settings=HossSettings(
            seed=seed, train_ids=4, test_ids=2, distractor_ids=1,
            sequences=6))
    return load_images([folder], size)


def encode(image: np.ndarray, kind: str, compression: str | None) -> bytes:
    """An image file; pixels of floats are brought to 8 bit but for TIFF."""
    if kind != 'TIFF' and image.dtype != np.uint8:
        top = float(image.max()) or 1.0
        image = np.clip(image * (255 / top), 0, 255).astype(np.uint8)
    options: dict[str, Any] = {}
    if kind == 'JPEG':
        options['quality'] = 90
    elif kind == 'TIFF':
        options['compression'] = compression
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def harm(data: bytes, damage: str, rng: np.random.Generator) -> bytes:
    """Cut a file, or flip bits of it."""
    if damage == 'truncated':
        return data[:rng.integers(1, len(data))]
    wrong = bytearray(data)
    for place in rng.choice(8 * len(data), FLIPS, replace=False):
        wrong[place // 8] ^= 1 << (place % 8)
    return bytes(wrong)


def found_by_us(path: Path) -> bool:
    """Whether this package refuses the file."""
    try:
        decode(path)
    except (CorruptImageError, DataFormatError):
        return True
    return False


def found_by_pillow(path: Path) -> bool:
    """Whether Pillow does."""
    try:
        with Image.open(path) as image:
            image.load()
    except Exception:  # it has no error of its own for damage
        return True
    return False


def found_by_mmcv(path: Path) -> bool:
    """Whether MMCV does, with OpenCV, as its loading transform does."""
    try:
        return mmcv.imfrombytes(path.read_bytes(), 'unchanged') is None
    except Exception:  # OpenCV's for some, others for what it returns
        return True


def measure(
        images: Sequence[np.ndarray], count: int, seed: int,
        folder: Path) -> list[Row]:
    """Write ``count`` images for each format and damage; harm and look.

    Args:
        images: What to write, by turns.
        count: Number of images for each.
        seed: Of the damages.
        folder: An empty folder.
    """
    rng = np.random.default_rng(seed)
    files: dict[tuple[str, str], list[str]] = {}
    for kind in FORMATS:
        for number, damage in enumerate(DAMAGES):
            names = files[kind, damage] = []
            for index in range(count):
                names.append(f'{kind}{number}_{index:03d}.{kind.lower()}')
                (folder / names[-1]).write_bytes(encode(
                    images[index % len(images)], kind,
                    COMPRESSIONS[index % len(COMPRESSIONS)]))
    record(folder)
    for (_, damage), names in files.items():
        for name in names:
            path = folder / name
            path.write_bytes(harm(path.read_bytes(), damage, rng))
    altered = {
        finding.path for finding in verify(folder, decode=False).findings
        if finding.kind == 'altered'}
    with silence():
        return [
            Row(kind, damage, count, len(altered.intersection(names)), *(
                count_found(find, [folder / name for name in names])
                for find in (found_by_us, found_by_pillow, found_by_mmcv)))
            for (kind, damage), names in files.items()]


def count_found(
        find: Callable[[Path], bool], paths: Sequence[Path]) -> int:
    """How many of the files are found."""
    return sum(find(path) for path in paths)


@contextmanager
def silence() -> Iterator[None]:
    """Keep the warnings of decoders off the terminal, in C as well."""
    kept = os.dup(2)
    try:
        with open(os.devnull, 'wb') as nowhere, warnings.catch_warnings():
            warnings.simplefilter('ignore')
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--images', type=Path, nargs='+', metavar='DIR',
        help='folders of images to damage copies of')
    add('--count', type=int, default=100,
        help='images for each format and damage (default: %(default)s)')
    add('--size', type=int, default=256,
        help='crop larger images to this (default: %(default)s)')
    add('--seed', type=int, default=0)
    add('--json', action='store_true', help='the table as JSON')
    return parser.parse_args(argv)


def show(rows: Sequence[Row]) -> str:
    """The table as Markdown, with the sums."""
    sums = [sum(column) for column in list(zip(*rows, strict=True))[2:]]
    head = ('format', 'damage', 'images', 'manifest', 'osar_plugin', 'Pillow',
            'MMCV')
    line = ['---', '---', *['---:'] * len(sums)]
    return '\n'.join(
        '| ' + ' | '.join(map(str, row)) + ' |'
        for row in (head, line, *rows, ('all', '', *sums)))


def main() -> None:
    """Measure and print."""
    args = parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = (
            load_images(args.images, args.size) if args.images else
            render_images(folder / 'demo', args.seed, args.size))
        (folder / 'damaged').mkdir()
        rows = measure(images, args.count, args.seed, folder / 'damaged')
    sys.stdout.write(
        json.dumps([row._asdict() for row in rows]) + '\n' if args.json
        else show(rows) + '\n')


if __name__ == '__main__':
    main()
