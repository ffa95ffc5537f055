"""Pictures of a test: ranked lists and curves.

Legend: Q queries, G gallery entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import print_log
from torch import Tensor

from ..evaluation.ranking import (
    Labels,
    RankingResult,
    Task,
    evaluate_features,
    top_k,
)
from ..evaluation.reid import ReIDMetric, own_image
from ..registry import HOOKS
from ..utils.errors import ConfigError
from ..visualization.reid import (
    Chip,
    ChipReader,
    Hit,
    RankedRow,
    draw_curves,
    draw_ranked_list,
    spread,
    write_png,
)

_SIDES = {
    'ALL': 'both modalities against both', 'O2S': 'optical query, SAR gallery',
    'S2O': 'SAR query, optical gallery', 'O2O': 'optical against optical',
    'S2S': 'SAR against SAR'}
ORDERS = ('spread', 'worst')


@HOOKS.register_module()
class ReIDVisualizationHook(Hook):
    """Write ranked lists and CMC curves after a test.

    ``tools/test.py --show-dir DIR`` adds it. Files: ``ranked_<protocol>.png``
    and ``cmc.png``. The lists are those behind the figures: same members,
    distances and ties as in :class:`ReIDMetric`, whose settings are taken
    over where the test has one. They also go to the runner's visualizer,
    and so to TensorBoard where that is on.

    Args:
        out_dir: Where the pictures go.
        num_queries: Queries shown for each protocol.
        topk: Hits shown for each query.
        order: Which queries: ``'spread'``, evenly over the queries in order
            of the data set, of both modalities alike where both occur; or
            ``'worst'``, those with the lowest average precision.
        protocols: Protocols to show; by default those of the metric.

    Raises:
        ConfigError: If an argument cannot be used.
    """

    priority = 'LOW'

    def __init__(
            self, out_dir: str, num_queries: int = 6, topk: int = 10,
            order: str = 'spread',
            protocols: Sequence[str] | None = None) -> None:
        if num_queries < 1 or topk < 1 or order not in ORDERS:
            raise ConfigError(
                f'num_queries={num_queries}, topk={topk}, order={order!r}: '
                'expected numbers of at least 1 and an order of '
                f'{", ".join(ORDERS)}.')
        self.out_dir = out_dir
        self.num_queries = num_queries
        self.topk = topk
        self.order = order
        self.protocols = protocols
        self.recorder: _Recorder | None = None

    def before_test_epoch(self, runner: Any) -> None:
        """Get ready, with the settings of the test's metric."""
        metric = next((
            m for m in runner.test_loop.evaluator.metrics
            if isinstance(m, ReIDMetric)), None)
        options: dict[str, Any] = {}
        if metric is not None:
            options = dict(
                protocols=metric.protocols, normalize=metric.normalize,
                ignore_self=metric.ignore_self, memory=metric.memory,
                device=metric.device)
        if self.protocols is not None:
            options['protocols'] = self.protocols
        self.recorder = _Recorder(self, runner, **options)
        self.recorder.dataset_meta = runner.test_loop.evaluator.dataset_meta

    def after_test_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None,
            outputs: Sequence[Any] | None = None) -> None:
        """Keep the features of a batch."""
        if self.recorder is not None and outputs:
            self.recorder.process(data_batch, outputs)

    def after_test_epoch(
            self, runner: Any,
            metrics: dict[str, float] | None = None) -> None:
        """Rank and draw."""
        if self.recorder is not None:
            self.recorder.evaluate(len(runner.test_dataloader.dataset))
            self.recorder = None


