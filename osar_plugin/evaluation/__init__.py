"""Figures of each task: pure functions, and thin metrics around them."""

from __future__ import annotations

from .ranking import (
    PROTOCOLS,
    Labels,
    Protocol,
    RankingResult,
    Task,
    evaluate_distances,
    evaluate_features,
    make_tasks,
    top_k,
)
from .reid import ReIDMetric
from .rerank import k_reciprocal

__all__ = [
    'PROTOCOLS', 'Labels', 'Protocol', 'RankingResult', 'ReIDMetric', 'Task',
    'evaluate_distances', 'evaluate_features', 'k_reciprocal', 'make_tasks',
    'top_k'
]
