"""Models by task: reid, translation; backbones are shared."""

from __future__ import annotations

from . import backbones, reid, translation

__all__ = ['backbones', 'reid', 'translation']
