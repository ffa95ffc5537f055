r"""Look whether a copy of SARDet-100K is whole.

    python tools/prepare_data/check_sardet100k.py data/sardet100k

For each split: whether layout and names are known, every image is there and
has the size that the json says; how many boxes of each class there are; and
whether an image name is in two splits. Exit status: 0 nothing wrong, 1
something is wrong, 2 the command cannot be carried out.
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
from osar_plugin.datasets.layout import shorten
from osar_plugin.utils.errors import OSARError

WRONG, USER_ERROR = 1, 2


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('root', type=Path, help='folder of the data set')
    add('--splits', nargs='+', default=['train', 'val', 'test'],
        choices=SARDet100KDataset.SPLITS,
        help='which to look at (default: those that have a json)')
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


def look_at(root: Path, split: str) -> tuple[set[str], list[str]]:
    """Names of the images of a split, and what is wrong; tells the rest."""
    out = sys.stdout.write
    try:
        data = SARDet100KDataset(str(root), split=split, test_mode=True)
    except OSARError as error:
        return set(), [f'{split}: {error}']
    rows = [data.get_data_info(index) for index in range(len(data))]
    counts = Counter(
        instance['bbox_label'] for row in rows
        for instance in row['instances'])
    each = ', '.join(
        f'{name} {counts[label]}' for label, name in enumerate(data.classes))
    out(f'{split}: {len(rows)} images, {sum(counts.values())} boxes '
        f'({each})\n')
    faults = filter(None, (
        wrong_size(row['img_path'], row['width'], row['height'])
        for row in rows))
    return {Path(row['img_path']).name for row in rows}, list(faults)


def main() -> int:
    """Entry point; returns the exit status."""
    args = parse_args()
    if not args.root.is_dir():
        sys.stderr.write(f'error: {args.root}: no such folder.\n')
        return USER_ERROR
    names: dict[str, set[str]] = {}
    faults: list[str] = []
    for split in dict.fromkeys(args.splits):
        path = args.root / 'Annotations' / f'{split}.json'
        if split == 'val' and not path.is_file():
            # The copy with two folders has none.
            continue
        names[split], found = look_at(args.root, split)
        faults += found
    for first, second in combinations(names, 2):
        both = names[first] & names[second]
        if both:
            faults.append(
                f'{len(both)} names are in {first} and {second} '
                f'({shorten(both)})')
    for fault in faults:
        sys.stdout.write(f'{fault}\n')
    sys.stdout.write(
        f'{args.root}: {len(faults) or "no"} problems\n')
    return WRONG if faults else 0


if __name__ == '__main__':
    raise SystemExit(main())
