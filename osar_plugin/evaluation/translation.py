"""Evaluation of optical-to-SAR translation.

:class:`TranslationMetric` holds the views of a translator against real SAR:
structure and speckle, see :mod:`~osar_plugin.evaluation.similarity`.
:func:`grey` and :class:`MeanImage` are the baselines that a translator has
to beat, and :func:`evaluate_replacement` asks whether its views find the
right ships.

Legend: N images, K views of each, H W height and width, D channels of a
feature.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from ..io import atomic_write
from ..registry import METRICS
from ..utils.config_values import require_range
from ..utils.errors import DataFormatError
from .ranking import Labels, RankingResult, Task, evaluate_features
from .similarity import (
    STRUCTURE,
    bhattacharyya,
    equivalent_looks,
    histogram,
    structural_scores,
    wasserstein,
)

SCORES = (*STRUCTURE, 'structure')

# ITU-R BT.601, as Pillow turns colour into grey.
_LUMA = (0.299, 0.587, 0.114)


# ---------------------------------------------------------------- baselines


def grey(optical: Tensor) -> Tensor:
    """Baseline: the optical image taken for SAR.

    Args:
        optical: (..., 3, H, W) RGB, 0..255.

    Returns:
        (..., H, W) float32.
    """
    weights = torch.tensor(_LUMA, device=optical.device).view(3, 1, 1)
    return (optical.float() * weights).sum(-3)


class MeanImage:
    """Baseline: the mean of all SAR chips, whatever ship is asked for."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: Tensor | None = None

    def add(self, images: Iterable[Tensor]) -> None:
        """Take in images (H, W) of one size.

        Raises:
            DataFormatError: If a size differs.
        """
        for image in images:
            image = image.double()
            if self._sum is None:
                self._sum = torch.zeros_like(image)
            if image.shape != self._sum.shape:
                raise DataFormatError(
                    f'An image of {tuple(image.shape)} cannot be averaged '
                    f'with those of {tuple(self._sum.shape)}: resize all to '
                    'one size.')
            self._sum += image
            self.count += 1

    @property
    def value(self) -> Tensor:
        """(H, W) float32.

        Raises:
            DataFormatError: If there was no image.
        """
        if self._sum is None:
            raise DataFormatError('There is no image to take the mean of.')
        return (self._sum / self.count).float()


# ------------------------------------------------------------------ figures


def score_views(views: Tensor, real: Tensor) -> dict[str, dict[str, float]]:
    """Structural scores of the views of one image.

    Args:
        views: (K, H, W), 0..255.
        real: (H, W), 0..255.

    Returns:
        For each of :data:`SCORES` the ``mean`` over the views, their
        ``best`` and their ``worst``, and ``average``: the score of the
        mean of the views.

    Raises:
        DataFormatError: If the sizes differ.
    """
    views = views.float()
    stack = torch.cat([views, views.mean(0, keepdim=True)])
    if stack.shape[1:] != real.shape:
        raise DataFormatError(
            f'Views of {tuple(views.shape[1:])} and a SAR image of '
            f'{tuple(real.shape)} cannot be compared: bring both to the '
            'size of the network.')
    scores = structural_scores(stack, real.float().expand_as(stack))
    return {
        name: dict(
            mean=float(values[:-1].mean()), best=float(values[:-1].max()),
            worst=float(values[:-1].min()), average=float(values[-1]))
        for name, values in scores.items()}


