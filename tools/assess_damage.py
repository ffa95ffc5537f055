r"""Map building damage from an image before and one after an event.

    python tools/assess_damage.py PRE POST -o damage.tif \
        --config configs/codemae_bright.py --checkpoint best.pth \
        --picture damage.png --table damage.csv

PRE is optical (3 bands or more, 8 bit), POST is SAR (1 band, 8 bit); both
show the same ground pixel by pixel, as tools/register.py brings them. Scenes
of any size are read in windows. OUT has the pixels and the georeference of
the pair: 0 background, 1 intact, 2 damaged, 3 destroyed, 255 no data. Areas
are those on the ground, whatever the reference system. A fourth band of PRE
that is called alpha hides pixels only where it is a mask: near infrared that
is called so does not, with a warning.

Exit status: 0 done; 2 the images or arguments cannot be used.
"""

from __future__ import annotations

import argparse
import sys

from osar_plugin.utils import launch


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('pre', metavar='PRE', help='optical image before the event')
    add('post', metavar='POST', help='SAR image after the event')
    add('-o', '--out', required=True, metavar='OUT',
        help='map of damage, .tif or .png')
    add('--config', required=True, help='config of a DamageFormer')
    add('--checkpoint', required=True,
        help='its weights, or the work dir of its training')
    add('--building', metavar='FILE', help='map of buildings, .tif or .png')
    add('--picture', metavar='FILE',
        help='both images, the map and a legend, .png')
    add('--table', metavar='FILE',
        help='buildings and areas of each state, .csv or .json')
    add('--min-pixels', type=int, default=1, metavar='N',
        help='leave smaller buildings out of the counts '
        '(default: %(default)s)')
    add('--mask-by-building', action=argparse.BooleanOptionalAction,
        default=None, help='damage only where the building head sees one')
    add('--window', type=int, metavar='PIXELS', help='side of a window')
    add('--stride', type=int, metavar='PIXELS',
        help='from one window to the next; default: half of --window')
    add('--batch-size', type=int, metavar='N', help='windows at once')
    add('--blend', choices=('mean', 'ramp'), default='ramp',
        help='where windows overlap: mean as published, with steps at their '
        'borders; ramp without (default: %(default)s)')
    add('--trim', type=int, metavar='PIXELS',
        help='rim of the windows that does not count')
    add('--pre-range', type=float, nargs=2, metavar=('LOW', 'HIGH'),
        help='black and white of PRE, where it is not 8 bit')
    add('--post-range', type=float, nargs=2, metavar=('LOW', 'HIGH'),
        help='black and white of POST, where it is not 8 bit')
    add('--post-band', type=int, metavar='N',
        help='band of POST, from 1, where it has several')
    add('--assume-aligned', action='store_true',
        help='trust that pixels show the same ground, whatever the '
        'georeferences say')
    add('--device', help='where to run; default: a GPU if there is one')
    add('--amp', action='store_true', help='half precision')
    return parser.parse_args()


def main() -> None:
    """Assess."""
    args = parse_args()
    from osar_plugin.apis.damage import DamageInferencer
    from osar_plugin.apis.damage_output import check_outputs

    # Before the weights are read.
    check_outputs(args.out, args.building, args.picture, args.table, ())
    inferencer = DamageInferencer(
        args.config, args.checkpoint, args.device, args.amp,
        args.mask_by_building, window=args.window, stride=args.stride,
        batch_size=args.batch_size, blend=args.blend, trim=args.trim)
    report = inferencer.assess(
        args.pre, args.post, args.out, args.building, args.picture,
        args.table, args.min_pixels, pre_range=args.pre_range,
        post_range=args.post_range, post_band=args.post_band,
        assume_aligned=args.assume_aligned)
    for row in report.counts.rows():
        sys.stdout.write(
            f'{row["state"]}: {row["buildings"]} buildings, '
            f'{row["building_area"]:g} {row["unit"]}\n')
    for path in report.outputs:
        sys.stdout.write(f'{path}\n')


if __name__ == '__main__':
    launch.run(main)
