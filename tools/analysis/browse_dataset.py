"""Look at a data set: original and augmented chips side by side.

Each row is one chip: as it is in the file, then as the training pipeline
hands it on, drawn several times. SAR is shown brightened to its maximum.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import DictAction
from mmengine.logging import print_log
from PIL import Image, ImageDraw

from osar_plugin.io import atomic_write
from osar_plugin.registry import DATASETS
from osar_plugin.utils import launch
from osar_plugin.utils.config import load_config, set_data_root
from osar_plugin.utils.errors import ConfigError

GAP, CAPTION = 4, 14
BACKGROUND = (32, 32, 32)


def parse_args() -> argparse.Namespace:
    """Command line arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('out', help='picture to write (.png)')
    parser.add_argument(
        '--data-root', help="data folder, in place of the config's")
    parser.add_argument(
        '--phase', choices=('train', 'val', 'test'), default='train')
    parser.add_argument('--rows', type=int, default=8, help='chips to show')
    parser.add_argument(
        '--columns', type=int, default=5, help='drawings of each')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def to_picture(image: Any) -> np.ndarray:
    """Any image of a pipeline as (H, W, 3) uint8.

    Args:
        image: (H, W), (H, W, C) or a (C, H, W) tensor. Floats are taken
            for 0..255 where their maximum fits, and scaled by it elsewhere.
    """
    if hasattr(image, 'numpy'):
        image = image.numpy().transpose(1, 2, 0)
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.dtype != np.uint8:
        top = float(np.nanmax(image)) if image.size else 0.
        scale = 1. if 1. < top <= 255. else 255. / top if top > 0 else 0.
        image = np.clip(np.nan_to_num(image) * scale, 0, 255)
        image = image.astype(np.uint8)
    return np.repeat(image, 3, 2) if image.shape[2] == 1 else image[..., :3]


def draw_sheet(rows: list[tuple[str, list[np.ndarray]]]) -> Image.Image:
    """Rows of pictures under their captions, on one sheet.

    Args:
        rows: (caption, pictures (H, W, 3) uint8 of any sizes).
    """
    height = max(p.shape[0] for _, row in rows for p in row)
    widths = [
        max(p.shape[1] for p in column)
        for column in zip(*(row for _, row in rows), strict=True)
    ]
    step = height + CAPTION + GAP
    sheet = Image.new('RGB', (sum(widths) + GAP * (len(widths) + 1),
                              step * len(rows) + GAP), BACKGROUND)
    canvas = ImageDraw.Draw(sheet)
    for i, (caption, row) in enumerate(rows):
        canvas.text((GAP, i * step), caption, fill='white')
        x = GAP
        for picture, width in zip(row, widths, strict=True):
            sheet.paste(Image.fromarray(picture), (x, i * step + CAPTION))
            x += width + GAP
    return sheet


def main() -> None:
    """Draw the sheet."""
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    if args.data_root:
        set_data_root(cfg, args.data_root)
    loader = cfg.get(f'{args.phase}_dataloader')
    if loader is None:
        raise ConfigError(f'{args.config} has no {args.phase}_dataloader.')
    dataset = DATASETS.build(loader.dataset)
    dataset.full_init()
    np.random.seed(args.seed)
    chosen = np.random.choice(
        len(dataset), min(args.rows, len(dataset)), replace=False)
    load, rest = dataset.pipeline.transforms[0], dataset.pipeline.transforms
    rows = []
    for index in sorted(chosen):
        info = dataset.get_data_info(int(index))
        original = load(copy.deepcopy(info))
        if 'img' not in original:
            raise ConfigError(
                f'{args.config}: {type(dataset).__name__} gives more than '
                'one image a sample; this tool shows data sets of single '
                'images.')
        pictures = [to_picture(original['img'])]
        for _ in range(args.columns):
            results: Any = copy.deepcopy(info)
            for transform in rest:
                results = transform(results)
            pictures.append(to_picture(results['inputs']))
        caption = (f'{Path(info["img_path"]).name}  identity {info["pid"]}  '
                   f'{("optical", "SAR")[info["modality"]]}')
        rows.append((caption, pictures))
    with atomic_write(args.out, 'wb') as file:
        draw_sheet(rows).save(file, format='PNG')
    print_log(f'{len(rows)} of {len(dataset)} chips: {args.out}', 'current')


if __name__ == '__main__':
    launch.run(main)
