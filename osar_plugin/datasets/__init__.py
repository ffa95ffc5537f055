"""Data sets and samplers."""

from __future__ import annotations

from .hoss import HOSS
from .optisar_pair import OptiSarPair
from .samplers import ModalityBalancedSampler, RandomIdentitySampler

__all__ = [
    'HOSS', 'ModalityBalancedSampler', 'OptiSarPair',
    'RandomIdentitySampler',
]
