r"""Time and memory of assessing a large scene.

    python tools/benchmark/assess_damage.py --size 6000

Writes a synthetic pair of GeoTIFFs (houses on a rotated grid, four-look
speckle) and a small DamageFormer with random weights, and maps the scene
with DamageInferencer, with picture and counts, in a process of its own whose
peak memory is taken. The maps mean nothing; what is measured is everything
around the network, whose own share grows with its size and is bounded by
--batch-size windows. Of the scene no more than a row of windows and the strip
that is complete are held, so that the peak grows with the width alone: 944 MiB
at --size 1024 and 1204 MiB at --size 6000 (--stride 512, 149 s of processor
time) on one thread, PyTorch and GDAL included.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from osar_plugin.apis.registration_output import blocks
from osar_plugin.compat import require
from osar_plugin.io import atomic_write
from osar_plugin.registry import MODELS
from osar_plugin.utils import launch
from osar_plugin.utils.errors import ConfigError
from osar_plugin.utils.measuring import in_fresh_process, peak_bytes

CELL = 512
"""Side in pixels of what is drawn at once."""

SMALLEST = 64


def model_config(window: int, stride: int) -> dict[str, Any]:
    """A DamageFormer of 1.9 million weights (that of the demo)."""
    return dict(model=dict(
        type='osar_plugin.DamageFormer',
        encoder=dict(
            type='osar_plugin.ITPN', num_outs=4, pool='max', img_size=64,
            fpn_dim=64, arch=dict(
                embed_dim=128, mlp_depths=(1, 1), depth=6, num_heads=4)),
        channels=48,
        inference=dict(mode='slide', window=window, stride=stride)))


def make_pair(folder: Path, size: int) -> None:
    """Write pre.tif, 3 bands, and post.tif, 1 band, block by block."""
    rasterio = require('rasterio', 'geo')
    window = require('rasterio.windows', 'geo').Window
    origin = require('rasterio.transform', 'geo').from_origin
    profile = dict(
        driver='GTiff', width=size, height=size, dtype='uint8',
        crs='EPSG:32637', transform=origin(500000, 4000000, 0.5, 0.5),
        tiled=True, blockxsize=256, blockysize=256, compress='deflate',
        zlevel=1)
    rng = np.random.default_rng(0)
    with rasterio.open(folder / 'pre.tif', 'w', count=3, **profile) as pre, \
            rasterio.open(
                folder / 'post.tif', 'w', count=1, **profile) as post:
        for box in blocks((size, size), CELL):
            y, x = np.mgrid[box.y:box.y + box.height,
                            box.x:box.x + box.width]
            u, v = 0.9 * x + 0.4 * y, 0.9 * y - 0.4 * x
            house = (u % 40 < 22) & (v % 50 < 26)
            grey = np.where(house, 170, 80) + rng.normal(0, 8, house.shape)
            seen = np.where(house, 140, 40) * np.sqrt(
                rng.gamma(4, 1 / 4, house.shape))
            place = window(box.x, box.y, box.width, box.height)
            pre.write(np.clip(grey, 0, 255).astype(np.uint8)[None].repeat(
                3, 0), window=place)
            post.write(np.clip(seen, 0, 255).astype(np.uint8)[None],
                       window=place)


def measure(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Assess in this process."""
    from osar_plugin.apis.damage import DamageInferencer

    config = model_config(args.window, args.stride)
    torch.manual_seed(0)
    model = MODELS.build(config['model'])
    model.init_weights()
    torch.save(model.state_dict(), folder / 'weights.pth')
    inferencer = DamageInferencer(
        config, folder / 'weights.pth', args.device,
        batch_size=args.batch_size)
    start, busy = time.perf_counter(), time.process_time()
    report = inferencer.assess(
        folder / 'pre.tif', folder / 'post.tif', folder / 'out.tif',
        folder / 'building.tif', folder / 'out.png', folder / 'out.csv')
    return dict(
        seconds=time.perf_counter() - start,
        cpu_seconds=time.process_time() - busy,
        buildings=sum(report.counts.buildings.values()),
        peak_mib=peak_bytes() / 2**20)


def child(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Assess in a fresh process."""
    command = ['--child', str(folder)]
    for name in ('size', 'window', 'stride', 'batch_size', 'device'):
        command += [f'--{name.replace("_", "-")}', str(getattr(args, name))]
    result: dict[str, Any] = in_fresh_process(__file__, *command)
    return result


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--size', type=int, default=6000, help='side in pixels')
    add('--window', type=int, default=512)
    add('--stride', type=int, default=256)
    add('--batch-size', type=int, default=4)
    add('--device', default='cpu')
    add('--folder', help='where the pair is made; default: a temporary one')
    add('--json', metavar='FILE', help='write the figures, too')
    add('--child', help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Make, assess, print."""
    args = parse_args()
    if args.size < SMALLEST:
        raise ConfigError(f'--size {args.size}: expected {SMALLEST} or more.')
    if args.child:
        result = measure(Path(args.child), args)
        sys.stdout.write('\n' + json.dumps(result) + '\n')
        return
    if args.folder:
        Path(args.folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        make_pair(Path(folder), args.size)
        result = child(Path(folder), args)
    text = json.dumps(dict(
        size=args.size, window=args.window, stride=args.stride,
        batch_size=args.batch_size, **result), indent=1)
    sys.stdout.write(text + '\n')
    if args.json:
        with atomic_write(args.json) as file:
            file.write(text + '\n')


if __name__ == '__main__':
    launch.run(main)
