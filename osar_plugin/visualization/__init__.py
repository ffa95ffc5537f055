"""Pictures of what models found."""

from __future__ import annotations

from .reid import (
    Chip,
    ChipReader,
    Hit,
    RankedRow,
    draw_curves,
    draw_ranked_list,
    write_png,
)

__all__ = [
    'Chip', 'ChipReader', 'Hit', 'RankedRow', 'draw_curves',
    'draw_ranked_list', 'write_png'
]
