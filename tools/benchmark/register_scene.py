r"""Time and memory of registering a large scene.

    python tools/benchmark/register_scene.py --size 10000

Renders a synthetic pair of GeoTIFFs block by block (rectangles at all
angles; the second sensor has another brightness for every grey value,
four-look speckle, and lies elsewhere by a known affine; a part of the scene
has no texture at all), registers it with RegistrationInferencer and writes
it onto the fixed grid, in a process of its own whose peak memory is taken.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from osar_plugin.apis.registration_output import blocks
from osar_plugin.apis.registration_raster import FileRaster, resample
from osar_plugin.apis.registration_scene import lattice, positions
from osar_plugin.compat import require
from osar_plugin.io import atomic_write
from osar_plugin.utils import launch
from osar_plugin.utils.errors import ConfigError
from osar_plugin.utils.geometry import apply, invert, similarity
from osar_plugin.utils.measuring import in_fresh_process, peak_bytes

CELL = 500
"""Side in pixels of what is drawn at once."""


def truth(size: int) -> np.ndarray:
    """The affine from fixed to moving pixels, (2, 3)."""
    middle = (size - 1) / 2
    return similarity(
        0.6, 1.004, (0.006 * size, -0.004 * size), (middle, middle))


def draw_boxes(image: np.ndarray, count: int, longest: float,
               rng: np.random.Generator) -> None:
    """Fill rectangles at all angles into an image."""
    height, width = image.shape
    for _ in range(count):
        box = ((rng.uniform(0, width), rng.uniform(0, height)),
               tuple(rng.uniform(longest / 12, longest, 2)),
               rng.uniform(0, 180))
        corners = np.rint(cv2.boxPoints(box)).astype(np.int32)
        cv2.fillPoly(image, [corners], int(rng.integers(20, 235)))


def draw_land(size: int) -> np.ndarray:
    """What is larger than a cell, at a tenth of the resolution."""
    land = np.full((-(-size // 10) + CELL, ) * 2, 90, np.uint8)
    draw_boxes(land, len(land)**2 // 3000, 160, np.random.default_rng(1))
    return land


def draw_cell(land: np.ndarray, box: Any, empty: bool) -> np.ndarray:
    """Land with fields and roofs on it, or nothing."""
    if empty:
        return np.full((CELL, CELL), 90, np.uint8)
    y, x = box.y // 10, box.x // 10
    image = cv2.resize(land[y:y + CELL // 10, x:x + CELL // 10],
                       (CELL, CELL), interpolation=cv2.INTER_NEAREST)
    draw_boxes(image, 40, 120, np.random.default_rng([box.y, box.x]))
    return image


def profile(size: int) -> dict[str, Any]:
    """Of both files: 1 m pixels, UTM 32."""
    origin = require('rasterio.transform', 'geo').from_origin
    return dict(
        driver='GTiff', width=size, height=size, count=1, dtype='uint8',
        crs='EPSG:32632', transform=origin(450000, 5400000, 1, 1),
        tiled=True, blockxsize=256, blockysize=256, compress='deflate',
        zlevel=1)


def make_pair(folder: Path, size: int) -> None:
    """Write fixed.tif and moving.tif."""
    rasterio = require('rasterio', 'geo')
    window = require('rasterio.windows', 'geo').Window
    land = draw_land(size)
    with rasterio.open(folder / 'fixed.tif', 'w', **profile(size)) as file:
        for box in blocks((size, size), CELL):
            cell = draw_cell(land, box, box.x >= 0.75 * size)
            file.write(cell[None, :box.height, :box.width],
                       window=window(*box))
    source = FileRaster(folder / 'fixed.tif')
    back = invert(truth(size))
    rng = np.random.default_rng(0)
    levels = rng.integers(20, 160, 256).astype(np.float32)
    with rasterio.open(folder / 'moving.tif', 'w', **profile(size)) as file:
        for box in blocks((size, size), CELL):
            pixels, valid = resample(source, positions(
                box, 1, lambda at: apply(back, at)), 'nearest')
            seen = levels[pixels[0].astype(int)] * np.sqrt(
                rng.gamma(4, 1 / 4, valid.shape))
            file.write(np.clip(seen * valid, 0, 255).astype(
                np.uint8)[None], window=window(*box))
    source.file.close()


def measure(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Register in this process."""
    from osar_plugin.apis.registration import RegistrationInferencer
    from osar_plugin.apis.registration_scene import SceneSettings

    start, busy = time.perf_counter(), time.process_time()
    found = RegistrationInferencer(
        args.method, args.transform,
        settings=SceneSettings(max_tiles=args.max_tiles))(
            folder / 'fixed.tif', folder / 'moving.tif')
    registered, used = time.perf_counter(), time.process_time()
    result = dict(
        ok=found.ok, reason=found.reason, seconds=registered - start,
        cpu_seconds=used - busy, tiles=found.found.tiles)
    if found.ok:
        found.write(folder / 'out.tif', resampling='bilinear')
        points = lattice((args.size, args.size), 33)
        error = np.linalg.norm(
            found.points(points) - apply(truth(args.size), points), axis=1)
        result.update(
            rmse_px=float(np.sqrt((error**2).mean())),
            max_px=float(error.max()),
            write_seconds=time.perf_counter() - registered,
            write_cpu_seconds=time.process_time() - used)
    result['peak_mib'] = peak_bytes() / 2**20
    return result


def child(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Register in a fresh process."""
    command = ['--child', str(folder)]
    for name in ('size', 'method', 'transform', 'max_tiles'):
        command += [f'--{name.replace("_", "-")}', str(getattr(args, name))]
    result: dict[str, Any] = in_fresh_process(__file__, *command)
    return result


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--size', type=int, default=10000, help='side in pixels')
    add('--method', default='cfog')
    add('--transform', choices=('affine', 'poly2', 'tps', 'flow'),
        default='affine')
    add('--max-tiles', type=int, default=196)
    add('--folder', help='where the pair is made; default: a temporary one')
    add('--json', metavar='FILE', help='write the figures, too')
    add('--child', help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Make, register, print."""
    args = parse_args()
    if args.size < CELL:
        raise ConfigError(f'--size {args.size}: expected {CELL} or more.')
    if args.child:
        result = measure(Path(args.child), args)
        sys.stdout.write('\n' + json.dumps(result) + '\n')
        return
    if args.folder:
        Path(args.folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        make_pair(Path(folder), args.size)
        result = child(Path(folder), args)
    text = json.dumps(dict(size=args.size, method=args.method,
                           transform=args.transform, **result), indent=1)
    sys.stdout.write(text + '\n')
    if args.json:
        with atomic_write(args.json) as file:
            file.write(text + '\n')
    if not result['ok']:
        sys.exit(1)


if __name__ == '__main__':
    launch.run(main)
