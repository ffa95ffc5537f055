"""Backbones shared by every task."""

from __future__ import annotations

from .hivit import HiViT
from .itpn import ITPN
from .trunk import TrunkOutput
from .vit import VisionTransformer, ViTOutput
from .vit_dense import DenseViT

__all__ = [
    'DenseViT', 'HiViT', 'ITPN', 'TrunkOutput', 'ViTOutput',
    'VisionTransformer'
]