class _Recorder(ReIDMetric):
    """Collects like the metric, over all ranks, and draws."""

    def __init__(self, hook: ReIDVisualizationHook, runner: Any,
                 **options: Any) -> None:
        super().__init__(exclude_same_camera=False, **options)
        self.hook = hook
        self.runner = runner

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Draw; runs in the first process only."""
        query, gallery = self._sides(results)
        tasks = [t for t in self._tasks(query, gallery)
                 if bool(t.query.any()) and bool(t.gallery.any())]
        if not tasks:
            return {}
        own = own_image(query, gallery) if self.ignore_self else None
        labels = Labels(
            query.pid, gallery.pid, query.modality, gallery.modality, own)
        figures = evaluate_features(
            query.feature.to(self.device), gallery.feature.to(self.device),
            labels, tasks, normalize=self.normalize, memory=self.memory)
        draw = _Drawing(self, query, gallery, own)
        for task in tasks:
            draw.ranked_list(task, figures[task.name])
        draw.curves(figures)
        print_log(f'Pictures written to {self.hook.out_dir}.', 'current')
        return {}


class _Drawing:
    """Pictures of one evaluation.

    Args:
        recorder: Whose settings apply.
        query: Queries, as the metric has them.
        gallery: Gallery entries, as the metric has them.
        own: (Q,) gallery row of the query's own image, to be left out; -1
            for none.
    """

    def __init__(self, recorder: _Recorder, query: Any, gallery: Any,
                 own: Tensor | None) -> None:
        self.hook = recorder.hook
        self.runner = recorder.runner
        self.normalize = recorder.normalize
        self.memory = recorder.memory
        self.query = query
        self.gallery = gallery
        self.own = own
        dataset = self.runner.test_dataloader.dataset
        pipeline = getattr(dataset, 'pipeline', None)
        self.read = ChipReader(getattr(pipeline, 'transforms', ()))

    def ranked_list(self, task: Task, figures: RankingResult) -> None:
        """One picture of some queries of a protocol."""
        rows = self._choose(task, figures)
        places = task.gallery.nonzero().flatten()
        k = min(self.hook.topk + (self.own is not None), len(places))
        index, distance = top_k(
            self.query.feature[rows], self.gallery.feature[places], k,
            normalize=self.normalize, memory=self.memory)
        lists = [
            self._row(row, places[index[i]].tolist(), distance[i].tolist(),
                      figures) for i, row in enumerate(rows)]
        model = self.runner.model
        name = type(getattr(model, 'module', model)).__name__
        values = figures.summary()
        chosen = 'lowest AP' if self.hook.order == 'worst' else (
            'evenly spread')
        picture = draw_ranked_list(
            lists, f'{name}  ·  {task.name}: '
            f'{_SIDES.get(task.name, "protocol of the data set")}',
            f'mAP {values["mAP"]:.1f} %  ·  R1 {values["R1"]:.1f} %  ·  '
            f'{len(rows)} of {int(task.query.sum())} queries ({chosen})  ·  '
            f'{len(places)} in gallery  ·  d: squared distance')
        self._write(f'ranked_{task.name}', picture)

    def curves(self, figures: dict[str, RankingResult]) -> None:
        """CMC curves of all protocols."""
        curves = {
            name: (100 * result.cmc).tolist()
            for name, result in figures.items() if result.num_valid}
        if curves:
            self._write('cmc', draw_curves(curves))

    def _choose(self, task: Task, figures: RankingResult) -> list[int]:
        """Rows of the queries to show."""
        rows = (task.query & figures.valid).nonzero().flatten()
        if not len(rows):
            rows = task.query.nonzero().flatten()
        count = self.hook.num_queries
        if self.hook.order == 'worst':
            order = torch.argsort(
                figures.average_precision[rows], stable=True)
            return rows[order[:count]].tolist()
        # Names alternate between the modalities: a stride might pick one.
        parts = [rows[self.query.modality[rows] == m] for m in (0, 1)]
        parts = [part for part in parts if len(part)]
        chosen: list[int] = []
        for i, part in enumerate(parts):
            share = count // len(parts) + (i < count % len(parts))
            chosen += part[spread(len(part), share)].tolist()
        return sorted(chosen)

    def _row(self, row: int, index: list[int], distance: list[float],
             figures: RankingResult) -> RankedRow:
        """A query and its hits, with its figures."""
        pid = int(self.query.pid[row])
        own = -1 if self.own is None else int(self.own[row])
        hits = [
            Hit(**self._chip(self.gallery, j), distance=d,
                correct=int(self.gallery.pid[j]) == pid)
            for j, d in zip(index, distance, strict=True) if j != own]
        note = 'no match in the gallery'
        if figures.valid[row]:
            note = (
                f'AP {100 * float(figures.average_precision[row]):.1f} %  ·  '
                f'{_count(int(figures.num_matches[row]), "match", "matches")}'
                f' in gallery, first at rank {int(figures.first_rank[row])}')
        return RankedRow(
            Chip(**self._chip(self.query, row)), hits[:self.hook.topk], note)

    def _chip(self, side: Any, row: int) -> dict[str, Any]:
        path, modality = side.path[row], int(side.modality[row])
        return dict(
            image=self.read(path, modality), modality=modality,
            title=Path(path).stem, pid=int(side.pid[row]))

    @master_only
    def _write(self, name: str, picture: np.ndarray) -> None:
        write_png(picture, Path(self.hook.out_dir, f'{name}.png'))
        visualizer = getattr(self.runner, 'visualizer', None)
        if visualizer is not None:
            # Without a step: asking the runner for it would build the
            # training loop, which needs the training data.
            visualizer.add_image(name, picture)


def _count(number: int, one: str, many: str) -> str:
    return f'{number} {one if number == 1 else many}'
