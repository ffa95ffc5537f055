r"""Register an image onto another.

    python tools/register.py FIXED MOVING -o OUT.tif
    python tools/register.py optical.tif sar.tif -o sar_on_optical.tif \
        --apply sar_vh.tif --report report.json --pictures pictures/

FIXED is the image whose position is right; MOVING is brought onto it.
GeoTIFFs of any reference system, pixel size, band count and type are laid
on each other by their georeferences first, plain images from border to
border. Three ways out:

  --way resampled     onto the grid of FIXED (default; also OUT.png)
  --way geotransform  MOVING's own pixels with another geotransform (affine)
  --way gcps          MOVING's own pixels with ground control points

OUT.points (QGIS) and OUT.csv hold the control points alone. Files given with
--apply are written beside OUT as <name>_registered.tif.

Exit status: 0 done; 1 the registration failed, and nothing but the report
was written; 2 the images or arguments cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import DictAction

from osar_plugin.utils import launch
from osar_plugin.utils.errors import ConfigError

METHODS = 'cfog, sift, orb, ecc, phase, soma'
ALIGNMENTS = ('auto', 'georeference', 'size', 'pixels')


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('fixed', metavar='FIXED', help='image whose position is right')
    add('moving', metavar='MOVING', help='image to bring onto it')
    add('-o', '--out', required=True, metavar='OUT',
        help='.tif, .png, .points or .csv')
    add('--method', default='cfog',
        help=f'{METHODS}, or module:function of your own')
    add('--method-options', nargs='+', action=DictAction, default={},
        metavar='KEY=VALUE', help='arguments of the method; of soma '
        "model=CONFIG checkpoint=FILE in place of the package's own")
    add('--transform', choices=('affine', 'poly2', 'tps', 'flow'),
        default='affine')
    add('--way', choices=('resampled', 'geotransform', 'gcps'),
        default='resampled')
    add('--resampling', choices=('nearest', 'bilinear', 'cubic'),
        default='cubic')
    add('--align', choices=ALIGNMENTS, default='auto',
        help='what is known beforehand; auto: georeference where both have '
        'one, size where none has')
    add('--fixed-crs', metavar='CRS', help='where FIXED names none')
    add('--moving-crs', metavar='CRS', help='where MOVING names none')
    add('--fixed-bands', nargs='+', type=int, metavar='N',
        help='bands to compare, from 1; default: the mean of all')
    add('--moving-bands', nargs='+', type=int, metavar='N')
    add('--max-shift', type=float, metavar='PIXELS',
        help='displacement to be expected after alignment, pixels of FIXED; '
        'default: 0.11 of its longer side')
    add('--max-angle', type=float, default=20., metavar='DEGREES',
        help='rotation to be expected after alignment; some are tried where '
        'the image as it lies gives no certain answer, one for each 8 '
        'degrees to either side, each at the cost of a wide search')
    add('--threshold', type=float, default=3., metavar='PIXELS',
        help='residual up to which a tie point agrees')
    add('--overview', type=int, default=1024, metavar='PIXELS',
        help='larger images are registered by tiles')
    add('--tile', type=int, default=512, metavar='PIXELS')
    add('--max-tiles', type=int, default=196)
    add('--seed', type=int, default=0)
    add('--no-check', action='store_true',
        help='trust the method: do not test whether the images fit best '
        'where the transform lays them')
    add('--apply', nargs='+', default=[], metavar='FILE',
        help="further files of MOVING's ground, of any resolution")
    add('--own-resolution', action='store_true',
        help='resample the files of --apply to pixels of their own size')
    add('--report', metavar='FILE', help='write a report as JSON')
    add('--pictures', metavar='DIR',
        help='write checkerboard, overlay, flow and certainty')
    return parser.parse_args()


def applied_path(out: Path, source: str) -> Path:
    """Where a further file goes."""
    suffix = out.suffix if out.suffix.lower() != '.png' else '.tif'
    return out.with_name(f'{Path(source).stem}_registered{suffix}')


def plan(args: argparse.Namespace) -> dict[str, Path]:
    """The outputs of the files of --apply, all outputs checked.

    Raises:
        ConfigError: If two files would be one, an output is an input, or it
            cannot be written.
    """
    from osar_plugin.apis.registration import check_output
    from osar_plugin.apis.registration_output import require_writable

    out = Path(args.out)
    check_output(out, args.way, args.resampling, args.transform)
    inputs = [Path(p) for p in (args.fixed, args.moving, *args.apply)]
    targets = {source: applied_path(out, source) for source in args.apply}
    outputs = [out, *targets.values()]
    outputs += [Path(args.report)] if args.report else []
    names = [path.resolve() for path in outputs]
    for path in outputs:
        if names.count(path.resolve()) > 1:
            raise ConfigError(
                f'{path} would be written twice: rename an input or OUT.')
        require_writable(path, inputs)
    if args.pictures:
        require_writable(Path(args.pictures) / 'checkerboard.png', inputs)
    return targets


def build(args: argparse.Namespace) -> Any:
    """The inferencer."""
    from osar_plugin.apis.registration import RegistrationInferencer
    from osar_plugin.apis.registration_scene import SceneSettings
    from osar_plugin.models.registration import EstimateSettings

    settings = SceneSettings(
        overview=args.overview, tile=args.tile, max_tiles=args.max_tiles,
        max_shift=args.max_shift, max_angle=args.max_angle,
        check=not args.no_check,
        estimate=EstimateSettings(threshold=args.threshold, seed=args.seed))
    return RegistrationInferencer(
        args.method, args.transform, args.method_options, args.align,
        settings)


def write_pictures(found: Any, folder: Path) -> None:
    """The four pictures, at the size of the overview."""
    from osar_plugin.visualization.registration import (
        draw_certainty,
        draw_checkerboard,
        draw_flow,
        draw_flow_key,
        draw_overlay,
    )
    from osar_plugin.visualization.reid import write_png

    fixed, mask = found.found.fixed_view, found.found.fixed_mask
    moved, moved_mask = found.moved_view()
    masks = (mask, moved_mask)
    flow = found.flow()
    longest = float(np.nanmax(np.hypot(*flow)))
    shown = draw_flow(flow, longest)
    key = draw_flow_key(longest, len(shown))
    room = ((0, len(key) - len(shown)), (0, 0), (0, 0))
    shown = np.pad(shown, room, constant_values=255)
    pictures = dict(
        checkerboard=draw_checkerboard(fixed, moved, masks),
        overlay=draw_overlay(fixed, moved, masks),
        flow=np.hstack([shown, key]),
        certainty=draw_certainty(fixed, found.certainty(), mask))
    for name, picture in pictures.items():
        write_png(picture, folder / f'{name}.png')


def summary(report: dict[str, Any]) -> str:
    """What a person wants to know of a registration, in two lines."""
    residuals = report['residuals_px']
    tiles = report['tiles']
    text = (f'{report["inliers"]} of {report["matches"]} tie points agree')
    if residuals:
        text += f' to {residuals["rmse"]:.2f} px RMSE'
    if tiles['tried']:
        text += f', from {tiles["matched"]} of {tiles["tried"]} tiles'
    x, y = report['shift_at_centre_px']
    how = report['alignment']['how']
    return (f'{text}.\nAfter alignment by {how} the middle of FIXED was '
            f'displaced by ({x:.1f}, {y:.1f}) px.\n')


def main() -> None:
    """Register."""
    args = parse_args()
    targets = plan(args)
    inferencer = build(args)
    found = inferencer(
        args.fixed, args.moving, args.fixed_crs, args.moving_crs,
        args.fixed_bands, args.moving_bands)
    if not found.ok:
        if args.report:
            found.write_report(args.report)
        sys.stderr.write(f'registration failed: {found.reason}\n')
        sys.exit(1)
    found.write(args.out, args.way, args.resampling)
    for source, path in targets.items():
        found.apply(source, path, args.way, args.resampling,
                    args.own_resolution)
    if args.pictures:
        write_pictures(found, Path(args.pictures))
    if args.report:
        found.write_report(args.report, outputs=[
            args.out, *map(str, targets.values())])
    sys.stdout.write(summary(found.report()))
    for path in (args.out, *targets.values()):
        sys.stdout.write(f'{path}\n')


if __name__ == '__main__':
    launch.run(main)
