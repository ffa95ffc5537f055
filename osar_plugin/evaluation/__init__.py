"""Figures of each task: pure functions, and thin metrics around them."""

from __future__ import annotations

from .damage import BRIGHTMetric, BRIGHTSubmission
from .frechet import FrechetInceptionMetric
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
from .registration import RegistrationMetric
from .reid import ReIDMetric
from .rerank import k_reciprocal
from .segmentation import LoveDASubmission
from .translation import TranslationMetric

__all__ = [
    'LoveDASubmission',
    'BRIGHTMetric',
    'BRIGHTSubmission',
    'PROTOCOLS', 'FrechetInceptionMetric', 'Labels', 'Protocol',
    'RankingResult', 'ReIDMetric', 'RegistrationMetric', 'Task',
    'TranslationMetric',
    'evaluate_distances', 'evaluate_features', 'k_reciprocal', 'make_tasks',
    'top_k'
]
