r"""Write the jsons of boxes that DIOR's XML files amount to.

    python tools/prepare_data/dior_to_coco.py data/dior
    python tools/prepare_data/dior_to_coco.py data/dior --boxes oriented

Writes trainval.json and test.json beside the folders of images, with the
classes in the order of the published checkpoints. Of turned boxes the
upright ones around them are taken.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

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
        help='which XML files to read (default: %(default)s)')
    add('--origin', type=int, choices=(0, 1), default=0,
        help='number of the first pixel in the XML files (default: 0)')
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
    for split, path in targets.items():
        data = DIORDataset(
            str(args.root), split=split, layout='voc', boxes=args.boxes,
            origin=args.origin, test_mode=True)
        rows = [data.get_data_info(index) for index in range(len(data))]
        names = [Path(row['img_path']).name for row in rows]
        write_coco(path, to_coco(rows, data.classes, names))
        sys.stdout.write(f'{path}: {len(rows)} images\n')


if __name__ == '__main__':
    launch.run(main)
