"""What a program or a person calls: inferencers, search, torchreid."""

from __future__ import annotations

from .damage import DamageInferencer, DamageMaps, DamageReport
from .gallery import GalleryIndex
from .registration import Registration, RegistrationInferencer
from .reid import ShipReIDInferencer
from .search import DescribedChips, RankedHit, RankedList, rank_gallery
from .translation import OpticalToSARInferencer, Translation

__all__ = [
    'DamageInferencer', 'DamageMaps', 'DamageReport',
    'DescribedChips', 'GalleryIndex', 'OpticalToSARInferencer', 'RankedHit',
    'RankedList', 'Registration', 'RegistrationInferencer',
    'ShipReIDInferencer', 'Translation', 'rank_gallery'
]
