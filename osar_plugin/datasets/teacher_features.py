"""Features of a teacher, computed once and read in pre-training.

One safetensors file for each optical image, at the same place in the
folder of features as the image has in the data set::

    <features>/<source>/RGB/<name>.safetensors
        tensor    'features'      (L, D) float16, patches row by row
        metadata  'image_sha256'  of the image file
                  'teacher'       its name
                  'grid'          '<rows>x<columns>' of patches, L in all
                  'format'        'osar_plugin teacher features 1'

The checksum ties features to the content of an image, not to its name: the
reader refuses features that were computed from other bytes.

The features are of the whole image, scaled to the teacher's input. They do
not fit a random crop, and those of a mirrored image are not the mirrored
ones; the transforms that crop or mirror refuse such samples.

Legend: L patches of an image, D channels of the teacher.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np

from osar_plugin.io import atomic_write
from osar_plugin.utils.errors import DataFormatError

FORMAT = 'osar_plugin teacher features 1'
_GRID = re.compile(r'(\d{1,5})x(\d{1,5})')
_CURE = 'Compute the features of this image again.'


def feature_path(
        features: str | Path, data_root: str | Path,
        image: str | Path) -> Path:
    """Where the features of an image lie.

    Args:
        features: Folder of the features.
        data_root: Folder of the data set.
        image: An image in ``data_root``.

    Raises:
        DataFormatError: If it lies elsewhere.
    """
    try:
        inside = Path(image).relative_to(data_root)
    except ValueError as error:
        raise DataFormatError(
            f'{image}: lies outside of {data_root}, so its features have no '
            'place.') from error
    return Path(features) / inside.with_suffix('.safetensors')


def content_key(data: bytes) -> str:
    """SHA-256 of the bytes of an image file, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def write_features(
        path: str | Path, features: np.ndarray, image: bytes, teacher: str,
        grid: tuple[int, int]) -> None:
    """Write the features of one image, whole or not at all.

    Args:
        path: See :func:`feature_path`.
        features: (L, D) float; stored as float16.
        image: The image file that they were computed from.
        teacher: Name of the teacher.
        grid: Rows and columns of patches; their product is L.

    Raises:
        DataFormatError: If the shape does not fit or a value does not fit
            into float16.
    """
    from safetensors.numpy import save

    if features.ndim != 2 or len(features) != grid[0] * grid[1]:
        raise DataFormatError(
            f'{path}: features of shape {features.shape}; expected '
            f'({grid[0] * grid[1]}, channels) for a grid of {grid[0]} x '
            f'{grid[1]} patches, without class and register tokens.')
    with np.errstate(over='ignore'):
        half = np.ascontiguousarray(features, np.float16)
    if not np.isfinite(half).all():
        raise DataFormatError(
            f'{path}: the features hold NaN, infinity or values beyond '
            '65504, the range of float16. Check the teacher.')
    content = save({'features': half}, metadata=dict(
        format=FORMAT, image_sha256=content_key(image), teacher=teacher,
        grid=f'{grid[0]}x{grid[1]}'))
    with atomic_write(path, 'wb') as file:
        file.write(content)


def read_features(
        path: str | Path, image: bytes | None = None
) -> tuple[np.ndarray, tuple[int, int]]:
    """Read the features of one image.

    Args:
        path: See :func:`feature_path`.
        image: The image file that they should belong to; not compared
            where None.

    Returns:
        (L, D) float16, and the grid.

    Raises:
        DataFormatError: If they are missing, damaged, or of another image.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise DataFormatError(
            f'{path}: no features of the teacher. {_CURE}')
    try:
        with safe_open(str(path), 'numpy') as file:
            about = file.metadata() or {}
            features = file.get_tensor('features')
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise DataFormatError(
            f'{path}: is damaged or holds no features ({error}). {_CURE}'
        ) from error
    grid = _check(path, about, features)
    if image is not None and about['image_sha256'] != content_key(image):
        raise DataFormatError(
            f'{path}: these features belong to another image (SHA-256 '
            f'{about["image_sha256"][:12]}..., the image has '
            f'{content_key(image)[:12]}...). {_CURE}')
    return features, grid


def _check(
        path: str | Path, about: dict[str, str],
        features: np.ndarray) -> tuple[int, int]:
    """Whether a file says what it must; its grid."""
    match = _GRID.fullmatch(about.get('grid', ''))
    if about.get('format') != FORMAT or match is None or (
            'image_sha256' not in about):
        raise DataFormatError(
            f'{path}: expected metadata of {FORMAT!r}, found {about}. '
            f'{_CURE}')
    grid = int(match[1]), int(match[2])
    if features.dtype != np.float16 or features.ndim != 2 or (
            len(features) != grid[0] * grid[1]):
        raise DataFormatError(
            f'{path}: {features.dtype} of shape {features.shape}; expected '
            f'float16 ({grid[0] * grid[1]}, channels). {_CURE}')
    return grid