class SpeckleStatistics:
    """Looks and amplitudes of generated images beside those of real ones.

    Args:
        window: See :func:`~.similarity.local_looks`.
    """

    def __init__(self, window: int = 7) -> None:
        self.window = window
        self.looks: dict[str, list[float]] = dict(generated=[], real=[])
        self.counts = dict(
            generated=histogram(torch.empty(0)),
            real=histogram(torch.empty(0)))

    def add(self, side: str, images: Tensor) -> None:
        """Take in images (N, H, W) of a side, 0..255."""
        self.looks[side] += equivalent_looks(images, self.window).tolist()
        self.counts[side] += histogram(images.float().round())

    def merge(self, other: SpeckleStatistics) -> None:
        """Take in what another collected."""
        for side in self.looks:
            self.looks[side] += other.looks[side]
            self.counts[side] += other.counts[side]

    def summary(self) -> dict[str, float]:
        """Median looks of both sides, and the histogram distances.

        ``looks_ratio`` is that of generated to real: 1 is right, above is
        too smooth.
        """
        medians = {
            side: float(np.nanmedian(values)) if np.isfinite(
                values).any() else math.nan
            for side, values in self.looks.items()}
        pair = self.counts['generated'], self.counts['real']
        return dict(
            looks=medians['generated'], looks_real=medians['real'],
            looks_ratio=medians['generated'] / medians['real'],
            wasserstein=wasserstein(*pair),
            bhattacharyya=bhattacharyya(*pair))


def evaluate_replacement(
        optical: Tensor, generated: Tensor, sar: Tensor,
        optical_pids: Tensor, sar_pids: Tensor) -> dict[str, RankingResult]:
    """Retrieval with real SAR replaced by generated SAR.

    A translator is of use where the view of a ship stands for its SAR chip:
    then SAR finds it as SAR, without the gap between the sensors.

    Args:
        optical: (N, D) features of optical chips.
        generated: (N, D) features of the same chips' views, encoded as SAR;
            of K views the mean of their normalised features.
        sar: (M, D) features of real SAR chips.
        optical_pids: (N,) identities.
        sar_pids: (M,) identities.

    Returns:
        Results under four names: ``O2S``, optical queries among real SAR;
        ``G2S``, their generated SAR in place of them; ``S2O`` and ``S2G``,
        the same with the sides changed.

    Raises:
        DataFormatError: If the numbers of features differ.
    """
    if optical.shape != generated.shape or len(optical) != len(
            optical_pids) or len(sar) != len(sar_pids):
        raise DataFormatError(
            f'{len(optical)} optical and {len(generated)} generated '
            f'features, {len(optical_pids)} identities; {len(sar)} SAR '
            f'features, {len(sar_pids)} identities: expected one of each '
            'for every chip.')
    results = {}
    for name, side in (('O2S', optical), ('G2S', generated),
                       ('S2O', optical), ('S2G', generated)):
        sides, pids = (side, sar), (optical_pids, sar_pids)
        if name.startswith('S'):
            sides, pids = sides[::-1], pids[::-1]
        masks = [torch.ones(len(x), dtype=torch.bool) for x in pids]
        results.update(evaluate_features(
            *sides, Labels(*pids), [Task(name, masks[0], masks[1])]))
    return results


# ------------------------------------------------------------------ metrics


