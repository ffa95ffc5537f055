"""What a program or a person calls: inferencers, search, torchreid."""

from __future__ import annotations

from .gallery import GalleryIndex
from .reid import ShipReIDInferencer
from .search import DescribedChips, RankedHit, RankedList, rank_gallery

__all__ = [
    'DescribedChips', 'GalleryIndex', 'RankedHit', 'RankedList',
    'ShipReIDInferencer', 'rank_gallery'
]
