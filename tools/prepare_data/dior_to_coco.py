r"""Write the jsons of boxes that DIOR's XML files amount to.

    python tools/prepare_data/dior_to_coco.py data/dior
    python tools/prepare_data/dior_to_coco.py data/dior --boxes oriented

Writes trainval.json and test.json beside the folders of images, with the
classes in the order of the published checkpoints; nothing is written if a
split cannot be read. Of turned boxes the upright ones around them are taken.
Where the jsons are, osar_plugin.DIORDataset reads them in place of the XML
files.

Exit status: 0 written, 2 the command cannot be carried out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

try:
    from osar_plugin.datasets.dior import DIORDataset
except ModuleNotFoundError:
    # Run from a checkout that is not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from osar_plugin.datasets.dior import DIORDataset
from osar_plugin.datasets.coco_json import to_coco, write_coco
from osar_plugin.utils import launch
from osar_plugin.utils.errors import ConfigError


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('root', type=Path, help='folder of the data set')
    add('--out', type=Path,
        help='folder of the jsons (default: that of the data set)')
    add('--splits', nargs='+', default=['trainval', 'test'],
        choices=DIORDataset.SPLITS,
        help='which to write (default: %(default)s)')
    add('--boxes', choices=('horizontal', 'oriented'), default='horizontal',
        help='which XML files to read: Annotations/Horizontal or Oriented '
        'Bounding Boxes (default: %(default)s)')
    add('--origin', type=int, choices=(0, 1), default=0,
        help='number of the first pixel in the XML files (default: 0; 1 as '
        'in VOC itself)')
    add('--force', action='store_true', help='replace jsons that are there')
    return parser.parse_args()


def main() -> None:
    """Convert."""
    args = parse_args()
    out = args.out or args.root
    targets = {split: out / f'{split}.json' for split in args.splits}
    for path in targets.values():
        if path.exists() and not args.force:
            raise ConfigError(
                f'{path}: is there already. Give --force to replace it, or '
                'another folder with --out.')
    # All is read before anything is written.
    contents = {split: read(args, split) for split in targets}
    for split, path in targets.items():
        write_coco(path, contents[split])
        count = len(contents[split]['images'])
        known = DIORDataset.COUNTS.get(split, count)
        note = '' if count == known else f' (published are {known:,})'
        sys.stdout.write(f'{path}: {count:,} images{note}\n')


def read(args: argparse.Namespace, split: str) -> dict[str, Any]:
    """The json of a split."""
    data = DIORDataset(
        str(args.root), split=split, layout='voc', boxes=args.boxes,
        origin=args.origin, test_mode=True)
    rows = [data.get_data_info(index) for index in range(len(data))]
    return to_coco(
        rows, data.classes, [Path(row['img_path']).name for row in rows])


if __name__ == '__main__':
    launch.run(main)
