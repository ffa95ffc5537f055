"""Hooks, optimizer wrappers and schedules."""

from __future__ import annotations

from .constructors import MergedGroupsConstructor
from .optim import CPUAmpOptimWrapper
from .schedules import WarmupCosineLR
from .visualization import ReIDVisualizationHook

__all__ = [
    'CPUAmpOptimWrapper', 'MergedGroupsConstructor', 'ReIDVisualizationHook',
    'WarmupCosineLR'
]
