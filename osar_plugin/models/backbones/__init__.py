"""Backbones shared by every task."""

from __future__ import annotations

from .hivit import HiViT
from .itpn import ITPN
from .trunk import TrunkOutput
from .vit import VisionTransformer, ViTOutput

__all__ = ['HiViT', 'ITPN', 'TrunkOutput', 'ViTOutput', 'VisionTransformer']