@METRICS.register_module()
class TranslationMetric(BaseMetric):
    """Views of a translator against the SAR images of its pairs.

    For a test set of pairs (``osar_plugin.PackPairInputs``) and a model
    that sets ``views`` of each sample. Both sides are compared at the size
    of the network. Chips of a ship from different passes are pairs, too:
    then scores are far below 1 even for real SAR, and only differences
    between methods on the same pairs say something.

    Args:
        window: For the number of looks, see
            :func:`~.similarity.local_looks`.
        out_dir: Folder for ``translation.json`` and ``translation.csv``
            (one line for each pair); none are written without it.
        collect_device: As in MMEngine.
        prefix: Put before each key as ``<prefix>/``.
        collect_dir: As in MMEngine.

    Keys: each of ms_ssim, gradient, scatterers and their mean, structure:
    the mean over views and pairs; with ``_best`` and ``_worst`` that of each
    pair's best and worst view, with ``_average`` that of the mean of the
    views. Then looks, looks_real, looks_ratio, wasserstein (grey levels) and
    bhattacharyya, see :meth:`SpeckleStatistics.summary`.
    """

    default_prefix = 'translation'

    def __init__(
            self, window: int = 7, out_dir: str | None = None,
            collect_device: str = 'cpu', prefix: str | None = None,
            collect_dir: str | None = None) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        require_range(2, window=window)
        self.window = window
        self.out_dir = out_dir

    @property
    def figure_names(self) -> list[str]:
        """Keys of the figures, for the check of ``save_best``."""
        kinds = ('', '_best', '_worst', '_average')
        names = [f'{name}{kind}' for name in SCORES for kind in kinds]
        names += list(SpeckleStatistics(self.window).summary())
        return [f'{self.prefix}/{name}' for name in names]

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Compare a batch.

        Args:
            data_batch: With the pairs' SAR images at ``inputs.sar``.
            data_samples: Samples or their dicts, with ``views``
                (K, 3, H, W) uint8.

        Raises:
            DataFormatError: If a sample has no views or no SAR image.
        """
        inputs = data_batch.get('inputs') if isinstance(
            data_batch, Mapping) else None
        if not isinstance(inputs, Mapping) or 'sar' not in inputs:
            raise DataFormatError(
                'TranslationMetric needs the real SAR image of each pair at '
                'inputs.sar: evaluate a data set of pairs whose pipeline '
                'ends in osar_plugin.PackPairInputs.')
        for real, sample in zip(inputs['sar'], data_samples, strict=True):
            if not isinstance(sample, Mapping):
                sample = sample.to_dict()
            path = sample.get('optical_path', 'A sample')
            if sample.get('views') is None:
                raise DataFormatError(
                    f'{path} has no views. TranslationMetric takes samples '
                    "after a translator's predict.")
            views = sample['views'].float().mean(1).cpu()
            self.results.append(self._compare(
                views, real.float().mean(0).cpu(), str(path),
                str(sample.get('sar_path', '')),
                sample.get('sample_idx')))

    def _compare(self, views: Tensor, real: Tensor, *names: Any
                 ) -> dict[str, Any]:
        statistics = SpeckleStatistics(self.window)
        statistics.add('generated', views)
        statistics.add('real', real[None])
        return dict(
            scores=score_views(views, real), statistics=statistics,
            names=names)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Means over the pairs.

        Raises:
            DataFormatError: If there are none.
        """
        if not results:
            raise DataFormatError('No pair was translated.')
        figures = summarise([r['scores'] for r in results])
        statistics = SpeckleStatistics(self.window)
        for result in results:
            statistics.merge(result['statistics'])
        figures.update(statistics.summary())
        if self.out_dir is not None:
            self._write(results, figures)
        return figures

    def _write(self, results: list[dict],
               figures: dict[str, float]) -> None:
        folder = Path(self.out_dir or '.')
        with atomic_write(folder / 'translation.json') as file:
            json.dump({k: None if math.isnan(v) else v
                       for k, v in figures.items()}, file, indent=2)
            file.write('\n')
        with atomic_write(folder / 'translation.csv') as file:
            writer = csv.writer(file)
            writer.writerow(('optical', 'sar', *(
                f'{name}{kind}' for name in SCORES
                for kind in ('', '_best', '_worst', '_average'))))
            for result in results:
                writer.writerow((*result['names'][:2], *(
                    f'{value:.6f}' for name in SCORES
                    for value in result['scores'][name].values())))
        print_log(f'Figures written to {folder}.', 'current')


def summarise(scores: Sequence[Mapping[str, Mapping[str, float]]]
              ) -> dict[str, float]:
    """Means of what :func:`score_views` gave for each image.

    Returns:
        ``<score>`` for the mean over the views, ``<score>_best``,
        ``<score>_worst`` and ``<score>_average``.
    """
    return {
        name if kind == 'mean' else f'{name}_{kind}': float(
            np.mean([row[name][kind] for row in scores]))
        for name in scores[0] for kind in scores[0][name]}
