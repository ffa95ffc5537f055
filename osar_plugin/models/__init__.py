"""Models by task: pretraining, reid, translation; backbones are shared."""

from __future__ import annotations

from . import (
    backbones,
    damage,
    pretraining,
    registration,
    reid,
    translation,
)

__all__ = [
    'backbones', 'damage', 'pretraining', 'registration', 'reid',
    'translation'
]
