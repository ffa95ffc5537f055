"""Label maps from files, every value checked.

Legend: H W height and width in pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from osar_plugin.io import decode
from osar_plugin.registry import TRANSFORMS
from osar_plugin.utils.config_values import require_range
from osar_plugin.utils.errors import DataFormatError

from .loading import require_key

IGNORED = 255


@TRANSFORMS.register_module()
class LoadLabelMap(BaseTransform):
    """Read the label map of a sample of segmentation.

    In place of ``mmseg.LoadAnnotations``, which takes any value: one that
    is no class stops a training on a GPU without a word on which file.

    Required key: ``seg_map_path``. Used where present:
    ``reduce_zero_label`` (0 is no data, classes begin at 1), ``label_map``
    (class in the file to class of the model, or 255).

    Set keys:
        gt_seg_map: (H, W) uint8, 0 to C - 1, and 255 for what is ignored.
        seg_fields: ``'gt_seg_map'`` is added.

    Args:
        num_classes: C.
        allow_ignored: Take 255 in the file for ignored pixels.
        optional: Let samples without ``seg_map_path`` pass as they are:
            images of an inferencer, and of splits without labels.

    Raises:
        DataFormatError: If the file is no label map, or holds a value that
            is no class.
    """

    def __init__(self, num_classes: int, allow_ignored: bool = False,
                 optional: bool = False) -> None:
        require_range(1, 254, num_classes=num_classes)
        self.num_classes = num_classes
        self.allow_ignored = allow_ignored
        self.optional = optional

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Read and check the map."""
        if self.optional and 'seg_map_path' not in results:
            return results
        path = require_key(results, 'seg_map_path', self)
        reduce = bool(results.get('reduce_zero_label'))
        labels = check_labels(
            decode(path), path, int(reduce) + self.num_classes - 1,
            self.allow_ignored)
        if reduce:
            # 0 wraps to 255; 255 must not become 254.
            labels = np.where(
                labels == IGNORED, labels, labels - np.uint8(1))
        if results.get('label_map'):
            table = np.arange(256, dtype=np.uint8)
            for old, new in results['label_map'].items():
                table[old] = new
            labels = table[labels]
        results['gt_seg_map'] = labels
        results.setdefault('seg_fields', []).append('gt_seg_map')
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(num_classes={self.num_classes})'


def check_labels(labels: np.ndarray, path: str, highest: int,
                 allow_ignored: bool = False) -> np.ndarray:
    """A decoded label map, if all of its values are allowed.

    Args:
        labels: Of a file.
        path: Its name, for messages.
        highest: Largest label.
        allow_ignored: Whether 255 is allowed as well.

    Returns:
        (H, W) uint8.

    Raises:
        DataFormatError: If it has other values, channels or depth.
    """
    if labels.ndim == 3 and (labels == labels[:, :, :1]).all():
        labels = labels[:, :, 0]
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise DataFormatError(
            f'{path}: {labels.shape} {labels.dtype}; expected a label map '
            '(H, W) of 8 bits. Is it a coloured mask? Write class indices.')
    counts = np.bincount(labels.ravel(), minlength=256)
    counts[:highest + 1] = 0
    if allow_ignored:
        counts[IGNORED] = 0
    strange = counts.nonzero()[0]
    if len(strange):
        raise DataFormatError(
            f'{path}: {int(counts.sum())} pixels have the labels '
            f'{", ".join(map(str, strange[:8].tolist()))}; expected 0 to '
            f'{highest}{" and 255" if allow_ignored else ""}. Mend the '
            'mask, or the number of classes.')
    return labels
