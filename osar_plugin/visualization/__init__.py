"""Pictures of what models found."""

from __future__ import annotations

from .registration import (
    draw_certainty,
    draw_checkerboard,
    draw_flow,
    draw_flow_key,
    draw_overlay,
)
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
    'Chip', 'ChipReader', 'Hit', 'RankedRow', 'draw_certainty',
    'draw_checkerboard', 'draw_curves', 'draw_flow', 'draw_flow_key',
    'draw_overlay', 'draw_ranked_list', 'write_png'
]
