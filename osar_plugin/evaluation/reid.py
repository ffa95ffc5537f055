"""Evaluation of ship re-identification inside a runner.

:class:`ReIDMetric` collects one feature per image and gives the figures of
every protocol from one pass over them; the mathematics is in
:mod:`~osar_plugin.evaluation.ranking` and
:mod:`~osar_plugin.evaluation.rerank`.

Legend: N images, Q queries, G gallery entries, D channels.
"""

from __future__ import annotations

import csv
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import torch
from mmengine.dist import all_gather_object
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from ..io import atomic_write
from ..registry import METRICS
from ..utils.config_values import require_range
from ..utils.errors import ConfigError, DataFormatError
from .ranking import (
    DEFAULT_MEMORY,
    PROTOCOLS,
    Labels,
    RankingResult,
    Task,
    evaluate_distances,
    evaluate_features,
    make_tasks,
)
from .rerank import k_reciprocal

_FIELDS = ('feature', 'pid', 'modality', 'is_query', 'sample_idx')

_DEFINITION = (
    'Percent. Nothing is excluded from the gallery, queries without a match '
    "are skipped (the authors' protocol)")


@dataclass
class _Side:
    """Queries or gallery entries, in order of the data set.

    Attributes:
        feature: (N, D) float32.
        pid: (N,) int64.
        modality: (N,) int64, 0 optical, 1 SAR.
        protocols: N tuples of names, ``None`` where not stated.
        path: N files.
    """

    feature: Tensor
    pid: Tensor
    modality: Tensor
    protocols: list[tuple[str, ...] | None]
    path: list[str]

    def states(self, name: str) -> bool:
        """Whether any sample says that it is a member."""
        return any(
            names is not None and name in names for names in self.protocols)

    def members(self, name: str) -> Tensor:
        """(N,) bool, as the samples say."""
        return torch.tensor(
            [names is not None and name in names
             for names in self.protocols], dtype=torch.bool)


