"""Predictions of segmentation as the LoveDA server takes them."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from PIL import Image

from ..datasets.layout import shorten
from ..io import atomic_write
from ..registry import METRICS
from ..utils.config_values import require_range
from ..utils.errors import ConfigError, DataFormatError

NUM_CLASSES = 7
# ZIP knows no earlier date; a fixed one keeps the bytes the same.
_DATE = (1980, 1, 1, 0, 0, 0)


class ZipSubmission(BaseMetric):
    """Predictions as PNG files in a zip file, for a server that has labels.

    Args:
        out_file: The zip file.
        num_classes: Classes of the model; others are refused.
        collect_device: See ``BaseMetric``.
        prefix: See there.

    Raises:
        ConfigError: If ``out_file`` is no zip file.
        DataFormatError: While running: see :func:`encode_prediction` and
            :func:`write_submission`.
    """

    #: What is written for whom, for the log.
    GOODS = ''

    def __init__(self, out_file: str, num_classes: int,
                 collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if Path(out_file).suffix.lower() != '.zip':
            raise ConfigError(
                f'out_file={out_file!r}: expected the name of a zip file, '
                f'e.g. work_dirs/{self.default_prefix}.zip.')
        require_range(1, 255, num_classes=num_classes)
        self.out_file = out_file
        self.num_classes = num_classes

    def keep(self, name: str, sample: Mapping[str, Any], where: str) -> None:
        """Keep a prediction as a PNG file in memory.

        Args:
            name: Of the file.
            sample: See :func:`encode_prediction`.
            where: Its image, for messages.
        """
        self.results.append(
            (name, encode_prediction(sample, where, self.num_classes)))

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Write the zip file."""
        write_submission(self.out_file, results)
        print_log(
            f'{len(results)} {self.GOODS} in {self.out_file}.',
            logger='current')
        return dict(tiles=float(len(results)))


@METRICS.register_module()
class LoveDASubmission(ZipSubmission):
    """Write the zip file that the LoveDA server evaluates.

    It has one PNG for each tile, at the root of the archive, under the name
    of the tile, 8 bits, with the classes 0 to 6. ``mmseg.IoUMetric`` with
    ``format_only`` adds one to them (MMSegmentation, issue 3279), which the
    server counts as wrong throughout. The file appears whole or not at all.

    The figure is the number of tiles; labels are not needed.

    Args:
        out_file: The zip file.
        num_classes: Classes of the model; the server knows 7.
        collect_device: See ``BaseMetric``.
        prefix: See there.

    Raises:
        ConfigError: If ``out_file`` is no zip file.
        DataFormatError: While running: if a prediction is missing, has
            another size than its tile, or values that are no class; or if
            two tiles have one name.
    """

    default_prefix = 'loveda'
    GOODS = 'predictions for the LoveDA server'

    def __init__(self,
                 out_file: str,
                 num_classes: int = NUM_CLASSES,
                 collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        super().__init__(out_file, num_classes, collect_device, prefix)

    def process(self, data_batch: Any,
                data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep the predictions of a batch as PNG files in memory."""
        for sample in data_samples:
            path = sample.get('img_path')
            if not path:
                raise DataFormatError(
                    "A sample has no img_path. Keep 'img_path' in meta_keys "
                    'of the transform that packs the inputs.')
            self.keep(f'{Path(path).stem}.png', sample, path)


def encode_prediction(sample: Mapping[str, Any], path: str,
                      num_classes: int) -> bytes:
    """A prediction as a PNG file.

    Args:
        sample: With ``pred_sem_seg`` (``data`` (1, H, W) or (H, W)) and,
            where known, ``ori_shape``.
        path: Of its image, for messages.
        num_classes: Classes 0 to ``num_classes`` - 1 are allowed.

    Raises:
        DataFormatError: If it is missing or not of that kind.
    """
    found = sample.get('pred_sem_seg')
    if found is None:
        raise DataFormatError(
            f'{path}: no pred_sem_seg; expected a prediction of '
            'segmentation. Is the model a segmentor?')
    labels = np.asarray(found['data'].cpu())
    if labels.ndim == 3 and len(labels) == 1:
        labels = labels[0]
    shape = tuple(sample.get('ori_shape') or labels.shape)[:2]
    if labels.shape != shape or labels.dtype.kind not in 'iu':
        raise DataFormatError(
            f'{path}: the prediction is {labels.shape} {labels.dtype}; '
            f'expected classes {shape}, one for each pixel of the tile.')
    if labels.size and (labels.min() < 0 or labels.max() >= num_classes):
        raise DataFormatError(
            f'{path}: predicted labels reach from {labels.min()} to '
            f'{labels.max()}; the server takes 0 to {num_classes - 1} '
            'alone. Check num_classes of the model, and that nothing adds '
            'one to the labels.')
    file = BytesIO()
    Image.fromarray(labels.astype(np.uint8)).save(file, 'PNG')
    return file.getvalue()


def write_submission(out_file: str | Path,
                     files: Sequence[tuple[str, bytes]]) -> None:
    """Write files to the root of a zip file, in the order of their names.

    Args:
        out_file: The zip file.
        files: Name and content of each.

    Raises:
        DataFormatError: If there is none, or a name occurs twice.
    """
    counts = Counter(name for name, _ in files)
    twice = [name for name, count in counts.items() if count > 1]
    if twice or not files:
        raise DataFormatError(
            f'{out_file}: {len(files)} predictions, and {len(twice)} names '
            f'occur more than once ({shorten(twice) or "none"}); the server '
            'takes one file for each tile. Predict the test split alone.')
    with atomic_write(out_file, 'wb') as file, zipfile.ZipFile(
            file, 'w', zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _DATE), content)
