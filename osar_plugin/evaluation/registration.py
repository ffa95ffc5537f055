"""Figures of registration.

Definitions differ between papers that use the same names; those used here:

* RMSE of a pair: root of the mean over all pixels of the squared end-point
  error of the dense flow. Also over the pixels whose ground both images show
  (``masked``).
* CMR@T: share of pairs, in percent, whose RMSE is strictly below T pixels
  (SOMA, its code). A failed pair counts against it.
* mean RMSE: over the pairs that did not fail, beside the failure rate.
* median: over all pairs, failed ones being infinite.
* EPE: mean end-point error over pixels, then over pairs that did not fail.
* AUC@T: area under the curve of the share of pairs with a mean error of the
  four corners (pixel centres 0 and W - 1) below t, for t from 0 to T, over T
  (as for homographies since SuperGlue). A failed pair is infinite.

All is computed pair by pair; the order of pairs, batches and processes
changes nothing.

Legend: H W height and width in pixels, N pairs or points, T a threshold.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from ..io import atomic_write
from ..registry import METRICS
from ..utils.config_values import require_range
from ..utils.errors import ConfigError, DataFormatError, DatasetNotFoundError
from ..utils.geometry import flow_at

THRESHOLDS = (1, 2, 3, 4, 5)
AUC_THRESHOLDS = (3, 5, 10)
DEFINITION = (
    'CMR@T: share of pairs (%) with RMSE of the dense flow {area} < T px, '
    'strict; failed pairs count against it. mean RMSE and EPE: of the pairs '
    'that did not fail. AUC@T: of the mean corner error, 0 to T px.')


class PairErrors(NamedTuple):
    """Errors of one pair in pixels; infinite where it failed.

    Attributes:
        rmse: Root mean square end-point error.
        epe: Mean end-point error.
        corner: Mean error of the four corners.
    """

    rmse: float
    epe: float
    corner: float


FAILED = PairErrors(math.inf, math.inf, math.inf)


def pair_errors(flow: Any, truth: Any, valid: Any = None) -> PairErrors:
    """Errors of a predicted flow.

    Args:
        flow: (2, H, W), tensor or array; None for a failed pair. One with
            NaN or infinity is a failed pair, too.
        truth: (2, H, W).
        valid: (H, W) bool, the pixels that count; default: all. The
            corners always count.

    Raises:
        DataFormatError: If shapes differ, the truth is not finite, or no
            pixel counts.
    """
    truth = _array(truth)
    if truth.ndim != 3 or truth.shape[0] != 2 or not np.isfinite(
            truth).all():
        raise DataFormatError(
            f'The true flow has shape {truth.shape}; expected (2, H, W), '
            'finite.')
    if flow is None:
        return FAILED
    flow = _array(flow)
    if flow.shape != truth.shape:
        raise DataFormatError(
            f'A flow of {flow.shape} cannot be compared with a truth of '
            f'{truth.shape}: resize it with geometry.resize_flow.')
    if not np.isfinite(flow).all():
        return FAILED
    difference = flow.astype(np.float64) - truth
    squared = (difference**2).sum(0)
    corners = np.sqrt(squared[[0, 0, -1, -1], [0, -1, 0, -1]]).mean()
    if valid is not None:
        valid = _array(valid).astype(bool)
        if valid.shape != squared.shape or not valid.any():
            raise DataFormatError(
                f'A mask of {valid.shape} with {int(valid.sum())} pixels: '
                f'expected {squared.shape} and at least one.')
        squared = squared[valid]
    return PairErrors(float(np.sqrt(squared.mean())),
                      float(np.sqrt(squared).mean()), float(corners))


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    return np.asarray(value)


def correct_match_rate(rmse: Any, threshold: float) -> float:
    """CMR@T in percent: pairs with RMSE < T over all pairs.

    NaN counts as failed.
    """
    values = np.asarray(rmse, np.float64)
    return 100 * float((values < threshold).mean())


def area_under_curve(errors: Any, threshold: float) -> float:
    """Area under the cumulative curve of errors up to T, over T, percent.

    Exact for the step curve: the mean over pairs of max(0, 1 - e / T).
    """
    values = np.asarray(errors, np.float64)
    values = np.where(np.isnan(values), np.inf, values)
    return 100 * float(np.clip(1 - values / threshold, 0, None).mean())


def summarise_pairs(errors: Sequence[PairErrors],
                    thresholds: Sequence[float] = THRESHOLDS,
                    auc: Sequence[float] = AUC_THRESHOLDS
                    ) -> dict[str, float]:
    """The figures of a set of pairs.

    Returns:
        ``CMR@T`` for each threshold, ``mean_rmse``, ``failure_rate``
        (percent), ``median_rmse``, ``mean_epe``, ``AUC@T``. Means are NaN
        where every pair failed.

    Raises:
        DataFormatError: If there is no pair.
    """
    if not errors:
        raise DataFormatError('No pair was registered.')
    # Sorted, so that rounding does not depend on the order of pairs.
    table = np.array(sorted(errors), np.float64)
    finite = table[np.isfinite(table).all(1)]
    figures = {f'CMR@{t:g}': correct_match_rate(table[:, 0], t)
               for t in thresholds}
    means = finite.mean(0) if len(finite) else np.full(3, np.nan)
    figures.update(
        mean_rmse=float(means[0]),
        failure_rate=100 * (1 - len(finite) / len(table)),
        median_rmse=float(np.median(table[:, 0])),
        mean_epe=float(means[1]))
    figures.update({f'AUC@{t:g}': area_under_curve(table[:, 2], t)
                    for t in auc})
    return figures


# --------------------------------------------------------------- tie points


TIE_POINT_COLUMNS = {
    'fixed_x,fixed_y,moving_x,moving_y': (0, 1, 2, 3),
    # SpaceNet 9; the optical image is the fixed one.
    'sar_row,sar_col,optical_row,optical_col': (3, 2, 1, 0)}


def read_tie_points(path: str | Path, origin: float = 0.) -> np.ndarray:
    """Tie points of a CSV file.

    Columns ``fixed_x,fixed_y,moving_x,moving_y`` in any order and among
    others, or those of SpaceNet 9, ``sar_row,sar_col,optical_row,
    optical_col``, with the optical image as the fixed one.

    Args:
        path: CSV with a head.
        origin: Coordinate of the centre of the first pixel: 0 here, 1 of
            MATLAB, 0.5 of GDAL. It is taken off.

    Returns:
        (N, 4): x and y in the fixed, x and y in the moving image.

    Raises:
        DatasetNotFoundError: If there is no such file.
        DataFormatError: If a column is missing or a value is no finite
            number.
    """
    try:
        with open(path, encoding='utf-8-sig', newline='') as file:
            rows = list(csv.reader(file))
    except OSError as error:
        raise DatasetNotFoundError(
            f'{path}: cannot be read ({error.strerror}).') from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataFormatError(f'{path}: is no CSV file ({error}).') \
            from error
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    head = [name.strip() for name in rows[0]] if rows else []
    for names, order in TIE_POINT_COLUMNS.items():
        columns = names.split(',')
        if set(columns) <= set(head):
            places = [head.index(columns[i]) for i in order]
            break
    else:
        raise DataFormatError(
            f'{path}: columns {head}; expected '
            f'{" or ".join(TIE_POINT_COLUMNS)}.')
    points = np.empty((len(rows) - 1, 4))
    for number, row in enumerate(rows[1:]):
        try:
            points[number] = [float(row[place]) for place in places]
        except (IndexError, ValueError) as error:
            raise DataFormatError(
                f'{path}, point {number + 1}: {row} has no number in each '
                'of the four columns.') from error
    if not len(points) or not np.isfinite(points).all():
        raise DataFormatError(
            f'{path}: {len(points)} points; expected at least one, all '
            'finite.')
    return points - origin


def tie_point_errors(points: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Distances (N,) in pixels of the moving image.

    Args:
        points: (N, 4) tie points.
        moved: (N, 2), where the registration puts the fixed points.
    """
    moved = np.asarray(moved, np.float64)
    if moved.shape != (len(points), 2):
        raise DataFormatError(
            f'{moved.shape} positions for {len(points)} tie points; '
            f'expected ({len(points)}, 2).')
    return np.linalg.norm(moved - points[:, 2:], axis=1)


