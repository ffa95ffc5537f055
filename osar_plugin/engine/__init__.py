"""Hooks, optimizer wrappers and schedules."""

from __future__ import annotations

from .checks import DataCheckHook
from .constructors import MergedGroupsConstructor
from .optim import CPUAmpOptimWrapper
from .schedules import WarmupCosineLR
from .visualization import ReIDVisualizationHook

__all__ = [
    'CPUAmpOptimWrapper', 'DataCheckHook', 'MergedGroupsConstructor',
    'ReIDVisualizationHook', 'WarmupCosineLR'
]
