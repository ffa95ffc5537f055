"""Small data sets on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HOSS_MINI = Path(__file__).parents[3] / 'shared' / 'data' / 'hoss_mini'


def write_chip(path: Path, seed: int = 0) -> Path:
    """Write a chip of the modality that its name tells."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = 12 + seed % 5, 6 + seed % 3
    if 'SAR' in path.name and path.suffix == '.tif':
        image = rng.gamma(1.2, 40.0, (height, width)).astype(np.float32)
    else:
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(image).save(path)
    return path


@pytest.fixture
def chip():
    """The writer of single chips."""
    return write_chip


@pytest.fixture
def write_hoss(tmp_path):
    """Write a data set: folder -> names without suffix."""

    def write(folders, suffix='.tif', root=tmp_path / 'data'):
        seed = 0
        for folder, names in folders.items():
            (root / 'HOSS' / folder).mkdir(parents=True, exist_ok=True)
            for name in names:
                seed += 1
                write_chip(root / 'HOSS' / folder / (name + suffix), seed)
        return root

    return write


@pytest.fixture
def hoss_mini():
    """The real chips, where they are."""
    if not HOSS_MINI.is_dir():
        pytest.skip('real chips not there: ../shared/data/hoss_mini')
    return HOSS_MINI