def tie_point_figures(distances: np.ndarray) -> dict[str, float]:
    """RMSE, mean, median and largest residual of tie points, in pixels."""
    if not len(distances):
        raise DataFormatError('There is no tie point.')
    ordered = np.sort(np.asarray(distances, np.float64))
    return dict(
        tie_rmse=float(np.sqrt((ordered**2).mean())),
        tie_mean=float(ordered.mean()), tie_median=float(np.median(ordered)),
        tie_max=float(ordered[-1]), tie_count=float(len(ordered)))


# ------------------------------------------------------------------- metric


@METRICS.register_module()
class RegistrationMetric(BaseMetric):
    """CMR and its companions; definitions in the module.

    Samples have ``gt_flow`` (2, H, W), may have ``gt_valid`` (H, W), and
    ``pred_flow`` (2, H, W); a sample with ``pred_ok`` False, or without
    finite ``pred_flow``, failed. With ``tie_points`` (n, 4) their residuals
    are reported, too (of the pairs that did not fail).

    Args:
        thresholds: Of CMR, pixels.
        auc_thresholds: Of the corner AUC, pixels.
        masked: Only pixels of ``gt_valid`` count. The paper's figures are
            over all pixels, what lies outside of the moving image included.
        out_dir: Folder for ``registration.json`` and ``registration.csv``
            (a line for each pair); none are written without it.
        collect_device: As in MMEngine.
        prefix: Put before each key as ``<prefix>/``.
        collect_dir: As in MMEngine.
    """

    default_prefix = 'registration'

    def __init__(
            self, thresholds: Sequence[float] = THRESHOLDS,
            auc_thresholds: Sequence[float] = AUC_THRESHOLDS,
            masked: bool = False, out_dir: str | None = None,
            collect_device: str = 'cpu', prefix: str | None = None,
            collect_dir: str | None = None) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        for value in (*thresholds, *auc_thresholds):
            require_range(0, threshold=value, without=(0,))
        if not thresholds:
            raise ConfigError('thresholds must name at least one number.')
        self.thresholds = tuple(thresholds)
        self.auc_thresholds = tuple(auc_thresholds)
        self.masked = masked
        self.out_dir = out_dir

    @property
    def definition(self) -> str:
        """What the figures mean, in words."""
        return DEFINITION.format(
            area='over the pixels both images show' if self.masked
            else 'over all pixels')

    @property
    def figure_names(self) -> list[str]:
        """Keys of the figures, for the check of ``save_best``."""
        names = summarise_pairs([FAILED], self.thresholds,
                                self.auc_thresholds)
        return [f'{self.prefix}/{name}' for name in names]

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Compare a batch.

        Raises:
            DataFormatError: If a sample has no true flow.
        """
        for sample in data_samples:
            if not isinstance(sample, Mapping):
                sample = sample.to_dict()
            name = str(sample.get('pair_name', len(self.results)))
            if sample.get('gt_flow') is None:
                raise DataFormatError(
                    f'Pair {name} has no gt_flow: evaluate a data set whose '
                    'pipeline ends in osar_plugin.PackRegistrationInputs.')
            flow = sample.get('pred_flow')
            if not sample.get('pred_ok', True):
                flow = None
            if self.masked and sample.get('gt_valid') is None:
                raise DataFormatError(
                    f'Pair {name} has no gt_valid, which masked=True needs.')
            valid = sample['gt_valid'] if self.masked else None
            errors = pair_errors(flow, sample['gt_flow'], valid)
            ties = sample.get('tie_points')
            distances = None
            if ties is not None and errors != FAILED:
                distances = _tie_distances(_array(ties), _array(flow))
            self.results.append(
                dict(name=name, errors=tuple(errors), ties=distances))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Figures over the pairs of all processes."""
        errors = [PairErrors(*result['errors']) for result in results]
        figures = summarise_pairs(
            errors, self.thresholds, self.auc_thresholds)
        ties = [r['ties'] for r in results if r['ties'] is not None]
        if ties:
            figures.update(tie_point_figures(np.concatenate(ties)))
        print_log(f'{len(errors)} pairs. {self.definition}', 'current')
        if self.out_dir is not None:
            self._write(results, figures)
        return figures

    def _write(self, results: list[dict],
               figures: dict[str, float]) -> None:
        folder = Path(self.out_dir or '.')
        content = dict(
            definition=self.definition, pairs=len(results),
            figures={k: v if math.isfinite(v) else None
                     for k, v in figures.items()})
        with atomic_write(folder / 'registration.json') as file:
            json.dump(content, file, indent=2)
            file.write('\n')
        with atomic_write(folder / 'registration.csv') as file:
            writer = csv.writer(file)
            writer.writerow(('pair', *PairErrors._fields))
            for result in sorted(results, key=lambda r: r['name']):
                writer.writerow((result['name'], *(
                    f'{value:.6f}' for value in result['errors'])))
        print_log(f'Figures written to {folder}.', 'current')


def _tie_distances(points: np.ndarray, flow: np.ndarray) -> np.ndarray:
    start = points[:, :2].astype(np.float64)
    moved = start + flow_at(flow.astype(np.float64), start)
    return tie_point_errors(points.astype(np.float64), moved)
