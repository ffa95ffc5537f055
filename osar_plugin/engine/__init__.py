"""Hooks, optimizer wrappers and schedules."""

from __future__ import annotations

from .constructors import MergedGroupsConstructor
from .optim import CPUAmpOptimWrapper
from .schedules import WarmupCosineLR

__all__ = ['CPUAmpOptimWrapper', 'MergedGroupsConstructor', 'WarmupCosineLR']
