"""Figures of building damage assessment.

All follow from confusion matrices, which are summed over tiles; the order of
tiles, batches and processes changes nothing. Pixels labelled 255 count
nowhere.

* IoU of a class: of its pixels in truth and prediction, those in both by
  those in either; NaN where neither has any.
* mIoU: mean of these over all four classes, background included.
* OA: share of all pixels whose class is right.
* building F1: of the building head, over all pixels.
* damage F1: over the pixels that truly are buildings, the harmonic mean of
  the F1 of intact, damaged and destroyed (the rule of xView2); of the
  classes that occur in truth.
* event_mIoU, disaster_mIoU: mIoU from the pixels of one event, or of one
  kind of disaster, averaged over events or kinds.

Legend: H W height and width in pixels, C classes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from ..datasets.bright import CLASSES
from ..io import atomic_write
from ..registry import METRICS
from ..utils.errors import DataFormatError
from .segmentation import ZipSubmission

IGNORED = 255
DEFINITION = (
    'From one confusion matrix over all pixels that are not 255: mIoU over '
    'the 4 classes with background, OA; building F1 of the building head; '
    'damage F1: harmonic mean of the F1 of the classes 1-3 that occur, over '
    'true buildings; event_mIoU and disaster_mIoU: means of the mIoU of each '
    'event and of each kind of disaster.')


def confusion(truth: Any, prediction: Any, classes: int) -> np.ndarray:
    """Count pixels by true and predicted class.

    Args:
        truth: (..., H, W) integers in 0..C-1, or 255.
        prediction: The same shape, in 0..C-1.
        classes: C.

    Returns:
        (C, C) int64, rows are true classes.

    Raises:
        DataFormatError: If shapes differ or a class is out of range.
    """
    truth, prediction = _array(truth), _array(prediction)
    if truth.shape != prediction.shape or truth.dtype.kind not in 'ui' or (
            prediction.dtype.kind not in 'ui'):
        raise DataFormatError(
            f'A truth of {truth.shape} {truth.dtype} and a prediction of '
            f'{prediction.shape} {prediction.dtype}: expected integers of '
            'one shape.')
    counts = truth != IGNORED
    truth = truth[counts].astype(np.int64)
    prediction = prediction[counts].astype(np.int64)
    for name, values in (('truth', truth), ('prediction', prediction)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise DataFormatError(
                f'The {name} holds {values.min()} to {values.max()}; '
                f'expected 0 to {classes - 1}, or 255 in the truth.')
    return np.bincount(
        truth * classes + prediction, minlength=classes**2).reshape(
            classes, classes)


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    return np.asarray(value)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Quotient, NaN of nothing."""
    out = np.full(part.shape, np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out


def class_iou(matrix: np.ndarray) -> np.ndarray:
    """(C,) intersection over union of each class; NaN where it is not."""
    hits = matrix.diagonal()
    return _ratio(hits, matrix.sum(0) + matrix.sum(1) - hits)


def class_f1(matrix: np.ndarray) -> np.ndarray:
    """(C,) F1 of each class; NaN where neither side has it."""
    return _ratio(2 * matrix.diagonal(), matrix.sum(0) + matrix.sum(1))


def mean_iou(matrix: np.ndarray) -> float:
    """Mean over the classes that occur; NaN of an empty matrix."""
    values = class_iou(matrix)
    return float(np.nanmean(values)) if matrix.any() else math.nan


def damage_f1(matrix: np.ndarray) -> float:
    """Harmonic mean of F1 over the states of true buildings.

    Args:
        matrix: (4, 4), see :func:`confusion`.

    Returns:
        NaN where there is no true building.
    """
    on_buildings = matrix.copy()
    on_buildings[0] = 0
    values = class_f1(on_buildings)[1:][on_buildings.sum(1)[1:] > 0]
    if not values.size:
        return math.nan
    return float(len(values) / (1 / values).sum()) if values.all() else 0.0


def summarise_damage(damage: np.ndarray,
                     building: np.ndarray) -> dict[str, float]:
    """The figures of a set of tiles, in percent.

    Args:
        damage: (4, 4) of the damage head.
        building: (2, 2) of the building head.
    """
    figures = dict(
        mIoU=mean_iou(damage),
        OA=float(_ratio(np.trace(damage)[None], damage.sum()[None])[0]))
    figures.update({f'IoU_{name}': float(value) for name, value in zip(
        CLASSES, class_iou(damage), strict=True)})
    figures['building_F1'] = float(class_f1(building)[1])
    figures['damage_F1'] = damage_f1(damage)
    return {name: 100 * value for name, value in figures.items()}


def grouped_iou(matrices: Sequence[np.ndarray],
                groups: Sequence[str]) -> dict[str, float]:
    """The mIoU in percent of each group of tiles, by its name, sorted."""
    sums: dict[str, np.ndarray] = {}
    for matrix, group in zip(matrices, groups, strict=True):
        sums[group] = sums.get(group, 0) + matrix
    return {group: 100 * mean_iou(sums[group]) for group in sorted(sums)}


@METRICS.register_module()
class BRIGHTMetric(BaseMetric):
    """Damage and building maps against the truth.

    Figures are in percent: ``mIoU``, ``OA``, ``IoU_<class>``,
    ``building_F1``, ``damage_F1``, ``event_mIoU``, ``disaster_mIoU``, and
    ``mIoU/<event>`` and ``mIoU/<disaster>`` for what occurs.

    Args:
        out_dir: Folder for ``damage.json``, with the figures and the
            matrices; None for none.
        collect_device: See ``BaseMetric``.
        prefix: See there.
        collect_dir: See there.
    """

    default_prefix = 'bright'

    def __init__(self,
                 out_dir: str | None = None,
                 collect_device: str = 'cpu',
                 prefix: str | None = None,
                 collect_dir: str | None = None) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        self.out_dir = out_dir

    @property
    def figure_names(self) -> list[str]:
        """Keys of the figures, for the check of ``save_best``."""
        names = [*summarise_damage(np.eye(4, dtype=np.int64),
                                   np.eye(2, dtype=np.int64)),
                 'event_mIoU', 'disaster_mIoU']
        return [f'{self.prefix}/{name}' for name in names]

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Compare a batch.

        Raises:
            DataFormatError: If a sample has no labels or no prediction.
        """
        for sample in data_samples:
            if not isinstance(sample, Mapping):
                sample = sample.to_dict()
            name = str(sample.get('image_id', len(self.results)))
            maps = []
            for key in ('gt_damage', 'pred_damage', 'pred_building'):
                if sample.get(key) is None:
                    raise DataFormatError(
                        f'Tile {name} has no {key}: evaluate a data set with '
                        'labels (with_labels=True), whose pipeline ends in '
                        'osar_plugin.PackDamageInputs, with '
                        'osar_plugin.DamageFormer.')
                maps.append(_array(_data(sample[key])))
            truth, damage, building = maps
            states = np.where(truth == IGNORED, truth, np.minimum(truth, 1))
            self.results.append(dict(
                event=str(sample.get('event', 'unknown')),
                disaster=str(sample.get('disaster', 'unknown')),
                damage=confusion(truth, damage, 4),
                building=confusion(states, building, 2)))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Figures over the tiles of all processes.

        Raises:
            DataFormatError: If no pixel counts.
        """
        matrices = [result['damage'] for result in results]
        damage = sum(matrices, np.zeros((4, 4), np.int64))
        building = sum((result['building'] for result in results),
                       np.zeros((2, 2), np.int64))
        if not damage.any():
            raise DataFormatError(
                f'{len(results)} tiles have no labelled pixel: all are 255. '
                'Check the labels of the data set.')
        figures = summarise_damage(damage, building)
        for kind in ('event', 'disaster'):
            groups = grouped_iou(
                matrices, [result[kind] for result in results])
            figures[f'{kind}_mIoU'] = float(np.nanmean(list(
                groups.values())))
            figures.update({
                f'mIoU/{name}': value for name, value in groups.items()})
        print_log(f'{len(results)} tiles. {DEFINITION}', 'current')
        if self.out_dir is not None:
            self._write(figures, damage, building, len(results))
        return figures

    def _write(self, figures: dict[str, float], damage: np.ndarray,
               building: np.ndarray, count: int) -> None:
        path = Path(self.out_dir or '.') / 'damage.json'
        content = dict(
            definition=DEFINITION, tiles=count, classes=CLASSES,
            figures={name: value if math.isfinite(value) else None
                     for name, value in figures.items()},
            damage_matrix=damage.tolist(), building_matrix=building.tolist())
        with atomic_write(path) as file:
            json.dump(content, file, indent=2)
            file.write('\n')
        print_log(f'Figures written to {path}.', 'current')


@METRICS.register_module()
class BRIGHTSubmission(ZipSubmission):
    r"""Write the zip file that the server of DFC 2025, track 2, evaluates.

    It has one PNG for each tile, ``<tile>_building_damage.png``, at the root
    of the archive, 8 bits, with the classes 0 to 3. The file appears whole
    or not at all, and the same predictions give the same bytes.

    The figure is the number of tiles; labels are not needed::

        tools/test.py CONFIG CHECKPOINT --cfg-options \
            test_dataloader.dataset.split=val \
            test_dataloader.dataset.with_labels=False \
            test_evaluator.type=osar_plugin.BRIGHTSubmission \
            test_evaluator.out_file=work_dirs/bright.zip

    Args:
        out_file: The zip file.
        collect_device: See ``BaseMetric``.
        prefix: See there.

    Raises:
        ConfigError: If ``out_file`` is no zip file.
        DataFormatError: While running: if a prediction or the name of a
            tile is missing, a prediction has another size than its tile, or
            two tiles have one name.
    """

    default_prefix = 'bright'
    GOODS = 'maps of damage for the server of DFC 2025'

    def __init__(self,
                 out_file: str,
                 collect_device: str = 'cpu',
                 prefix: str | None = None) -> None:
        super().__init__(out_file, len(CLASSES), collect_device, prefix)

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Keep the predictions of a batch as PNG files in memory."""
        for sample in data_samples:
            if not isinstance(sample, Mapping):
                sample = sample.to_dict()
            name = sample.get('image_id')
            if not name:
                raise DataFormatError(
                    "A sample has no image_id. Keep 'image_id' in meta_keys "
                    'of osar_plugin.PackDamageInputs.')
            self.keep(f'{name}_building_damage.png', sample, str(name))


def _data(value: Any) -> Any:
    """The pixels of ``PixelData``, which evaluators make a dict of."""
    return value['data'] if isinstance(value, Mapping) else value
