"""Small trees of optical-SAR pairs on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

STATISTICS = dict(
    rgb=dict(mean=[.4, .5, .6], std=[.1, .2, .3]),
    sar=dict(mean=[.25], std=[.125]))


def write_image(path: Path, seed: int, side: str = 'RGB',
                size: tuple[int, int] = (20, 24)) -> Path:
    """An image of noise; SAR has one channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (*size, 3) if side == 'RGB' else size
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_source(root: Path, source: str, count: int, seed: int = 0,
                 **lists: list[str]) -> Path:
    """A source of ``count`` pairs, and its lists."""
    for number in range(count):
        for place, side in enumerate(('RGB', 'SAR')):
            write_image(
                root / source / side / f'{number:03d}.png',
                10_000 * seed + 2 * number + place, side)
    for name, lines in lists.items():
        (root / source / f'{name}.txt').write_text(
            ''.join(f'{line}\n' for line in lines), encoding='utf-8')
    return root


def write_sen12(root: Path, patches: int = 4) -> Path:
    """Two seasons with two scenes each."""
    seed = 0
    for season in ('ROIs1158_spring', 'ROIs2017_winter'):
        for scene in (1, 12):
            for patch in range(1, patches + 1):
                for sensor, side in (('s1', 'SAR'), ('s2', 'RGB')):
                    seed += 1
                    write_image(
                        root / season / f'{sensor}_{scene}'
                        / f'{season}_{sensor}_{scene}_p{patch}.png',
                        seed, side)
    return root
