"""Data sets and samplers."""

from __future__ import annotations

from .hoss import HOSS
from .optisar_pair import OptiSarPair
from .samplers import ModalityBalancedSampler, RandomIdentitySampler
from .translation_pairs import AlignedPairs, HOSSPairs

__all__ = [
    'AlignedPairs', 'HOSS', 'HOSSPairs', 'ModalityBalancedSampler',
    'OptiSarPair', 'RandomIdentitySampler',
]
