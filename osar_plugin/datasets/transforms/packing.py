"""From pipeline results to what a model takes.

Legend: H W height and width in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from osar_plugin.registry import TRANSFORMS
from osar_plugin.structures import ReIDDataSample

from .loading import modality_of, require_key

META_KEYS = (
    'img_path', 'ori_shape', 'sample_idx', 'is_query', 'protocols')


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """(H, W) or (H, W, C) to a contiguous (C, H, W) tensor of its type."""
    if image.ndim == 2:
        image = image[:, :, None]
    return torch.from_numpy(
        np.ascontiguousarray(image.transpose(2, 0, 1)))


@TRANSFORMS.register_module()
class PackReIDInputs(BaseTransform):
    """Pack one chip.

    Required keys: ``img``, ``modality``. Used where present: ``pid``,
    ``label``, ``size`` and the meta keys.

    Returns (as the whole sample):
        inputs: (3, H, W) uint8, or float32 in 0..255 after erasing.
        data_samples: :class:`~osar_plugin.structures.ReIDDataSample`.

    Args:
        meta_keys: Entries that become meta information of the sample.
    """

    def __init__(self, meta_keys: Sequence[str] = META_KEYS) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Return the packed sample."""
        sample = ReIDDataSample(metainfo={
            key: results[key] for key in self.meta_keys if key in results})
        sample.modality = modality_of(results, self)
        if 'pid' in results:
            sample.pid = int(results['pid'])
        sample.label = int(results.get('label', -1))
        if 'size' in results:
            sample.size = torch.as_tensor(
                results['size'], dtype=torch.float32)
        image = require_key(results, 'img', self)
        return dict(inputs=to_tensor(image), data_samples=sample)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(meta_keys={self.meta_keys})'
