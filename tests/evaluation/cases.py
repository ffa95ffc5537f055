"""Inputs of the golden file, and a plain evaluation to compare with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from osar_plugin.evaluation import Labels, Task

GOLDEN = Path(__file__).parent.parent / 'goldens' / 'reid_metric.npz'

_GOLDEN_CASES = {
    # seed, identities of the queries, gallery: always these, then up to
    'A': (7, (0, 20, 40), 20, (0, 60, 180)),
    'B': (8, (0, 30, 50), 0, (10, 70, 150)),
    'C': (9, (0, 5, 12), 0, (0, 8, 23)),
}


def golden_case(name: str) -> tuple[np.ndarray, ...]:
    """Distances, query and gallery identities, query and gallery cameras."""
    seed, query, first, gallery = _GOLDEN_CASES[name]
    rng = np.random.default_rng(seed)
    query_pids = rng.integers(*query)
    gallery_pids = np.concatenate(
        [np.arange(first), rng.integers(*gallery)])
    query_cams = rng.integers(0, 2, len(query_pids))
    gallery_cams = rng.integers(0, 2, len(gallery_pids))
    distances = rng.random(
        (len(query_pids), len(gallery_pids))).astype(np.float32)
    return distances, query_pids, gallery_pids, query_cams, gallery_cams


def golden_features() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """30 queries and 120 gallery features of 15 identities."""
    generator = torch.Generator().manual_seed(11)
    centres = torch.randn(15, 64, generator=generator)
    pids = torch.arange(150) % 15
    features = centres[pids] + 1.5 * torch.randn(
        150, 64, generator=generator)
    return features[:30], features[30:], pids[:30], pids[30:]


def plain(distances: np.ndarray, labels: Labels, task: Task,
          topk: int = 10) -> dict[str, np.ndarray]:
    """Sort each row (stable), remove what is excluded, walk down the list."""
    num = len(distances)
    out = {key: np.full(num, np.nan) for key in ('ap', 'inp', 'ap_k')}
    out['first'] = np.zeros(num, np.int64)
    out['matches'] = np.zeros(num, np.int64)
    for q in range(num):
        if not task.query[q]:
            continue
        keep = task.gallery.numpy().copy()
        same = labels.gallery_pids.numpy() == int(labels.query_pids[q])
        if task.exclude_same_camera:
            keep &= ~(same & (labels.gallery_cameras.numpy()
                              == int(labels.query_cameras[q])))
        if labels.self_index is not None and labels.self_index[q] >= 0:
            keep[labels.self_index[q]] = False
        order = np.argsort(distances[q], kind='stable')
        hit = same[order[keep[order]]]
        if not hit.any():
            continue
        ranks = np.flatnonzero(hit) + 1
        precision = np.arange(1, len(ranks) + 1) / ranks
        out['ap'][q] = precision.mean()
        out['inp'][q] = len(ranks) / ranks[-1]
        out['ap_k'][q] = (
            precision[ranks <= topk].sum() / min(len(ranks), topk))
        out['first'][q], out['matches'][q] = ranks[0], len(ranks)
    return out


def everything(num_query: int, num_gallery: int, name: str = 'all',
               exclude: bool = False) -> Task:
    return Task(name, torch.ones(num_query, dtype=torch.bool),
                torch.ones(num_gallery, dtype=torch.bool), exclude)
