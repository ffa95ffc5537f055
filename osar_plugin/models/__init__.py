"""Models by task: pretraining, reid, translation; backbones are shared."""

from __future__ import annotations

from . import backbones, pretraining, registration, reid, translation

__all__ = ['backbones', 'pretraining', 'registration', 'reid', 'translation']
