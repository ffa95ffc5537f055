"""Models by task: pretraining, reid, translation; backbones are shared."""

from __future__ import annotations

from . import backbones, pretraining, reid, translation

__all__ = ['backbones', 'pretraining', 'reid', 'translation']
