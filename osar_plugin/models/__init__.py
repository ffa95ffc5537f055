"""Models by task: reid; backbones are shared."""

from __future__ import annotations

from . import backbones, reid

__all__ = ['backbones', 'reid']
