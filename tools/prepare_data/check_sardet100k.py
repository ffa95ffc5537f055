r"""Look whether a copy of SARDet-100K is whole.

    python tools/prepare_data/check_sardet100k.py data/sardet100k

For each split: whether it has as many images and boxes as are published,
layout and names are known, every image is there and has the size that the
json says; how many boxes of each class there are; and whether an image name
is in two splits.

A public copy lacks some images. Jsons without them, in a folder that need not
be there yet:

    python tools/prepare_data/check_sardet100k.py data/sardet100k \
        --write-reduced data/sardet100k/reduced

Exit status: 0 nothing wrong, 1 something is wrong (also where jsons without
the missing images were written), 2 the command cannot be carried out.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

from PIL import Image

try:
    from osar_plugin.datasets.sardet100k import SARDet100KDataset
except ModuleNotFoundError:
    # Run from a checkout that is not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from osar_plugin.datasets.sardet100k import SARDet100KDataset
from osar_plugin.datasets.coco_json import (
    read_coco,
    without_images,
    write_coco,
)
from osar_plugin.datasets.layout import missing_files, shorten
from osar_plugin.datasets.sardet100k import places
from osar_plugin.utils.errors import ConfigError, OSARError

WRONG, USER_ERROR = 1, 2


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('root', type=Path, help='folder of the data set')
    add('--splits', nargs='+', choices=SARDet100KDataset.SPLITS,
        help='which to look at (default: all, val only if it has a json)')
    add('--write-reduced', type=Path, metavar='FOLDER',
        help='write FOLDER/<split>.json without the images that are missing, '
        'for the splits that lack some')
    add('--force', action='store_true', help='replace jsons that are there')
    return parser.parse_args()


def wrong_size(path: str, width: int, height: int) -> str:
    """What is wrong with an image file; '' if nothing is."""
    try:
        # Reads the header only.
        with Image.open(path) as image:
            size = image.size
    except (OSError, ValueError, SyntaxError) as error:
        return f'{path}: cannot be opened ({error})'
    if size == (width, height):
        return ''
    return (f'{path}: {size[0]} x {size[1]} pixels, the json says {width} x '
            f'{height}')


def json_of(root: Path, split: str) -> Path | None:
    """The json of a split, if there is one."""
    names, _ = places(split)
    return next((root / n for n in names if (root / n).is_file()), None)


def other_counts(split: str, images: int, boxes: int) -> list[str]:
    """What differs from the published numbers."""
    return [
        f'{split}: {found:,} {what}, published are {wanted:,}. The json is '
        'not whole, or of another version.'
        for what, found, wanted in zip(
            ('images', 'boxes'), (images, boxes),
            SARDet100KDataset.COUNTS[split], strict=True)
        if found != wanted]


def look_at(root: Path, split: str) -> tuple[set[str], list[str]]:
    """Names of the images of a split, and what is wrong; tells the rest."""
    names: set[str] = set()
    faults: list[str] = []
    path = json_of(root, split)
    try:
        if path is not None:
            table = read_coco(path)
            names = {Path(image.file_name).name for image in table.images}
            faults += other_counts(
                split, len(table.images), len(table.boxes))
        data = SARDet100KDataset(str(root), split=split, test_mode=True)
    except OSARError as error:
        return names, [*faults, f'{split}: {error}']
    rows = [data.get_data_info(index) for index in range(len(data))]
    counts = Counter(
        instance['bbox_label'] for row in rows
        for instance in row['instances'])
    each = ', '.join(
        f'{name} {counts[label]}' for label, name in enumerate(data.classes))
    sys.stdout.write(
        f'{split}: {len(rows)} images, {sum(counts.values())} boxes '
        f'({each})\n')
    faults += filter(None, (
        wrong_size(row['img_path'], row['width'], row['height'])
        for row in rows))
    return names, faults


def write_reduced(root: Path, splits: list[str], targets: list[Path]) -> None:
    """Write jsons without the images that are missing, all or none."""
    found = []
    for split, target in zip(splits, targets, strict=True):
        path = json_of(root, split)
        if path is None:
            continue
        names = [image.file_name for image in read_coco(path).images]
        data = SARDet100KDataset(str(root), split=split, lazy_init=True)
        missing = missing_files(
            names, data.find_folder(places(split)[1], names))
        if missing:
            found.append((target, without_images(path, missing)))
        else:
            sys.stdout.write(f'{split}: no image is missing; not written\n')
    for target, content in found:
        write_coco(target, content)
        sys.stdout.write(
            f'{target}: {len(content["images"])} images, '
            f'{len(content["annotations"])} boxes. To use it, set ann_file '
            f'of the data set to {str(target.resolve())!r}\n')


def check(args: argparse.Namespace) -> int:
    """Look at all splits; returns the exit status."""
    if not args.root.is_dir():
        raise ConfigError(f'{args.root}: no such folder.')
    splits = list(dict.fromkeys(args.splits or SARDet100KDataset.SPLITS))
    if args.splits is None and json_of(args.root, 'val') is None:
        sys.stdout.write('val: has no json; not looked at\n')
        splits.remove('val')
    targets = [args.write_reduced / f'{split}.json'
               for split in splits] if args.write_reduced else []
    for path in targets:
        if path.exists() and not args.force:
            raise ConfigError(
                f'{path}: is there already. Give --force to replace it, or '
                'another folder with --write-reduced.')
    looked = {split: look_at(args.root, split) for split in splits}
    faults = [fault for _, found in looked.values() for fault in found]
    for first, second in combinations(looked, 2):
        both = looked[first][0] & looked[second][0]
        if both:
            faults.append(
                f'{len(both)} names are in {first} and {second} '
                f'({shorten(both)})')
    for fault in faults:
        sys.stdout.write(f'{fault}\n')
    sys.stdout.write(f'{args.root}: {len(faults) or "no"} problems\n')
    if targets:
        write_reduced(args.root, splits, targets)
    return WRONG if faults else 0


def main() -> int:
    """Entry point; returns the exit status."""
    args = parse_args()
    try:
        return check(args)
    except OSARError as error:
        sys.stderr.write(f'error: {error}\n')
        return USER_ERROR


if __name__ == '__main__':
    raise SystemExit(main())
