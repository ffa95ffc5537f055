r"""Compute the features of a teacher once, for all optical images of a set.

    python tools/prepare_data/teacher_features.py \
        configs/codemae_ospretrain.py data/ospretrain_features

Data set and teacher are those of the config (train_dataloader.dataset and
model.teacher). The whole image is scaled to --size. Training then takes the
features instead of the teacher with

    train_dataloader.dataset.teacher_features=data/ospretrain_features
    model.teacher=dict(type='osar_plugin.PrecomputedTeacher')

and osar_plugin.PairResize in place of random crops and flips. What is there
already and belongs to its image is kept, so a stopped run can be repeated.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import DictAction
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from osar_plugin.datasets.pair_base import PretrainPairs
from osar_plugin.datasets.teacher_features import (
    feature_path,
    read_features,
    write_features,
)
from osar_plugin.datasets.transforms.pretrain_pairs import (
    Box,
    as_optical,
    crop_resized,
    decode_8bit,
)
from osar_plugin.registry import DATASETS, MODELS
from osar_plugin.utils import launch
from osar_plugin.utils.config import load_config
from osar_plugin.utils.config_values import require_range
from osar_plugin.utils.errors import ConfigError, DataFormatError
from osar_plugin.utils.termination import orderly_termination

PATCH = 16


class Image(NamedTuple):
    """What a worker hands on.

    Attributes:
        data: The file; empty where its features are there already.
        pixels: (size, size, 3) uint8.
        path: Where the features go.
    """

    data: bytes
    pixels: np.ndarray
    path: str


class OpticalImages(Dataset):
    """The optical images of a data set, scaled to the teacher's input.

    Args:
        dataset: The pairs.
        out: Folder of the features.
        size: Side in pixels.
    """

    def __init__(self, dataset: PretrainPairs, out: str, size: int) -> None:
        self.dataset, self.out, self.size = dataset, out, size

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Image:
        source = self.dataset.get_data_info(index)['rgb_path']
        path = feature_path(self.out, self.dataset.data_root, source)
        data = Path(source).read_bytes()
        if _done(path, data, self.size // PATCH):
            return Image(b'', np.empty(0, np.uint8), str(path))
        pixels = as_optical(decode_8bit(data, source))
        height, width = pixels.shape[:2]
        # Reduced without aliases: this is done once, so it may take time.
        return Image(data, crop_resized(
            pixels, Box(0, 0, height, width), (self.size, self.size), True),
            str(path))


def _done(path: Path, data: bytes, side: int) -> bool:
    """Whether there are features of this image on this grid."""
    try:
        return path.is_file() and read_features(path, data)[1] == (
            side, side)
    except DataFormatError:
        return False


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('config', help='config with data set and teacher')
    add('out', help='folder of the features')
    add('--size', type=int, default=224,
        help="side of the teacher's input (default: %(default)s)")
    add('--batch-size', type=int, default=32, metavar='N')
    add('--workers', type=int, default=2, metavar='N',
        help='processes that read images (default: %(default)s)')
    add('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    add('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='override parts of the config')
    return parser.parse_args(argv)


def build(args: argparse.Namespace) -> tuple[PretrainPairs, Any, str]:
    """Data set, teacher and its name.

    Raises:
        ConfigError: If the config has no pairs or no teacher that computes.
    """
    require_range(0, 1024, workers=args.workers)
    require_range(1, batch_size=args.batch_size)
    if args.size < PATCH or args.size % PATCH:
        raise ConfigError(
            f'--size {args.size}: expected a multiple of {PATCH}.')
    cfg = load_config(args.config, args.cfg_options)
    node = cfg.get('model', {}).get('teacher')
    name = '' if node is None else str(node['type']).rpartition('.')[2]
    if not name or name == 'PrecomputedTeacher':
        raise ConfigError(
            f'{args.config}: model.teacher is {node}; a teacher that '
            'computes features is needed, such as '
            'osar_plugin.DINOv3Teacher.')
    dataset = DATASETS.build(dict(
        cfg.train_dataloader.dataset, pipeline=[], teacher_features=None))
    if not isinstance(dataset, PretrainPairs):
        raise ConfigError(
            f'{args.config}: train_dataloader.dataset is a '
            f'{type(dataset).__name__}; osar_plugin.OSPretrain or '
            'osar_plugin.SEN12 is needed.')
    teacher = MODELS.build(node).to(args.device).eval()
    return dataset, teacher, name


@torch.inference_mode()
def compute(args: argparse.Namespace) -> tuple[int, int]:
    """Write all features.

    Returns:
        Number of files written, and of those that were kept.
    """
    dataset, teacher, name = build(args)
    loader = DataLoader(
        OpticalImages(dataset, args.out, args.size), args.batch_size,
        num_workers=args.workers, collate_fn=list)
    side, written = args.size // PATCH, 0
    console = Console(stderr=True)
    for batch in track(
            loader, 'computing', console=console, transient=True,
            disable=not console.is_terminal):
        fresh = [image for image in batch if image.data]
        if not fresh:
            continue
        pixels = torch.from_numpy(np.stack([one.pixels for one in fresh]))
        images = pixels.to(args.device).permute(0, 3, 1, 2) / 255
        features = teacher(dict(rgb01=images)).float().cpu().numpy()
        for image, rows in zip(fresh, features, strict=True):
            write_features(image.path, rows, image.data, name, (side, side))
        written += len(fresh)
    return written, len(dataset) - written


def main() -> None:
    """Entry point."""
    args = parse_args()
    with orderly_termination():
        written, kept = compute(args)
    sys.stdout.write(f'{args.out}: {written} written, {kept} kept\n')


if __name__ == '__main__':
    launch.run(main)
