"""BRIGHT on disk as noise, in both layouts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

TRAIN = ('turkey-earthquake_00000001', 'turkey-earthquake_00000002',
         'hawaii-wildfire_00000003', 'la_palma-volcano_00000004')
TEST = ('libya-flood_00000005', 'turkey-earthquake_00000006')


def write_tile(base: Path, name: str, size: tuple[int, int] = (40, 48),
               seed: int = 0, labels: bool = True) -> None:
    """The files of one tile."""
    rng = np.random.default_rng([seed, len(name), *name.encode()])
    parts = dict(pre=rng.integers(0, 256, (*size, 3), np.uint8),
                 post=rng.integers(0, 256, size, np.uint8))
    paths = dict(pre=f'pre-event/{name}_pre_disaster.tif',
                 post=f'post-event/{name}_post_disaster.tif')
    if labels:
        parts['target'] = rng.integers(0, 4, size, np.uint8)
        paths['target'] = f'target/{name}_building_damage.tif'
    for key, pixels in parts.items():
        path = base / paths[key]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def write_list(path: Path, names: Iterable[str]) -> None:
    path.write_text(''.join(f'{name}\n' for name in names))


def write_bright(root: Path, nested: bool = False,
                 size: tuple[int, int] = (40, 48)) -> Path:
    """The standard layout, or that of DFC 2025."""
    for folder, names in (('train', TRAIN), ('val', TEST)):
        base = root / 'dfc25_track2_trainval' / folder if nested else root
        for name in names:
            write_tile(base, name, size)
    if nested:
        base = root / 'dfc25_track2_trainval'
        write_list(base / 'train_setlevel.txt', TRAIN[:3])
        write_list(base / 'holdout_setlevel.txt', TRAIN[3:])
        write_list(base / 'val_setlevel.txt', TEST)
    else:
        write_list(root / 'train_set.txt', TRAIN[:3])
        write_list(root / 'val_set.txt', TRAIN[3:])
        write_list(root / 'test_set.txt', TEST)
    return root
