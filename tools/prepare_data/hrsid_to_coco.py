r"""Write a json of boxes from HRSID's maps of instances.

    python tools/prepare_data/hrsid_to_coco.py data/hrsid/images \
        --out data/hrsid/Annotations/train.json

Every colour of a map is a ship; its box is the smallest around it. The json
lists the classes of SARDet-100K, so that osar_plugin.SARDet100KDataset reads
it, with data_root='data/hrsid' and data_prefix=dict(img='images').

Exit status: 0 written, 2 the command cannot be carried out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

try:
    from osar_plugin.datasets.instance_masks import read_hrsid
except ModuleNotFoundError:
    # Run from a checkout that is not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from osar_plugin.datasets.instance_masks import read_hrsid
from osar_plugin.datasets.coco_json import to_coco, write_coco
from osar_plugin.datasets.sardet100k import CLASSES
from osar_plugin.utils import launch
from osar_plugin.utils.errors import ConfigError

SHIP = CLASSES.index('ship')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('folder', type=Path, help='images and <name>_instance_id_RGB.png')
    add('--out', type=Path, required=True, help='the json to write')
    add('--force', action='store_true', help='replace a json that is there')
    return parser.parse_args()


def main() -> None:
    """Convert."""
    args = parse_args()
    if args.out.exists() and not args.force:
        raise ConfigError(
            f'--out {args.out}: is there already. Give --force to replace '
            'it, or another name.')
    if not args.folder.is_dir():
        raise ConfigError(
            f'{args.folder}: no such folder. Give that of the images and '
            'their maps of instances.')
    found = read_hrsid(args.folder)
    rows = [
        dict(width=width, height=height, instances=[
            dict(bbox=box, bbox_label=SHIP, ignore_flag=0)
            for box in boxes.tolist()])
        for _, width, height, boxes in found]
    write_coco(args.out, to_coco(rows, CLASSES, [row[0] for row in found]))
    count = sum(len(row[3]) for row in found)
    sys.stdout.write(f'{args.out}: {len(found)} images, {count} ships\n')


if __name__ == '__main__':
    launch.run(main)
