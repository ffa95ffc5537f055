"""Hooks, optimizer wrappers and schedules."""

from __future__ import annotations

from .optim import CPUAmpOptimWrapper

__all__ = ['CPUAmpOptimWrapper']