@METRICS.register_module()
class ReIDMetric(BaseMetric):
    """CMC, mAP, mINP and mAP@k under every protocol at once.

    The protocol of the authors is the default: L2-normalised
    features, squared Euclidean distances in float32, nothing removed from
    the gallery, queries without a match skipped. Where a protocol has both
    modalities on both sides (ALL), the figures without entries of the
    query's identity *and* modality stand beside it as ``ALL-xcam``.

    A sample is a member of the protocols that its ``protocols`` lists. A
    protocol that neither the data set (``metainfo['protocols']``) nor any
    sample knows goes by modality.

    Args:
        protocols: Any of ALL, O2S, S2O, O2O, S2S.
        topk: The k of mAP@k: precisions at the relevant ranks up to k, summed
            and divided by min(matches, k).
        ranks: CMC ranks to report.
        normalize: L2-normalise features.
        exclude_same_camera: Also give the ``-xcam`` figures.
        ignore_self: Leave the query's own image out of the gallery: the
            entry of the same file name, identity and modality.
        rerank: Arguments of
            :func:`~osar_plugin.evaluation.rerank.k_reciprocal`
            (``k1, k2, lambda_value, within_modality``), ``{}`` for its
            defaults; re-ranked figures then stand beside the plain ones as
            ``<protocol>-rerank``. ``None`` for none.
        memory: Bytes of one distance block.
        device: Where to compute.
        out_dir: Folder for ``table.md``, ``results.json`` and
            ``per_query.csv``; none are written without it.
        collect_device: As in MMEngine.
        prefix: Put before each key as ``<prefix>/``.
        collect_dir: As in MMEngine.

    Keys: ``<protocol>/mAP``, ``/R1``, ``/R5``, ``/R10``, ``/mINP``,
    ``/mAP@<topk>``; percent.
    """

    def __init__(
            self, protocols: Sequence[str] = ('ALL', 'O2S', 'S2O'),
            topk: int = 10, ranks: Sequence[int] = (1, 5, 10),
            normalize: bool = True, exclude_same_camera: bool = True,
            ignore_self: bool = False,
            rerank: Mapping[str, Any] | None = None,
            memory: int = DEFAULT_MEMORY, device: str = 'cpu',
            out_dir: str | None = None, collect_device: str = 'cpu',
            prefix: str | None = None, collect_dir: str | None = None
    ) -> None:
        # Without a prefix the base class warns of a clash of names; the
        # protocol is in the name already.
        super().__init__(collect_device, prefix or 'reid', collect_dir)
        self.prefix = prefix
        unknown = [name for name in protocols if name not in PROTOCOLS]
        if unknown or not protocols:
            raise ConfigError(
                f'protocols={tuple(protocols)} must name at least one of '
                f'{", ".join(PROTOCOLS)}.')
        require_range(1, topk=topk, ranks=ranks, memory=memory)
        self.protocols = tuple(protocols)
        self.topk = topk
        self.ranks = tuple(ranks)
        self.normalize = normalize
        self.exclude_same_camera = exclude_same_camera
        self.ignore_self = ignore_self
        self.rerank = None if rerank is None else dict(rerank)
        self.memory = memory
        self.device = device
        self.out_dir = out_dir
        self._size = 0

    @property
    def figure_names(self) -> list[str]:
        """Keys of the figures, for the check of ``save_best``."""
        tasks = []
        for name in self.protocols:
            tasks.append(name)
            if self.exclude_same_camera and (
                    PROTOCOLS[name].query_modality is None):
                tasks.append(f'{name}-xcam')
        if self.rerank is not None:
            tasks += [f'{name}-rerank' for name in tasks]
        start = '' if self.prefix is None else f'{self.prefix}/'
        figures = ('mAP', *(f'R{k}' for k in self.ranks), 'mINP',
                   f'mAP@{self.topk}')
        return [f'{start}{task}/{name}' for task in tasks for name in figures]

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Keep what the figures need of a batch of predictions.

        Args:
            data_batch: Not used.
            data_samples: ``ReIDDataSample`` or their dicts, with
                ``feature``.

        Raises:
            DataFormatError: If a sample lacks a field.
        """
        samples = [
            s if isinstance(s, Mapping) else s.to_dict()
            for s in data_samples]
        for sample in samples:
            missing = [key for key in _FIELDS if sample.get(key) is None]
            if missing:
                raise DataFormatError(
                    f'{sample.get("img_path", "A sample")} has no '
                    f'{", ".join(missing)}. ReIDMetric takes samples of a '
                    'test split after the model\'s predict; "is_query" and '
                    '"sample_idx" must be in meta_keys of PackReIDInputs.')
        if not samples:
            return
        self.results.append(dict(
            feature=torch.stack([
                torch.as_tensor(s['feature']).detach().float().cpu()
                for s in samples]),
            pid=[int(s['pid']) for s in samples],
            modality=[int(s['modality']) for s in samples],
            is_query=[bool(s['is_query']) for s in samples],
            sample_idx=[int(s['sample_idx']) for s in samples],
            protocols=[
                None if s.get('protocols') is None else tuple(s['protocols'])
                for s in samples],
            path=[str(s.get('img_path', '')) for s in samples]))

    def evaluate(self, size: int) -> dict[str, float]:
        """Collect from all ranks and compute.

        MMEngine cuts what it collected to ``size`` records in the order of a
        strided sampler, which would drop real samples with any other order.
        Here everything is collected and samples that a sampler repeated are
        recognised by ``sample_idx``.

        Args:
            size: Samples in the data set.
        """
        self._size = size
        records = sum(all_gather_object(len(self.results)))
        return super().evaluate(records)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Figures of all protocols from the records of all ranks.

        Raises:
            DataFormatError: If there is no query, no gallery or a feature is
                not finite.
        """
        query, gallery = self._sides(results)
        tables = self._evaluate(query, gallery)
        self._report(tables, query)
        return {
            f'{result.name}/{key}': value for result in tables.values()
            for key, value in result.summary(self.ranks).items()}

    # ----------------------------------------------------------- collecting

    def _sides(self, results: list[dict]) -> tuple[_Side, _Side]:
        """Queries and gallery, each once and in order of the data set."""
        merged: dict[str, list] = {
            key: [value for record in results for value in record[key]]
            for key in (*_FIELDS[1:], 'protocols', 'path')}
        rows: dict[int, int] = {}
        for row, index in enumerate(merged['sample_idx']):
            rows.setdefault(index, row)
        if len(rows) < self._size:
            print_log(
                f'Only {len(rows)} of {self._size} samples were predicted: '
                'the figures are those of a part of the data set.',
                'current', logging.WARNING)
        keep = [rows[index] for index in sorted(rows)]
        feature = torch.cat([r['feature'] for r in results]) if (
            results) else torch.empty(0, 0)
        self._check_finite(feature, merged['path'])
        sides = []
        for wanted, name in ((True, 'query'), (False, 'gallery')):
            part = [row for row in keep if merged['is_query'][row] is wanted]
            if not part:
                raise DataFormatError(
                    f'None of {len(keep)} predicted samples is on the {name} '
                    'side. Evaluate a split with queries and gallery '
                    "(HOSS: split='test') and keep \"is_query\" in "
                    'meta_keys.')
            sides.append(_Side(
                feature[part],
                torch.tensor([merged['pid'][row] for row in part]),
                torch.tensor([merged['modality'][row] for row in part]),
                [merged['protocols'][row] for row in part],
                [merged['path'][row] for row in part]))
        return sides[0], sides[1]

    @staticmethod
    def _check_finite(feature: Tensor, paths: list[str]) -> None:
        bad = (~torch.isfinite(feature).all(1)).nonzero().flatten().tolist()
        if bad:
            names = ', '.join(paths[row] for row in bad[:5])
            raise DataFormatError(
                f'{len(bad)} of {len(feature)} features hold NaN or infinite '
                f'values: {names}{", ..." if len(bad) > 5 else ""}. If it is '
                'all of them, the training diverged or the checkpoint is '
                'broken; if it is a few, look at these images.')

    # ------------------------------------------------------------ computing

    def _tasks(self, query: _Side, gallery: _Side) -> list[Task]:
        """One task for each protocol, and its -xcam where they differ."""
        known = (self.dataset_meta or {}).get('protocols', ())
        by_modality = {
            task.name: task for task in make_tasks(
                self.protocols, query.modality, gallery.modality)}
        tasks = []
        for name in self.protocols:
            task = by_modality[name]
            if name in known or query.states(name) or gallery.states(name):
                task = Task(name, query.members(name), gallery.members(name))
            tasks.append(task)
            if self.exclude_same_camera and (
                    PROTOCOLS[name].query_modality is None):
                tasks.append(
                    Task(f'{name}-xcam', task.query, task.gallery, True))
        return tasks

    def _evaluate(
            self, query: _Side, gallery: _Side) -> dict[str, RankingResult]:
        labels = Labels(
            query.pid, gallery.pid, query.modality, gallery.modality,
            own_image(query, gallery) if self.ignore_self else None)
        tasks = self._tasks(query, gallery)
        max_rank = max(50, *self.ranks)
        features = query.feature.to(self.device), gallery.feature.to(
            self.device)
        results = evaluate_features(
            features[0], features[1], labels, tasks,
            normalize=self.normalize, max_rank=max_rank, topk=self.topk,
            memory=self.memory)
        if self.rerank is not None:
            distances = k_reciprocal(
                features[0], features[1], query_modality=query.modality,
                gallery_modality=gallery.modality, normalize=self.normalize,
                memory=self.memory, **self.rerank)
            again = [
                Task(f'{t.name}-rerank', t.query, t.gallery,
                     t.exclude_same_camera) for t in tasks]
            results.update(evaluate_distances(
                distances, labels, again, max_rank=max_rank, topk=self.topk,
                memory=self.memory))
        return results

    # ------------------------------------------------------------ reporting

    def _report(
            self, results: dict[str, RankingResult], query: _Side) -> None:
        """Log the table and write the files."""
        lines = format_table(list(results.values()), self.ranks)
        print_log('\n'.join(['', *lines]), 'current')
        for result in results.values():
            if result.num_valid == 0:
                print_log(
                    f'No query of {result.name} has a match in the gallery: '
                    'its figures are NaN.', 'current', logging.WARNING)
        if self.out_dir is None:
            return
        folder = Path(self.out_dir)
        with atomic_write(folder / 'table.md') as file:
            file.write('\n'.join(lines) + '\n')
        with atomic_write(folder / 'results.json') as file:
            json.dump(to_json(results, self.ranks), file, indent=2)
            file.write('\n')
        with atomic_write(folder / 'per_query.csv') as file:
            writer = csv.writer(file)
            writer.writerow((
                'protocol', 'query', 'pid', 'modality', 'matches',
                'first_rank', 'AP', 'INP', f'AP@{self.topk}'))
            for result in results.values():
                writer.writerows(_per_query(result, query))
        print_log(f'Figures written to {folder}.', 'current')


def own_image(query: _Side, gallery: _Side) -> Tensor:
    """(Q,) gallery row of the query's own image, -1 where there is none."""
    rows = {
        key: row for row, key in reversed(list(enumerate(_keys(gallery))))}
    return torch.tensor([rows.get(key, -1) for key in _keys(query)])


def _keys(side: _Side) -> list[tuple[str, int, int]]:
    names = [PurePath(path).name for path in side.path]
    return list(zip(names, side.pid.tolist(), side.modality.tolist(),
                    strict=True))


def _per_query(result: RankingResult, query: _Side) -> list[tuple]:
    """Rows of the CSV; a skipped query has empty figures."""
    rows: list[tuple] = []
    for row in result.member.nonzero().flatten().tolist():
        start = (result.name, query.path[row], int(query.pid[row]),
                 'SAR' if query.modality[row] else 'optical',
                 int(result.num_matches[row]))
        if not result.valid[row]:
            rows.append((*start, '', '', '', ''))
            continue
        rows.append((
            *start, int(result.first_rank[row]),
            *(f'{float(values[row]):.6f}' for values in (
                result.average_precision, result.inverse_penalty,
                result.average_precision_at_k))))
    return rows


def format_table(results: Sequence[RankingResult],
                 ranks: Sequence[int] = (1, 5, 10)) -> list[str]:
    """The papers' table in Markdown, with the line that defines it.

    Args:
        results: One row each.
        ranks: CMC ranks.

    Returns:
        Lines without line ends.
    """
    names = [result.summary(ranks) for result in results]
    columns = list(names[0])
    head = ['protocol', *columns, 'queries', 'gallery', 'skipped']
    body = [
        [result.name, *(f'{values[c]:.2f}' for c in columns),
         str(result.num_valid), str(result.num_gallery),
         str(result.num_skipped)]
        for result, values in zip(results, names, strict=True)]
    widths = [max(len(row[i]) for row in (head, *body))
              for i in range(len(head))]
    lines = [_line(head, widths),
             '|' + '|'.join('-' * (w + 1) + ':' for w in widths) + '|',
             *(_line(row, widths) for row in body)]
    note = _DEFINITION
    if any('-xcam' in result.name for result in results):
        note += '; -xcam leaves out entries of the same identity and modality'
    if any('-rerank' in result.name for result in results):
        note += '; -rerank is after k-reciprocal re-ranking'
    return [*lines, '', note + '.']


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return '| ' + ' | '.join(
        cell.ljust(w) if i == 0 else cell.rjust(w)
        for i, (cell, w) in enumerate(
            zip(cells, widths, strict=True))) + ' |'


def to_json(results: Mapping[str, RankingResult],
            ranks: Sequence[int] = (1, 5, 10)) -> dict[str, Any]:
    """Figures as plain data; NaN becomes null, which JSON has."""
    out: dict[str, Any] = {'unit': 'percent', 'definition': _DEFINITION}
    for name, result in results.items():
        figures: dict[str, Any] = {
            key: None if math.isnan(value) else value
            for key, value in result.summary(ranks).items()}
        figures.update(
            queries=result.num_valid, skipped=result.num_skipped,
            gallery=result.num_gallery,
            cmc=[100 * v for v in result.cmc.tolist()] if (
                result.num_valid) else None)
        out[name] = figures
    return out
